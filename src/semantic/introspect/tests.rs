use super::*;
use crate::semantic::export::to_yaml;

fn column(name: &str, datatype: &str, values: &[&str], rows: u64) -> ColumnProfile {
    let hash = |text: &&str| fingerprint(text);
    ColumnProfile {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        native_type: "native".to_owned(),
        nulls: 0,
        distinct: values.len() as u64,
        min: values.first().map(|value| (*value).to_owned()),
        max: values.last().map(|value| (*value).to_owned()),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        fingerprints: values.iter().map(hash).collect(),
        required: (rows == 0).then_some(true),
        ..ColumnProfile::default()
    }
}

fn table(name: &str, rows: u64, columns: Vec<ColumnProfile>) -> TableProfile {
    TableProfile {
        name: name.to_owned(),
        source: format!("local.shop.{name}"),
        rows,
        is_whole: true,
        columns,
        ..TableProfile::default()
    }
}

fn shop() -> Vec<TableProfile> {
    let ids = ["1", "2", "3", "4", "5", "6", "7", "8"];
    vec![
        table(
            "orders",
            8,
            vec![
                column("order_id", "Integer", &ids, 8),
                column("customer_id", "Integer", &["1", "2"], 8),
                column("quantity", "Integer", &["1", "2"], 8),
                column("state", "String", &["new", "no"], 8),
                column("email", "String", &["a@b.c", "d@e.f"], 8),
            ],
        ),
        table("customers", 3, vec![column("id", "Integer", &["1", "2", "3"], 3)]),
    ]
}

fn drafted(tables: &[TableProfile]) -> (Model, String) {
    let (model, notes) = draft("shop", tables);
    let yaml = to_yaml(&model, &notes, "s");
    let catalog = Catalog::from_sources([("shop/model.yaml".to_owned(), Ok(yaml.clone()))], Vec::new());
    assert!(!catalog.has_errors(), "{:#?}\n{yaml}", catalog.diagnostics);
    (Model::clone(&catalog.models[0]), yaml)
}

#[test]
fn keys_joins_and_enums_are_drafted_with_their_evidence() {
    let (model, yaml) = drafted(&shop());
    let orders = model.dataset("orders").unwrap();
    assert_eq!(orders.primary_key, ["order_id"]);
    let state = orders.field("state").unwrap();
    assert!(state.is_enum && *state.sample_values == ["new", "no"], "{yaml}");
    assert_eq!(orders.field("quantity").unwrap().range.as_deref(), Some(&("1".into(), "2".into())));
    assert!(yaml.contains("# Primary key guessed: `order_id` is unique in all 8 rows."), "{yaml}");
    // `quantity` holds numbers that are customers' ids too; nothing in its name says so.
    let links: Vec<&str> = model.relationships.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(links, ["orders_customer_id_to_customers"], "{yaml}");
    assert!(yaml.contains("100 % of the 2 values of `customer_id` are in `customers.id`"), "{yaml}");
}

#[test]
fn values_of_a_column_that_looks_personal_stand_nowhere() {
    let (model, yaml) = drafted(&shop());
    let email = model.dataset("orders").unwrap().field("email").unwrap();
    assert!(email.pii && email.sensitivity == Sensitivity::Protected);
    assert!(!yaml.contains("a@b.c"), "{yaml}");
}

#[test]
fn names_that_look_personal_are_told_from_those_that_only_sound_so() {
    for name in
        ["email", "E-Mail", "customerEmail", "phone_number", "birth_date", "first_name", "ip_address", "SSN"]
    {
        assert!(looks_personal(name), "{name}");
    }
    for name in ["emailed_count_total", "tailnum", "description", "shipping", "name", "month", "essence"] {
        assert!(!looks_personal(name), "{name}");
    }
}

#[test]
fn what_only_the_first_rows_show_is_not_taken_for_a_rule() {
    let mut tables = shop();
    tables[0].is_whole = false;
    let (model, yaml) = drafted(&tables);
    let state = model.dataset("orders").unwrap().field("state").unwrap();
    assert!(!state.is_enum && state.nullable.is_none(), "{yaml}");
    assert!(yaml.contains("The first 8 rows were looked at."), "{yaml}");
}

#[test]
fn what_the_source_declares_wins_over_guesses() {
    let mut tables = shop();
    tables[0].primary_key = vec!["customer_id".to_owned(), "quantity".to_owned()];
    tables[0].foreign_keys = vec![ForeignKey {
        columns: vec!["quantity".to_owned()],
        table: 1,
        to_columns: vec!["id".to_owned()],
    }];
    let (model, yaml) = drafted(&tables);
    assert_eq!(model.dataset("orders").unwrap().primary_key, ["customer_id", "quantity"]);
    assert!(yaml.contains("# The foreign key is declared."), "{yaml}");
    assert_eq!(model.relationships.len(), 2, "{yaml}");
}

#[test]
fn empty_tables_and_odd_names_draft_what_loads() {
    let tables = vec![
        table("no", 0, vec![column("a.b", "", &[], 0), column("A.B", "String", &["*x", "- y"], 0)]),
        table("NO", 0, Vec::new()),
    ];
    let (model, yaml) = drafted(&tables);
    assert_eq!(model.datasets.len(), 2, "{yaml}");
    assert_eq!(model.datasets[0].fields.len(), 2, "{yaml}");
}

#[test]
fn values_that_the_source_declares_are_the_enum_and_what_was_not_looked_at_is_not_claimed() {
    let mut mood = column("mood", "String", &["ok"], 9);
    mood.declared_values = vec!["ok".to_owned(), "sad".to_owned()];
    let blob = column("blob", "Opaque", &[], 9);
    let (model, yaml) = drafted(&[table("t", 9, vec![mood, blob])]);
    let dataset = model.dataset("t").unwrap();
    assert_eq!(*dataset.field("mood").unwrap().sample_values, ["ok", "sad"]);
    let blob = dataset.field("blob").unwrap();
    assert!(blob.nullable.is_none() && !yaml.contains("0 distinct"), "{yaml}");
}
