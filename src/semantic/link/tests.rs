//! Linking at its own door: models and a question in, the answer out.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::{Catalog, Sensitivity};
use super::*;

const SHOP: &str = r#"
name: shop
description: Orders of a shop.
custom_instructions: Amounts include tax.
datasets:
  - name: orders
    source: local.shop.orders
    primary_key: [order_id]
    description: One row an order.
    fields:
      - {name: order_id, description: Number of the order.}
      - {name: customer_id, description: Who ordered.}
      - {name: amount, description: Price paid., datatype: Decimal, unit: EUR}
      - {name: status, description: How far it is., is_enum: true, sample_values: [open, OR, Paid Late]}
      - {name: season, description: Year of the collection., is_enum: true, sample_values: ["2013", "14"]}
  - name: customers
    source: local.shop.customers
    primary_key: [customer_id]
    description: One row a customer.
    fields:
      - {name: customer_id, description: Number of the customer.}
      - {name: country, description: Where they live., sample_values: [Norway, Chile, New York, York]}
      - {name: grade, description: A letter., sample_values: [A, B]}
  - name: secrets
    source: local.shop.secrets
    description: Norway revenue revenue, which nobody sees.
    sensitivity: highly_sensitive
    fields:
      - {name: revenue, description: Revenue of Norway., sample_values: [Norway]}
relationships:
  - {name: orders_customers, from: orders, to: customers, from_columns: [customer_id], to_columns: [customer_id]}
metrics:
  - {name: revenue, dataset: orders, expression: SUM(amount), description: All that was paid.}
verified_queries:
  - name: best_countries
    question: Which country brings the most revenue?
    sql: SELECT country FROM shop.orders AS o JOIN shop.customers AS c ON c.customer_id = o.customer_id
"#;

fn models(texts: &[&str], clearance: Sensitivity) -> Vec<Arc<Model>> {
    let file = |(at, text): (usize, &&str)| (format!("semantic/{at}/model.yaml"), Ok((*text).to_owned()));
    let catalog = Catalog::from_sources(texts.iter().enumerate().map(file), Vec::new());
    assert!(!catalog.has_errors(), "{:#?}", catalog.diagnostics);
    catalog.visible_to(clearance)
}

fn shop() -> Linker {
    Linker::new(models(&[SHOP], Sensitivity::Public))
}

fn ask(linker: &Linker, question: &str, budget_tokens: usize) -> Link {
    linker.link(&LinkRequest { question, vector: None, budget_tokens, count: &estimate_tokens })
}

fn names(link: &Link, kind: LinkedKind) -> Vec<&str> {
    link.items.iter().filter(|item| item.kind == kind).map(|item| item.name.as_str()).collect()
}

#[test]
fn a_question_brings_values_metrics_joins_instructions_and_verified_queries() {
    let link = ask(&shop(), "Which country brings the most revenue besides Norway?", 2000);
    assert_eq!(names(&link, LinkedKind::Metric), ["revenue"]);
    assert_eq!(names(&link, LinkedKind::Value), ["customers.country"]);
    assert_eq!(names(&link, LinkedKind::Relationship), ["orders_customers"]);
    assert_eq!(names(&link, LinkedKind::Instructions), ["shop"]);
    assert_eq!(names(&link, LinkedKind::VerifiedQuery), ["best_countries"]);
    let datasets: BTreeSet<&str> = names(&link, LinkedKind::Dataset).into_iter().collect();
    assert_eq!(datasets, BTreeSet::from(["customers", "orders"]));
    let join = link.items.iter().find_map(|item| item.join.as_ref()).unwrap();
    assert_eq!(join.on, ["orders.customer_id = customers.customer_id"]);
    for item in &link.items {
        assert!(link.prompt.contains(&item.text) && !item.reasons.is_empty(), "{item:?}");
    }
    assert_eq!((link.tokens, link.left_out), (estimate_tokens(&link.prompt), 0));
}

#[test]
fn what_is_hidden_changes_no_score_and_no_count() {
    let hidden_at = SHOP.find("  - name: secrets").unwrap();
    let without = format!("{}{}", &SHOP[..hidden_at], &SHOP[SHOP.find("relationships:").unwrap()..]);
    let reduced = shop();
    let never_there = Linker::new(models(&[&without], Sensitivity::Public));
    for question in ["revenue from Norway", "secrets", "how many orders are open"] {
        let (one, other) = (ask(&reduced, question, 500), ask(&never_there, question, 500));
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
        assert!(!one.prompt.contains("secrets"), "{}", one.prompt);
    }
    assert!(reduced.texts().iter().all(|text| !text.contains("secret")));
    let all = Linker::new(models(&[SHOP], Sensitivity::HighlySensitive));
    assert!(names(&ask(&all, "secrets", 500), LinkedKind::Dataset).contains(&"secrets"));
}

#[test]
fn literals_are_told_from_words_of_the_sentence() {
    let linker = shop();
    let values = |question: &str| -> Vec<String> {
        let link = ask(&linker, question, 4000);
        let value = |item: LinkedItem| item.value.map(|value| format!("{}={}", value.literal, value.value));
        link.items.into_iter().filter_map(value).collect()
    };
    assert_eq!(values("customers of new york"), ["new york=New York"]);
    assert_eq!(values("orders that were paid late"), ["paid late=Paid Late"]);
    assert_eq!(values("customers or orders"), [""; 0]);
    assert_eq!(values("orders with status OR"), ["OR=OR"]);
    assert_eq!(values("ORDERS OR CUSTOMERS"), [""; 0]);
    assert_eq!(values("A customer"), [""; 0]);
    assert_eq!(values("customers of grade 'A'"), ["A=A"]);
    assert_eq!(values("the 14 best orders of season 2013"), ["2013=2013"]);
    assert_eq!(values("the customers' orders of season \"14\""), ["14=14"]);
}

#[test]
fn a_question_without_anything_in_common_gets_an_empty_answer() {
    let link = ask(&shop(), "¿?", 1000);
    assert!(link.items.is_empty() && link.prompt.is_empty() && link.tokens == 0);
    assert!(ask(&Linker::new(Vec::new()), "orders", 1000).items.is_empty());
}

#[test]
fn meaning_finds_what_shares_no_word() {
    let linker = shop();
    let texts = linker.texts();
    assert_eq!(texts.len(), 4);
    assert!(
        texts[1].starts_with("customers (shop). One row a customer.: customer id, country"),
        "{}",
        texts[1]
    );
    let axis = |at: usize| (0..4).map(|axis| if axis == at { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
    let rows: Vec<Vec<f32>> = (0..4).map(axis).collect();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    assert!(!linker.set_vectors(&rows[..3]) && !linker.set_vectors(&[&[], &[], &[], &[]]));
    assert!(!linker.has_vectors());
    assert!(linker.set_vectors(&rows));
    assert!(!linker.set_vectors(&rows), "they come once");
    let request = |vector| LinkRequest {
        question: "Quién compra?",
        vector: Some(vector),
        budget_tokens: 1000,
        count: &estimate_tokens,
    };
    let link = linker.link(&request(rows[1]));
    assert!(link.by_meaning);
    assert_eq!(link.items[0].name, "customers");
    assert!(link.items[0].reasons.iter().any(|reason| reason.contains("meaning")), "{:?}", link.items[0]);
    // A vector of another model's length takes no part.
    assert!(!linker.link(&request(&[1.0])).by_meaning);
}

#[test]
fn a_wide_dataset_lists_the_fields_asked_for_and_counts_the_others() {
    let fields: String = (0..600).map(|at| format!("      - {{name: measure_{at}_x}}\n")).collect();
    let wide = format!(
        "name: wide\ndatasets:\n  - name: sensors\n    source: a.b.c\n    primary_key: [measure_7_x]\n    fields:\n{fields}"
    );
    let linker = Linker::new(models(&[&wide], Sensitivity::Public));
    let link = ask(&linker, "sensors by measure 423", 300);
    let text = &link.items[0].text;
    assert!(text.contains("measure_423_x") && text.contains("measure_7_x"), "{text}");
    assert!(text.contains(" more") && link.tokens <= 300, "{text}");
}

#[test]
fn the_smallest_budget_still_names_the_best_dataset() {
    let link = ask(&shop(), "orders", 1);
    assert_eq!(names(&link, LinkedKind::Dataset), ["orders"]);
    assert_eq!(link.items.len(), 1);
    assert!(link.left_out > 0);
}

#[test]
fn a_counter_that_finds_more_in_the_whole_still_keeps_to_the_budget() {
    let linker = shop();
    let count = |text: &str| estimate_tokens(text) + 10 * text.matches('\n').count();
    let question = "revenue, amount and status of orders by country Norway";
    for budget_tokens in [100, 150, 200, 300] {
        let link = linker.link(&LinkRequest { question, vector: None, budget_tokens, count: &count });
        assert!(link.tokens <= budget_tokens, "{} of {budget_tokens}:\n{}", link.tokens, link.prompt);
    }
}

const LETTERS: [&str; 9] =
    ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "loner"];

/// Datasets `alpha` to `hotel` in a chain, `hotel` also joined to `charlie`, and `loner` joined to nothing.
fn chain() -> Linker {
    let letters = &LETTERS[..8];
    let dataset = |name: &str| {
        format!(
            "  - name: {name}_things\n    source: x.y.{name}\n    primary_key: [{name}_id]\n    fields:\n      - {{name: {name}_id, description: Key.}}\n      - {{name: other_id, description: The next one.}}\n"
        )
    };
    let mut text = format!("name: chain\ndatasets:\n{}", dataset("loner"));
    text.extend(letters.iter().map(|letter| dataset(letter)));
    text.push_str("relationships:\n");
    for (from, to) in letters.iter().zip(&letters[1..]).chain([(&"hotel", &"charlie")]) {
        text.push_str(&format!(
            "  - {{name: {from}_{to}, from: {from}_things, to: {to}_things, from_columns: [other_id], to_columns: [{to}_id]}}\n"
        ));
    }
    Linker::new(models(&[&text], Sensitivity::Public))
}

/// Names of datasets that can be reached from one over the joins of an answer.
fn reached<'l>(link: &'l Link, from: &'l str) -> BTreeSet<&'l str> {
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for join in link.items.iter().filter_map(|item| item.join.as_ref()) {
        edges.entry(&join.from).or_default().push(&join.to);
        edges.entry(&join.to).or_default().push(&join.from);
    }
    let mut seen = BTreeSet::from([from]);
    let mut queue = vec![from];
    while let Some(at) = queue.pop() {
        for next in edges.get(at).into_iter().flatten() {
            if seen.insert(next) {
                queue.push(next);
            }
        }
    }
    seen
}

#[test]
fn datasets_between_two_chosen_ones_come_along() {
    let link = ask(&chain(), "alpha and delta", 2000);
    let joins: BTreeSet<&str> = names(&link, LinkedKind::Relationship).into_iter().collect();
    assert_eq!(joins, BTreeSet::from(["alpha_bravo", "bravo_charlie", "charlie_delta"]));
    assert!(link.prompt.contains("dataset chain.bravo_things (joins others)"), "{}", link.prompt);
    assert!(!link.prompt.contains("echo_things"), "{}", link.prompt);
}

proptest! {
    #[test]
    fn every_two_chosen_datasets_are_joined_and_the_budget_holds(
        asked in proptest::collection::btree_set(0usize..9, 1..6), budget in 20usize..700,
    ) {
        let linker = chain();
        let question: Vec<&str> = asked.iter().map(|at| LETTERS[*at]).collect();
        let link = ask(&linker, &question.join(" and "), budget);
        prop_assert!(link.tokens <= budget || link.items.len() == 1, "{} of {budget}", link.tokens);
        prop_assert_eq!(link.tokens, estimate_tokens(&link.prompt));
        let datasets = names(&link, LinkedKind::Dataset);
        let distinct: BTreeSet<&str> = datasets.iter().copied().collect();
        prop_assert_eq!(distinct.len(), datasets.len(), "a dataset comes once: {:?}", datasets);
        let in_chain: Vec<&str> = datasets.iter().copied().filter(|name| *name != "loner_things").collect();
        if let Some(first) = in_chain.first() {
            let reached = reached(&link, first);
            prop_assert!(in_chain.iter().all(|name| reached.contains(name)), "{:?} {:?}", in_chain, reached);
        }
        for join in link.items.iter().filter_map(|item| item.join.as_ref()) {
            prop_assert!(distinct.contains(join.from.as_str()) && distinct.contains(join.to.as_str()));
        }
    }

    #[test]
    fn any_question_gets_an_answer_within_its_budget(question in ".{0,120}", budget in 60usize..400) {
        let link = ask(&shop(), &question, budget);
        prop_assert!(link.tokens <= budget, "{} of {budget}", link.tokens);
    }
}
