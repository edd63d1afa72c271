//! The semantic layer at its own door: texts in, catalog, findings and links out.

use super::*;

mod documents;
mod files;
mod metrics;
mod ossie;
mod policies;
mod scale;

const MODEL: &str = r#"
name: shop
description: Orders of a shop.
datasets:
  - name: orders
    source: local.shop.orders
    primary_key: [order_id]
    description: One row an order.
    fields:
      - {name: order_id, description: Number of the order.}
      - {name: customer_id, description: Who ordered.}
      - {name: amount, description: Price paid., datatype: Decimal, unit: EUR}
      - {name: iban_code, description: Account., sensitivity: highly_sensitive}
  - name: customers
    source: local.shop.customers
    primary_key: [customer_id]
    description: One row a customer.
    fields:
      - {name: customer_id, description: Number of the customer.}
      - {name: country, description: Where they live., sample_values: [Norway, Chile]}
relationships:
  - {name: orders_customers, from: orders, to: customers, from_columns: [customer_id], to_columns: [customer_id]}
metrics:
  - {name: revenue, dataset: orders, expression: SUM(amount), description: All that was paid.}
  - {name: accounts, dataset: orders, expression: COUNT(DISTINCT iban_code), description: Distinct accounts.}
"#;

fn load(text: &str) -> Catalog {
    Catalog::from_sources([("semantic/shop/model.yaml".to_owned(), Ok(text.to_owned()))], Vec::new())
}

fn finding<'c>(catalog: &'c Catalog, rule: &str) -> &'c Diagnostic {
    catalog.diagnostics.iter().find(|diagnostic| diagnostic.rule == rule).unwrap_or_else(|| {
        panic!("no finding {rule} among {:#?}", catalog.diagnostics);
    })
}

#[test]
fn a_clean_model_loads_without_findings() {
    let catalog = load(MODEL);
    assert_eq!(catalog.diagnostics, vec![]);
    assert_eq!(catalog.models.len(), 1);
}

#[test]
fn every_mistake_of_a_file_is_reported_with_its_place_and_remedy() {
    let text = MODEL
        .replace("    description: One row an order.", "    descripton: One row an order.")
        .replace("from: orders", "from: order")
        .replace("SUM(amount)", "SUM(amout)")
        .replace("sensitivity: highly_sensitive", "sensitivity: secret");
    let catalog = load(&text);
    assert!(catalog.models.is_empty(), "a model with errors is not served");
    let unknown_key = finding(&catalog, "unknown-key");
    assert_eq!((unknown_key.line, unknown_key.column), (8, 5));
    assert!(unknown_key.help.contains("description"), "{unknown_key:?}");
    assert!(unknown_key.snippet.contains("descripton"));
    assert!(finding(&catalog, "unknown-dataset").help.contains("orders"));
    assert!(finding(&catalog, "unknown-field").help.contains("amount"));
    assert!(finding(&catalog, "unknown-value").help.contains("highly_sensitive"));
}

#[test]
fn a_file_cut_in_half_takes_its_whole_folder_out_and_names_the_line() {
    let half = "name: shop\nmetrics:\n  - {name: late, dataset: ord";
    let catalog = Catalog::from_sources(
        [
            ("semantic/shop/model.yaml".to_owned(), Ok(MODEL.to_owned())),
            ("semantic/shop/metrics.yaml".to_owned(), Ok(half.to_owned())),
            ("semantic/other/model.yaml".to_owned(), Ok(MODEL.replace("name: shop", "name: other"))),
        ],
        Vec::new(),
    );
    let names: Vec<&str> = catalog.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["other"]);
    let syntax = finding(&catalog, "yaml-syntax");
    assert_eq!(syntax.file, "semantic/shop/metrics.yaml");
    assert_eq!(syntax.line, 3);
}

#[test]
fn files_of_one_folder_add_up_to_one_model_and_of_two_folders_do_not() {
    let more = "name: shop\nmetrics:\n  - {name: orders_count, dataset: orders, expression: COUNT(*), description: How many.}\n";
    let two = |folder: &str| {
        Catalog::from_sources(
            [
                ("semantic/shop/model.yaml".to_owned(), Ok(MODEL.to_owned())),
                (format!("semantic/{folder}/more.yaml"), Ok(more.to_owned())),
            ],
            Vec::new(),
        )
    };
    assert_eq!(two("shop").models[0].metrics.len(), 3);
    finding(&two("elsewhere"), "duplicate-model");
}

#[test]
fn all_three_shapes_of_ossie_load() {
    let root = "version: \"0.2.0.dev0\"\nname: m\ndatasets:\n  - name: d\n    source: a.b.c\n    fields:\n      - name: x\n        expression: {dialects: [{dialect: ANSI_SQL, expression: x + 1}]}\n";
    let indented = root.lines().skip(1).map(|line| format!("    {line}\n")).collect::<String>();
    for version in ["0.2.0.dev0", "0.1.1"] {
        let wrapped = format!(
            "version: \"{version}\"\nsemantic_model:\n{}",
            indented.replacen("    name", "  - name", 1)
        );
        let catalog = load(&wrapped);
        assert_eq!(catalog.models.len(), 1, "{:#?}", catalog.diagnostics);
        assert_eq!(catalog.models[0].datasets[0].fields[0].expression.text(), "x + 1");
    }
    assert_eq!(load(root).models.len(), 1);
}

#[test]
fn what_is_above_a_clearance_is_named_nowhere() {
    let catalog = load(MODEL);
    let models = catalog.visible_to(Sensitivity::Public);
    let shown = format!("{:?}", Tables::build(&models)).to_lowercase();
    assert!(!shown.contains("iban_code"), "{shown}");
    assert!(shown.contains("revenue"));
    let all = catalog.visible_to(Sensitivity::HighlySensitive);
    assert!(format!("{:?}", Tables::build(&all)).contains("iban_code"));
}
