//! Any valid Ossie document is a valid Steward document.

use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::semantic::*;

fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// Adds some of the optional members to an object.
fn object(
    required: Vec<(&'static str, BoxedStrategy<Value>)>,
    optional: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> BoxedStrategy<Value> {
    let mut members: Vec<BoxedStrategy<Option<(String, Value)>>> = Vec::new();
    for (name, strategy) in required {
        members.push(strategy.prop_map(move |value| Some((name.to_owned(), value))).boxed());
    }
    for (name, strategy) in optional {
        members.push(
            proptest::option::of(strategy).prop_map(move |value| Some((name.to_owned(), value?))).boxed(),
        );
    }
    members.prop_map(|members| Value::Object(members.into_iter().flatten().collect::<Map<_, _>>())).boxed()
}

fn text() -> BoxedStrategy<Value> {
    prop_oneof!["[ -~]{0,20}", "\\PC{0,12}", Just("no: yes # 1e3\n- *a".to_owned()), Just(String::new())]
        .prop_map(Value::from)
        .boxed()
}

fn texts() -> BoxedStrategy<Value> {
    vec(text(), 0..3).prop_map(Value::from).boxed()
}

fn one_of(values: &'static [&'static str]) -> BoxedStrategy<Value> {
    proptest::sample::select(values).prop_map(Value::from).boxed()
}

fn ai_context() -> BoxedStrategy<Value> {
    let mapping = object(
        vec![],
        vec![
            ("instructions", text()),
            ("synonyms", texts()),
            ("examples", texts()),
            ("x_of_a_vendor", Just(json!({"a": [1, null]})).boxed()),
        ],
    );
    prop_oneof![text(), mapping].boxed()
}

fn extensions() -> BoxedStrategy<Value> {
    vec(object(vec![("vendor_name", text()), ("data", text())], vec![]), 0..2).prop_map(Value::from).boxed()
}

/// SQL in the dialects that are SQL; any text in the others.
fn expression(sql: BoxedStrategy<String>) -> BoxedStrategy<Value> {
    let ours = (one_of(&["ANSI_SQL", "OSSIE_SQL_2026"]), sql.prop_map(Value::from));
    let foreign = (
        one_of(&[
            "SNOWFLAKE",
            "MDX",
            "TABLEAU",
            "DATABRICKS",
            "MAQL",
            "BIGQUERY",
            "SIGMA",
            "THOUGHTSPOT",
            "DAX",
        ]),
        text(),
    );
    let dialect = prop_oneof![ours, foreign];
    vec(dialect, 1..4)
        .prop_map(|dialects| {
            let list: Vec<Value> = dialects
                .into_iter()
                .map(|(dialect, expression)| json!({"dialect": dialect, "expression": expression}))
                .collect();
            json!({"dialects": list})
        })
        .boxed()
}

fn row_sql() -> BoxedStrategy<String> {
    proptest::sample::select(
        &[
            "amount",
            "\"Amount\"",
            "a + b * 2",
            "CASE WHEN a > 0 THEN 'x' ELSE NULL END",
            "CAST(ts AS DATE)",
            "UPPER(name) || '!'",
        ][..],
    )
    .prop_map(str::to_owned)
    .boxed()
}

/// Names that are unique by the number put behind them.
fn name() -> BoxedStrategy<String> {
    prop_oneof!["[a-z_]{1,8}", "[A-Za-z][A-Za-z0-9 .()%/-]{0,10}", "\\PC{1,6}"].boxed()
}

const DATATYPES: &[&str] =
    &["String", "Integer", "Decimal", "Float", "Boolean", "Date", "Time", "DateTime", "DateTimeTz", "Opaque"];

fn field() -> BoxedStrategy<Value> {
    object(
        vec![("expression", expression(row_sql()))],
        vec![
            ("dimension", object(vec![], vec![("is_time", any::<bool>().prop_map(Value::from).boxed())])),
            ("label", text()),
            ("description", text()),
            ("datatype", one_of(DATATYPES)),
            ("ai_context", ai_context()),
            ("custom_extensions", extensions()),
        ],
    )
}

fn dataset() -> BoxedStrategy<Value> {
    let source = prop_oneof![
        Just("db.schema.table".to_owned()),
        Just("SELECT * FROM a JOIN b USING (c)".to_owned()),
        "[ -~]{1,20}"
    ];
    let columns = vec("[a-z]{1,4}".prop_map(Value::from), 0..3).prop_map(Value::from).boxed();
    object(
        vec![("source", source.prop_map(Value::from).boxed())],
        vec![
            ("primary_key", columns.clone()),
            ("unique_keys", vec(columns, 0..2).prop_map(Value::from).boxed()),
            ("description", text()),
            ("ai_context", ai_context()),
            ("fields", vec((name(), field()), 0..4).prop_map(numbered).boxed()),
            ("custom_extensions", extensions()),
        ],
    )
}

/// Gives each object its name, with a number that makes it unique.
fn numbered(items: Vec<(String, Value)>) -> Value {
    let named = |(at, (name, mut item)): (usize, (String, Value))| {
        item["name"] = format!("{name}{at}").into();
        item
    };
    items.into_iter().enumerate().map(named).collect()
}

/// Relationships and metrics over the datasets that there are.
fn model() -> impl Strategy<Value = Value> {
    let parts = object(
        vec![],
        vec![("description", text()), ("ai_context", ai_context()), ("custom_extensions", extensions())],
    );
    let link = (name(), 1_usize..3, any::<prop::sample::Index>(), any::<prop::sample::Index>(), ai_context());
    let metric = (
        name(),
        expression(Just("COUNT(*)".to_owned()).boxed()),
        proptest::option::of(one_of(DATATYPES)),
        any::<prop::sample::Index>(),
        any::<bool>(),
    );
    (name(), parts, vec((name(), dataset()), 1..4), vec(link, 0..3), vec(metric, 0..3)).prop_map(
        |(name, mut model, datasets, links, metrics)| {
            let datasets = numbered(datasets);
            let names: Vec<Value> =
                datasets.as_array().unwrap().iter().map(|dataset| dataset["name"].clone()).collect();
            model["name"] = name.into();
            model["relationships"] = numbered(links.into_iter().map(|(name, count, from, to, context)| {
                let columns = |prefix: &str| (0..count).map(|at| format!("{prefix}{at}")).collect::<Vec<_>>();
                (name, json!({
                    "from": from.get(&names), "to": to.get(&names),
                    "from_columns": columns("f"), "to_columns": columns("t"), "ai_context": context,
                }))
            }).collect());
            model["metrics"] = numbered(
                metrics
                    .into_iter()
                    .map(|(name, mut expression, datatype, dataset, qualified)| {
                        if qualified {
                            let dataset = dataset.get(datasets.as_array().unwrap());
                            if let Some(field) = dataset["fields"].get(0) {
                                let quoted = |value: &Value| quote(value.as_str().unwrap());
                                let sql =
                                    format!("SUM({}.{})", quoted(&dataset["name"]), quoted(&field["name"]));
                                expression =
                                    json!({"dialects": [{"dialect": "ANSI_SQL", "expression": sql}]});
                            }
                        }
                        let mut metric = json!({"expression": expression});
                        if let Some(datatype) = datatype {
                            metric["datatype"] = datatype;
                        }
                        (name, metric)
                    })
                    .collect(),
            );
            model["datasets"] = datasets;
            model
        },
    )
}

fn errors(text: String) -> Vec<Diagnostic> {
    let catalog = Catalog::from_sources([("semantic/o/model.json".to_owned(), Ok(text))], Vec::new());
    catalog.diagnostics.into_iter().filter(|found| found.severity == Severity::Error).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_valid_ossie_document_loads_in_each_of_its_shapes_and_fits_the_editors_schema(model in model()) {
        let mut root = model.clone();
        root["version"] = "0.2.0.dev0".into();
        if let Some(path) = shared("specs/ossie-schema.json") {
            let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let valid = jsonschema::validate(&schema, &root);
            prop_assert!(valid.is_ok(), "the generator makes what is no Ossie: {:?} {root:#}", valid.err());
        }
        let editors = json_schema();
        let shapes = [root, json!({"version": "0.2.0.dev0", "semantic_model": [model]}), json!({"version": "0.1.1", "semantic_model": [model]})];
        for document in shapes {
            let found = errors(serde_json::to_string_pretty(&document).unwrap());
            prop_assert!(found.is_empty(), "{found:#?}\n{document:#}");
            prop_assert!(jsonschema::is_valid(&editors, &document), "{document:#}");
        }
    }
}

#[test]
fn the_tpc_ds_sample_of_ossie_loads() {
    let Some(path) = shared("data/semantic/ossie_tpcds_wrapper.yaml") else { return };
    assert_eq!(errors(std::fs::read_to_string(path).unwrap()), vec![]);
}
