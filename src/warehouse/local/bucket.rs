//! The files of a table in an object store that speaks S3's protocol: AWS, MinIO, R2, Ceph.
//!
//! B1 A look costs two listings: one of the schema's own level, and of a folder one of all that lies in it, each with a
//! request for every thousand objects. B2 Only lists and reads are asked for, so that a key that may do no more is enough.

use std::sync::Arc;
use std::time::Duration;

use datafusion::object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use datafusion::object_store::path::Path;
use datafusion::object_store::prefix::PrefixStore;
use datafusion::object_store::{ClientConfigKey, ObjectMeta, RetryConfig, StaticCredentialProvider};
use futures::{StreamExt, TryStreamExt};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Found;
use super::layout::{Layout, MAX_FILES, ending_of, file_names, is_hidden};
use super::store::{Files, fault};
use crate::config::{S3Config, Setting, SettingError};
use crate::warehouse::{RemoteError, WarehouseError};

/// A store that does not answer by then is told as one that is away.
pub(super) const LOOK_TIME: Duration = Duration::from_secs(30);
const CONNECT_TIME: &str = "5 seconds";
const RETRIES: usize = 3;
const RETRY_TIME: Duration = Duration::from_secs(15);

/// Whether a warehouse's path is a place in an object store.
pub(super) fn is_bucket(path: &str) -> bool {
    path.contains("://")
}

/// The store of a warehouse at `s3://bucket/prefix`. Nothing is asked of it yet. `timeout` is that of a query.
pub(super) fn open(
    name: &str,
    path: &str,
    config: &S3Config,
    timeout: Duration,
) -> Result<Files, WarehouseError> {
    let wrong =
        |message: &str| WarehouseError::Config { warehouse: name.to_owned(), message: message.to_owned() };
    let url = Url::parse(path).map_err(|_| wrong("its path is no URL; write s3://bucket/prefix"))?;
    let bucket = url.host_str().filter(|_| url.scheme() == "s3").unwrap_or_default();
    if bucket.is_empty() {
        return Err(wrong("its path is neither a folder nor s3://bucket/prefix"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.port().is_some() {
        return Err(wrong("write its path as s3://bucket/prefix; keys and endpoint go under `s3`"));
    }
    let prefix =
        Path::from_url_path(url.path()).map_err(|_| wrong("the prefix in its path cannot be read"))?;
    let setting = |setting: &Option<Setting>| -> Result<Option<SecretString>, WarehouseError> {
        let failed = |source: SettingError| WarehouseError::Setting { warehouse: name.to_owned(), source };
        setting.as_ref().map(Setting::resolve).transpose().map_err(failed)
    };
    // What is not set is what AWS's own tools read from the environment: AWS_REGION, AWS_ACCESS_KEY_ID, a role's.
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if let Some(region) = setting(&config.region)? {
        builder = builder.with_region(region.expose_secret());
    }
    let mut endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
        .iter()
        .find_map(|key| builder.get_config_value(key));
    if let Some(set) = setting(&config.endpoint)? {
        endpoint = Some(set.expose_secret().to_owned());
    }
    if let Some(text) = &endpoint {
        let mut url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
            .ok_or_else(|| wrong("its endpoint is no URL; write https://host or https://host:port"))?;
        if !config.path_style
            && let Some(host) = url.host_str()
        {
            let host = format!("{bucket}.{host}");
            url.set_host(Some(&host))
                .map_err(|_| wrong("its bucket cannot stand in the endpoint's name; leave path_style out"))?;
        }
        builder = builder
            .with_config(AmazonS3ConfigKey::S3Endpoint, url.as_str().trim_end_matches('/'))
            .with_allow_http(url.scheme() == "http");
    } else {
        builder = builder.with_allow_http(false);
    }
    builder = builder.with_virtual_hosted_style_request(!config.path_style);
    let token = setting(&config.session_token)?.map(|token| token.expose_secret().to_owned());
    match (setting(&config.access_key_id)?, setting(&config.secret_access_key)?) {
        (Some(key_id), Some(secret_key)) => {
            let (key_id, secret_key) =
                (key_id.expose_secret().to_owned(), secret_key.expose_secret().to_owned());
            let credential = AwsCredential { key_id, secret_key, token };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
        }
        (None, None) if token.is_none() => {}
        _ => return Err(wrong("set both `s3.access_key_id` and `s3.secret_access_key`, or neither")),
    }
    if config.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let seconds = format!("{} seconds", timeout.as_secs().max(1));
    let store = builder
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), seconds)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT_TIME)
        .with_retry(RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() })
        .build()
        .map_err(|error| {
            // Its text may quote a variable of the environment.
            tracing::debug!(%error, warehouse = name, "an object store cannot be set up");
            wrong("its S3 settings do not go together; check those under `s3` and the AWS_ variables")
        })?;
    Ok(Files::in_bucket(Arc::new(PrefixStore::new(store, prefix))))
}

/// Looks for a table. `None`: there is none.
pub(super) async fn look(store: &Files, schema: &str, table: &str) -> Result<Option<Found>, WarehouseError> {
    match tokio::time::timeout(LOOK_TIME, found(store, schema, table)).await {
        Ok(found) => found,
        Err(_) => Err(away()),
    }
}

/// Of a store that did not answer in time.
pub(super) fn away() -> WarehouseError {
    tracing::warn!(seconds = LOOK_TIME.as_secs(), "the object store of a warehouse does not answer in time");
    RemoteError::Unreachable.into()
}

async fn found(store: &Files, schema: &str, table: &str) -> Result<Option<Found>, WarehouseError> {
    let failed = |error: datafusion::object_store::Error| WarehouseError::from(fault(&error));
    let folder = Path::from(schema);
    let level = store.inner().list_with_delimiter(Some(&folder)).await.map_err(failed)?;
    let by_name = |name: String| {
        let file = format!("{schema}/{name}");
        level.objects.iter().find(|object| object.location.as_ref() == file && object.size > 0)
    };
    if let Some(file) = file_names(table).find_map(by_name) {
        return Ok(Layout::of(file.location.to_string(), false, vec![file.clone()])?.map(Found::Files));
    }
    let below = format!("{schema}/{table}");
    let has_folder = |name: &str| level.common_prefixes.iter().any(|folder| folder.as_ref() == name);
    if has_folder(&below) {
        let inner = format!("{below}/");
        let is_data = |object: &ObjectMeta| {
            let inner = object.location.as_ref().strip_prefix(&inner).unwrap_or_default();
            object.size > 0 && ending_of(inner).is_some() && !inner.split('/').any(is_hidden)
        };
        let listed = store.inner().list(Some(&Path::from(below.as_str())));
        let files: Vec<ObjectMeta> = listed
            .try_filter(|object| std::future::ready(is_data(object)))
            .take(MAX_FILES + 1)
            .try_collect()
            .await
            .map_err(failed)?;
        return Ok(Layout::of(below, true, files)?.map(Found::Files));
    }
    Ok(has_folder(&format!("{below}.lance")).then_some(Found::Lance))
}
