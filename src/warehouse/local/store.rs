//! The files of one warehouse as the engine reaches them: read only, below one folder, without the hidden ones, and
//! unpacked where they are compressed.
//!
//! S1 No path leads out of the root: checked at each opening, so that a link that is put there later is refused too.
//! S2 What is hidden is not listed. S3 Nothing is written. S4 A table is listed as it was last looked at: one listing a
//! query. S5 A compressed file that ends too early or is damaged is an error, and so is one whose rows are wider than
//! memory should hold. S6 No error of an object store is told as it is: it names buckets and servers.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::error::DataFusionError;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::layout::{Layout, ending_of, is_hidden, packing_of};
use super::width::Width;
use crate::warehouse::RemoteError;
use crate::warehouse::error::remote_of;

#[derive(Debug)]
pub(super) struct Files {
    inner: Arc<dyn ObjectStore>,
    /// The disk's, with its canonical folder; nothing for an object store.
    disk: Option<(Arc<LocalFileSystem>, PathBuf)>,
    /// Tables by their places, as they were last looked at (S4).
    looked: Mutex<HashMap<String, Arc<Layout>>>,
}

impl Files {
    /// `root` is canonical.
    pub fn on_disk(root: PathBuf) -> Result<Self> {
        let inner = Arc::new(LocalFileSystem::new_with_prefix(&root)?);
        Ok(Self { inner: inner.clone(), disk: Some((inner, root)), looked: Mutex::default() })
    }

    pub fn in_bucket(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, disk: None, looked: Mutex::default() }
    }

    /// What the store itself has, hidden or not.
    pub fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    /// How the table is listed from now on (S4).
    pub fn looked(&self, layout: &Arc<Layout>) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.insert(layout.below.clone(), layout.clone());
    }

    pub fn forget(&self, below: &str) {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).remove(below);
    }

    /// The table that this folder belongs to.
    fn table_of(&self, folder: &str) -> Option<Arc<Layout>> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = Some(folder);
        while let Some(place) = at {
            if let Some(found) = looked.get(place) {
                return Some(found.clone());
            }
            at = place.rsplit_once('/').map(|(above, _)| above);
        }
        None
    }

    /// S1.
    fn confined(&self, location: &Path) -> Result<()> {
        let Some((disk, root)) = &self.disk else { return Ok(()) };
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| Error::PermissionDenied {
            path: location.to_string(),
            source,
        };
        match disk.path_to_filesystem(location)?.canonicalize() {
            Ok(real) if real.starts_with(root) => Ok(()),
            Ok(_) => Err(refused("it is a link that leaves the warehouse's folder".into())),
            // What is not there is told by the store itself.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(refused(Box::new(error))),
        }
    }

    fn told_stream(&self, found: GetResult) -> GetResult {
        match found.payload {
            GetResultPayload::Stream(stream) if self.disk.is_none() => {
                let stream = stream.map_err(|error| match remote_of(&error) {
                    Some(_) => error,
                    None => generic(fault(&error)),
                });
                GetResult { payload: GetResultPayload::Stream(stream.boxed()), ..found }
            }
            payload => GetResult { payload, ..found },
        }
    }

    /// S6.
    fn told(&self, error: Error) -> Error {
        if self.disk.is_some() || remote_of(&error).is_some() {
            return error;
        }
        let remote = match &error {
            // It was listed a moment ago.
            Error::NotFound { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
                RemoteError::Changed
            }
            _ => fault(&error),
        };
        generic(remote)
    }
}

/// What an object store's failure is for the caller. The log gets the rest, without the server's own text, which may
/// quote what was signed.
pub(super) fn fault(error: &Error) -> RemoteError {
    let text = error.to_string();
    let code =
        text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let code = code.unwrap_or_default();
    let reason: String = text.split('<').next().unwrap_or_default().chars().take(400).collect();
    let (remote, help) = match error {
        // A failed listing says so in its text alone.
        _ if code == "NoSuchBucket" => {
            (RemoteError::NoBucket, "check the bucket in `path`, and `s3.endpoint`")
        }
        _ if text.contains("403 Forbidden") || text.contains("401 Unauthorized") => (
            RemoteError::NotPermitted,
            "check `s3.access_key_id` and `s3.secret_access_key`, and that they may list and read the bucket",
        ),
        Error::NotFound { .. } => (RemoteError::NoBucket, "check the bucket in `path`, and `s3.endpoint`"),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => (
            RemoteError::NotPermitted,
            "check `s3.access_key_id` and `s3.secret_access_key`, and that they may list and read the bucket",
        ),
        _ if ["ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed", "PermanentRedirect"]
            .contains(&code) =>
        {
            (RemoteError::NotPermitted, "check `s3.session_token` and `s3.region`")
        }
        _ => (RemoteError::Unreachable, "check `s3.endpoint` and `s3.region`, and whether the store is up"),
    };
    tracing::warn!(code, reason, help, "the object store of a warehouse failed");
    remote
}

fn generic(error: RemoteError) -> Error {
    Error::Generic { store: "warehouse", source: Box::new(error) }
}

/// A file whose content is not what its name says.
fn damaged(location: &Path, problem: &'static str) -> Error {
    generic(RemoteError::File { file: location.to_string(), problem })
}

/// A compressed file's size says nothing of its content: at one byte, no engine splits it.
fn unsized_meta(meta: ObjectMeta) -> ObjectMeta {
    ObjectMeta { size: meta.size.min(1), ..meta }
}

/// The content of a compressed file (S5).
fn unpacked(location: &Path, found: GetResult) -> Result<GetResult> {
    let Some(packing) = packing_of(location.as_ref()) else { return Ok(found) };
    let (meta, attributes) = (unsized_meta(found.meta.clone()), found.attributes.clone());
    let packed = found.into_stream().map_err(DataFusionError::from).boxed();
    let at = location.clone();
    let failed = move |error: DataFusionError| match remote_of(&error) {
        Some(remote) => generic(remote),
        None => damaged(&at, "cannot be unpacked: it ends too early or is damaged"),
    };
    let stream = packing.convert_stream(packed).map_err(&failed)?.map_err(failed);
    let mut width = Width::new(ending_of(location.as_ref()) == Some("csv"));
    let at = location.clone();
    let checked = stream.map(move |piece| {
        let piece = piece?;
        match width.fits(&piece) {
            true => Ok(piece),
            false => Err(damaged(&at, "has rows that are too wide to be read")),
        }
    });
    Ok(GetResult {
        payload: GetResultPayload::Stream(checked.boxed()),
        range: 0..meta.size,
        meta,
        attributes,
    })
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
        let is_packed = packing_of(location.as_ref()).is_some();
        if is_packed && options.range.is_some() {
            return Err(damaged(location, "is compressed and cannot be read in parts"));
        }
        let is_head = options.head;
        let mut found = self.inner.get_opts(location, options).await.map_err(|error| self.told(error))?;
        // A store below a prefix names the object with it, and the engine takes only what lies in the table.
        found.meta.location = location.clone();
        match (is_packed, is_head) {
            (true, true) => Ok(GetResult { meta: unsized_meta(found.meta.clone()), ..found }),
            (true, false) => unpacked(location, self.told_stream(found)),
            (false, _) => Ok(self.told_stream(found)),
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.confined(location)?;
        if packing_of(location.as_ref()).is_some() {
            return Err(damaged(location, "is compressed and cannot be read in parts"));
        }
        self.inner.get_ranges(location, ranges).await.map_err(|error| self.told(error))
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { read_only("delete") }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let folder = prefix.map(Path::as_ref).unwrap_or_default();
        let Some(table) = self.table_of(folder) else {
            let is_remote = self.disk.is_none();
            let listed = self.inner.list(prefix);
            return listed
                .map_err(move |error| if is_remote { generic(fault(&error)) } else { error })
                .try_filter(|found| std::future::ready(is_listed(found)))
                .boxed();
        };
        let is_packed = table.is_packed();
        let inner = format!("{folder}/");
        let files: Vec<ObjectMeta> =
            table.files.iter().filter(|file| file.location.as_ref().starts_with(&inner)).cloned().collect();
        let listed = files.into_iter().map(move |file| if is_packed { unsized_meta(file) } else { file });
        futures::stream::iter(listed.map(Ok)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let found = self.inner.list_with_delimiter(prefix).await;
        let mut found = found.map_err(|error| self.told(error))?;
        found.objects.retain(is_listed);
        found.common_prefixes.retain(|folder| !folder.parts().any(|part| is_hidden(part.as_ref())));
        Ok(found)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        read_only("copy")
    }
}
