//! Files as a warehouse: `<root>/<schema>/<table>.parquet|csv|ndjson|json`, or a folder `<root>/<schema>/<table>/` of
//! such files, nested at will. The root is a folder or a place in an object store that speaks S3's protocol. Folders
//! called `name=value` give columns of their own, typed, and queries that ask for some values read those folders alone.
//! Files of text may be compressed. A folder `<root>/<schema>/<table>.lance/` is a Lance dataset.
//!
//! F1 A table is all of its files or an error: files that differ in columns or types are named, never skipped or
//! merged. F2 A change of the files shows in the next query, a file that came or went too.

mod bucket;
mod declared;
mod disk;
mod lance;
mod lance_store;
mod layout;
mod sample;
mod store;
mod width;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::datasource::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::object_store::{ObjectMeta, ObjectStore};
use futures::{StreamExt, TryStreamExt};
use url::Url;

use self::layout::Layout;
use self::sample::SampleError;
use self::store::Files;
use super::{Declared, QueryTag, Warehouse, WarehouseError, remote_of};
use crate::config::S3Config;

pub use layout::LayoutError;

/// Files whose columns are looked at at the same time.
const READ_AT_ONCE: usize = 8;

/// Data files below a root. Table definitions are kept until the files change.
pub struct LocalWarehouse {
    root: Root,
    state: SessionState,
    known: Mutex<HashMap<(String, Declared), Known>>,
}

type Known = (Arc<Layout>, Arc<dyn TableProvider>);

/// What was found for a table's name.
enum Found {
    Files(Layout),
    Lance,
}

enum Root {
    /// A folder, with what was last found there.
    Disk(PathBuf, Mutex<Option<Opened>>),
    Bucket(Opened),
}

/// The root as it was found; another one when it is a link that was turned elsewhere.
#[derive(Debug, Clone)]
struct Opened {
    /// Canonical; empty for an object store.
    root: PathBuf,
    url: Url,
    store: Arc<Files>,
}

impl std::fmt::Debug for LocalWarehouse {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let root = match &self.root {
            Root::Disk(root, _) => root.display().to_string(),
            Root::Bucket(_) => "a bucket".to_owned(),
        };
        formatter.debug_struct("LocalWarehouse").field("root", &root).finish_non_exhaustive()
    }
}

impl LocalWarehouse {
    /// The warehouse called `name` at `path`, a folder or `s3://bucket/prefix`; no server is asked for anything yet.
    /// `timeout` is that of a query.
    pub fn open(
        name: &str,
        path: &Path,
        s3: Option<&S3Config>,
        state: SessionState,
        timeout: Duration,
    ) -> Result<Self, WarehouseError> {
        let text = path.to_str().unwrap_or_default();
        if !bucket::is_bucket(text) {
            if s3.is_some() {
                let message = "`s3` is for a path such as s3://bucket/prefix; leave it out".to_owned();
                return Err(WarehouseError::Config { warehouse: name.to_owned(), message });
            }
            return Ok(Self::new(path.to_owned(), state));
        }
        let store = bucket::open(name, text, &s3.cloned().unwrap_or_default(), timeout)?;
        let opened = registered(&state, PathBuf::new(), store)?;
        Ok(Self { root: Root::Bucket(opened), state, known: Mutex::default() })
    }

    /// A folder. `state` lends its object stores and its cache of file metadata: queries run in sessions made of it.
    pub fn new(root: PathBuf, state: SessionState) -> Self {
        Self { root: Root::Disk(root, Mutex::new(None)), state, known: Mutex::default() }
    }

    /// The root now; `None` where there is none.
    fn opened(&self) -> Result<Option<Opened>, WarehouseError> {
        let (root, opened) = match &self.root {
            Root::Bucket(opened) => return Ok(Some(opened.clone())),
            Root::Disk(root, opened) => (root, opened),
        };
        let Ok(root) = root.canonicalize() else { return Ok(None) };
        let mut opened = opened.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = opened.as_ref().filter(|known| known.root == root) {
            return Ok(Some(known.clone()));
        }
        let store = Files::on_disk(root.clone()).map_err(|error| read_error(error.into()))?;
        let made = registered(&self.state, root, store)?;
        *opened = Some(made.clone());
        Ok(Some(made))
    }

    /// What a table is now.
    async fn look(&self, opened: &Opened, schema: &str, table: &str) -> Result<Found, WarehouseError> {
        let unknown = || WarehouseError::UnknownTable { schema: schema.to_owned(), table: table.to_owned() };
        if matches!(self.root, Root::Bucket(_)) {
            return bucket::look(&opened.store, schema, table).await?.ok_or_else(unknown);
        }
        let Some(path) = disk::find(&opened.root, schema, table) else {
            let path = lance_path(&opened.root, schema, table);
            return path.is_dir().then_some(Found::Lance).ok_or_else(unknown);
        };
        let root = opened.root.clone();
        let looked = tokio::task::spawn_blocking(move || disk::look(&root, &path)).await;
        let looked = looked.map_err(|error| read_error(DataFusionError::External(Box::new(error))))?;
        looked?.map(Found::Files).ok_or_else(unknown)
    }

    async fn lance(
        &self,
        opened: &Opened,
        schema: &str,
        table: &str,
    ) -> Result<Arc<dyn TableProvider>, WarehouseError> {
        match &self.root {
            Root::Bucket(_) => lance::in_store(opened.store.inner().clone(), schema, table).await,
            Root::Disk(..) => lance::on_disk(&opened.root, &lance_path(&opened.root, schema, table)).await,
        }
    }
}

fn lance_path(root: &Path, schema: &str, table: &str) -> PathBuf {
    root.join(schema).join(format!("{table}.lance"))
}

/// Makes the store one of the session's, under a name of its own.
fn registered(state: &SessionState, root: PathBuf, store: Files) -> Result<Opened, WarehouseError> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = NUMBER.fetch_add(1, Ordering::Relaxed);
    let url = Url::parse(&format!("warehouse://local{name}/"))
        .map_err(|error| read_error(DataFusionError::External(Box::new(error))))?;
    let store = Arc::new(store);
    state.runtime_env().register_object_store(&url, store.clone());
    Ok(Opened { root, url, store })
}

fn read_error(error: DataFusionError) -> WarehouseError {
    match remote_of(&error) {
        Some(remote) => remote.into(),
        None => WarehouseError::Read(Box::new(error)),
    }
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
        tag: &QueryTag,
    ) -> Result<Arc<dyn TableProvider>, WarehouseError> {
        self.table_as(schema, table, &Declared::new(), tag).await
    }

    async fn table_as(
        &self,
        schema: &str,
        table: &str,
        declared: &Declared,
        _: &QueryTag,
    ) -> Result<Arc<dyn TableProvider>, WarehouseError> {
        check_name(schema)?;
        check_name(table)?;
        let unknown = || WarehouseError::UnknownTable { schema: schema.to_owned(), table: table.to_owned() };
        let opened = self.opened()?.ok_or_else(unknown)?;
        let layout = match self.look(&opened, schema, table).await? {
            Found::Files(layout) => layout,
            Found::Lance => return self.lance(&opened, schema, table).await,
        };
        let layout = Arc::new(layout);
        // A file that took a folder's place, or the other way round, leaves no old listing.
        let folder = format!("{schema}/{table}");
        if layout.below != folder {
            opened.store.forget(&folder);
        }
        opened.store.looked(&layout);
        let declared = if layout.ending == "parquet" { Declared::new() } else { declared.clone() };
        let key = (format!("{}{}", opened.url, layout.below), declared);
        let known = || self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let cached = known().get(&key).cloned();
        if let Some((seen, provider)) = cached
            && seen == layout
        {
            return Ok(provider);
        }
        let provider = listed(&self.state, &opened, &layout, &key.1).await?;
        let mut known = known();
        // What is known of an older state of the files is of no use under other declarations either.
        known.retain(|(place, _), (seen, _)| *place != key.0 || *seen == layout);
        known.insert(key, (layout, provider.clone()));
        Ok(provider)
    }
}

/// A table over the files of `layout`.
async fn listed(
    state: &SessionState,
    opened: &Opened,
    layout: &Layout,
    declared: &Declared,
) -> Result<Arc<dyn TableProvider>, WarehouseError> {
    let format = format_of(layout.ending, None);
    let schema = schema_of(state, opened.store.clone(), format.as_ref(), layout, declared).await?;
    let mut url = opened.url.clone();
    url.set_path(&if layout.is_folder { format!("{}/", layout.below) } else { layout.below.clone() });
    // The store lists nothing but the table's own files (S4).
    let options = ListingOptions::new(format)
        .with_file_extension("")
        .with_table_partition_cols(layout.partitions.clone())
        .with_collect_stat(true);
    let config = ListingTableConfig::new(ListingTableUrl::try_new(url, None).map_err(read_error)?)
        .with_listing_options(options)
        .with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config).map_err(read_error)?))
}

/// The columns of one file.
async fn columns_of(
    state: &SessionState,
    store: &Arc<Files>,
    format: &dyn FileFormat,
    ending: &str,
    file: &ObjectMeta,
) -> Result<SchemaRef, WarehouseError> {
    if ending == "parquet" {
        let store: Arc<dyn ObjectStore> = store.clone();
        return format.infer_schema(state, &store, std::slice::from_ref(file)).await.map_err(read_error);
    }
    let found = sample::schema(store, file, ending == "csv").await;
    found.map(Arc::new).map_err(|error| match error {
        SampleError::Store(error) => read_error(error.into()),
        SampleError::Rows(source) => {
            tracing::debug!(file = %file.location, %source, "the columns of a file cannot be told");
            let problem = "cannot be read as a table: its first rows do not have one form";
            super::RemoteError::File { file: file.location.to_string(), problem }.into()
        }
        SampleError::Wide => {
            let problem = "has a first row that is too wide to be read";
            super::RemoteError::File { file: file.location.to_string(), problem }.into()
        }
        SampleError::Interrupted(error) => read_error(DataFusionError::External(Box::new(error))),
    })
}

/// The columns of the files, which all have the same (F1).
async fn schema_of(
    state: &SessionState,
    store: Arc<Files>,
    format: &dyn FileFormat,
    layout: &Layout,
    declared: &Declared,
) -> Result<SchemaRef, WarehouseError> {
    let each: Vec<SchemaRef> = futures::stream::iter(layout.files.clone())
        .map(|file| {
            let store = store.clone();
            async move { columns_of(state, &store, format, layout.ending, &file).await }
        })
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await?;
    let mut fields: Vec<FieldRef> = Vec::new();
    for (file, schema) in layout.files.iter().zip(&each) {
        let differs = |difference: String| {
            let (file, other) = (file.location.to_string(), layout.files[0].location.to_string());
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
    for field in &mut fields {
        if let Some(datatype) = declared.get(field.name()) {
            let data_type = declared::as_declared(datatype, field.data_type(), layout.ending == "csv");
            *field = Arc::new(field.as_ref().clone().with_data_type(data_type));
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
        let file = layout.files[0].location.to_string();
        let difference = format!("has the column `{name}` in itself, which is also the name of a folder of");
        return Err(LayoutError::Schema { other: file.clone(), file, difference }.into());
    }
    Ok(schema)
}

/// The reader of a format. `packing` is for files that do not come by [`Files`], which unpacks what it gives.
fn format_of(ending: &str, packing: Option<FileCompressionType>) -> Arc<dyn FileFormat> {
    let packing = packing.unwrap_or(FileCompressionType::UNCOMPRESSED);
    match ending {
        // A file is not cut at its line breaks, since one may belong to a value.
        "csv" => Arc::new(
            CsvFormat::default()
                .with_has_header(true)
                .with_newlines_in_values(true)
                .with_file_compression_type(packing),
        ),
        "ndjson" | "json" => Arc::new(JsonFormat::default().with_file_compression_type(packing)),
        _ => Arc::new(ParquetFormat::default().with_enable_pruning(true).with_force_view_types(false)),
    }
}

/// A file, or a folder of files of one format, as a table; the schema is inferred from the data. `ending` may name a
/// compression too, such as `csv.gz`. For paths that the service itself or the owner of the process names: links are
/// followed.
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
    let plain = layout::ending_of(&format!("t.{ending}")).unwrap_or(ending);
    let options = ListingOptions::new(format_of(plain, layout::packing_of(ending)))
        .with_file_extension(format!(".{ending}"))
        .with_collect_stat(true);
    let config = ListingTableConfig::new(url).with_listing_options(options).infer_schema(state).await?;
    Ok(Arc::new(ListingTable::try_new(config)?))
}

/// The ending of a data file's name with its compression, such as `parquet` or `csv.gz`; `None` if it is no data file.
pub fn data_ending(name: &str) -> Option<&str> {
    let format = layout::ending_of(name)?;
    name.rfind(&format!(".{format}")).and_then(|at| name.get(at + 1..))
}

#[cfg(test)]
mod tests;
