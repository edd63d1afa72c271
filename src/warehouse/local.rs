//! Files as a warehouse: `<root>/<schema>/<table>.parquet|csv|ndjson|json`, or a folder `<root>/<schema>/<table>/` of
//! such files, nested at will. Folders called `name=value` give columns of their own, typed, and queries that ask for
//! some values read those folders alone. A folder `<root>/<schema>/<table>.lance/` is a Lance dataset.
//!
//! F1 A table is all of its files or an error: files that differ in columns or types are named, never skipped or
//! merged. F2 A change of the files shows in the next query, a file that came or went too.

mod lance;
mod layout;
mod store;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::datasource::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::object_store::path::Path as ObjectPath;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use futures::{StreamExt, TryStreamExt};
use url::Url;

use self::layout::{ENDINGS, Layout};
use self::store::Files;
use super::{QueryTag, Warehouse, WarehouseError};

pub use layout::LayoutError;

/// Files whose columns are looked at at the same time.
const READ_AT_ONCE: usize = 8;

/// A folder of data files. Table definitions are kept until the files change.
pub struct LocalWarehouse {
    root: PathBuf,
    state: SessionState,
    opened: Mutex<Option<Opened>>,
    known: Mutex<HashMap<PathBuf, (Layout, Arc<dyn TableProvider>)>>,
}

/// The root as it was found; another one when it is a link that was turned elsewhere.
#[derive(Debug, Clone)]
struct Opened {
    root: PathBuf,
    url: Url,
    store: Arc<Files>,
}

impl std::fmt::Debug for LocalWarehouse {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LocalWarehouse").field("root", &self.root).finish_non_exhaustive()
    }
}

impl LocalWarehouse {
    /// `state` lends its object stores and its cache of file metadata: queries run in sessions made of it.
    pub fn new(root: PathBuf, state: SessionState) -> Self {
        Self { root, state, opened: Mutex::new(None), known: Mutex::new(HashMap::new()) }
    }

    /// The folder now; `None` where there is none.
    fn opened(&self) -> Result<Option<Opened>, WarehouseError> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let Ok(root) = self.root.canonicalize() else { return Ok(None) };
        let mut opened = self.opened.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = opened.as_ref().filter(|known| known.root == root) {
            return Ok(Some(known.clone()));
        }
        let failed = |error: DataFusionError| WarehouseError::Read(Box::new(error));
        let name = NUMBER.fetch_add(1, Ordering::Relaxed);
        let url = Url::parse(&format!("warehouse://local{name}/"))
            .map_err(|error| failed(DataFusionError::External(Box::new(error))))?;
        let store = Files::new(root.clone())
            .map_err(|error| failed(DataFusionError::ObjectStore(Box::new(error))))?;
        let store = Arc::new(store);
        self.state.runtime_env().register_object_store(&url, store.clone());
        let made = Opened { root, url, store };
        *opened = Some(made.clone());
        Ok(Some(made))
    }
}

/// The table's file or folder below the root.
fn find(root: &Path, schema: &str, table: &str) -> Option<PathBuf> {
    let folder = root.join(schema);
    let file = |ending: &&str| Some(folder.join(format!("{table}.{ending}"))).filter(|path| path.is_file());
    ENDINGS.iter().find_map(file).or_else(|| Some(folder.join(table)).filter(|path| path.is_dir()))
}

fn check_name(name: &str) -> Result<(), WarehouseError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && !layout::is_hidden(name) && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(WarehouseError::BadName { name: name.to_owned() }),
    }
}

#[async_trait]
impl Warehouse for LocalWarehouse {
    async fn table(
        &self,
        schema: &str,
        table: &str,
        _: &QueryTag,
    ) -> Result<Arc<dyn TableProvider>, WarehouseError> {
        check_name(schema)?;
        check_name(table)?;
        let unknown = || WarehouseError::UnknownTable { schema: schema.to_owned(), table: table.to_owned() };
        let opened = self.opened()?.ok_or_else(unknown)?;
        let Some(path) = find(&opened.root, schema, table) else {
            let path = opened.root.join(schema).join(format!("{table}.lance"));
            return match path.is_dir() {
                true => Ok(lance::open(&opened.root, &path).await?),
                false => Err(unknown()),
            };
        };
        let looked = {
            let (root, path) = (opened.root.clone(), path.clone());
            tokio::task::spawn_blocking(move || layout::look(&root, &path)).await
        };
        let layout = looked
            .map_err(|error| WarehouseError::Read(Box::new(DataFusionError::External(Box::new(error)))))??
            .ok_or_else(unknown)?;
        let cached = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&path).cloned();
        if let Some((seen, provider)) = cached
            && seen == layout
        {
            return Ok(provider);
        }
        let is_folder = path.is_dir();
        let below = path.strip_prefix(&opened.root).unwrap_or(&path).to_string_lossy().into_owned();
        let provider = listed(&self.state, &opened, &layout, below, is_folder).await?;
        self.known
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .insert(path, (layout, provider.clone()));
        Ok(provider)
    }
}

/// A table over the files of `layout`.
async fn listed(
    state: &SessionState,
    opened: &Opened,
    layout: &Layout,
    below: String,
    is_folder: bool,
) -> Result<Arc<dyn TableProvider>, WarehouseError> {
    let failed = |error: DataFusionError| WarehouseError::Read(Box::new(error));
    let format = format_of(layout.ending);
    let schema = schema_of(state, opened.store.clone(), format.as_ref(), layout).await?;
    let mut url = opened.url.clone();
    url.set_path(&if is_folder { below + "/" } else { below });
    let options = ListingOptions::new(format)
        .with_file_extension(format!(".{}", layout.ending))
        .with_table_partition_cols(layout.partitions.clone())
        .with_collect_stat(true);
    let config = ListingTableConfig::new(ListingTableUrl::try_new(url, None).map_err(failed)?)
        .with_listing_options(options)
        .with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config).map_err(failed)?))
}

/// The columns of the files, which all have the same (F1).
async fn schema_of(
    state: &SessionState,
    store: Arc<Files>,
    format: &dyn FileFormat,
    layout: &Layout,
) -> Result<SchemaRef, WarehouseError> {
    let failed = |error: DataFusionError| WarehouseError::Read(Box::new(error));
    let store: Arc<dyn ObjectStore> = store;
    let objects: Vec<_> = futures::stream::iter(layout.files.clone())
        .map(|file| {
            let store = store.clone();
            async move { store.head(&ObjectPath::from_url_path(file)?).await }
        })
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await
        .map_err(|error: datafusion::object_store::Error| failed(error.into()))?;
    let each: Vec<SchemaRef> = futures::stream::iter(objects)
        .map(|object| {
            let store = store.clone();
            async move { format.infer_schema(state, &store, std::slice::from_ref(&object)).await }
        })
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await
        .map_err(failed)?;
    let mut fields: Vec<FieldRef> = Vec::new();
    for (file, schema) in layout.files.iter().zip(&each) {
        let differs = |difference: String| {
            let (file, other) = (file.clone(), layout.files[0].clone());
            LayoutError::Schema { file, other, difference }
        };
        if layout.ending != "ndjson"
            && layout.ending != "json"
            && let Some(difference) = difference(schema, &each[0], layout.ending == "parquet")
        {
            return Err(differs(difference).into());
        }
        for field in schema.fields() {
            let Some(known) = fields.iter_mut().find(|known| known.name() == field.name()) else {
                fields.push(field.clone());
                continue;
            };
            let Some(both) = common(layout.ending, known.data_type(), field.data_type()) else {
                let (name, own, other) = (field.name(), field.data_type(), known.data_type());
                let text = format!("has {own} in its column `{name}`, where {other} stands in");
                return Err(differs(text).into());
            };
            *known = Arc::new(known.as_ref().clone().with_data_type(both));
        }
    }
    without_partitions(Arc::new(Schema::new(fields)), layout)
}

/// The type that holds the values of both: those of CSV and JSON are guesses from the first rows of each file.
fn common(ending: &str, one: &DataType, other: &DataType) -> Option<DataType> {
    match (one, other) {
        _ if one == other => Some(one.clone()),
        (DataType::Null, known) | (known, DataType::Null) => Some(known.clone()),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => {
            Some(DataType::Float64)
        }
        // Any value of CSV is a text.
        _ => (ending == "csv").then_some(DataType::Utf8),
    }
}

/// How a file's columns are not those of the first; columns of Parquet may stand in any order, since they go by name.
fn difference(schema: &Schema, first: &Schema, is_typed: bool) -> Option<String> {
    for field in schema.fields() {
        match first.field_with_name(field.name()) {
            Err(_) => return Some(format!("has a column `{}`, unlike", field.name())),
            Ok(other) if is_typed && other.data_type() != field.data_type() => {
                let (name, own, other) = (field.name(), field.data_type(), other.data_type());
                return Some(format!("has {own} in its column `{name}`, and {other} stands in"));
            }
            Ok(_) => {}
        }
    }
    let lacks = first.fields().iter().find(|field| schema.field_with_name(field.name()).is_err());
    if let Some(field) = lacks {
        return Some(format!("has no column `{}`, unlike", field.name()));
    }
    let names =
        |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    (!is_typed && names(schema) != names(first)).then(|| "has its columns in another order than".to_owned())
}

/// A column that the folders name already must not be in the files too: which of the two would count?
fn without_partitions(schema: SchemaRef, layout: &Layout) -> Result<SchemaRef, WarehouseError> {
    let is_both = |(name, _): &&(String, _)| schema.field_with_name(name).is_ok();
    if let Some((name, _)) = layout.partitions.iter().find(is_both) {
        let file = layout.files[0].clone();
        let difference = format!("has the column `{name}` in itself, which is also the name of a folder of");
        return Err(LayoutError::Schema { other: file.clone(), file, difference }.into());
    }
    Ok(schema)
}

fn format_of(ending: &str) -> Arc<dyn FileFormat> {
    match ending {
        "csv" => Arc::new(CsvFormat::default().with_has_header(true)),
        "ndjson" | "json" => Arc::new(JsonFormat::default()),
        _ => Arc::new(ParquetFormat::default().with_enable_pruning(true).with_force_view_types(false)),
    }
}

/// A file, or a folder of files of one format, as a table; the schema is inferred from the data. For paths that the
/// service itself or the owner of the process names: links are followed.
pub async fn file_table(
    state: &SessionState,
    path: &Path,
    ending: &str,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let absolute = std::path::absolute(path)?;
    let mut location = absolute.display().to_string();
    if absolute.is_dir() {
        location.push('/');
    }
    let url = ListingTableUrl::parse(location)?;
    let options = ListingOptions::new(format_of(ending))
        .with_file_extension(format!(".{ending}"))
        .with_collect_stat(true);
    let config = ListingTableConfig::new(url).with_listing_options(options).infer_schema(state).await?;
    Ok(Arc::new(ListingTable::try_new(config)?))
}

#[cfg(test)]
mod tests;
