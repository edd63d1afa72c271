//! Starts a service of its own for each test, on ports that the system picks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use steward::api::BoundServer;
use steward::auth::{NewClient, ScopeSet};
use steward::cli::demo_api::DemoApi;
use steward::config::Config;
use steward::engine::{Engine, Parts};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const WEATHER_KEY: &str = "a-key-that-only-the-service-and-the-api-know";

/// All scopes of the demo's agent.
pub const AGENT_SCOPES: &str =
    "semantic:read sql:generate sql:run actions:read actions:call rag:read rag:write";

/// A running service with the demo API behind it; everything ends when it is dropped.
pub struct Service {
    pub url: String,
    pub engine: Arc<Engine>,
    pub http: reqwest::Client,
    data: Option<TempDir>,
    stop: Vec<oneshot::Sender<()>>,
    tasks: Vec<JoinHandle<()>>,
}

/// The checkout; tests run from there.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Service {
    /// The demo's configuration in a fresh data folder.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with changes to the configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (weather, api_stop, api_task) = start_weather().await;
        let actions = data.path().join("actions");
        write_actions(&actions, &weather);
        let mut service = Self::on(data, change).await;
        service.stop.push(api_stop);
        service.tasks.push(api_task);
        service
    }

    async fn on(data: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let server = BoundServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", server.address());
        let mut config = config(data.path(), server.address());
        change(&mut config);
        let engine = Arc::new(Engine::open(config, Parts::All).await.unwrap());
        let (stop, stopped) = oneshot::channel();
        let served = engine.clone();
        let task = tokio::spawn(async move {
            server
                .run(served, async {
                    let _ = stopped.await;
                })
                .await
                .unwrap();
        });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, engine, http, data: Some(data), stop: vec![stop], tasks: vec![task] }
    }

    /// Stops the service as a signal would, and starts another on the same data.
    pub async fn restart(mut self) -> Self {
        for stop in self.stop.drain(..) {
            let _ = stop.send(());
        }
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
        self.engine.close().await;
        let data = self.data.take().unwrap();
        drop(self.engine);
        Self::on(data, |_| {}).await
    }

    pub fn data_dir(&self) -> &Path {
        self.data.as_ref().unwrap().path()
    }

    /// Registers a client and returns its id and secret.
    pub async fn client(&self, scopes: &str) -> (String, String) {
        let scopes: ScopeSet = scopes.parse().unwrap();
        let new = NewClient { name: "test".to_owned(), scopes, ..NewClient::default() };
        let made = self.engine.auth().unwrap().clients().create(&new).await.unwrap();
        (made.client.client_id.to_string(), made.secret.expose_secret().to_owned())
    }

    /// An access token of a new client with these scopes, from the token endpoint.
    pub async fn token(&self, scopes: &str) -> String {
        let (id, secret) = self.client(scopes).await;
        let answer = self
            .http
            .post(format!("{}/oauth/token", self.url))
            .basic_auth(id, Some(secret))
            .form(&[("grant_type", "client_credentials")])
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn get(&self, token: &str, path: &str) -> (u16, Value) {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(token);
        read(request.send().await.unwrap()).await
    }

    pub async fn post(&self, token: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(token).json(&body);
        read(request.send().await.unwrap()).await
    }

    pub async fn sql(&self, token: &str, sql: &str) -> (u16, Value) {
        self.post(token, "/v1/sql/run", json!({"sql": sql})).await
    }

    /// Calls hourly weather of JFK for the whole year.
    pub async fn hourly_weather(&self, token: &str) -> Value {
        let body = json!({"arguments": {"origin": "JFK", "from": "2013-01-01", "to": "2013-12-31"}});
        let (status, answer) = self.post(token, "/v1/actions/weather/get_hourly", body).await;
        assert_eq!(status, 200, "{answer:#}");
        answer
    }
}

/// Status and body; the body of a problem is JSON too.
pub async fn read(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.unwrap();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    (status, body)
}

pub fn config(data: &Path, address: SocketAddr) -> Config {
    let variable = |name: &str| {
        PathBuf::from(
            std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set; run the tests by ./test.sh")),
        )
    };
    let mut config = Config { data_dir: data.join("data"), ..Config::default() };
    config.server.listen = address;
    config.server.public_url = format!("http://{address}");
    config.semantic.dir = checkout().join("semantic");
    config.actions.dir = data.join("actions");
    config.indexes.dir = checkout().join("indexes");
    config.warehouses =
        [("local".to_owned(), steward::config::WarehouseConfig::local(checkout().join("examples")))].into();
    config.embedding.models_dir = variable("STEWARD_MODELS_DIR");
    config.embedding.onnxruntime = variable("ORT_DYLIB_PATH");
    config
}

async fn start_weather() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let weather = checkout().join("examples/nycflights13/weather.parquet");
    let api = DemoApi::bind("127.0.0.1:0".parse().unwrap(), &weather, SecretString::from(WEATHER_KEY))
        .await
        .unwrap();
    let address = api.address();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        api.run(async {
            let _ = stopped.await;
        })
        .await
        .unwrap();
    });
    (address, stop, task)
}

/// The project's own action file, with the address and the key of this test: a file, as an operator would mount it.
fn write_actions(folder: &Path, weather: &SocketAddr) {
    std::fs::create_dir_all(folder).unwrap();
    let source = checkout().join("actions");
    std::fs::copy(source.join("weather.openapi.json"), folder.join("weather.openapi.json")).unwrap();
    let key = folder.join("weather.key");
    std::fs::write(&key, WEATHER_KEY).unwrap();
    let text = std::fs::read_to_string(source.join("weather.yaml")).unwrap();
    let base_url = "base_url: {env: WEATHER_API_URL, default: \"http://127.0.0.1:8090\"}";
    let credential = "{value: env:WEATHER_API_KEY}";
    assert!(text.contains(base_url) && text.contains(credential), "weather.yaml changed its form");
    let text = text
        .replace(base_url, &format!("base_url: http://{weather}"))
        .replace(credential, &format!("{{value: \"file:{}\"}}", key.display()));
    std::fs::write(folder.join("weather.yaml"), text).unwrap();
}
