//! The files of one warehouse as the engine reaches them: read only, below one folder, without the hidden ones.
//!
//! S1 No path leads out of the root: checked at each opening, so that a link that is put there later is refused too.
//! S2 What is hidden is not listed. S3 Nothing is written.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::layout::is_hidden;

#[derive(Debug)]
pub(super) struct Files {
    inner: LocalFileSystem,
    /// Canonical.
    root: PathBuf,
}

impl Files {
    /// `root` is canonical.
    pub fn new(root: PathBuf) -> Result<Self> {
        Ok(Self { inner: LocalFileSystem::new_with_prefix(&root)?, root })
    }

    /// S1.
    fn confined(&self, location: &Path) -> Result<()> {
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| Error::PermissionDenied {
            path: location.to_string(),
            source,
        };
        match self.inner.path_to_filesystem(location)?.canonicalize() {
            Ok(real) if real.starts_with(&self.root) => Ok(()),
            Ok(_) => Err(refused("it is a link that leaves the warehouse's folder".into())),
            // What is not there is told by the store itself.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(refused(Box::new(error))),
        }
    }
}

fn is_listed(meta: &ObjectMeta) -> bool {
    meta.size > 0 && !meta.location.parts().any(|part| is_hidden(part.as_ref()))
}

fn read_only<T>(operation: &str) -> Result<T> {
    Err(Error::NotImplemented { operation: operation.to_owned(), implementer: "a warehouse".to_owned() })
}

impl fmt::Display for Files {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the warehouse's files")
    }
}

#[async_trait]
impl ObjectStore for Files {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        read_only("put")
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        read_only("put_multipart")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.confined(location)?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.confined(location)?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { read_only("delete") }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        listed.filter(|found| std::future::ready(found.as_ref().map_or(true, is_listed))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut found = self.inner.list_with_delimiter(prefix).await?;
        found.objects.retain(is_listed);
        found.common_prefixes.retain(|folder| !folder.parts().any(|part| is_hidden(part.as_ref())));
        Ok(found)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        read_only("copy")
    }
}
