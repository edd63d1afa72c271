//! Calls against a real HTTP upstream on loopback that behaves as badly as each test asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::catalog::{ActionCatalog, LoadOptions};
use super::super::clock::manual::ManualClock;
use super::super::file::Limits;
use super::super::net::EgressError;
use super::*;
use crate::error::ErrorKind;

mod failures;
mod redirects;
mod schemes;
mod tokens;

/// A request as the upstream saw it.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What the upstream does with a request.
enum Reply {
    /// Writes and closes.
    Send(Vec<u8>),
    /// Writes, then says no more, but keeps the connection.
    Hang(Vec<u8>),
    /// Writes a head, then this piece so many times, until nobody listens.
    Flood(Vec<u8>, Vec<u8>, usize),
}

struct Upstream {
    base: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    flooded: Arc<Mutex<usize>>,
}

impl Upstream {
    async fn start(reply: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let flooded: Arc<Mutex<usize>> = Arc::default();
        let (reply, log, flood) = (Arc::new(reply), seen.clone(), flooded.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (reply, log, flood) = (reply.clone(), log.clone(), flood.clone());
                tokio::spawn(async move { serve(stream, &*reply, &log, &flood).await });
            }
        });
        Self { base, seen, flooded }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn host(&self) -> &str {
        self.base.strip_prefix("http://").unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    reply: &(dyn Fn(&Seen, usize) -> Reply + Send + Sync),
    log: &Mutex<Vec<Seen>>,
    flood: &Mutex<usize>,
) -> Option<()> {
    let seen = read_request(&mut stream).await?;
    let number = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.len()
    };
    match reply(&seen, number) {
        Reply::Send(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            stream.shutdown().await.ok()
        }
        Reply::Hang(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            // Until the client goes away.
            stream.read(&mut [0]).await.ok().map(|_| ())
        }
        Reply::Flood(head, piece, times) => {
            stream.write_all(&head).await.ok()?;
            for _ in 0..times {
                stream.write_all(&piece).await.ok()?;
                *flood.lock().unwrap() += piece.len();
            }
            stream.shutdown().await.ok()
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        body.extend_from_slice(&buffer[..read]);
    }
    Some(Seen { method, target, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// A whole answer with its length.
fn answer(status: u16, headers: &str, body: &str) -> Reply {
    Reply::Send(
        format!(
            "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

fn ok(body: &str) -> Reply {
    answer(200, "content-type: application/json\r\n", body)
}

/// A document with GET and POST of `/x/{id}`, with this security.
fn document(schemes: Value, security: Value) -> Value {
    let operation = |id: &str| {
        json!({"operationId": id, "security": security, "parameters": [
            {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}},
            {"name": "q", "in": "query", "schema": {"type": "string"}},
            {"name": "X-Key", "in": "header", "schema": {"type": "string"}},
        ]})
    };
    let mut post = operation("post");
    post["requestBody"] = json!({"content": {"application/json": {"schema": {}}}});
    json!({"openapi": "3.0.0", "paths": {"/x/{id}": {"get": operation("get"), "post": post}},
        "components": {"securitySchemes": schemes}})
}

/// The secrets of the tests' environment.
const SECRETS: [(&str, &str); 6] = [
    ("KEY", "key-0123456789"),
    ("USER", "ada"),
    ("PASSWORD", "p/ss word+é"),
    ("TOKEN", "token-abcdefgh"),
    ("CLIENT", "client-1"),
    ("SECRET", "client-secret-xyz"),
];

async fn load(
    upstream: &Upstream,
    document: &Value,
    yaml: &str,
    limits: impl FnOnce(&mut Limits),
) -> Arc<Api> {
    let text = format!("base_url: {}\nallow_hosts: [\"127.0.0.1\"]\n{yaml}", upstream.base);
    load_plain(document, &text, limits).await
}

async fn load_plain(document: &Value, yaml: &str, limits: impl FnOnce(&mut Limits)) -> Arc<Api> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.openapi.json"), document.to_string()).unwrap();
    let all = if yaml.contains("operations:") { "" } else { "operations: \"*\"\n" };
    let text = format!("name: api\ndescription: d\nspec: a.openapi.json\n{all}{yaml}");
    std::fs::write(folder.path().join("api.yaml"), text).unwrap();
    let environment: crate::actions::security::secret::Environment =
        Arc::new(|name| SECRETS.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()));
    let options = LoadOptions { environment, ..LoadOptions::default() };
    let (catalog, diagnostics) = ActionCatalog::load_with(folder.path(), options).await;
    let api = catalog.api("api").unwrap_or_else(|_| panic!("{diagnostics:?}")).clone();
    drop(catalog);
    let mut api = Arc::into_inner(api).unwrap();
    api.limits_mut().max_retries = 0;
    limits(api.limits_mut());
    Arc::new(api)
}

/// An API without security.
async fn open_api(upstream: &Upstream, limits: impl FnOnce(&mut Limits)) -> Arc<Api> {
    load(upstream, &document(json!({}), json!([])), "", limits).await
}

async fn get(caller: &Caller, api: &Arc<Api>) -> Result<UpstreamResponse, ActionError> {
    caller.call(api, "get", &json!({"id": "1"}), &CancellationToken::new()).await
}

async fn get_text(caller: &Caller, api: &Arc<Api>) -> Result<String, ActionError> {
    let bytes = get(caller, api).await?.bytes().await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

fn manual_caller() -> (Caller, ManualClock) {
    let clock = ManualClock::new();
    let options = CallerOptions { clock: Arc::new(clock.clone()), ..CallerOptions::default() };
    (Caller::new(options), clock)
}

#[tokio::test]
async fn a_call_brings_back_head_and_body() {
    let upstream = Upstream::start(|_, _| {
        answer(200, "content-type: application/json\r\nETag: \"1\"\r\nX-RateLimit-Remaining: 9\r\nSet-Cookie: a=b\r\n", "[1,2]")
    })
    .await;
    let api = open_api(&upstream, |_| {}).await;
    let arguments = json!({"id": "a/b ü", "q": "x&y", "X-Key": "own"});
    let response = Caller::default().call(&api, "get", &arguments, &CancellationToken::new()).await.unwrap();
    assert_eq!((response.status, response.attempts, response.content_length), (200, 1, Some(5)));
    assert_eq!(response.content_type.as_deref(), Some("application/json"));
    assert_eq!(response.headers.keys().collect::<Vec<_>>(), ["etag", "x-ratelimit-remaining"]);
    assert_eq!(response.url, format!("{}/x/a%2Fb%20%C3%BC?q=x%26y", upstream.base));
    assert_eq!(response.bytes().await.unwrap(), "[1,2]");
    let seen = &upstream.seen()[0];
    assert_eq!(seen.target, "/x/a%2Fb%20%C3%BC?q=x%26y");
    assert_eq!(seen.header("user-agent"), Some(concat!("steward/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(seen.header("x-key"), Some("own"));
    assert_eq!((seen.header("cookie"), seen.header("authorization")), (None, None));
}

#[tokio::test]
async fn nothing_is_sent_before_the_arguments_hold() {
    let upstream = Upstream::start(|_, _| ok("{}")).await;
    let api = open_api(&upstream, |_| {}).await;
    let caller = Caller::default();
    for arguments in [
        json!({}),
        json!({"id": 1}),
        json!({"id": "1", "other": 1}),
        json!({"id": ".."}),
        json!({"id": "1", "X-Key": "a\r\nb: c"}),
    ] {
        let error = caller.call(&api, "get", &arguments, &CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_renamed_operation_is_called_and_told_of_by_its_new_name() {
    let upstream = Upstream::start(|_, _| ok("{}")).await;
    let schemes = json!({"b": {"type": "http", "scheme": "bearer"}});
    let yaml = "operations: {get: {rename: look_up}}\n";
    let api = load(&upstream, &document(schemes, json!([{"b": []}])), yaml, |_| {}).await;
    let caller = Caller::default();
    for arguments in [json!({}), json!({"id": "1"})] {
        let error = caller.call(&api, "look_up", &arguments, &CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().contains("api.look_up"), "{error}");
    }
    let error = caller.call(&api, "get", &json!({"id": "1"}), &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_body_is_sent_as_json() {
    let upstream = Upstream::start(|_, _| ok("{}")).await;
    let api = open_api(&upstream, |_| {}).await;
    let arguments = json!({"id": "1", "body": {"a": [1, null]}});
    Caller::default().call(&api, "post", &arguments, &CancellationToken::new()).await.unwrap();
    let seen = &upstream.seen()[0];
    assert_eq!((seen.method.as_str(), seen.body.as_str()), ("POST", r#"{"a":[1,null]}"#));
    assert_eq!(seen.header("content-type"), Some("application/json"));
}
