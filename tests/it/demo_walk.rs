//! The demo as an agent lives it, with the numbers computed a second time straight from the Parquet files.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use steward::auth::{Credentials, NewClient};

use crate::harness::{AGENT_SCOPES, Service, WEATHER_KEY, checkout};

/// Rows of a file as `(origin, epoch µs) → numbers`, by plain loops: no query engine takes part.
fn rows(file: &str, numbers: [&str; 2]) -> Vec<(String, i64, [Option<f64>; 2])> {
    let path = checkout().join("examples/nycflights13").join(file);
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap())
        .unwrap()
        .build()
        .unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch: RecordBatch = batch.unwrap();
        let column = |name: &str, to: &DataType| cast(batch.column_by_name(name).unwrap(), to).unwrap();
        let origin = column("origin", &DataType::Utf8);
        let origin: &StringArray = origin.as_string();
        let instant = column("time_hour", &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        let instant = instant.as_primitive::<TimestampMicrosecondType>();
        let [a, b] = numbers.map(|name| column(name, &DataType::Float64));
        let value = |array: &Float64Array, row: usize| array.is_valid(row).then(|| array.value(row));
        for row in 0..batch.num_rows() {
            let pair = [value(a.as_primitive(), row), value(b.as_primitive(), row)];
            rows.push((origin.value(row).to_owned(), instant.value(row), pair));
        }
    }
    rows
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_answers_the_question_with_the_numbers_of_the_files() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;

    // Context: the model, the fields, and the external operation that has the weather.
    let question = "Did wind or rain delay departures from JFK more?";
    let (status, link) = service.post(&token, "/v1/semantic/link", json!({"question": question})).await;
    assert_eq!(status, 200, "{link:#}");
    let prompt = link["prompt"].as_str().unwrap();
    for needed in ["dataset flights.flights", "dep_delay", "time_hour", "'JFK'"] {
        assert!(prompt.contains(needed), "the context lacks {needed}:\n{prompt}");
    }
    assert!(link["actions"].as_array().unwrap().iter().any(|action| action["name"] == "weather.get_hourly"));

    // A year of hours does not fit a context: a handle comes back.
    let handle = service.hourly_weather(&token).await;
    assert_eq!(handle["stored"], true);
    assert!(handle["bytes"].as_u64().unwrap() > 1_000_000);
    let table = handle["table"].as_str().unwrap();

    // Text search answers at once, within the document, with provenance.
    let search = json!({"query": "precip wind_speed JFK", "document_id": handle["document_id"], "mode": "text", "k": 3});
    let (status, found) = service.post(&token, "/v1/rag/api_responses/search", search).await;
    assert_eq!(status, 200, "{found:#}");
    assert_eq!(found["hits"].as_array().unwrap().len(), 3);
    assert!(found["hits"][2]["pointer_first"].as_str().unwrap().starts_with("/records/"), "{found:#}");

    // One guarded query joins the answer with the warehouse.
    let sql = format!(
        "SELECT count(*) AS flights, \
                count(*) FILTER (WHERE w.precip > 0) AS rain_flights, \
                avg(f.dep_delay) FILTER (WHERE w.precip > 0) AS rain, \
                avg(f.dep_delay) FILTER (WHERE w.precip = 0) AS dry, \
                avg(f.dep_delay) FILTER (WHERE w.wind_speed >= 20) AS windy, \
                avg(f.dep_delay) FILTER (WHERE w.wind_speed < 20) AS calm \
         FROM flights.flights f JOIN {table} w ON w.origin = f.origin AND w.time_hour = f.time_hour \
         WHERE f.origin = 'JFK' AND f.dep_delay IS NOT NULL"
    );
    let (status, result) = service.sql(&token, &sql).await;
    assert_eq!(status, 200, "{result:#}");
    let row = &result["rows"][0];

    let weather: HashMap<(String, i64), [Option<f64>; 2]> = rows("weather.parquet", ["precip", "wind_speed"])
        .into_iter()
        .map(|(origin, instant, numbers)| ((origin, instant), numbers))
        .collect();
    let (mut rain, mut dry, mut windy, mut calm, mut all) = (vec![], vec![], vec![], vec![], 0);
    for (origin, instant, [delay, _]) in rows("flights.parquet", ["dep_delay", "distance"]) {
        let (Some(delay), "JFK") = (delay, origin.as_str()) else { continue };
        let Some([precip, wind]) = weather.get(&(origin, instant)) else { continue };
        all += 1;
        if let Some(precip) = precip {
            if *precip > 0.0 { rain.push(delay) } else { dry.push(delay) }
        }
        if let Some(wind) = wind {
            if *wind >= 20.0 { windy.push(delay) } else { calm.push(delay) }
        }
    }
    assert!(all > 100_000, "the independent count found only {all} flights");
    assert_eq!(row["flights"], all);
    assert_eq!(row["rain_flights"], rain.len());
    for (name, values) in [("rain", &rain), ("dry", &dry), ("windy", &windy), ("calm", &calm)] {
        let ours = row[name].as_f64().unwrap();
        assert!((ours - mean(values)).abs() < 1e-9, "{name}: {ours} against {}", mean(values));
    }
    assert!(mean(&rain) - mean(&dry) > mean(&windy) - mean(&calm), "rain delays more than wind");

    // `steward demo` takes the same walk and comes to the same numbers.
    let scopes = AGENT_SCOPES.parse().unwrap();
    let new = NewClient { name: "walker".to_owned(), scopes, ..NewClient::default() };
    let made = service.engine.auth().unwrap().clients().create(&new).await.unwrap();
    let credentials = Credentials::new(&made, &format!("{}/oauth/token", service.url));
    let report = steward::cli::demo::walk(&service.url, &credentials).await.unwrap();
    assert_eq!(report.steps.len(), 5);
    let told = &report.answer;
    assert_eq!((told.rain_flights, told.calm_flights), (rain.len() as u64, calm.len() as u64));
    for (ours, values) in [
        (told.rain_delay, &rain),
        (told.dry_delay, &dry),
        (told.wind_delay, &windy),
        (told.calm_delay, &calm),
    ] {
        assert!((ours - mean(values)).abs() < 1e-9, "{ours} against {}", mean(values));
    }
    assert!(report.sentence.starts_with("Rain"), "{}", report.sentence);

    // Nothing that the caller got holds the API's key.
    for answer in [&link, &handle, &found, &result] {
        assert!(!answer.to_string().contains(WEATHER_KEY));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_follow_with_progress_and_then_meaning_is_searchable() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let note = "# De-icing\n\nSnow on the runway closes the airport until ploughs have cleared it.\n\n\
                # Catering\n\nMeals are loaded before boarding begins.\n";
    let request = service
        .http
        .post(format!("{}/v1/rag/notes/documents?title=handbook&meta=kind:handbook", service.url))
        .bearer_auth(&token)
        .header("content-type", "text/markdown")
        .body(note);
    let (status, document) = crate::harness::read(request.send().await.unwrap()).await;
    assert_eq!(status, 200, "{document:#}");
    let id = document["document_id"].as_str().unwrap();

    // By words: at once.
    let search = |query: &str, mode: &str| {
        service.post(&token, "/v1/rag/notes/search", json!({"query": query, "mode": mode, "k": 1}))
    };
    let (_, found) = search("ploughs", "text").await;
    assert!(found["hits"][0]["text"].as_str().unwrap().contains("ploughs"));

    // By meaning: once the vectors are there.
    let rag = service.engine.rag().unwrap();
    let owner = document_owner(&service, &token).await;
    let ready = rag.wait_embedded(&steward::rag::Viewer { owner }, &id.parse().unwrap()).await.unwrap();
    assert_eq!(ready.embedded_chunks, ready.chunks, "{:?}", ready.error);
    let (_, found) = search("food for passengers", "vector").await;
    assert!(found["hits"][0]["text"].as_str().unwrap().contains("Meals"), "{found:#}");
    let (_, found) = search("wintry weather at the airfield", "hybrid").await;
    let hit = &found["hits"][0];
    assert!(hit["text"].as_str().unwrap().contains("Snow"), "{found:#}");

    // Provenance: the bytes are where the hit says.
    let (start, end) =
        (hit["byte_start"].as_u64().unwrap() as usize, hit["byte_end"].as_u64().unwrap() as usize);
    assert!(note[start..end].contains("Snow"));
}

async fn document_owner(service: &Service, token: &str) -> String {
    service.get(token, "/v1/me").await.1["client_id"].as_str().unwrap().to_owned()
}
