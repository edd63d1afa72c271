//! The corpora of `tests/guard`: attacks that are refused by the rule they name, honest queries that are approved.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::super::*;
use crate::semantic::parse_expression;

pub(super) const DIALECTS: [Dialect; 3] = [Dialect::DataFusion, Dialect::PostgreSql, Dialect::Snowflake];

#[derive(Deserialize)]
struct Table {
    relation: String,
    source: Vec<String>,
    columns: BTreeMap<String, String>,
    #[serde(default)]
    masks: BTreeMap<String, String>,
    row_filter: Option<String>,
}

/// The relations of `tests/guard/schema.yaml`.
pub(super) fn namespace() -> Namespace {
    let tables: Vec<Table> =
        serde_saphyr::from_str(include_str!("../../../tests/guard/schema.yaml")).unwrap();
    let mut namespace = Namespace::default();
    for table in tables {
        let (schema, name) = table.relation.split_once('.').unwrap();
        let mask =
            |column: &String| table.masks.get(column).map(|mask| Arc::new(parse_expression(mask).unwrap()));
        namespace.insert(Relation {
            schema: schema.to_owned(),
            name: name.to_owned(),
            source: table.source,
            columns: table
                .columns
                .keys()
                .map(|column| Column { name: column.clone(), expression: mask(column) })
                .collect(),
            row_filter: table.row_filter.map(|filter| parse_expression(&filter).unwrap()),
            missing_scope: None,
        });
    }
    namespace
}

fn dialects(name: &str) -> Vec<Dialect> {
    match name {
        "all" => DIALECTS.to_vec(),
        "remote" => vec![Dialect::PostgreSql, Dialect::Snowflake],
        "datafusion" => vec![Dialect::DataFusion],
        "postgresql" => vec![Dialect::PostgreSql],
        "snowflake" => vec![Dialect::Snowflake],
        other => panic!("{other} is no dialect"),
    }
}

#[derive(Deserialize)]
struct Honest {
    r#in: String,
    sql: String,
}

#[derive(Deserialize)]
struct Attack {
    r#in: String,
    /// Rules any of which is right; dialects parse one text differently.
    rule: Vec<String>,
    source: String,
    sql: String,
}

pub(super) fn honest() -> Vec<(Dialect, String)> {
    let list: Vec<Honest> = serde_saphyr::from_str(include_str!("../../../tests/guard/honest.yaml")).unwrap();
    assert!(list.len() >= 300, "{}", list.len());
    let each =
        |entry: Honest| dialects(&entry.r#in).into_iter().map(move |dialect| (dialect, entry.sql.clone()));
    list.into_iter().flat_map(each).collect()
}

#[test]
fn every_honest_query_is_approved() {
    let namespace = namespace();
    let refused: Vec<String> = honest()
        .into_iter()
        .filter_map(|(dialect, sql)| {
            let refusal = approve(&sql, &namespace, dialect, 100).err()?;
            Some(format!("{dialect:?}: {sql}\n  {}: {refusal}", refusal.rule))
        })
        .collect();
    assert!(refused.is_empty(), "{} refused\n{}", refused.len(), refused.join("\n"));
}

#[test]
fn every_attack_is_refused_by_the_rule_that_it_breaks() {
    let namespace = namespace();
    let list: Vec<Attack> =
        serde_saphyr::from_str(include_str!("../../../tests/guard/attacks.yaml")).unwrap();
    assert!(list.len() >= 300, "{}", list.len());
    let mut failures = Vec::new();
    for attack in &list {
        for dialect in dialects(&attack.r#in) {
            let told = match approve(&attack.sql, &namespace, dialect, 100) {
                Ok(approved) => format!("approved as {}", approved.sql()),
                Err(refusal) if attack.rule.iter().any(|rule| rule == refusal.rule) => continue,
                Err(refusal) => format!("{}: {refusal}", refusal.rule),
            };
            failures.push(format!(
                "{} in {dialect:?}, {:?}: {}\n  {told}",
                attack.source, attack.rule, attack.sql
            ));
        }
    }
    assert!(failures.is_empty(), "{} of {}\n{}", failures.len(), list.len(), failures.join("\n"));
}
