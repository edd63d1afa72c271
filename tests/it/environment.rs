//! The real binary with the variables that deployments set.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::read;
use crate::postgres_server::free_port;

pub type Variables<'a> = &'a [(&'a str, &'a str)];

/// The binary in a folder of its own, with these variables and no other settings.
pub struct Place {
    pub folder: TempDir,
    port: u16,
}

/// A running service; killed when dropped.
pub struct Running {
    child: Child,
    pub url: String,
    log: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), port: free_port() }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str], variables: Variables<'_>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steward"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).env_clear();
        for kept in ["PATH", "HOME", "STEWARD_MODELS_DIR", "ORT_DYLIB_PATH", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
            .env("STEWARD__DATA_DIR", self.path("data"))
            .env("STEWARD__SERVER__LISTEN", format!("127.0.0.1:{}", self.port))
            .envs(variables.iter().copied());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str], variables: Variables<'_>) -> Output {
        self.command(arguments, variables).output().unwrap()
    }

    /// Starts the service and waits until it is ready.
    pub async fn serve(&self, variables: Variables<'_>) -> Running {
        let log = self.path("log");
        let stderr = std::fs::File::create(&log).unwrap();
        let mut child = self
            .command(&["serve", "--no-demo"], variables)
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let ready = format!("{}/health/ready", self.url());
        while !http.get(&ready).send().await.is_ok_and(|answer| answer.status() == 200) {
            let ended = child.try_wait().unwrap();
            let told = std::fs::read_to_string(&log).unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {told}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Running { child, url: self.url(), log }
    }

    /// A client made by the command line, and a token of it from the running service.
    pub async fn token(&self, running: &Running, scopes: &str, variables: Variables<'_>) -> Value {
        let file = self.path("client.json");
        let made = self.run(
            &[
                "client",
                "create",
                "--name",
                "x",
                "--scopes",
                scopes,
                "--credentials-file",
                file.to_str().unwrap(),
            ],
            variables,
        );
        assert!(made.status.success(), "{}", text(&made));
        let client: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http
            .post(format!("{}/oauth/token", running.url))
            .basic_auth(client["client_id"].as_str().unwrap(), client["client_secret"].as_str())
            .form(&[("grant_type", "client_credentials")]);
        let (status, token) = read(request.send().await.unwrap()).await;
        assert_eq!(status, 200, "{token:#}");
        token
    }
}

impl Running {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that a command has printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn claims(token: &Value) -> Value {
    let part = token["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn sqlite(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_a_production_deployment_are_honoured_end_to_end() {
    let place = Place::new();
    let database = sqlite(&place.path("elsewhere.sqlite"));
    let variables: Variables<'_> = &[
        ("ENVIRONMENT", "production"),
        ("ISSUER_URL", "https://steward.example.org/"),
        ("TOKEN_EXPIRY_SECONDS", "77"),
        ("DATABASE_URL", &database),
    ];
    let running = place.serve(variables).await;
    let token = place.token(&running, "protected", variables).await;
    assert_eq!(token["expires_in"], 77);
    let claims = claims(&token);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("https://steward.example.org"), &claims["iss"]));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 77);
    assert!(place.path("elsewhere.sqlite").is_file() && !place.path("data/steward.sqlite").exists());

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let bearer = token["access_token"].as_str().unwrap();
    for (path, expected) in [
        ("/v1/auth-test/protected", 200),
        ("/v1/semantic/models", 403),
        ("/nothing", 404),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/oauth/jwks", 200),
    ] {
        let answer = http.get(format!("{}{path}", running.url)).bearer_auth(bearer).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{path}");
        assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000", "{path}");
    }
    let metadata = http.get(format!("{}/.well-known/oauth-authorization-server", running.url));
    let metadata: Value = metadata.send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["token_endpoint"], "https://steward.example.org/oauth/token");

    let log = running.log();
    assert!(log.lines().count() >= 6, "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(line["level"].is_string(), "{line}");
    }
    assert!(log.contains("several replicas"), "the hint about SQLite: {log}");
    assert!(!log.contains(bearer));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_variable_it_is_development() {
    let place = Place::new();
    let running = place.serve(&[]).await;
    let token = place.token(&running, "protected", &[]).await;
    assert_eq!(token["expires_in"], 3600);
    assert_eq!(claims(&token)["iss"], running.url.as_str());
    assert!(place.path("data/steward.sqlite").is_file());
    let answer =
        reqwest::Client::builder().no_proxy().build().unwrap().get(&running.url).send().await.unwrap();
    assert!(answer.headers().get("strict-transport-security").is_none());
    let log = running.log();
    assert!(log.contains("environment=development") && !log.starts_with('{'), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_format_that_is_asked_for_wins_over_the_environments() {
    let place = Place::new();
    let variables: Variables<'_> =
        &[("ENVIRONMENT", "Production"), ("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/x")];
    // Starting takes ten seconds to fail: the server might be starting too.
    let output = place.run(&["--log-format", "text", "serve", "--no-demo"], variables);
    let told = text(&output);
    assert!(!output.status.success());
    assert!(told.contains("WARN") && !told.contains("\"level\""), "{told}");
    assert!(told.contains("127.0.0.1:1/x") && told.contains("check that the server runs"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn settings_that_cannot_be_are_refused_at_start_with_what_to_do() {
    let place = Place::new();
    for (variables, expected) in [
        (vec![("ENVIRONMENT", "prod")], "development, test, staging, production"),
        (vec![("ENVIRONMENT", "production"), ("ISSUER_URL", "http://steward.example.org")], "set ISSUER_URL"),
        (vec![("ENVIRONMENT", "staging"), ("STEWARD__SERVER__LISTEN", "0.0.0.0:0")], "set ISSUER_URL"),
        (vec![("ISSUER_URL", "ftp://x")], "https://"),
        (vec![("ISSUER_URL", "https://x.example?y")], "no query"),
        (vec![("TOKEN_EXPIRY_SECONDS", "0")], "must be 1 to 604800"),
        (vec![("TOKEN_EXPIRY_SECONDS", "604801")], "must be 1 to 604800"),
        (vec![("TOKEN_EXPIRY_SECONDS", "an hour")], "TOKEN_EXPIRY_SECONDS"),
        (vec![("TOKEN_EXPIRY_SECONDS", "-1")], "TOKEN_EXPIRY_SECONDS"),
        (vec![("DATABASE_URL", "mysql://u:hunter2@h/d")], "neither sqlite:, postgres: nor postgresql:"),
        (vec![("DATABASE_URL", "postgres://u:hunter2@h:port/d")], "invalid port"),
        (vec![("DATABASE_URL", "sqlite::memory:")], "in memory"),
        (vec![("DATABASE_URL", "sqlite:///no/such/folder/x.sqlite")], "its folder exists"),
    ] {
        let output = place.run(&["serve", "--no-demo"], &variables);
        let told = text(&output);
        assert!(!output.status.success(), "{variables:?}: {told}");
        assert!(told.contains(expected), "{variables:?}: {told}");
        assert!(!told.contains("hunter2") && !told.contains("panicked"), "{variables:?}: {told}");
    }
}
