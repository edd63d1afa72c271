//! The ways in which a query is run, all in one process over the same files.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::datasource::TableProvider;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::physical_plan::displayable;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use steward::auth::Principal;
use steward::config::{Config, FolderConfig, SemanticConfig, SqlLimits, WarehouseConfig};
use steward::engine::{Context, Engine, Parts, SqlOptions};
use steward::guard::PHYSICAL_CATALOG;
use steward::query::{QueryEngine, QueryResult};

const SCHEMA: &str = "tpch";
const TABLES: [&str; 8] =
    ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"];
const MODEL: &str = include_str!("model.yaml");
/// Begins the lines of the model that are in force with policies only.
const POLICY: &str = "#policy ";
/// The policies of the model, as views.
const VIEWS: [&str; 2] = [
    "CREATE VIEW lineitem AS SELECT * FROM all_lineitem WHERE l_shipmode <> 'DRONE'",
    "CREATE VIEW customer AS SELECT * REPLACE ('***' AS c_address) FROM all_customer",
];
/// The column whose values the policies hide.
pub const MASKED: &str = "c_address";

/// All answers are whole with it: the longest has 18,314 rows.
const MAX_ROWS: usize = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// DataFusion with the engine's own settings, over the same files.
    Raw,
    /// The engine's door, which `/v1/sql/run` uses: scopes, guard, secured relations, limits, audit.
    Guarded,
    /// Raw, with the policies' row filter and mask as views: nothing keeps conditions from being moved below the filter.
    Views,
    /// The engine's door, with a row filter and a mask.
    Policies,
    /// DataFusion as it comes, but for what `DATAFUSION_…` variables say.
    Defaults,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Guarded => "guarded",
            Self::Views => "views",
            Self::Policies => "policies",
            Self::Defaults => "defaults",
        }
    }

    pub fn is_masked(self) -> bool {
        matches!(self, Self::Views | Self::Policies)
    }
}

pub struct Ways {
    raw: SessionContext,
    views: SessionContext,
    defaults: SessionContext,
    open: Engine,
    restricted: Engine,
    /// Hold the folders in which the sessions made of them spill.
    _lenders: [QueryEngine; 2],
}

impl Ways {
    /// Over the Parquet files in `data`; what the engine writes goes below `folder`.
    pub async fn open(data: &Path, folder: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let open = engine(data, &folder.join("open"), MODEL).await?;
        let restricted = engine(data, &folder.join("restricted"), &MODEL.replace(POLICY, "")).await?;
        let lenders = [
            QueryEngine::new(limits(), &folder.join("raw"))?,
            QueryEngine::new(limits(), &folder.join("views"))?,
        ];
        let [raw, views] = lenders.each_ref().map(session);
        let defaults = SessionContext::new_with_config(SessionConfig::from_env()?);
        for table in TABLES {
            let path = data.join(SCHEMA).join(format!("{table}.parquet")).display().to_string();
            raw.register_table(table, listed(&raw, &path).await?)?;
            let is_view = VIEWS.iter().any(|view| view.contains(&format!("all_{table}")));
            let name = if is_view { format!("all_{table}") } else { table.to_owned() };
            views.register_table(name, listed(&views, &path).await?)?;
            defaults.register_parquet(table, path, ParquetReadOptions::default()).await?;
        }
        for view in VIEWS {
            views.sql(view).await?.collect().await?;
        }
        Ok(Self { raw, views, defaults, open, restricted, _lenders: lenders })
    }

    /// The whole answer.
    pub async fn run(&self, way: Way, sql: &str) -> Result<QueryResult, Box<dyn Error + Send + Sync>> {
        match way {
            Way::Raw => alone(&self.raw, sql).await,
            Way::Views => alone(&self.views, sql).await,
            Way::Defaults => alone(&self.defaults, sql).await,
            Way::Guarded => guarded(&self.open, Principal::local("bench"), sql).await,
            Way::Policies => {
                let principal = Principal::local("bench").with_scopes("semantic:read sql:run".parse()?);
                guarded(&self.restricted, principal, sql).await
            }
        }
    }

    /// Physical plans by the name of their way. The secured SQL is planned as the engine does, with settings and tables of
    /// the same names.
    pub async fn plans(
        &self,
        sql: &str,
    ) -> Result<Vec<(&'static str, String)>, Box<dyn Error + Send + Sync>> {
        let caller = Context::local("bench");
        let mut plans = Vec::new();
        for (way, context, sql) in [
            (Way::Raw, &self.raw, sql.to_owned()),
            (Way::Guarded, &self.raw, self.open.sql_check(&caller, sql).await?.secured_sql),
            (Way::Views, &self.views, sql.to_owned()),
            (Way::Policies, &self.raw, self.restricted.sql_check(&caller, sql).await?.secured_sql),
        ] {
            let plan = context.sql(&sql).await?.create_physical_plan().await?;
            plans.push((way.name(), displayable(plan.as_ref()).indent(true).to_string()));
        }
        Ok(plans)
    }

    pub async fn close(&self) {
        self.open.close().await;
        self.restricted.close().await;
    }
}

/// On threads of the runtime, as the engine's queries are on theirs; both have one a core.
async fn alone(context: &SessionContext, sql: &str) -> Result<QueryResult, Box<dyn Error + Send + Sync>> {
    let (context, sql) = (context.clone(), sql.to_owned());
    let run = async move {
        let frame = context.sql(&sql).await?;
        let schema = frame.schema().as_arrow().clone().into();
        Ok::<_, datafusion::error::DataFusionError>((schema, frame.collect().await?))
    };
    let (schema, batches) = tokio::spawn(run).await??;
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    Ok(QueryResult { schema, batches, rows, truncated_at: None, elapsed: Duration::ZERO })
}

async fn guarded(
    engine: &Engine,
    principal: Principal,
    sql: &str,
) -> Result<QueryResult, Box<dyn Error + Send + Sync>> {
    let context = Context::new(Arc::new(principal), "bench");
    let result = engine.sql_stream(&context, sql, SqlOptions::default()).await?.collect().await?;
    match result.truncated_at {
        None => Ok(result),
        Some(rows) => Err(format!("the answer was cut at {rows} rows").into()),
    }
}

async fn engine(data: &Path, folder: &Path, model: &str) -> Result<Engine, Box<dyn Error + Send + Sync>> {
    let semantic = folder.join("semantic");
    std::fs::create_dir_all(&semantic)?;
    std::fs::write(semantic.join("tpch.yaml"), model)?;
    let empty = |name: &str| FolderConfig { dir: folder.join(name) };
    let local = WarehouseConfig::local(data.to_owned());
    let config = Config {
        data_dir: folder.join("data"),
        semantic: SemanticConfig { dir: semantic, watch: false, poll_ms: 1_000 },
        actions: empty("actions"),
        indexes: empty("indexes"),
        warehouses: [("local".to_owned(), local)].into(),
        sql: limits(),
        ..Config::default()
    };
    let engine = Engine::open(config, Parts::QueryOnly).await?;
    match engine.semantic_state().errors {
        0 => Ok(engine),
        errors => Err(format!("the model has {errors} errors; see `steward check`").into()),
    }
}

fn limits() -> SqlLimits {
    SqlLimits { max_rows: MAX_ROWS, timeout_seconds: 3_600, ..SqlLimits::default() }
}

/// DataFusion with the options, the memory pool and the caches of a query engine, and nothing else of it.
fn session(engine: &QueryEngine) -> SessionContext {
    let options = engine.state().config_options().as_ref().clone();
    let config = SessionConfig::from(options)
        .with_create_default_catalog_and_schema(true)
        .with_default_catalog_and_schema(PHYSICAL_CATALOG, SCHEMA);
    SessionContext::new_with_config_rt(config, engine.state().runtime_env().clone())
}

/// The file as a table, with the options of the engine's own tables.
async fn listed(
    context: &SessionContext,
    path: &str,
) -> Result<Arc<dyn TableProvider>, Box<dyn Error + Send + Sync>> {
    let format = ParquetFormat::default().with_enable_pruning(true).with_force_view_types(false);
    let options =
        ListingOptions::new(Arc::new(format)).with_file_extension(".parquet").with_collect_stat(true);
    let config = ListingTableConfig::new(ListingTableUrl::parse(path)?)
        .with_listing_options(options)
        .infer_schema(&context.state())
        .await?;
    Ok(Arc::new(ListingTable::try_new(config)?))
}
