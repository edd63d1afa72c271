//! What is written loads as the same model, whatever the model says.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::*;
use super::*;
use crate::semantic::node::Position;

/// The model without the positions of its parts, as text that can be compared.
pub fn bare(model: &Model) -> String {
    let text = format!("{model:#?}");
    let mut lines = Vec::new();
    let mut skipping = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(from) = skipping {
            if indent == from {
                skipping = None;
            }
            continue;
        }
        if line.trim() == "source: Source {" {
            skipping = Some(indent);
            continue;
        }
        lines.push(line);
    }
    lines.join("\n")
}

pub fn load(yaml: &str) -> Catalog {
    Catalog::from_sources([("semantic/m/model.yaml".to_owned(), Ok(yaml.to_owned()))], Vec::new())
}

/// Loads what must load.
pub fn loaded(yaml: &str) -> Arc<Model> {
    let catalog = load(yaml);
    assert!(!catalog.has_errors(), "{:#?}\n{yaml}", catalog.diagnostics);
    catalog.models[0].clone()
}

fn source() -> Source {
    Source { file: "generated".into(), at: Position { line: 1, column: 1 } }
}

fn text() -> impl Strategy<Value = String> {
    // The reader trims texts; what is inside must come through.
    prop_oneof![
        "[ -~\\n\\tä-ü—]{0,40}",
        "[-:#,\\[\\]{}'\"|>&*!%@`?~=0-9a-c \\n]{0,200}",
        "( ?[a-z]{1,9}){0,60}"
    ]
    .prop_map(|text: String| text.trim().to_owned())
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..4)
}

fn filled() -> impl Strategy<Value = String> {
    text().prop_filter("not empty", |text| !text.is_empty())
}

fn name(prefix: &'static str) -> impl Strategy<Value = String> {
    "[a-z0-9_ -]{0,8}".prop_map(move |rest| format!("{prefix}{}", rest.trim_end()))
}

fn context() -> impl Strategy<Value = AiContext> {
    (text(), words()).prop_map(|(instructions, examples)| AiContext { instructions, examples })
}

fn expression() -> impl Strategy<Value = Expression> {
    let one = prop_oneof![
        Just("a + 1".to_owned()),
        Just("CASE WHEN \"a b\" = 'x: #y' THEN 1 END".to_owned()),
        Just("no".to_owned()),
        Just("1".to_owned()),
        Just("-- why\na || '\n  b'".to_owned()),
    ];
    let dialect = prop::sample::select(vec!["ANSI_SQL", "SNOWFLAKE", "DATAFUSION", "POSTGRESQL"]);
    prop::collection::vec((dialect, one), 1..3).prop_map(|dialects| {
        let owned = dialects.into_iter().map(|(dialect, text)| (dialect.to_owned(), text));
        Expression::new(owned.collect()).unwrap()
    })
}

fn level() -> impl Strategy<Value = Sensitivity> {
    prop::sample::select(vec![Sensitivity::Public, Sensitivity::Protected, Sensitivity::HighlySensitive])
}

fn extensions() -> impl Strategy<Value = Vec<CustomExtension>> {
    prop::collection::vec(
        (prop::sample::select(vec!["DBT", "no", "1"]), text())
            .prop_map(|(vendor, data)| CustomExtension { vendor_name: vendor.to_owned(), data }),
        0..2,
    )
}

fn field() -> impl Strategy<Value = Field> {
    let values = prop_oneof!["[0-9]{1,4}", "[0-9]{1,3}\\.[0-9]{1,3}", "true|no|1e3|2013-01-01|~", text()];
    let first = (name("f"), expression(), text(), text(), any::<bool>(), any::<bool>(), words());
    let datatype = prop::sample::select(vec!["", "String", "Integer", "Date", "DateTimeTz", "Opaque"]);
    let second = (
        datatype,
        text(),
        prop::option::of((values.clone(), values.clone())),
        prop::option::of(any::<bool>()),
        prop::collection::vec(values, 0..5),
        words(),
        level(),
    );
    let third =
        (prop::sample::subsequence(vec!["day".to_owned(), "year".into()], 0..=2), context(), extensions());
    (first, second, third, prop::sample::select(vec!["", "sum", "none"])).prop_map(
        |(first, second, third, aggregation)| Field {
            name: first.0,
            expression: first.1,
            label: first.2.into(),
            description: first.3.into(),
            datatype: second.0.into(),
            unit: second.1.into(),
            range: second.2.map(Box::new),
            nullable: second.3,
            is_enum: first.4 && !second.4.is_empty(),
            sample_values: compact(second.4),
            synonyms: compact(first.6),
            hints: compact(second.5),
            sensitivity: second.6,
            mask: None,
            is_masked: false,
            pii: first.4,
            is_time: first.5,
            time_grains: compact(third.0),
            default_aggregation: aggregation.into(),
            ai_context: AiContext::boxed(third.1),
            custom_extensions: third.2,
            source: source(),
        },
    )
}

fn dataset() -> impl Strategy<Value = Dataset> {
    let role = prop::option::of(prop::sample::select(vec![DatasetRole::Fact, DatasetRole::Bridge]));
    let filters = prop::collection::vec((name("c"), text(), expression(), words()), 0..2);
    (name("d"), text(), context(), words(), words(), level(), role, filters, field(), extensions()).prop_map(
        |(name, description, ai_context, synonyms, hints, sensitivity, role, filters, field, extensions)| {
            Dataset {
                name,
                relation: "local.main.things".to_owned(),
                role,
                primary_key: vec![field.name.clone()],
                unique_keys: vec![vec![field.name.clone()]],
                description,
                ai_context,
                synonyms,
                hints,
                sensitivity,
                row_filter: None,
                filters: filters
                    .into_iter()
                    .map(|(name, description, expression, synonyms)| NamedFilter {
                        name,
                        description,
                        expression,
                        synonyms,
                        source: source(),
                    })
                    .collect(),
                fields: vec![field],
                custom_extensions: extensions,
                source: source(),
            }
        },
    )
}

fn input() -> impl Strategy<Value = MetricInput> {
    let span = prop::option::of((1..40_u32, prop::sample::select(Grain::ALL)));
    let filter = prop::sample::select(vec!["", "a = 'x: #y'", "no"]);
    (prop::sample::select(vec!["total", "no"]), prop::sample::select(vec!["", "b"]), filter, span).prop_map(
        |(name, alias, filter, span)| MetricInput {
            name: name.to_owned(),
            alias: alias.to_owned(),
            filter: filter.to_owned(),
            offset_window: span.map(|(count, grain)| TimeSpan { count, grain }),
            offset_to_grain: None,
        },
    )
}

fn metric() -> impl Strategy<Value = Metric> {
    let of_type = prop_oneof![
        expression().prop_map(|expression| (None, expression, None, None, Vec::new(), None)),
        (input(), input()).prop_map(|(over, under)| (
            Some(MetricKind::Ratio),
            super::steward::division(&over, &under),
            Some(over),
            Some(under),
            Vec::new(),
            None
        )),
        prop::collection::vec(input(), 1..3).prop_map(|inputs| (
            Some(MetricKind::Derived),
            Expression::ansi("a - b"),
            None,
            None,
            inputs,
            None
        )),
        prop::option::of(prop::sample::select(Grain::ALL)).prop_map(|grain| (
            Some(MetricKind::Cumulative),
            Expression::ansi("SUM(a)"),
            None,
            None,
            Vec::new(),
            grain
        )),
    ];
    let rest = (text(), text(), words(), words(), context(), extensions());
    let additive = prop::option::of((any::<bool>(), words()));
    (name("m"), of_type, rest, additive, prop::option::of(-9..9_i32)).prop_map(
        |(name, of_type, rest, additive, fill)| Metric {
            name,
            kind: of_type.0,
            dataset: String::new(),
            expression: of_type.1,
            numerator: of_type.2,
            denominator: of_type.3,
            metrics: of_type.4,
            window: None,
            grain_to_date: of_type.5,
            filter: "b > 1".to_owned(),
            non_additive_dimension: additive.map(|(latest, window_groupings)| NonAdditiveDimension {
                name: "day".to_owned(),
                latest,
                window_groupings,
            }),
            time_dimension: String::new(),
            fill_nulls_with: fill.map(|fill| fill.to_string()),
            joins: vec!["itself".to_owned()],
            description: rest.0,
            datatype: "Decimal".to_owned(),
            unit: rest.1,
            synonyms: rest.2,
            hints: rest.3,
            ai_context: rest.4,
            custom_extensions: rest.5,
            source: source(),
        },
    )
}

fn model() -> impl Strategy<Value = Model> {
    let query = (name("q"), filled(), filled(), text(), text());
    let link = (prop::sample::select(vec!["", "one_to_one"]), text(), words(), extensions());
    (name("m"), text(), context(), text(), words(), dataset(), metric(), query, link, extensions()).prop_map(
        |(
            name,
            description,
            ai_context,
            instructions,
            synonyms,
            dataset,
            metric,
            query,
            link,
            extensions,
        )| {
            let key = dataset.primary_key.clone();
            let relationship = Relationship {
                name: "itself".to_owned(),
                from: dataset.name.clone(),
                to: dataset.name.clone(),
                from_columns: key.clone(),
                to_columns: key,
                cardinality: link.0.to_owned(),
                description: link.1,
                hints: link.2,
                custom_extensions: link.3,
                source: source(),
            };
            let query = VerifiedQuery {
                name: query.0,
                question: query.1,
                sql: query.2,
                description: query.3,
                verified_by: query.4,
                verified_at: "2026-01-01".to_owned(),
                source: source(),
            };
            // What a metric names has to be there, or the model does not load.
            let field = format!("{}.{}", dataset.name, dataset.fields[0].name);
            let (mut dataset, mut metric) = (dataset, metric);
            for filter in &mut dataset.filters {
                filter.expression = Expression::ansi("'no' <> 'x: #y'");
            }
            metric.time_dimension.clone_from(&field);
            if let Some(semi) = &mut metric.non_additive_dimension {
                semi.window_groupings.iter_mut().for_each(|name| name.clone_from(&field));
                semi.name = field;
            }
            let input = |name: &str| Metric {
                name: name.to_owned(),
                kind: None,
                expression: Expression::ansi("SUM(1)"),
                numerator: None,
                denominator: None,
                metrics: Vec::new(),
                grain_to_date: None,
                ..metric.clone()
            };
            let inputs = [input("total"), input("no")];
            Model {
                name,
                description,
                ai_context,
                custom_instructions: instructions,
                synonyms,
                datasets: vec![dataset],
                relationships: vec![relationship],
                metrics: inputs.into_iter().chain([metric]).collect(),
                verified_queries: vec![query],
                custom_extensions: extensions,
                source: source(),
            }
        },
    )
}

/// What the reader makes of a file, without the rules across its parts.
fn read(yaml: &str) -> Model {
    let mut findings = diagnostic::Findings::new("generated", yaml);
    let root = node::parse(yaml).unwrap_or_else(|error| panic!("{}\n{yaml}", error.message));
    let mut documents = read::documents(&root, &mut findings);
    let findings = findings.finish();
    assert!(findings.is_empty(), "{findings:#?}\n{yaml}");
    documents.remove(0).model
}

fn ossie_schema() -> Option<jsonschema::Validator> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/specs/ossie-schema.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no Ossie schema beside the checkout");
        return None;
    };
    Some(jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap())
}

fn assert_valid(schema: &jsonschema::Validator, document: &serde_json::Value) {
    let errors: Vec<String> = schema.iter_errors(document).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

/// Back through import, by way of the text.
fn reimported(text: &str) -> Model {
    use crate::semantic::import::{ImportOptions, Kind, SourceFile, import};
    let files = [SourceFile { name: "m.ossie.yaml".to_owned(), text: text.to_owned() }];
    let imported = import(Kind::Ossie, &files, &ImportOptions::default()).unwrap();
    assert!(imported.report.is_empty(), "{:#?}\n{text}", imported.report);
    imported.models.into_iter().next().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_reads_as_the_same_model(model in model()) {
        let yaml = to_yaml(&model, &Notes::default(), "../../schemas/semantic.schema.json");
        prop_assert!(yaml.starts_with("# yaml-language-server: $schema=../../schemas/semantic.schema.json\n"));
        prop_assert_eq!(bare(&read(&yaml)), bare(&model), "{}", yaml);
    }

    #[test]
    fn an_exported_model_is_strict_ossie_and_reads_back_as_the_same_model(model in model()) {
        let document = to_ossie(&model);
        if let Some(schema) = ossie_schema() {
            assert_valid(&schema, &document.to_json());
        }
        for text in [document.to_yaml(), document.to_json().to_string()] {
            prop_assert_eq!(bare(&reimported(&text)), bare(&model), "{}", text);
        }
    }
}

#[test]
fn the_shipped_model_goes_out_as_strict_ossie_and_comes_back_whole() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("semantic");
    let catalog = Catalog::load(&folder);
    assert!(!catalog.models.is_empty());
    for model in &catalog.models {
        let document = to_ossie(model);
        if let Some(schema) = ossie_schema() {
            assert_valid(&schema, &document.to_json());
        }
        assert_eq!(bare(&reimported(&document.to_yaml())), bare(model));
        let own = to_yaml(model, &Notes::default(), "s");
        assert_eq!(bare(&loaded(&own)), bare(model));
    }
}

#[test]
fn exporting_what_was_exported_changes_nothing() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("semantic/flights");
    let model = Catalog::load(&folder).models[0].clone();
    let once = to_ossie(&model).to_yaml();
    // Taken as it is, without import, the extensions of the first export are still there.
    assert_eq!(to_ossie(&loaded(&once)).to_yaml(), once);
}

#[test]
fn a_model_too_large_for_one_file_is_written_as_several_that_add_up_to_it() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("semantic/flights");
    let mut model = Model::clone(&Catalog::load(&folder).models[0]);
    let dataset = model.datasets[0].clone();
    for number in 0..150 {
        let name = format!("copy_{number}");
        model.datasets.push(Dataset { name, ..dataset.clone() });
    }
    let files = to_files(&model, &Notes::default(), "s");
    assert!(files.len() > 2, "{} files", files.len());
    let sources = files.into_iter().map(|(name, text)| (format!("semantic/m/{name}"), Ok(text)));
    let catalog = Catalog::from_sources(sources, Vec::new());
    assert!(!catalog.has_errors(), "{:#?}", catalog.diagnostics);
    assert_eq!(bare(&catalog.models[0]), bare(&model));
}

#[test]
fn row_filters_and_masks_survive_both_ways_out() {
    let text = "name: shop\ndescription: A shop.\ndatasets:\n  - name: orders\n    source: local.shop.orders\n    \
                description: Orders.\n    access: {row_filter: \"region = {{claims.region}}\"}\n    fields:\n      \
                - {name: region, description: Where.}\n      - {name: card, description: Card number., sensitivity: \
                highly_sensitive, access: {mask: \"'***'\"}}\n";
    let policies = |model: &Model| {
        let dataset = &model.datasets[0];
        let mask = dataset.field("card").unwrap().mask.as_ref().unwrap().text.clone();
        (dataset.row_filter.as_ref().unwrap().text.clone(), mask)
    };
    let model = loaded(text);
    assert_eq!(policies(&loaded(&to_yaml(&model, &Notes::default(), ""))), policies(&model));
    let file = import::SourceFile { name: "ossie.yaml".to_owned(), text: to_ossie(&model).to_yaml() };
    let back = import::import(import::Kind::Ossie, &[file], &import::ImportOptions::default()).unwrap();
    assert_eq!(policies(&loaded(&to_yaml(&back.models[0], &Notes::default(), ""))), policies(&model));
}
