//! An object store as Lance's version of the object_store crate has it, which is newer than the engine's: the same
//! requests, answered by the engine's store. Reads only.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::object_store as engine;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lance_object_store::path::Path;
use lance_object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::store::fault;
use crate::warehouse::RemoteError;

/// Folders of a dataset whose files its manifest names (Lance's format specification, table layout).
const OF_A_VERSION: [&str; 3] = [".lance/data/", ".lance/_deletions/", ".lance/_indices/"];

#[derive(Debug)]
pub(super) struct ReadOnly(pub Arc<dyn engine::ObjectStore>);

impl fmt::Display for ReadOnly {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the warehouse's files")
    }
}

#[async_trait]
impl ObjectStore for ReadOnly {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        refused("put")
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        refused("put_multipart")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let asked = engine::GetOptions {
            if_match: options.if_match,
            if_none_match: options.if_none_match,
            if_modified_since: options.if_modified_since,
            if_unmodified_since: options.if_unmodified_since,
            range: options.range.map(|range| match range {
                GetRange::Bounded(bytes) => engine::GetRange::Bounded(bytes),
                GetRange::Offset(from) => engine::GetRange::Offset(from),
                GetRange::Suffix(bytes) => engine::GetRange::Suffix(bytes),
            }),
            version: options.version,
            head: options.head,
            extensions: Default::default(),
        };
        let found = self.0.get_opts(&to_engine(location)?, asked).await.map_err(told)?;
        // A store below a prefix names the object with it.
        let meta = ObjectMeta { location: location.clone(), ..of_engine(found.meta.clone())? };
        let range = found.range.clone();
        let payload = GetResultPayload::Stream(found.into_stream().map_err(told).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default(), extensions: Default::default() })
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { refused("delete") }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match prefix.map(to_engine).transpose() {
            Ok(prefix) => {
                self.0.list(prefix.as_ref()).map(|found| found.map_err(told).and_then(of_engine)).boxed()
            }
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.map(to_engine).transpose()?;
        let found = self.0.list_with_delimiter(prefix.as_ref()).await.map_err(told)?;
        Ok(ListResult {
            common_prefixes: found.common_prefixes.iter().map(path_of_engine).collect::<Result<_>>()?,
            objects: found.objects.into_iter().map(of_engine).collect::<Result<_>>()?,
            extensions: Default::default(),
        })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        refused("copy")
    }
}

fn refused<T>(operation: &str) -> Result<T> {
    Err(Error::NotImplemented { operation: operation.to_owned(), implementer: "a warehouse".to_owned() })
}

fn to_engine(path: &Path) -> Result<engine::path::Path> {
    engine::path::Path::parse(path.as_ref()).map_err(|error| told(error.into()))
}

fn path_of_engine(path: &engine::path::Path) -> Result<Path> {
    Ok(Path::parse(path.as_ref())?)
}

fn of_engine(meta: engine::ObjectMeta) -> Result<ObjectMeta> {
    Ok(ObjectMeta {
        location: path_of_engine(&meta.location)?,
        last_modified: meta.last_modified,
        size: meta.size,
        e_tag: meta.e_tag,
        version: meta.version,
    })
}

/// No error of an object store is told as it is: it names buckets and servers. That something is not there is an answer
/// that Lance asks for, unless it is a file that a version of the dataset consists of.
fn told(error: engine::Error) -> Error {
    let generic = |remote| Error::Generic { store: "warehouse", source: Box::new(remote) };
    match error {
        engine::Error::NotFound { path, .. } if !OF_A_VERSION.iter().any(|folder| path.contains(folder)) => {
            Error::NotFound { path, source: "it is not in the store".into() }
        }
        engine::Error::NotFound { .. } => generic(RemoteError::Changed),
        other => generic(fault(&other)),
    }
}
