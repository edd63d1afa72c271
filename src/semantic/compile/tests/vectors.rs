//! The vectors of Ossie's foundation compliance suite as far as its text goes, and what its semantics say beyond them:
//! tests/compile/ossie.yaml holds models, rows, queries, and the rows or the code that must come out.

use super::*;

#[tokio::test]
async fn every_vector_of_the_foundation_gives_its_rows_or_its_code() {
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(checkout.join("tests/compile/ossie.yaml")).unwrap();
    let file: Json = serde_saphyr::from_str(&text).unwrap();
    let setup: Vec<String> = file["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|statement| statement.as_str().unwrap().to_owned())
        .collect();
    let session = SessionContext::new();
    for statement in &setup {
        session.sql(statement).await.unwrap().collect().await.unwrap();
    }
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let mut model = file["models"][case["model"].as_str().unwrap()].as_str().unwrap().to_owned();
        for change in case["change"].as_array().into_iter().flatten() {
            let (old, new) = (change[0].as_str().unwrap(), change[1].as_str().unwrap());
            assert!(model.contains(old), "{name}: {old}");
            model = model.replace(old, new);
        }
        let query = case["query"].to_string();
        let outcome = ossie::compile(&model, &query, Dialect::DataFusion);
        if let Some(code) = case["code"].as_str() {
            let error = outcome.expect_err(name);
            assert_eq!(error.code.ossie(), code, "{name}: {error}");
            continue;
        }
        let sql = outcome.unwrap_or_else(|error| panic!("{name}: {}: {error}", error.code.ossie()));
        assert_eq!(sql, ossie::compile(&model, &query, Dialect::DataFusion).unwrap(), "{name}: two texts");
        let mut expected: Vec<Vec<Option<Cell>>> = case["rows"]
            .as_array()
            .unwrap_or_else(|| panic!("{name} has neither rows nor a code"))
            .iter()
            .map(|row| row.as_array().unwrap().iter().map(Cell::of).collect())
            .collect();
        expected.sort();
        let mut found: Vec<Vec<Option<Cell>>> = rows(&session, &sql)
            .await
            .into_iter()
            .map(|row| row.into_iter().map(|cell| cell.map(|cell| Cell::parse(&cell))).collect())
            .collect();
        found.sort();
        assert_eq!(found, expected, "{name}\n{sql}");
    }
}

/// A cell for comparing: numbers by value to two digits, anything else as text.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell(String);

impl Cell {
    fn parse(text: &str) -> Self {
        Self(text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| format!("{number:.2}")))
    }

    fn of(value: &Json) -> Option<Self> {
        match value {
            Json::Null => None,
            Json::String(text) => Some(Self::parse(text)),
            other => Some(Self::parse(&other.to_string())),
        }
    }
}
