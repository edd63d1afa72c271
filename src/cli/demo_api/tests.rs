use std::path::PathBuf;

use tokio::sync::oneshot;

use super::*;

const KEY: &str = "demo-key-for-tests";

fn parquet() -> PathBuf {
    PathBuf::from("examples/nycflights13/weather.parquet")
}

/// A server that stops when this is dropped.
struct Running {
    base: String,
    _stop: oneshot::Sender<()>,
}

impl Running {
    async fn start() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let api = DemoApi::bind(listen, &parquet(), SecretString::from(KEY)).await.unwrap();
        let base = format!("http://{}", api.address());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(api.run(async move {
            let _ = stopped.await;
        }));
        Self { base, _stop: stop }
    }

    async fn get(&self, path: &str, key: Option<&str>) -> (u16, String, Value, usize) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.get(format!("{}{path}", self.base));
        if let Some(key) = key {
            request = request.header("X-API-Key", key);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let media = response.headers()["content-type"].to_str().unwrap().to_owned();
        let body = response.bytes().await.unwrap();
        (status, media, serde_json::from_slice(&body).unwrap(), body.len())
    }
}

#[tokio::test]
async fn a_year_of_hours_is_over_a_megabyte_in_order_and_with_its_gaps() {
    let server = Running::start().await;
    let (status, media, body, size) =
        server.get("/hourly?origin=JFK&from=2013-01-01&to=2013-12-31", Some(KEY)).await;
    assert_eq!((status, media.as_str()), (200, "application/json; charset=utf-8"));
    assert!(size > 1_000_000, "{size} bytes");
    assert_eq!((body["origin"].as_str(), body["count"].as_u64()), (Some("JFK"), Some(8706)));
    let records = body["records"].as_array().unwrap();
    assert_eq!(records.len(), 8706);
    let times: Vec<_> = records.iter().map(|record| record["time_hour"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times[0].ends_with('Z'));
    // Every record has every member; what was not observed is null.
    let members = records[0].as_object().unwrap().len();
    assert!(records.iter().all(|record| record.as_object().unwrap().len() == members));
    assert!(records.iter().any(|record| record["wind_gust"].is_null()));
}

#[tokio::test]
async fn days_sum_up_their_hours() {
    let server = Running::start().await;
    let range = "origin=EWR&from=2013-06-07&to=2013-06-07";
    let (_, _, hourly, _) = server.get(&format!("/hourly?{range}"), Some(KEY)).await;
    let (status, _, daily, _) = server.get(&format!("/daily?{range}"), None).await;
    assert_eq!((status, daily["count"].as_u64()), (200, Some(1)));
    let day = &daily["records"][0];
    let hours = hourly["records"].as_array().unwrap();
    let sum: f64 = hours.iter().filter_map(|hour| hour["precip"].as_f64()).sum();
    assert!(sum > 1.0, "a day of heavy rain");
    assert!((day["precip_total"].as_f64().unwrap() - sum).abs() < 0.006);
    let temps: Vec<f64> = hours.iter().filter_map(|hour| hour["temp"].as_f64()).collect();
    assert_eq!(day["temp_max"].as_f64(), temps.iter().copied().reduce(f64::max));
    assert_eq!(day["hours_observed"].as_u64(), Some(hours.len() as u64));
    assert_eq!(day["date"], "2013-06-07");
}

#[tokio::test]
async fn hours_want_the_right_key_and_days_want_none() {
    let server = Running::start().await;
    let range = "origin=JFK&from=2013-01-01&to=2013-01-01";
    for (key, part) in [(None, "missing"), (Some("wrong"), "wrong"), (Some(""), "wrong")] {
        let (status, media, problem, _) = server.get(&format!("/hourly?{range}"), key).await;
        assert_eq!((status, media.as_str()), (401, "application/problem+json"));
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    assert_eq!(server.get(&format!("/daily?{range}"), None).await.0, 200);
}

#[tokio::test]
async fn bad_questions_are_told_what_would_do() {
    let server = Running::start().await;
    for (query, part) in [
        ("origin=SFO&from=2013-01-01&to=2013-01-02", "use EWR, JFK or LGA"),
        ("origin=JFK&from=2013-02-30&to=2013-03-01", "`2013-02-30` is not a date"),
        ("origin=JFK&from=2013-03-01&to=2013-02-01", "is after `to`"),
        ("origin=JFK&to=2013-02-01", "`from`"),
    ] {
        for path in ["/daily", "/hourly"] {
            let (status, media, problem, _) = server.get(&format!("{path}?{query}"), Some(KEY)).await;
            assert_eq!((status, media.as_str()), (400, "application/problem+json"), "{query}");
            assert!(problem["detail"].as_str().unwrap().contains(part), "{part} not in {problem}");
        }
    }
    let (status, media, _, _) = server.get("/nothing", None).await;
    assert_eq!((status, media.as_str()), (404, "application/problem+json"));
    assert_eq!(server.get("/health", None).await.2["status"], "ok");
    let (_, _, document, _) = server.get("/openapi.json", None).await;
    assert_eq!(document["servers"][0]["url"], server.base);
}

#[tokio::test]
async fn a_file_that_is_no_weather_says_so() {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    for path in ["Cargo.toml", "nowhere.parquet"] {
        let error = DemoApi::bind(listen, Path::new(path), SecretString::from(KEY)).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        assert!(error.to_string().contains("nycflights13"), "{error}");
    }
    let error = DemoApi::bind(listen, &parquet(), SecretString::from("")).await.err().unwrap();
    assert!(matches!(error, DemoApiError::EmptyKey));
}

/// `STEWARD_UPDATE_GOLDEN=1 cargo test` writes it anew.
#[test]
fn the_document_in_actions_is_the_one_that_is_served() {
    let path = Path::new("actions/weather.openapi.json");
    let current = openapi_document("http://127.0.0.1:8090");
    if std::env::var_os("STEWARD_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default().trim(), current.trim());
}

#[test]
fn only_hours_need_the_key_in_the_document() {
    let document: Value = serde_json::from_str(&openapi_document("http://127.0.0.1:8090")).unwrap();
    assert_eq!(document["paths"]["/hourly"]["get"]["security"], serde_json::json!([{"ApiKeyAuth": []}]));
    assert!(document["paths"]["/daily"]["get"].get("security").is_none());
    assert_eq!(document["paths"]["/daily"]["get"]["operationId"], "get_daily");
}

#[tokio::test]
async fn answers_are_as_the_document_says() {
    let server = Running::start().await;
    let spec = crate::actions::spec::ApiSpec::parse(&openapi_document("http://127.0.0.1:8090")).unwrap();
    let range = "origin=EWR&from=2013-01-01&to=2013-02-28";
    for (path, name) in [("/hourly", "get_hourly"), ("/daily", "get_daily")] {
        let schema = spec.response_doc(spec.find(name).unwrap()).unwrap().unwrap().schema;
        let validator = jsonschema::validator_for(&schema).unwrap();
        let (_, _, mut body, _) = server.get(&format!("{path}?{range}"), Some(KEY)).await;
        assert!(
            validator.is_valid(&body),
            "{:?}",
            validator.iter_errors(&body).next().map(|e| e.to_string())
        );
        body["records"][0]["hours_observed"] = Value::from("x");
        body["records"][0]["hour"] = Value::from("x");
        assert!(!validator.is_valid(&body));
    }
}

/// From the action file over the wire and back, as an agent would.
#[tokio::test]
async fn the_weather_action_calls_the_demo_api() {
    use crate::actions::{ActionCatalog, Caller, LoadOptions};
    use futures::StreamExt as _;

    let server = Running::start().await;
    let base = server.base.clone();
    let environment: crate::actions::security::secret::Environment = Arc::new(move |name| match name {
        "WEATHER_API_URL" => Some(base.clone()),
        "WEATHER_API_KEY" => Some(KEY.to_owned()),
        _ => None,
    });
    let options = LoadOptions { environment, ..LoadOptions::default() };
    let (catalog, diagnostics) = ActionCatalog::load_with(Path::new("actions"), options).await;
    assert_eq!(diagnostics, []);
    let api = catalog.api("weather").unwrap();
    let arguments = serde_json::json!({"origin": "JFK", "from": "2013-01-01", "to": "2013-12-31"});
    let cancel = tokio_util::sync::CancellationToken::new();
    let mut response = Caller::default().call(api, "get_hourly", &arguments, &cancel).await.unwrap();
    let mut pieces = 0;
    let mut bytes = Vec::new();
    while let Some(piece) = response.body.next().await {
        bytes.extend_from_slice(&piece.unwrap());
        pieces += 1;
    }
    assert!(pieces > 1 && bytes.len() > 1_000_000);
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(body["count"], 8706);
    let error = Caller::default()
        .call(
            api,
            "get_hourly",
            &serde_json::json!({"origin": "SFO", "from": "2013-01-01", "to": "x"}),
            &cancel,
        )
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("/origin: expected one of") && text.contains("/to: expected a date"), "{text}");
}
