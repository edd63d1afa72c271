//! Files as a warehouse: `<root>/<schema>/<table>.parquet|csv|ndjson|json`, or a folder of such files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use datafusion::datasource::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;

use super::{Warehouse, WarehouseError};

/// A folder of data files. Table definitions are kept until the file changes.
pub struct LocalWarehouse {
    root: PathBuf,
    state: SessionState,
    known: Mutex<HashMap<PathBuf, (Stamp, Arc<dyn TableProvider>)>>,
}

/// Tells whether a file or folder is still the one that was looked at.
type Stamp = (Option<SystemTime>, u64);

impl std::fmt::Debug for LocalWarehouse {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LocalWarehouse").field("root", &self.root).finish_non_exhaustive()
    }
}

impl LocalWarehouse {
    /// `state` lends its object stores and its cache of file metadata.
    pub fn new(root: PathBuf, state: SessionState) -> Self {
        Self { root, state, known: Mutex::new(HashMap::new()) }
    }

    fn find(&self, schema: &str, table: &str) -> Result<(PathBuf, &'static str), WarehouseError> {
        for name in [schema, table] {
            let plain = !name.is_empty()
                && name
                    .chars()
                    .all(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '-'));
            if !plain {
                return Err(WarehouseError::BadName { name: name.to_owned() });
            }
        }
        let folder = self.root.join(schema);
        for ending in ["parquet", "csv", "ndjson", "json"] {
            let path = folder.join(format!("{table}.{ending}"));
            if path.is_file() {
                return Ok((path, ending));
            }
        }
        let path = folder.join(table);
        if path.is_dir()
            && let Some(ending) = ending_within(&path)
        {
            return Ok((path, ending));
        }
        Err(WarehouseError::UnknownTable { schema: schema.to_owned(), table: table.to_owned() })
    }
}

#[async_trait]
impl Warehouse for LocalWarehouse {
    async fn table(&self, schema: &str, table: &str) -> Result<Arc<dyn TableProvider>, WarehouseError> {
        let (path, ending) = self.find(schema, table)?;
        let stamp =
            std::fs::metadata(&path).map(|data| (data.modified().ok(), data.len())).unwrap_or_default();
        let cached = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&path).cloned();
        if let Some((seen, provider)) = cached
            && seen == stamp
        {
            return Ok(provider);
        }
        let provider = file_table(&self.state, &path, ending)
            .await
            .map_err(|error| WarehouseError::Read(Box::new(error)))?;
        self.known
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .insert(path, (stamp, provider.clone()));
        Ok(provider)
    }
}

/// The ending of the first data file below a folder, in the order of names.
fn ending_within(folder: &Path) -> Option<&'static str> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    names.sort();
    names.iter().find_map(|path| {
        if path.is_dir() {
            return ending_within(path);
        }
        let ending = path.extension()?.to_str()?;
        ["parquet", "csv", "ndjson", "json"].into_iter().find(|known| *known == ending)
    })
}

/// A file, or a folder of files of one format, as a table; the schema is inferred from the data.
pub async fn file_table(
    state: &SessionState,
    path: &Path,
    ending: &str,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let format: Arc<dyn FileFormat> = match ending {
        "csv" => Arc::new(CsvFormat::default().with_has_header(true)),
        "ndjson" | "json" => Arc::new(JsonFormat::default()),
        _ => Arc::new(ParquetFormat::default().with_enable_pruning(true).with_force_view_types(false)),
    };
    let absolute = std::path::absolute(path)?;
    let mut location = absolute.display().to_string();
    if absolute.is_dir() {
        location.push('/');
    }
    let url = ListingTableUrl::parse(location)?;
    let options =
        ListingOptions::new(format).with_file_extension(format!(".{ending}")).with_collect_stat(true);
    let config = ListingTableConfig::new(url).with_listing_options(options).infer_schema(state).await?;
    Ok(Arc::new(ListingTable::try_new(config)?))
}
