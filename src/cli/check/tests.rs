use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::config::{FolderConfig, SemanticConfig, WarehouseConfig};
use crate::semantic::{Found, RULES, example_files};

/// A project of its own: a semantic model over the demo's airlines.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(semantic: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        project.write("semantic/m/model.yaml", semantic);
        for folder in ["actions", "indexes"] {
            std::fs::create_dir_all(project.path(folder)).unwrap();
        }
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    async fn check(&self) -> Report {
        let examples = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
        let folder = |name: &str| FolderConfig { dir: self.path(name) };
        let config = Config {
            data_dir: self.path("data"),
            semantic: SemanticConfig { dir: self.path("semantic"), ..SemanticConfig::default() },
            actions: folder("actions"),
            indexes: folder("indexes"),
            warehouses: BTreeMap::from([("local".to_owned(), WarehouseConfig::local(examples))]),
            ..Config::default()
        };
        let report = check(config).await.unwrap();
        assert!(!self.path("data").exists(), "a check leaves no traces");
        report
    }
}

/// The errors as `rule:line`, in order.
fn errors(report: &Report) -> Vec<String> {
    let findings = report.json()["findings"].as_array().unwrap().clone();
    let errors = findings.iter().filter(|finding| finding["severity"] == "error");
    errors.map(|finding| format!("{}:{}", finding["rule"].as_str().unwrap(), finding["line"])).collect()
}

const GOOD: &str = "\
name: m
description: Airlines that fly from New York.
datasets:
  - name: airlines
    source: local.nycflights13.airlines
    primary_key: [carrier]
    description: One row a carrier.
    fields:
      - {name: carrier, expression: carrier, description: Two letter code., datatype: String}
      - {name: title, expression: name, description: Name in full., datatype: String}
metrics:
  - {name: airline_count, dataset: airlines, expression: COUNT(*), description: Number of carriers.}
verified_queries:
  - name: all_of_them
    question: Which airlines are there?
    sql: SELECT a.title FROM m.airlines AS a
    verified_by: tests
    verified_at: '2026-01-01'
";

#[tokio::test]
async fn a_sound_project_has_no_errors() {
    let report = Project::new(GOOD).check().await;
    assert_eq!(errors(&report), [] as [&str; 0], "{}", report.text());
    assert!(report.text().ends_with("in 1 file\n"), "{}", report.text());
}

#[tokio::test]
async fn a_source_that_is_not_there_is_told_at_its_dataset_and_not_again_at_its_metrics() {
    let report = Project::new(&GOOD.replace("13.airlines", "13.airline")).check().await;
    let found = errors(&report);
    assert!(found.contains(&"bad-source:4".to_owned()), "{}", report.text());
    assert!(!found.iter().any(|rule| rule.starts_with("bad-expression")), "{}", report.text());
}

#[tokio::test]
async fn a_field_without_its_column_is_told_at_the_field() {
    let report = Project::new(&GOOD.replace("expression: name", "expression: UPPER(nam)")).check().await;
    assert!(errors(&report).contains(&"bad-source:10".to_owned()), "{}", report.text());
    assert!(report.text().contains("did you mean `name`?"), "{}", report.text());
}

#[tokio::test]
async fn a_metric_and_a_verified_query_that_do_not_plan_are_errors() {
    let broken = GOOD.replace("COUNT(*)", "SUM(title)").replace("SELECT a.title", "SELECT a.titel");
    let report = Project::new(&broken).check().await;
    let found = errors(&report);
    assert!(found.contains(&"bad-expression:12".to_owned()), "{}", report.text());
    assert!(found.iter().any(|rule| rule.starts_with("verified-query:14")), "{}", report.text());
}

#[tokio::test]
async fn broken_index_and_action_files_are_findings_beside_the_rest() {
    let project = Project::new(&GOOD.replace("COUNT(*)", "SUM(title)"));
    project.write("indexes/notes.yaml", "name: notes\ndescripton: d\n");
    project.write("actions/api.yaml", "name: api\nspec: nowhere.json\n");
    let report = project.check().await;
    let found = errors(&report);
    for rule in ["bad-expression:", "index-file:2", "actions/"] {
        assert!(found.iter().any(|finding| finding.starts_with(rule)), "{rule} not in {}", report.text());
    }
    let sarif = report.sarif();
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), report.errors() + report.warnings());
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    for result in sarif["runs"][0]["results"].as_array().unwrap() {
        assert!(rules.iter().any(|rule| rule["id"] == result["ruleId"]));
        assert!(result["locations"][0]["physicalLocation"]["region"]["startLine"].as_u64() >= Some(1));
    }
}

#[tokio::test]
async fn every_rule_that_needs_data_finds_its_failing_example_and_nothing_in_its_passing_one() {
    for rule in RULES.iter().filter(|rule| rule.found == Found::Checking) {
        let check = async |example: &str| {
            let [(_, text)] = example_files(example).try_into().unwrap();
            let report = Project::new(&text).check().await;
            (errors(&report), report)
        };
        let (found, report) = check(rule.failing).await;
        assert!(found.iter().any(|found| found.starts_with(rule.id)), "{}: {}", rule.id, report.text());
        let (found, report) = check(rule.passing).await;
        assert_eq!(found, [] as [&str; 0], "{}: {}", rule.id, report.text());
    }
}

#[tokio::test]
async fn a_row_filter_that_does_not_fit_the_data_is_told() {
    let filtered = |filter: &str| {
        GOOD.replace(
            "    description: One row a carrier.\n",
            &format!("    description: One row a carrier.\n    access: {{row_filter: \"{filter}\"}}\n"),
        )
    };
    assert_eq!(errors(&Project::new(&filtered("carrier = 'UA'")).check().await), [] as [&str; 0]);
    let report = Project::new(&filtered("carrier")).check().await;
    assert!(errors(&report).contains(&"bad-source:4".to_owned()), "{}", report.text());
}

#[tokio::test]
async fn regions_in_sarif_count_from_one_and_span_the_word() {
    let report = Project::new(&GOOD.replace("descripton", "x").replace("source:", "sauce:")).check().await;
    let sarif = report.sarif();
    assert_eq!(sarif["runs"][0]["columnKind"], "unicodeCodePoints");
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let found = results.iter().find(|result| result["ruleId"] == "unknown-key").unwrap();
    let region = &found["locations"][0]["physicalLocation"]["region"];
    assert_eq!(
        region,
        &serde_json::json!({"startLine": 5, "startColumn": 5, "endColumn": 10, "snippet": {"text": "    sauce: local.nycflights13.airlines"}})
    );
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    let at = found["ruleIndex"].as_u64().unwrap() as usize;
    assert_eq!(rules[at]["id"], "unknown-key");
    assert!(rules[at]["shortDescription"]["text"].as_str().unwrap().contains("keys"));
}

#[tokio::test]
async fn the_shipped_project_has_no_errors() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut config = Config::default();
    for folder in [&mut config.semantic.dir, &mut config.actions.dir, &mut config.indexes.dir] {
        *folder = root.join(&folder);
    }
    config.warehouses.insert("local".to_owned(), WarehouseConfig::local(root.join("examples")));
    let report = check(config).await.unwrap();
    assert_eq!(report.errors(), 0, "{}", report.text());
}
