//! Snowflake's protocol, spoken to fakesnow on loopback. It knows no roles, so that nothing here says that writes are
//! refused: that is for the role's grants.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use poem::http::Extensions;
use reqwest::{Body, Request, Response};
use reqwest_middleware::{ClientBuilder, Middleware, Next};
use serde_json::{Value, json};
use snowflake_api::connection::Connection;

use super::super::{RemoteError, SnowflakeWarehouse};
use super::contract::{self, Subject, unguarded};
use super::postgres_server::free_port;
use crate::config::SnowflakeConfig;

/// A running fakesnow; stopped when dropped.
pub struct Fakesnow {
    child: Child,
    port: u16,
}

impl Drop for Fakesnow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Fakesnow {
    pub async fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("STEWARD_FAKESNOW") else {
            println!("skipped: STEWARD_FAKESNOW is not set; ./test.sh fetches fakesnow and sets it");
            return None;
        };
        let port = free_port();
        let child = Command::new(program)
            .args(["-s", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        let until = Instant::now() + Duration::from_secs(120);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < until, "fakesnow does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(server)
    }

    /// A warehouse whose requests go there; `seen` gets the bodies of its statements.
    pub fn warehouse(&self, seen: &Arc<Mutex<Vec<Value>>>) -> SnowflakeWarehouse {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let loopback = Loopback { port: self.port, seen: seen.clone(), turn: tokio::sync::Mutex::default() };
        let connection = Connection::new_with_middware(ClientBuilder::new(http).with(loopback).build());
        let setting = |text: &str| Some(text.to_owned().into());
        let config = SnowflakeConfig {
            account: setting("xy12345.eu_central-1"),
            user: setting("reader"),
            password: setting("hunter2"),
            database: setting("db"),
            schema: setting("public"),
            ..SnowflakeConfig::default()
        };
        SnowflakeWarehouse::for_test(&config, connection, Duration::from_secs(60))
    }
}

/// Sends to loopback what is meant for Snowflake.
struct Loopback {
    port: u16,
    seen: Arc<Mutex<Vec<Value>>>,
    /// fakesnow refuses a statement while another one of the session runs; Snowflake does not.
    turn: tokio::sync::Mutex<()>,
}

#[async_trait::async_trait]
impl Middleware for Loopback {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        assert_eq!(request.url().host_str(), Some("xy12345.eu-central-1.snowflakecomputing.com"));
        assert_eq!(request.url().scheme(), "https");
        let url = request.url_mut();
        url.set_scheme("http").unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        let body = request.body().and_then(Body::as_bytes).unwrap_or_default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        self.seen.lock().unwrap().push(body);
        let _turn = self.turn.lock().await;
        next.run(request, extensions).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snowflake_keeps_the_contract_and_is_told_who_asks_and_for_how_long() {
    let Some(server) = Fakesnow::start().await else { return };
    let seen = Arc::default();
    let subject = Subject {
        warehouse: Arc::new(server.warehouse(&seen)),
        schema: "PUBLIC",
        has_zones: true,
        session: datafusion::prelude::SessionContext::new(),
    };
    let columns = "(id integer, big bigint, amount number(12, 2), ratio double, name text, day date, \"AT\" timestamp_ntz, seen timestamp_tz, ok boolean)";
    for sql in [
        format!("CREATE TABLE every_type {columns}"),
        format!("CREATE TABLE no_rows {columns}"),
        format!("INSERT INTO every_type VALUES {}", contract::rows("'2020-02-29 08:11:12+00:00'::timestamp_tz")),
        "CREATE TABLE many AS SELECT id, 't' || id AS text FROM (SELECT row_number() OVER (ORDER BY 1) AS id FROM TABLE(GENERATOR(ROWCOUNT => 100000))) AS g".to_owned(),
        "CREATE TABLE \"odd-name\" (\"select\" integer, \"Ünï cödé\" text, \"we\"\"ird\" text)".to_owned(),
        "INSERT INTO \"odd-name\" VALUES (7, 'x', repeat('é', 500000))".to_owned(),
    ] {
        contract::whole(&subject, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    contract::holds(&subject).await;
    let sent = seen.lock().unwrap().clone();
    let login = sent.iter().find(|body| body.get("data").is_some()).unwrap();
    assert_eq!(login["data"]["ACCOUNT_NAME"], "XY12345");
    let statement = sent
        .iter()
        .find(|body| body["sqlText"].as_str().is_some_and(|sql| sql.starts_with("CREATE")))
        .unwrap();
    assert_eq!(statement["parameters"]["STATEMENT_TIMEOUT_IN_SECONDS"], 30);
    let tag: Value = serde_json::from_str(statement["parameters"]["QUERY_TAG"].as_str().unwrap()).unwrap();
    assert_eq!(tag, json!({"service": "steward", "client": "contract", "request_id": "r-1"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn snowflakes_errors_hold_no_secret_and_a_lost_login_is_renewed() {
    let Some(server) = Fakesnow::start().await else { return };
    let seen = Arc::default();
    let warehouse = Arc::new(server.warehouse(&seen));
    let subject = Subject {
        warehouse: warehouse.clone(),
        schema: "PUBLIC",
        has_zones: true,
        session: datafusion::prelude::SessionContext::new(),
    };
    let outcome = contract::whole(&subject, "SELECT nocol FROM (SELECT 1 AS a) AS t").await;
    assert!(
        matches!(&outcome, Err(RemoteError::Statement { message }) if message.contains("NOCOL")),
        "{outcome:?}"
    );
    let outcome = contract::whole(&subject, "SELECT 'hidden'::int AS a").await.unwrap_err();
    assert!(!outcome.to_string().contains("hidden"), "{outcome}");
    assert!(!format!("{warehouse:?}").contains("hunter2"));
    drop(server);
    let remote = subject.warehouse.remote().unwrap();
    let gone = remote.run(unguarded("SELECT 1 AS a", Duration::from_secs(20))).await;
    assert!(matches!(gone, Err(RemoteError::Unreachable)));
}
