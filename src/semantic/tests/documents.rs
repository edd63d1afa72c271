//! What is made from the tables in the code is current, and says the same as the code does.

use std::path::Path;

use crate::semantic::*;

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a file with what it is made from; with STEWARD_WRITE_DOCS set, writes it instead.
fn is_current(path: &str, made: &str) {
    let file = checkout().join(path);
    if std::env::var_os("STEWARD_WRITE_DOCS").is_some() {
        std::fs::write(&file, made).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == made, "{path} is out of date; run the tests once with STEWARD_WRITE_DOCS=1");
}

#[test]
fn the_rules_the_tables_and_the_schema_that_are_published_are_those_of_the_code() {
    is_current("docs/rules.md", &rules_document());
    is_current("docs/tables.md", &tables_document());
    let schema = serde_json::to_string_pretty(&json_schema()).unwrap();
    is_current("schemas/semantic.schema.json", &format!("{schema}\n"));
}

fn load(example: &str) -> Catalog {
    let files = example_files(example).into_iter().map(|(file, text)| (file, Ok(text)));
    Catalog::from_sources(files, Vec::new())
}

#[test]
fn every_rule_finds_its_failing_example_and_nothing_in_its_passing_one() {
    for rule in RULES.iter().filter(|rule| rule.found == Found::Loading) {
        let failing = load(rule.failing);
        let found = failing.diagnostics.iter().find(|found| found.rule == rule.id);
        let found = found.unwrap_or_else(|| panic!("{} is not found in {:#?}", rule.id, failing.diagnostics));
        assert_eq!(found.severity, rule.severity, "{}", rule.id);
        assert!(found.line > 0 && found.column > 0 && !found.message.is_empty(), "{found:?}");
        assert_eq!(
            failing.models.is_empty(),
            rule.severity == Severity::Error,
            "{}: an error is not served",
            rule.id
        );
        let passing = load(rule.passing);
        let again: Vec<&Diagnostic> =
            passing.diagnostics.iter().filter(|found| found.rule == rule.id).collect();
        assert!(again.is_empty(), "{}: {again:#?}", rule.id);
        assert!(!passing.has_errors(), "{}: {:#?}", rule.id, passing.diagnostics);
    }
}

#[test]
fn every_rule_id_in_the_code_is_in_the_catalogue_and_none_twice() {
    let mut ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    // A rule id stands in the code as the first argument of a report.
    let called = regex::Regex::new(
        r#"(?:\.error|\.warn|problem|report|of_file)\(\s*(?:reports,\s*|Severity::\w+,\s*|severity,\s*)?"([a-z]+(?:-[a-z]+)+)""#,
    )
    .unwrap();
    let mut seen = 0;
    for file in ["read", "lint", "load", "files", "access", "diagnostic"] {
        let text = std::fs::read_to_string(checkout().join(format!("src/semantic/{file}.rs"))).unwrap();
        for found in called.captures_iter(&text) {
            seen += 1;
            assert!(rule(&found[1]).is_some(), "{file}.rs reports `{}`, which is no rule", &found[1]);
        }
    }
    assert!(seen >= 30, "only {seen} reports were recognised");
}

#[test]
fn the_editors_schema_takes_what_the_loader_takes_and_refuses_what_it_refuses() {
    let schema = jsonschema::validator_for(&json_schema()).unwrap();
    let is_valid = |text: &str| match serde_saphyr::from_str::<serde_json::Value>(text) {
        Ok(value) => schema.is_valid(&value),
        Err(_) => false,
    };
    for entry in std::fs::read_dir(checkout().join("semantic/flights")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(is_valid(&text), "{}", path.display());
        let first = text.lines().next().unwrap_or_default();
        assert_eq!(
            first,
            "# yaml-language-server: $schema=../../schemas/semantic.schema.json",
            "{}",
            path.display()
        );
    }
    for rule in RULES.iter().filter(|rule| rule.found != Found::Reading) {
        for (file, text) in example_files(rule.passing) {
            assert!(is_valid(&text), "{}: {file}", rule.id);
        }
    }
    for id in ["not-a-model", "unknown-key", "missing-key", "wrong-type", "unknown-value"] {
        assert!(!is_valid(rule(id).unwrap().failing), "{id}");
    }
}
