//! Row filters and masks: what they may say, and what becomes of claims.

use datafusion::sql::sqlparser::ast::Expr;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::auth::Claims;
use crate::semantic::*;

fn load(filter: &str) -> Catalog {
    let quoted = serde_json::to_string(filter).unwrap();
    let text = format!(
        "name: m\ndescription: d.\ndatasets:\n  - name: t\n    source: t\n    description: One row a thing.\n    access: {{row_filter: {quoted}}}\n    fields:\n      - {{name: region, expression: reg_code, description: Where.}}\n      - {{name: net, expression: gross - tax, description: How much.}}\n      - {{name: Odd Name, description: Odd.}}\n      - {{name: m2, expression: {{dialects: [{{dialect: DAX, expression: '[x]'}}]}}, description: Elsewhere.}}\n"
    );
    Catalog::from_sources([("semantic/m/model.yaml".to_owned(), Ok(text))], Vec::new())
}

fn filled(filter: &str, claims: Value) -> Option<String> {
    let catalog = load(filter);
    assert!(!catalog.has_errors(), "{filter}: {:#?}", catalog.diagnostics);
    let policy = catalog.models[0].datasets[0].row_filter.clone().unwrap();
    let claims: Claims = serde_json::from_value(claims).unwrap();
    policy.for_claims(&claims).map(|expr| expr.to_string())
}

#[test]
fn a_filter_is_over_physical_columns_and_claims_are_literals() {
    let cases = [
        ("region = {{claims.r}}", json!({"r": "no"}), "reg_code = 'no'"),
        (
            "region={{ claims.r }}",
            json!({"r": "o'neill' OR 1=1 --"}),
            "reg_code = ('o' || chr(39) || 'neill' || chr(39) || ' OR 1=1 --')",
        ),
        (
            "net > {{claims.n}} AND t.region <> 'x'",
            json!({"n": 2.5}),
            "(gross - tax) > 2.5 AND reg_code <> 'x'",
        ),
        ("{{claims.all}} OR \"Odd Name\" = 1", json!({"all": true}), "true OR \"Odd Name\" = 1"),
        ("region IN ({{claims.r}}, 'z')", json!({"r": ["a", "b"]}), "reg_code IN ('a', 'b', 'z')"),
        ("region NOT IN ({{claims.r}})", json!({"r": "a"}), "reg_code NOT IN ('a')"),
        (
            "REGION = {{claims.a}} OR region = {{claims.b}}",
            json!({"a": "$claim2", "b": "$claim1"}),
            "reg_code = '$claim2' OR reg_code = '$claim1'",
        ),
        ("region = '{{'", json!({}), ""),
    ];
    for (filter, claims, expected) in cases {
        if expected.is_empty() {
            assert!(load(filter).has_errors(), "{filter}");
        } else {
            assert_eq!(filled(filter, claims).as_deref(), Some(expected), "{filter}");
        }
    }
}

#[test]
fn a_claim_that_is_missing_empty_or_of_the_wrong_kind_denies() {
    // Each of these would be true, or could be, were the claim taken for NULL or left out.
    for filter in [
        "region = {{claims.r}}",
        "region <> {{claims.r}}",
        "NOT (region = {{claims.r}})",
        "{{claims.r}} IS NULL OR region = {{claims.r}}",
        "COALESCE({{claims.r}}, region) = region",
        "region NOT IN ({{claims.r}})",
        "TRUE OR region = {{claims.r}}",
    ] {
        for claims in [
            json!({}),
            json!({"r": null}),
            json!({"r": []}),
            json!({"r": {"a": 1}}),
            json!({"r": [["a"]]}),
            json!({"R": "a"}),
        ] {
            assert_eq!(filled(filter, claims.clone()), None, "{filter} {claims}");
        }
    }
    assert_eq!(filled("region = {{claims.r}}", json!({"r": ["a", "b"]})), None, "a list is no value");
}

#[test]
fn a_filter_says_nothing_but_fields_of_its_dataset_and_claims() {
    for (filter, rule, told) in [
        ("region = '{{claims.r}}'", "bad-claim", "inside quotes"),
        ("region = \"{{claims.r}}\"", "bad-claim", "inside quotes"),
        ("region = {{claims.r", "bad-claim", "}}"),
        ("region = {{user.r}}", "bad-claim", "{{claims.name}}"),
        ("region = {{claims.}}", "bad-claim", "{{claims.name}}"),
        ("region = {{claims.a b}}", "bad-claim", "{{claims.name}}"),
        ("region = 1 -- {{claims.r}}", "bad-claim", "as a value"),
        ("region = $claim1", "bad-claim", "as a value"),
        ("region = ?", "bad-claim", "as a value"),
        ("region IN (SELECT x FROM y)", "bad-policy", "subquery"),
        ("EXISTS (SELECT 1)", "bad-policy", "subquery"),
        ("net = (SELECT 1)", "bad-policy", "subquery"),
        ("net > AVG(net)", "bad-policy", "many rows"),
        ("ROW_NUMBER() OVER (ORDER BY net) = 1", "bad-policy", "many rows"),
        ("m2 = 1", "bad-policy", "no SQL expression"),
        ("regio = 'x'", "unknown-field", "regio"),
        ("reg_code = 'x'", "unknown-field", "reg_code"),
        ("other.region = 'x'", "unknown-field", "other.region"),
        ("region = ", "bad-expression", "parse"),
        ("region = 1; DROP TABLE t", "bad-expression", "parse"),
        ("region = 1 UNION SELECT 1", "bad-expression", "parse"),
    ] {
        let catalog = load(filter);
        assert!(catalog.models.is_empty(), "{filter} is served");
        let found = catalog.diagnostics.iter().find(|found| found.severity == Severity::Error).unwrap();
        assert_eq!(found.rule, rule, "{filter}: {found:#?}");
        assert!(found.message.contains(told), "{filter}: {}", found.message);
        assert_eq!(found.line, 7, "{filter}");
    }
}

/// The text that an expression of literals and `chr` stands for.
fn constant(expr: &Expr) -> String {
    match expr {
        Expr::Nested(inner) => constant(inner),
        Expr::BinaryOp { left, right, .. } => constant(left) + &constant(right),
        Expr::Function(function) => match function.to_string().as_str() {
            "chr(39)" => "'".to_owned(),
            "chr(92)" => "\\".to_owned(),
            other => panic!("{other}"),
        },
        Expr::Value(value) => match &value.value {
            datafusion::sql::sqlparser::ast::Value::SingleQuotedString(text) => {
                assert!(!text.contains(['\'', '\\']), "{text}");
                text.clone()
            }
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

proptest! {
    /// Whatever a claim holds, the filter keeps its form, printed or not: one comparison with one text.
    #[test]
    fn no_claim_gets_out_of_its_literal(text in "\\PC{0,40}|['\"\\\\;$ x-]{0,12}") {
        let catalog = load("region = {{claims.r}}");
        let policy = catalog.models[0].datasets[0].row_filter.clone().unwrap();
        let claims: Claims = [("r".to_owned(), Value::from(text.as_str()))].into();
        let expr = policy.for_claims(&claims).unwrap();
        for expr in [expr.clone(), parse_expression(&expr.to_string()).unwrap()] {
            let Expr::BinaryOp { right, .. } = expr else { panic!("{expr}") };
            prop_assert_eq!(constant(&right), text.clone());
        }
    }

    #[test]
    fn no_text_of_a_filter_makes_the_loader_panic(filter in "\\PC{0,60}|[a-z{}.$' =()?-]{0,40}") {
        let _ = load(&filter);
    }
}
