//! A Lance dataset as a table: the folder `<root>/<schema>/<table>.lance/`, its newest version at each query. Filters
//! and projections are pushed down to it.
//!
//! A dataset is read from its own folder alone: its manifest may name other places (a shallow clone, files of several
//! bases), which are refused, for the warehouse's root is what its operator opened.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::datasource::TableProvider;
use datafusion::object_store::ObjectStore;
use lance::dataset::ReadParams;
use lance_io::object_store::providers::local::FileStoreProvider;
use lance_io::object_store::{
    DEFAULT_CLOUD_IO_PARALLELISM, DEFAULT_DOWNLOAD_RETRY_COUNT, ObjectStore as LanceStore, ObjectStoreParams,
    ObjectStoreProvider,
};
use lance_object_store::path::Path as LancePath;
use lancedb::table::NativeTable;
use lancedb::table::datafusion::BaseTableAdapter;
use lancedb::{ObjectStoreRegistry, Session};
use url::Url;

use super::bucket::{LOOK_TIME, away};
use super::disk::{check_within, shown};
use super::lance_store::ReadOnly;
use super::layout::LayoutError;
use crate::warehouse::{WarehouseError, remote_of};

/// Of one opened dataset, which lives as long as a query.
const CACHE_BYTES: usize = 64 << 20;
/// Stands for the warehouse's place in its store; names of buckets stay out of messages and logs.
const IN_STORE: &str = "s3://warehouse";

/// Opens the dataset at `path`, which lies below `root`, a canonical folder.
pub(super) async fn on_disk(root: &Path, path: &Path) -> Result<Arc<dyn TableProvider>, WarehouseError> {
    let (own_root, own_path) = (root.to_path_buf(), path.to_path_buf());
    let file = shown(root, path);
    let walk = move || check_within(&own_root, &own_path);
    tokio::task::spawn_blocking(walk)
        .await
        .map_err(|error| LayoutError::Read { file: file.clone(), source: error.into() })??;
    let place = Url::from_directory_path(path).map_err(|()| LayoutError::Lance { file: file.clone() })?;
    opened(&file, place, Arc::new(FileStoreProvider)).await
}

/// Opens the dataset `<schema>/<table>.lance` of an object store.
pub(super) async fn in_store(
    store: Arc<dyn ObjectStore>,
    schema: &str,
    table: &str,
) -> Result<Arc<dyn TableProvider>, WarehouseError> {
    let file = format!("{schema}/{table}.lance");
    let place = Url::parse(&format!("{IN_STORE}/{file}"));
    let place = place.map_err(|_| LayoutError::Lance { file: file.clone() })?;
    let opening = opened(&file, place, Arc::new(InStore(store)));
    tokio::time::timeout(LOOK_TIME, opening).await.unwrap_or_else(|_| Err(away()))
}

async fn opened(
    file: &str,
    place: Url,
    files: Arc<dyn ObjectStoreProvider>,
) -> Result<Arc<dyn TableProvider>, WarehouseError> {
    let failed = |error: lancedb::Error| match remote_of(&error) {
        Some(remote) => remote.into(),
        None => {
            // Its text names folders of this machine.
            tracing::warn!(dataset = file, %error, "a lance dataset cannot be opened");
            WarehouseError::from(LayoutError::Lance { file: file.to_owned() })
        }
    };
    let folder = files.extract_path(&place).map_err(|error| failed(error.into()))?;
    let registry = Arc::new(ObjectStoreRegistry::empty());
    registry.insert(place.scheme(), Arc::new(OwnFolder { files, folder }));
    let session = Some(Arc::new(Session::new(CACHE_BYTES, CACHE_BYTES, registry)));
    let params = Some(ReadParams { session, ..ReadParams::default() });
    let (name, none) = ("dataset", HashSet::new());
    let table =
        NativeTable::open_with_params(place.as_str(), name, vec![], None, params, None, None, none, None);
    let table = table.await.map_err(failed)?;
    if !table.manifest().await.map_err(failed)?.base_paths.is_empty() {
        return Err(LayoutError::LanceElsewhere { file: file.to_owned() }.into());
    }
    Ok(Arc::new(BaseTableAdapter::try_new(Arc::new(table)).await.map_err(failed)?))
}

/// Gives a dataset its own folder and nothing else, whatever its files name.
#[derive(Debug)]
struct OwnFolder {
    files: Arc<dyn ObjectStoreProvider>,
    folder: LancePath,
}

#[async_trait]
impl ObjectStoreProvider for OwnFolder {
    async fn new_store(&self, base: Url, params: &ObjectStoreParams) -> lance::Result<LanceStore> {
        self.files.new_store(base, params).await
    }

    /// Asked for every place that is read.
    fn extract_path(&self, url: &Url) -> lance::Result<LancePath> {
        let path = self.files.extract_path(url)?;
        match path.prefix_matches(&self.folder) {
            true => Ok(path),
            false => Err(lance::Error::invalid_input("a dataset is read from its own folder alone")),
        }
    }

    fn calculate_object_store_prefix(
        &self,
        url: &Url,
        options: Option<&HashMap<String, String>>,
    ) -> lance::Result<String> {
        self.files.calculate_object_store_prefix(url, options)
    }
}

/// The warehouse's own store. It is the same for every bucket that a manifest may name, where nothing is found then.
#[derive(Debug)]
struct InStore(Arc<dyn ObjectStore>);

#[async_trait]
impl ObjectStoreProvider for InStore {
    async fn new_store(&self, base: Url, params: &ObjectStoreParams) -> lance::Result<LanceStore> {
        let files = Arc::new(ReadOnly(self.0.clone()));
        Ok(LanceStore::new(
            files,
            base,
            params.block_size,
            None,
            false,
            true,
            DEFAULT_CLOUD_IO_PARALLELISM,
            DEFAULT_DOWNLOAD_RETRY_COUNT,
            None,
        ))
    }
}
