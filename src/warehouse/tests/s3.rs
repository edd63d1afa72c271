//! Files in an object store, spoken to moto on loopback. It takes any key, so that nothing here says that a wrong one is
//! refused: that is S3's own doing, and a refusal is shown by a server of one sentence.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::super::{LocalWarehouse, QueryTag, RemoteError, Warehouse, WarehouseError, remote_of};
use super::contract::{self, Subject};
use super::postgres_server::free_port;
use crate::config::S3Config;
use crate::error::ErrorKind;

/// What moto takes for the owner of what is written.
const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=reader/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// A running moto; stopped when dropped.
struct Moto {
    child: Child,
    url: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Moto {
    /// With a bucket called `lake`.
    async fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("STEWARD_MOTO") else {
            println!("skipped: STEWARD_MOTO is not set; ./test.sh fetches moto and sets it");
            return None;
        };
        let port = free_port();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, url: format!("http://127.0.0.1:{port}") };
        let until = Instant::now() + Duration::from_secs(120);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < until, "moto does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.put("", Vec::new()).await;
        Some(server)
    }

    async fn put(&self, key: &str, content: Vec<u8>) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let sent = client
            .put(format!("{}/lake/{key}", self.url))
            .header("authorization", SIGNED)
            .body(content)
            .send()
            .await
            .unwrap();
        assert!(sent.status().is_success(), "{key}: {}", sent.status());
    }

    /// All files below a folder.
    async fn put_folder(&self, key: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let key = format!("{key}/{}", path.file_name().unwrap().to_str().unwrap());
            match path.is_dir() {
                true => Box::pin(self.put_folder(&key, &path)).await,
                false => self.put(&key, std::fs::read(&path).unwrap()).await,
            }
        }
    }

    async fn delete(&self, key: &str) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let sent = client
            .delete(format!("{}/lake/{key}", self.url))
            .header("authorization", SIGNED)
            .send()
            .await
            .unwrap();
        assert!(sent.status().is_success(), "{key}: {}", sent.status());
    }

    fn warehouse(&self, path: &str, session: &SessionContext) -> LocalWarehouse {
        open(path, &self.url, session).unwrap()
    }
}

fn config(endpoint: &str) -> S3Config {
    let setting = |text: &str| Some(text.to_owned().into());
    S3Config {
        region: setting("us-east-1"),
        endpoint: setting(endpoint),
        access_key_id: setting("reader"),
        secret_access_key: setting("hunter2"),
        ..S3Config::default()
    }
}

fn open(path: &str, endpoint: &str, session: &SessionContext) -> Result<LocalWarehouse, WarehouseError> {
    let timeout = Duration::from_secs(60);
    LocalWarehouse::open("lake", Path::new(path), Some(&config(endpoint)), session.state(), timeout)
}

async fn rows(warehouse: &LocalWarehouse, session: &SessionContext, table: &str, sql: &str) -> String {
    let provider = warehouse.table("s", table, &QueryTag::default()).await.unwrap();
    let context = SessionContext::new_with_config_rt(session.copied_config(), session.runtime_env());
    context.register_table("t", provider).unwrap();
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_a_bucket_keep_the_contract() {
    let Some(server) = Moto::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let session = SessionContext::new();
    super::local::write_tables(folder.path(), &session).await;
    server.put_folder("at/some/place", folder.path()).await;
    let warehouse = server.warehouse("s3://lake/at/some/place", &session);
    contract::holds(&Subject { warehouse: Arc::new(warehouse), schema: "data", has_zones: true, session })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lance_datasets_in_a_bucket_keep_the_contract() {
    let Some(server) = Moto::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let session = SessionContext::new();
    super::local::write_datasets(folder.path(), &session).await;
    server.put_folder("at/some/place", folder.path()).await;
    let warehouse = server.warehouse("s3://lake/at/some/place", &session);
    contract::holds(&Subject { warehouse: Arc::new(warehouse), schema: "data", has_zones: true, session })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lance_dataset_of_a_bucket_is_read_at_its_newest_version_and_from_its_own_folder_alone() {
    let Some(server) = Moto::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let session = SessionContext::new();
    let batch = |numbers: &[i64]| {
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    };
    let connection = lancedb::connect(folder.path().to_str().unwrap()).execute().await.unwrap();
    let table = connection.create_table("l", batch(&[1, 2, 3])).execute().await.unwrap();
    server.put_folder("in/s", folder.path()).await;
    let warehouse = server.warehouse("s3://lake/in", &session);
    let sql = "SELECT count(*) AS a, sum(n) AS b FROM t WHERE n > 1";
    let found = rows(&warehouse, &session, "l", sql).await;
    assert!(found.contains("| 2 | 5 |"), "{found}");
    table.add(batch(&[40])).execute().await.unwrap();
    server.put_folder("in/s", folder.path()).await;
    let found = rows(&warehouse, &session, "l", sql).await;
    assert!(found.contains("| 3 | 45 |"), "{found}");

    let provider = warehouse.table("s", "l", &QueryTag::default()).await.unwrap();
    for entry in std::fs::read_dir(folder.path().join("l.lance/data")).unwrap() {
        let name = entry.unwrap().file_name();
        server.delete(&format!("in/s/l.lance/data/{}", name.to_str().unwrap())).await;
    }
    let context = SessionContext::new_with_config_rt(session.copied_config(), session.runtime_env());
    context.register_table("t", provider).unwrap();
    let error = context.sql(sql).await.unwrap().collect().await.unwrap_err();
    assert_eq!(remote_of(&error), Some(RemoteError::Changed), "{error}");

    // A clone has its rows where the other dataset lies.
    let source = folder.path().join("l.lance");
    connection.clone_table("clone", source.to_str().unwrap()).execute().await.unwrap();
    server.put_folder("in/s", folder.path()).await;
    let error = warehouse.table("s", "clone", &QueryTag::default()).await.unwrap_err().to_string();
    assert!(error.contains("`s/clone.lance` is a clone"), "{error}");

    drop(server);
    let error = warehouse.table("s", "l", &QueryTag::default()).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Remote(RemoteError::Unreachable)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_a_bucket_are_tables_whose_changes_show_in_the_next_query() {
    let Some(server) = Moto::start().await else { return };
    // As the engine's sessions: nothing remembers what was listed.
    let runtime = RuntimeEnvBuilder::new().with_object_list_cache_limit(0).build_arc().unwrap();
    let session = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    let warehouse = server.warehouse("s3://lake", &session);
    let sql = "SELECT sum(n) AS a, count(DISTINCT k) AS b, min(zip) AS c FROM t";
    server.put("s/t/k=1/a.csv", b"n,zip\n1,01000\n2,02000\n".to_vec()).await;
    server.put("s/t/k=2/b.csv", b"n,zip\n10,00500\n".to_vec()).await;
    server.put("s/t/_SUCCESS", b"x".to_vec()).await;
    server.put("s/t/_temporary/k=3/c.csv", b"n,zip\n100,0\n".to_vec()).await;
    server.put("s/t2/k=3/c.csv", b"n,zip\n1000,0\n".to_vec()).await;
    let found = rows(&warehouse, &session, "t", sql).await;
    assert!(found.contains("| 13 | 2 | 00500 |"), "{found}");
    let one = rows(&warehouse, &session, "t", "SELECT sum(n) AS a FROM t WHERE k = 2").await;
    assert!(one.contains("| 10 |"), "{one}");
    server.put("s/t/k=2/b.csv", b"n,zip\n20,00500\n".to_vec()).await;
    server.put("s/t/k=4/d.csv", b"n,zip\n40,00400\n".to_vec()).await;
    server.delete("s/t/k=1/a.csv").await;
    let found = rows(&warehouse, &session, "t", sql).await;
    assert!(found.contains("| 60 | 2 | 00400 |"), "{found}");
    server.put("s/j.ndjson", b"{\"n\": 1}\n{\"n\": 2}\n".to_vec()).await;
    let found = rows(&warehouse, &session, "j", "SELECT sum(n) AS a FROM t").await;
    assert!(found.contains("| 3 |"), "{found}");
    server.put("s/mixed/a.csv", b"n\n1\n".to_vec()).await;
    server.put("s/mixed/b.ndjson", b"{\"n\": 1}\n".to_vec()).await;
    let error = warehouse.table("s", "mixed", &QueryTag::default()).await.unwrap_err().to_string();
    assert!(error.contains("s/mixed/b.ndjson") && error.contains("format"), "{error}");
    server.put("s/l.lance/data/x", b"x".to_vec()).await;
    let error = warehouse.table("s", "l", &QueryTag::default()).await.unwrap_err().to_string();
    assert!(error.contains("`s/l.lance` is not a Lance dataset that can be read"), "{error}");
    let error = server.warehouse("s3://nobucket/x", &session).table("s", "t", &QueryTag::default()).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("bucket does not exist"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_or_refuses_is_told_without_secrets_when_it_is_asked_and_not_before() {
    let session = SessionContext::new();
    let away = format!("http://127.0.0.1:{}", free_port());
    let warehouse = open("s3://lake", &away, &session).unwrap();
    let error = warehouse.table("s", "t", &QueryTag::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "the warehouse does not answer; try again later, or tell its operator");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!format!("{warehouse:?}").contains("hunter2"));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            let body = "<Error><Code>SignatureDoesNotMatch</Code></Error>";
            let head = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length";
            let _ = socket.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        }
    });
    let warehouse = open("s3://lake", &refuses, &session).unwrap();
    let error = warehouse.table("s", "t", &QueryTag::default()).await.unwrap_err().to_string();
    assert!(error.contains("does not permit") && !error.contains("127.0.0.1"), "{error}");
}

#[test]
fn settings_that_do_not_go_together_are_told_at_the_start() {
    let session = SessionContext::new();
    let told = |path: &str, config: &S3Config| {
        let timeout = Duration::from_secs(60);
        let opened = LocalWarehouse::open("lake", Path::new(path), Some(config), session.state(), timeout);
        opened.expect_err(path).to_string()
    };
    let setting = |text: &str| Some(text.to_owned().into());
    let whole = config("https://s3.example");
    assert!(told("gs://lake/x", &whole).contains("s3://bucket/prefix"));
    assert!(told("s3://key:hunter2@lake/x", &whole).contains("under `s3`"));
    assert!(told("/some/folder", &whole).contains("leave it out"));
    let half = S3Config { secret_access_key: None, ..whole.clone() };
    assert!(told("s3://lake", &half).contains("both"));
    let endpoint = S3Config { endpoint: setting("s3.example"), ..whole.clone() };
    assert!(told("s3://lake", &endpoint).contains("https://host"));
    let missing = S3Config { access_key_id: setting("env:STEWARD_TEST_OF_A_MISSING_VARIABLE"), ..whole };
    assert!(told("s3://lake", &missing).contains("STEWARD_TEST_OF_A_MISSING_VARIABLE"));
}
