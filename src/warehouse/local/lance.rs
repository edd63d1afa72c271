//! A Lance dataset as a table: the folder `<root>/<schema>/<table>.lance/`, its newest version at each query. Filters
//! and projections are pushed down to it.

use std::path::Path;
use std::sync::Arc;

use datafusion::datasource::TableProvider;
use lancedb::table::datafusion::BaseTableAdapter;

use super::disk::{check_within, shown};
use super::layout::LayoutError;

/// Opens the dataset at `path`, which lies below `root`, a canonical folder.
pub(super) async fn open(root: &Path, path: &Path) -> Result<Arc<dyn TableProvider>, LayoutError> {
    let (own_root, own_path) = (root.to_path_buf(), path.to_path_buf());
    let file = || shown(root, path);
    let walk = move || check_within(&own_root, &own_path);
    tokio::task::spawn_blocking(walk)
        .await
        .map_err(|error| LayoutError::Read { file: file(), source: error.into() })??;
    opened(path).await.map_err(|error| {
        // Its text names folders of this machine.
        tracing::warn!(dataset = file(), %error, "a lance dataset cannot be opened");
        LayoutError::Lance { file: file() }
    })
}

async fn opened(path: &Path) -> Result<Arc<dyn TableProvider>, Box<dyn std::error::Error + Send + Sync>> {
    let folder = path.parent().and_then(Path::to_str).ok_or("its path is not UTF-8")?;
    let name = path.file_stem().and_then(|name| name.to_str()).ok_or("its name is not UTF-8")?;
    let table = lancedb::connect(folder).execute().await?.open_table(name).execute().await?;
    Ok(Arc::new(BaseTableAdapter::try_new(table.base_table().clone()).await?))
}
