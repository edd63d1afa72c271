use std::net::SocketAddr;

use crate::cli::demo_api::DemoApi;
use crate::engine::{Context, Engine, Parts, SqlOptions};
use crate::query::{Format, encode, records_to_batch, write_parquet};
use crate::store::now_ms;

use super::*;

/// The numbers are pandas's over the original data, not this program's.
#[tokio::test]
async fn the_last_query_gives_the_numbers_that_others_computed() {
    // The weather as the demo API serves it, as the table that the engine makes of it.
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let weather =
        std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/nycflights13/weather.parquet"));
    let api = DemoApi::bind(listen, weather, "key".to_owned().into()).await.unwrap();
    let url = format!("http://{}/hourly?origin=JFK&from=2013-01-01&to=2013-12-31", api.address());
    tokio::spawn(api.run(std::future::pending()));
    let client = http::client(&url, TIMEOUT).unwrap();
    let body: Value = client.get(url).header("X-API-Key", "key").send().await.unwrap().json().await.unwrap();
    let batch = records_to_batch(body["records"].as_array().unwrap()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: folder.path().to_path_buf(), ..Config::default() };
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in [&mut config.semantic.dir, &mut config.actions.dir, &mut config.indexes.dir] {
        *dir = root.join(&dir);
    }
    let local = crate::config::WarehouseConfig::local(root.join("examples"));
    config.warehouses.insert("local".to_owned(), local);
    let engine = Engine::open(config, Parts::QueryOnly).await.unwrap();
    write_parquet(&batch, &folder.path().join("responses/weather_1.parquet")).unwrap();
    sqlx::query(
        "INSERT INTO documents (document_id, index_name, owner, source, title, content_type, body_sha256, content_key, \
         size_bytes, tokens, chunks, embedded_chunks, state, response_table, metadata, outline, preview, preview_is_cut, \
         created_at_ms) VALUES ('d', 'api_responses', 'o', 'upload', 't', 'application/json', '', '', 1, 1, 1, 1, \
         'ready', 'weather_1', '{}', '[]', '', 0, $1)",
    )
    .bind(now_ms())
    .execute(engine.store().pool())
    .await
    .unwrap();

    let sql = weather_sql("responses.weather_1").unwrap();
    let result = engine.sql_run(&Context::local("test"), &sql, SqlOptions::default()).await.unwrap();
    let rows: Vec<WeatherAnswer> = serde_json::from_slice(&encode(&result, Format::Json).unwrap()).unwrap();
    let answer = &rows[0];
    let counts = [answer.matched_flights, answer.departed_flights, answer.rain_flights, answer.dry_flights];
    assert_eq!(counts, [110_733, 108_875, 6_828, 102_047]);
    assert_eq!([answer.wind_flights, answer.calm_flights], [9_492, 99_332]);
    for (given, expected) in [
        (answer.rain_delay, 29.707_527_826_596_37),
        (answer.dry_delay, 10.926_612_247_297_813),
        (answer.wind_delay, 17.053_624_104_509_062),
        (answer.calm_delay, 11.634_780_332_621_915),
        (answer.corr_wind, 0.059_705_351_405_156_59),
        (answer.corr_rain, 0.090_401_450_807_105_22),
    ] {
        assert!((given - expected).abs() < 1e-9, "{given} is not {expected}");
    }
    let sentence = answer.sentence();
    assert!(sentence.starts_with("Rain, more than wind") && sentence.contains("18.8 more"), "{sentence}");
    engine.close().await;
}

#[test]
fn only_a_table_of_responses_is_put_into_the_query() {
    for bad in ["flights.flights", "responses.", "responses.x; DROP TABLE y", "responses.\"x\"", ""] {
        assert_eq!(weather_sql(bad), None, "{bad}");
    }
}

#[test]
fn a_refusal_is_told_in_the_services_own_words() {
    let told = |body: &str| refusal_text(serde_json::from_str(body).ok().as_ref(), body.as_bytes());
    assert_eq!(told(r#"{"title": "t", "detail": "ask for sql:run"}"#), "ask for sql:run");
    assert_eq!(told(r#"{"error": "invalid_client", "error_description": "wrong secret"}"#), "wrong secret");
    assert_eq!(told("<html>"), "<html>");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named_and_the_secret_is_not() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let credentials = Credentials {
        client_id: "agent".to_owned(),
        client_secret: "stw_secret".to_owned().into(),
        token_url: "http://elsewhere.invalid/oauth/token".to_owned(),
        scopes: String::new(),
    };
    let error = walk(&format!("http://{free}"), &credentials).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&free.to_string()) && !text.contains("stw_secret"), "{text}");
}

#[test]
fn numbers_are_grouped_by_thousands() {
    let texts: Vec<String> = [0, 12, 999, 1_000, 336_776, 1_234_567].map(grouped).to_vec();
    assert_eq!(texts, ["0", "12", "999", "1,000", "336,776", "1,234,567"]);
}
