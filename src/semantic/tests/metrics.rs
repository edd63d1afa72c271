//! Metrics: which keys they take, what they may be made of, and who may know of them.

use super::*;
const METRICS: &str = r#"  - {name: orders_count, dataset: orders, expression: COUNT(*), description: How many.}
  - {name: per_order, type: ratio, numerator: revenue, denominator: {name: orders_count, filter: amount > 0}, description: Price of an order.}
  - {name: grown, type: derived, expression: revenue - earlier, metrics: [{name: revenue, alias: earlier, offset_window: 1 year}], description: More than a year before.}
  - {name: week, type: cumulative, window: 7 days, dataset: orders, expression: SUM(amount), fill_nulls_with: 0, description: Seven days.}
  - {name: account_share, expression: accounts / orders_count, description: Accounts for each order.}
"#;

#[test]
fn every_type_of_metric_is_read_with_its_keys() {
    let catalog = load(&format!("{MODEL}{METRICS}"));
    assert_eq!(catalog.diagnostics, vec![]);
    let model = &catalog.models[0];
    let kind = |name: &str| model.metric(name).unwrap().kind(model);
    assert_eq!(kind("revenue"), MetricKind::Simple);
    assert_eq!(kind("per_order"), MetricKind::Ratio);
    assert_eq!(kind("account_share"), MetricKind::Derived);
    let ratio = model.metric("per_order").unwrap();
    assert_eq!(ratio.denominator.as_ref().unwrap().filter, "amount > 0");
    assert_eq!(ratio.expression.text(), "\"revenue\" / NULLIF(\"orders_count\", 0)");
    let earlier = &model.metric("grown").unwrap().metrics[0];
    assert_eq!(
        (earlier.called(), earlier.offset_window.unwrap().to_string()),
        ("earlier", "1 year".to_owned())
    );
    let week = model.metric("week").unwrap();
    assert_eq!(
        (week.window.unwrap().to_string(), week.fill_nulls_with.as_deref()),
        ("7 days".to_owned(), Some("0"))
    );
}

#[test]
fn a_metric_that_is_made_of_what_is_not_there_or_not_its_own_is_a_finding() {
    let cases = [
        (
            "denominator: {name: orders_count",
            "denominator: {name: order_count",
            "unknown-metric",
            "orders_count",
        ),
        ("window: 7 days", "window: 7 dayz", "unknown-value", "7 days"),
        ("type: cumulative, ", "", "metric-keys", "type: cumulative"),
        ("numerator: revenue, ", "", "missing-key", "expression"),
        ("filter: amount > 0", "filter: amount >", "bad-expression", ""),
        ("offset_window: 1 year", "offset_window: 1 year, offset_to_grain: month", "metric-keys", "keep one"),
        (
            "week, type: cumulative",
            "week, joins: [orders_custmers], type: cumulative",
            "unknown-relationship",
            "orders_customers",
        ),
        (
            "week, type: cumulative",
            "week, time_dimension: ordered_at, type: cumulative",
            "unknown-field",
            "dataset.field",
        ),
    ];
    for (good, bad, rule, help) in cases {
        let text = format!("{MODEL}{}", METRICS.replacen(good, bad, 1));
        assert!(text.contains(bad), "{bad}");
        let catalog = load(&text);
        assert!(catalog.models.is_empty(), "{bad}");
        let found = finding(&catalog, rule);
        assert!(found.help.contains(help) || found.message.contains(help), "{bad}: {found:?}");
    }
}

#[test]
fn the_editor_schema_and_the_loader_agree_on_metrics_and_roles() {
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(checkout.join("schemas/semantic.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap();
    let is_valid = |text: &str| {
        let value: serde_json::Value = serde_saphyr::from_str(text).unwrap();
        schema.is_valid(&value)
    };
    let model = format!("{MODEL}{METRICS}").replacen(
        "primary_key: [order_id]",
        "role: fact\n    primary_key: [order_id]",
        1,
    );
    assert!(is_valid(&model) && !load(&model).has_errors(), "{:#?}", load(&model).diagnostics);
    let mutations = [
        ("role: fact", "role: facts"),
        ("type: cumulative", "type: cumulated"),
        ("window: 7 days", "window: 7 parsecs"),
        ("fill_nulls_with: 0", "fill_nulls_with: zero"),
        ("offset_window: 1 year", "offset: 1 year"),
        ("denominator: {name: orders_count, ", "denominator: {"),
        ("numerator: revenue, ", ""),
        ("type: cumulative, ", ""),
    ];
    for (good, bad) in mutations {
        let text = model.replacen(good, bad, 1);
        assert_ne!(text, model, "{good}");
        assert!(!is_valid(&text), "the schema takes {bad}");
        assert!(load(&text).has_errors(), "the loader takes {bad}");
    }
}

#[test]
fn a_metric_is_as_hidden_as_what_it_is_made_of() {
    let text = format!("{MODEL}{METRICS}")
        .replace("{name: customer_id, description: Number of the customer.}", "{name: customer_id, description: Number of the customer.}\n      - {name: amount, description: Owed.}")
        .replace("datatype: Decimal, unit: EUR}", "datatype: Decimal, unit: EUR, sensitivity: protected}");
    let catalog = load(&text);
    assert!(!catalog.has_errors(), "{:#?}", catalog.diagnostics);
    let names = |clearance: Sensitivity| -> Vec<String> {
        catalog.visible_to(clearance)[0].metrics.iter().map(|metric| metric.name.clone()).collect()
    };
    // `customers.amount` is public, `orders.amount` is not; what names the latter goes, and what is made of that.
    assert_eq!(names(Sensitivity::Public), ["orders_count"]);
    assert_eq!(names(Sensitivity::Protected), ["revenue", "orders_count", "per_order", "grown", "week"]);
}
