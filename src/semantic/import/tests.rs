//! What comes over from real models, and what is reported.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::semantic::{Grain, Metric, MetricKind, TimeSpan};

fn sample(name: &str) -> Option<SourceFile> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/semantic").join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(SourceFile { name: name.to_owned(), text }),
        Err(_) => {
            println!("skipped: no {name} beside the checkout");
            None
        }
    }
}

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.to_owned(), text: text.to_owned() }
}

fn imported(kind: Kind, files: &[SourceFile]) -> Imported {
    import(kind, files, &ImportOptions::default()).unwrap_or_else(|error| panic!("{error}: {:#?}", error.0))
}

fn one(kind: Kind, text: &str) -> (Model, Vec<String>) {
    let mut imported = imported(kind, &[file("in.yml", text)]);
    assert_eq!(imported.models.len(), 1);
    (imported.models.remove(0), lines(&imported.report))
}

fn lines(report: &[Remark]) -> Vec<String> {
    report.iter().map(Remark::line).collect()
}

/// Whether some line holds all of the texts.
fn says(lines: &[String], texts: &[&str]) -> bool {
    lines.iter().any(|line| texts.iter().all(|text| line.contains(text)))
}

fn metric<'m>(model: &'m Model, name: &str) -> &'m Metric {
    model.metric(name).unwrap_or_else(|| panic!("no metric {name} among {:#?}", model.metrics))
}

#[test]
fn the_sample_of_cortex_analyst_comes_over_whole() {
    let Some(sample) = sample("cortex_revenue_timeseries.yaml") else { return };
    let imported = imported(Kind::Cortex, &[sample]);
    assert_eq!(lines(&imported.report), [] as [&str; 0]);
    let model = &imported.models[0];
    assert_eq!((model.datasets.len(), model.relationships.len(), model.verified_queries.len()), (4, 2, 2));
    let revenue = model.dataset("daily_revenue").unwrap();
    assert_eq!(revenue.relation, "cortex_analyst_demo.revenue_timeseries.daily_revenue");
    assert_eq!(revenue.primary_key, ["date", "product_id", "region_id"]);
    assert!(revenue.field("date").unwrap().is_time);
    assert_eq!(revenue.field("daily_forecast_abs_error").unwrap().default_aggregation, "avg");
    assert!(model.verified_queries[0].sql.contains("\"Revenue\".daily_revenue"));
    assert_eq!(model.verified_queries[0].verified_at, "2024-05-03T16:08:18Z");
    let service = &model.dataset("product_dimension").unwrap().fields[0].custom_extensions[0];
    assert!(service.data.contains("product_line_search_service"));
}

#[test]
fn metrics_of_a_semantic_view_keep_their_names_inputs_and_reach() {
    let (model, lines) = one(
        Kind::Cortex,
        r#"
name: sales
tables:
  - name: ORDERS
    base_table: {database: DB, schema: S, table: ORDERS}
    primary_key: {columns: [ORDER_ID]}
    facts:
      - {name: NET, expr: "AMOUNT * 0.8", data_type: "NUMBER(38,2)", access_modifier: private_access}
      - {name: revenue, expr: SUM(AMOUNT), default_aggregation: sum, data_type: number}
    time_dimensions: [{name: AT, expr: CREATED_AT, data_type: TIMESTAMP_NTZ}]
    metrics:
      - {name: total, expr: SUM(NET), non_additive_dimensions: [{table: ORDERS, dimension: AT, sort_direction: descending}]}
  - name: customers
    base_table: {definition: "SELECT * FROM x WHERE y"}
    dimensions: [{name: data, expr: "v:a::text", data_type: VARIANT}]
    metrics: [{name: total, expr: COUNT(*), using_relationships: [r]}]
metrics:
  - {name: share, expr: ORDERS.total / customers.total}
relationships:
  - {name: r, left_table: ORDERS, right_table: customers, relationship_columns: [{left_column: CUSTOMER_ID, right_column: ID}], relationship_type: one_to_many}
module_custom_instructions: {sql_generation: Round to cents., question_categorization: Refuse jokes.}
verified_queries: [{name: q, question: How much?, sql: "SELECT SUM(NET) FROM __ORDERS;", use_as_onboarding_question: true}]
surprise: 1
"#,
    );
    let total = metric(&model, "ORDERS_total");
    assert_eq!(total.expression.text(), "SUM(\"NET\")");
    assert!(total.non_additive_dimension.as_ref().is_some_and(|found| !found.latest));
    assert_eq!(metric(&model, "revenue").expression.text(), "SUM(\"AMOUNT\")");
    let share = metric(&model, "share");
    assert_eq!(share.expression.text(), "\"ORDERS_total\" / customers_total");
    assert_eq!(share.kind, Some(MetricKind::Derived));
    let link = &model.relationships[0];
    assert_eq!((link.from.as_str(), link.to.as_str()), ("customers", "ORDERS"), "the many side comes first");
    assert_eq!(model.custom_instructions, "Round to cents.\n\nRefuse jokes.");
    assert_eq!(model.verified_queries[0].sql, "SELECT SUM(NET) FROM sales.\"ORDERS\" AS __ORDERS");
    assert!(says(&lines, &["in.yml:8", "not carried over", "private_access", "ORDERS.NET"]), "{lines:#?}");
    assert!(says(&lines, &["base table of table `customers`", "query"]), "{lines:#?}");
    assert!(says(&lines, &["in.yml:23: not carried over: `surprise: 1`"]), "{lines:#?}");
}

#[test]
fn the_samples_of_dbt_come_over_with_their_filters_ratios_and_offsets() {
    let names = ["dbt_jaffle/customers.yml", "dbt_jaffle/order_items.yml", "dbt_jaffle/orders.yml"];
    let files: Vec<SourceFile> = names.iter().filter_map(|name| sample(name)).collect();
    if files.len() < names.len() {
        return;
    }
    let imported = imported(Kind::Dbt, &files);
    let (model, lines) = (&imported.models[0], lines(&imported.report));
    assert_eq!(metric(model, "large_order").filter, "order_total_dim >= 20");
    assert_eq!(metric(model, "new_customer").filter, "customers.customer_type = 'new'");
    assert_eq!(metric(model, "revenue").fill_nulls_with.as_deref(), Some("0"));
    assert_eq!(
        metric(model, "median_revenue").expression.text(),
        "PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY product_price)"
    );
    let growth = metric(model, "revenue_growth_mom");
    assert_eq!(growth.metrics[1].offset_window, TimeSpan::from_text("1 month"));
    assert_eq!(metric(model, "food_revenue_pct").numerator.as_ref().unwrap().name, "food_revenue");
    let rolling = metric(model, "orders_last_7_days");
    assert_eq!((rolling.kind, rolling.window), (Some(MetricKind::Cumulative), TimeSpan::from_text("7 days")));
    assert_eq!(rolling.time_dimension, "ordered_at");
    let mut links: Vec<&str> = model.relationships.iter().map(|link| link.name.as_str()).collect();
    links.sort_unstable();
    assert_eq!(links, ["order_item_to_orders", "orders_to_customers"]);
    let kind = model.dataset("customers").unwrap().field("customer_type").unwrap();
    assert!(kind.is_enum && *kind.sample_values == ["new", "returning"]);
    let lost: Vec<&String> = lines.iter().filter(|line| line.contains("not carried over")).collect();
    assert_eq!(lost.len(), 7, "{lost:#?}");
    assert!(says(&lines, &["customers.yml:82", "saved query `new_customer_orders`"]), "{lines:#?}");
    assert!(says(&lines, &["orders.yml:128", "join_to_timespine"]), "{lines:#?}");
}

#[test]
fn dbts_latest_spec_is_read_like_the_legacy_one() {
    let (model, lines) = one(
        Kind::Dbt,
        r#"
models:
  - name: orders
    semantic_model: {enabled: true, name: orders_sm}
    agg_time_dimension: ordered_at
    columns:
      - {name: id, entity: {type: primary, name: order}}
      - {name: user_id, entity: {type: foreign, name: user}}
      - {name: ordered_at, granularity: day, dimension: {type: time}}
      - {name: state, dimension: categorical, data_tests: [not_null]}
    derived_semantics:
      dimensions: [{name: size, type: categorical, expr: "case when amount > 9 then 'l' end"}]
    metrics:
      - {name: revenue, type: simple, agg: sum, expr: amount, fill_nulls_with: 0}
      - {name: p95, type: simple, agg: percentile, expr: amount, percentile: 95.0, percentile_type: discrete}
      - {name: big, type: simple, agg: sum_boolean, expr: amount > 9, filter: "{{ Dimension('user__country') }} = 'NO' AND {{ TimeDimension('metric_time', 'month') }} > '2026-01-01'"}
      - {name: mtd, type: cumulative, grain_to_date: month, input_metric: revenue}
      - {name: up, type: derived, expr: revenue - before, input_metrics: [revenue, {name: revenue, alias: before, offset_to_grain: year, filter: "{{ Dimension('order__state') }} = 'x'"}]}
      - {name: bought, type: conversion, entity: user, base_metric: a, conversion_metric: b}
  - name: users
    semantic_model: true
    columns:
      - {name: user_id, entity: {type: primary, name: user}}
      - {name: country, dimension: {type: categorical}}
metrics:
  - {name: share, type: ratio, numerator: {name: revenue, filter: "{{ Entity('user') }} > 1"}, denominator: revenue}
  - {name: odd, type: simple, agg: count, expr: 1}
"#,
    );
    assert_eq!(metric(&model, "revenue").dataset, "orders_sm");
    assert_eq!(
        metric(&model, "p95").expression.text(),
        "PERCENTILE_DISC(0.95) WITHIN GROUP (ORDER BY amount)"
    );
    let big = metric(&model, "big");
    assert_eq!(big.expression.text(), "SUM(CASE WHEN amount > 9 THEN 1 ELSE 0 END)");
    assert_eq!(big.filter, "users.country = 'NO' AND DATE_TRUNC('month', ordered_at) > '2026-01-01'");
    let month = metric(&model, "mtd");
    assert_eq!((month.grain_to_date, month.expression.text()), (Some(Grain::Month), "SUM(amount)"));
    let up = metric(&model, "up");
    assert_eq!(up.metrics[1].filter, "orders_sm.state = 'x'");
    assert_eq!(up.metrics[1].offset_to_grain, Some(Grain::Year));
    let share = metric(&model, "share");
    assert_eq!(share.numerator.as_ref().unwrap().called(), "revenue_numerator");
    assert_eq!(share.expression.text(), "\"revenue_numerator\" / NULLIF(\"revenue\", 0)");
    assert_eq!(model.relationships[0].name, "orders_sm_to_users");
    assert_eq!(model.dataset("orders_sm").unwrap().field("state").unwrap().nullable, Some(false));
    assert!(says(&lines, &["metric `bought`", "conversion"]), "{lines:#?}");
    assert!(says(&lines, &["metric `odd`", "outside of the model"]), "{lines:#?}");
}

#[test]
fn a_semantic_manifest_is_read_with_its_relations_and_where_filters() {
    let (model, lines) = one(
        Kind::Dbt,
        r#"{"semantic_models": [{"name": "t", "defaults": {"agg_time_dimension": "ds"}, "description": null,
  "node_relation": {"alias": "fct", "schema_name": "s", "database": "db", "relation_name": "\"db\".\"s\".\"fct\""},
  "primary_entity": "row", "entities": [],
  "measures": [{"name": "total", "agg": "sum", "expr": "x", "agg_params": null, "create_metric": false,
                "non_additive_dimension": {"name": "ds", "window_choice": "max", "window_groupings": []}}],
  "dimensions": [{"name": "ds", "type": "time", "expr": null, "is_partition": false, "metadata": null,
                  "type_params": {"time_granularity": "day", "validity_params": null}},
                 {"name": "kind", "type": "categorical", "expr": "upper(kind)", "type_params": null}],
  "config": {"meta": {}}}],
 "metrics": [{"name": "total", "type": "simple", "label": null,
   "type_params": {"measure": {"name": "total", "filter": null, "alias": null, "join_to_timespine": false, "fill_nulls_with": null},
     "numerator": null, "expr": "total", "window": null, "metrics": [], "input_measures": [{"name": "total"}], "cumulative_type_params": null},
   "filter": {"where_filters": [{"where_sql_template": "{{ Dimension('row__kind') }} = 'A'"}, {"where_sql_template": "x > 1"}]}},
  {"name": "trailing", "type": "cumulative",
   "type_params": {"measure": {"name": "total"}, "cumulative_type_params": {"window": {"count": 7, "granularity": "day"}, "period_agg": "first"}}}],
 "project_configuration": {"time_spines": []}, "saved_queries": []}"#,
    );
    assert_eq!(model.datasets[0].relation, "db.s.fct");
    let total = metric(&model, "total");
    assert_eq!(total.filter, "(kind = 'A') AND (x > 1)");
    assert!(total.non_additive_dimension.as_ref().is_some_and(|found| found.latest && found.name == "ds"));
    assert_eq!(metric(&model, "trailing").window, TimeSpan::from_text("7 days"));
    assert!(says(&lines, &["period_agg"]), "{lines:#?}");
}

#[test]
fn the_samples_of_wren_come_over_but_for_what_sees_other_tables() {
    for name in ["wren_mdl_base.json", "wren_mdl_core.json"] {
        let Some(sample) = sample(name) else { return };
        let imported = imported(Kind::Wren, &[sample]);
        let (model, lines) = (&imported.models[0], lines(&imported.report));
        assert_eq!((model.datasets.len(), model.relationships.len()), (3, 2));
        let link = &model.relationships[0];
        assert_eq!((link.from.as_str(), link.from_columns[0].as_str()), ("orders", "o_custkey"));
        assert_eq!(metric(model, "profile_totalcost").expression.text(), "sum(orders.o_totalprice)");
        assert!(says(&lines, &["orders.customer_name"]), "{lines:#?}");
        assert!(says(&lines, &["view `customer_view`"]), "{lines:#?}");
        assert_eq!(says(&lines, &["rowLevelAccessControls"]), name == "wren_mdl_base.json");
        // A filter that did not come over shows nothing rather than everything.
        let filter =
            model.dataset("customer").unwrap().row_filter.as_ref().map(|policy| policy.text.as_str());
        assert_eq!(filter, (name == "wren_mdl_base.json").then_some("FALSE"));
    }
}

#[test]
fn wrens_enums_metrics_and_views_that_answer_questions_come_over() {
    let (model, lines) = one(
        Kind::Wren,
        r#"{"catalog": "c", "models": [
  {"name": "o", "refSql": "select * from main.\"Orders\"", "primaryKey": "k", "columns": [
    {"name": "k", "type": "BIGINT", "notNull": true, "properties": {"displayName": "Key", "owner": "x"}},
    {"name": "state", "type": "State", "isHidden": true}, {"name": "at", "type": "TIMESTAMPTZ"}]},
  {"name": "q", "refSql": "select a from b where c", "columns": [{"name": "a", "type": "odd_type"}]}],
 "enumDefinitions": [{"name": "State", "values": [{"name": "NEW", "value": "new"}, "old"]}],
 "relationships": [{"name": "r", "models": ["o", "q"], "joinType": "MANY_TO_ONE", "condition": "o.k > q.a"}],
 "metrics": [{"name": "m", "baseObject": "o", "dimension": [{"name": "state", "type": "State"}],
              "measure": [{"name": "n", "type": "BIGINT", "expression": "count(*)", "isCalculated": true}]}],
 "cumulativeMetrics": [{"name": "cm", "baseObject": "o", "measure": {"name": "n", "type": "INTEGER", "operator": "sum", "refColumn": "k"},
   "window": {"name": "at", "refColumn": "at", "timeUnit": "DAY", "start": "2026-01-01", "end": "2026-02-01"}}],
 "views": [{"name": "v", "statement": "select count(*) from o", "properties": {"question": "How many?"}}],
 "macros": [{"name": "f", "definition": "(x) => x"}]}"#,
    );
    let orders = model.dataset("o").unwrap();
    assert_eq!(orders.relation, "main.Orders");
    let state = orders.field("state").unwrap();
    assert!(state.is_enum && *state.sample_values == ["new", "old"]);
    assert_eq!(*orders.field("k").unwrap().synonyms, ["Key"]);
    assert_eq!(metric(&model, "m").expression.text(), "count(*)");
    assert_eq!(metric(&model, "cm").expression.text(), "SUM(k)");
    assert_eq!(model.verified_queries[0].sql, "select count(*) from c.o");
    for wanted in [
        &["isHidden"][..],
        &["relationship `r`", "o.k > q.a"],
        &["source of model `q`"],
        &["`type: odd_type`"],
        &["`macros"],
        &["`dimension"],
        &["`start: 2026-01-01`"],
    ] {
        assert!(says(&lines, wanted), "{wanted:?} is not said: {lines:#?}");
    }
}

const CUBE: &str = r#"
cubes:
  - name: base
    sql_table: "public.base"
    dimensions:
      - {name: id, sql: "{CUBE}.id", type: number, primary_key: true}
      - {name: created, sql: created_at, type: time}
    measures:
      - {name: count, type: count}
  - name: orders
    extends: base
    sql_table: public.orders
    title: Sales
    joins:
      - {name: users, relationship: many_to_one, sql: "{CUBE}.user_id = {users.id}"}
      - {name: ghosts, relationship: many_to_one, sql: "{CUBE}.x = {ghosts.x}"}
    segments:
      - {name: done, sql: "{CUBE}.state = 'done'"}
    dimensions:
      - {name: state, sql: "upper({CUBE}.state)", type: string}
      - {name: full, sql: "concat({state}, ' ', {CUBE.id})", type: string}
      - {name: loop_a, sql: "{loop_b}", type: string}
      - {name: loop_b, sql: "{loop_a}", type: string}
      - {name: city, sql: "{users.city}", type: string}
      - {name: place, type: geo, latitude: {sql: "{CUBE}.lat"}, longitude: {sql: "{CUBE}.lng"}}
      - {name: size, type: string, case: {when: [{sql: "{CUBE}.n > 9", label: it's big}], else: {label: small}}}
    measures:
      - {name: revenue, sql: "{CUBE}.amount", type: sum, filters: [{sql: "{state} = 'DONE'"}, {sql: "{CUBE}.amount > 0"}], meta: {a: 1}}
      - {name: average, sql: "1.0 * ${revenue} / NULLIF({count}, 0)", type: number}
      - {name: weekly, sql: amount, type: sum, rolling_window: {trailing: 7 day, offset: end}}
      - {name: mtd, sql: amount, type: sum, rolling_window: {type: to_date, granularity: month}}
      - {name: ahead, sql: amount, type: sum, rolling_window: {leading: 1 day}}
      - {name: last_year, sql: "{revenue}", type: number, time_shift: [{interval: 1 year, type: prior}]}
      - {name: mixed, sql: "{revenue} / SUM({CUBE}.n)", type: number}
      - {name: ratio, sql: "SUM({CUBE}.amount) / COUNT(*)", type: number, public: false}
      - {name: dynamic, sql: "{FILTER_PARAMS.orders.created.filter('x')}", type: sum}
      - {name: jinja, sql: "{{ x }}", type: sum}
    pre_aggregations: [{name: p}]
    access_policy: [{role: "*"}]
  - name: users
    sql: SELECT * FROM public.users
    dimensions:
      - {name: id, sql: id, type: number, primary_key: true}
      - {name: city, sql: city, type: string}
    measures:
      - {name: count, type: count}
views:
  - {name: v, cubes: [{join_path: orders, includes: "*"}]}
"#;

#[test]
fn cubes_come_over_with_their_references_resolved() {
    let (model, lines) = one(Kind::Cube, CUBE);
    let orders = model.dataset("orders").unwrap();
    assert_eq!(orders.relation, "public.orders");
    assert_eq!(model.dataset("users").unwrap().relation, "public.users");
    assert_eq!(
        (orders.primary_key.as_slice(), orders.synonyms.as_slice()),
        (&["id".to_owned()][..], &["Sales".to_owned()][..])
    );
    let text = |name: &str| orders.field(name).unwrap().expression.text();
    assert_eq!(text("full"), "concat((upper(state)), ' ', id)");
    assert_eq!(text("size"), "CASE WHEN n > 9 THEN 'it''s big' ELSE 'small' END");
    assert_eq!(text("place_latitude"), "lat");
    // `state` is another thing as a column than as a dimension.
    assert_eq!(orders.filters[0].expression.text(), "state_column = 'done'");
    let revenue = metric(&model, "revenue");
    assert_eq!(revenue.expression.text(), "SUM(amount)");
    assert_eq!(revenue.filter, "(state = 'DONE') AND (amount > 0)");
    let average = metric(&model, "average");
    assert_eq!(average.expression.text(), "1.0 * revenue / NULLIF(orders_count, 0)");
    assert_eq!(average.kind, Some(MetricKind::Derived));
    assert_eq!(metric(&model, "weekly").window, TimeSpan::from_text("7 days"));
    assert_eq!(metric(&model, "mtd").grain_to_date, Some(Grain::Month));
    assert_eq!(metric(&model, "last_year").metrics[0].offset_window, TimeSpan::from_text("1 year"));
    assert_eq!(metric(&model, "ratio").expression.text(), "SUM(amount) / COUNT(*)");
    let link = &model.relationships[0];
    assert_eq!((link.name.as_str(), link.from_columns[0].as_str()), ("orders_to_users", "user_id"));
    for wanted in [
        &["join of `orders` to `ghosts`", "no cube"][..],
        &["orders.loop_a", "refers to itself"],
        &["orders.city", "their own table"],
        &["orders.ahead", "looks ahead"],
        &["orders.mixed", "mixes"],
        &["orders.dynamic", "FILTER_PARAMS"],
        &["orders.jinja", "Jinja"],
        &["`public: false`", "orders.ratio"],
        &["pre_aggregations"],
        &["access_policy"],
        &["view `v`"],
    ] {
        assert!(says(&lines, wanted), "{wanted:?} is not said: {lines:#?}");
    }
    assert!(lines.iter().all(|line| line.starts_with("in.yml:")), "{lines:#?}");
}

#[test]
fn a_cube_file_that_jinja_has_to_make_is_read_as_far_as_it_can_be() {
    let text = "{% set x = 1 %}\ncubes:\n  - name: a\n    sql_table: {{ env }}_a\n    dimensions:\n      - {name: id, sql: id, type: number}\n";
    let (model, lines) = one(Kind::Cube, text);
    assert_eq!(model.datasets[0].fields.len(), 1);
    assert!(says(&lines, &["in.yml:1: not carried over", "set x = 1"]), "{lines:#?}");
}

#[test]
fn the_sample_of_ossie_comes_over_and_an_unknown_key_stops_it() {
    let Some(sample) = sample("ossie_tpcds_wrapper.yaml") else { return };
    let text = sample.text.clone();
    let imported = imported(Kind::Ossie, &[sample]);
    assert!(imported.report.iter().all(|remark| !remark.lost), "{:#?}", lines(&imported.report));
    let model = &imported.models[0];
    assert_eq!((model.datasets.len(), model.metrics.len(), model.custom_extensions.len()), (5, 5, 2));
    let broken = file("x.yaml", &text.replacen("primary_key:", "primry_key:", 1));
    let error = import(Kind::Ossie, &[broken], &ImportOptions::default()).unwrap_err();
    assert!(error.0[0].message.contains("primry_key") && error.0[0].line > 1, "{error:?}");
}

#[test]
fn files_of_another_kind_and_broken_ones_are_refused_with_what_was_wanted() {
    for kind in [Kind::Cortex, Kind::Dbt, Kind::Wren, Kind::Cube] {
        let error = import(kind, &[file("a.yml", "x: 1\n")], &ImportOptions::default()).unwrap_err();
        assert!(error.0[0].message.contains("nothing to import"), "{error:?}");
        let error = import(kind, &[file("a.yml", "a: [1\nb: 2\n")], &ImportOptions::default()).unwrap_err();
        assert_eq!((error.0[0].line, error.0[0].file.as_str()), (2, "a.yml"), "{error:?}");
    }
}

#[test]
fn sources_take_the_warehouse_and_the_schema_that_they_are_told() {
    let options = ImportOptions {
        warehouse: Some("local".to_owned()),
        schema: Some("main".to_owned()),
        ..ImportOptions::default()
    };
    assert_eq!(relation("db", "s", "t", &options), "local.s.t");
    assert_eq!(relation("", "", "t", &options), "local.main.t");
    let none = ImportOptions::default();
    assert_eq!(relation("", "", "t", &none), "t");
    assert_eq!(relation("", "s", "t", &none), "s.t");
    assert_eq!(relation_parts("`p.q`.d.t"), Some(["p.q".to_owned(), "d".to_owned(), "t".to_owned()]));
    for text in ["a.b.c.d", "a..b", "select 1", "", "f()"] {
        assert_eq!(relation_parts(text), None, "{text}");
    }
}

/// What is written of every import must load, whatever was cut out of the input.
fn assert_survives(kind: Kind, text: &str) {
    // An error is fine, and so is a report; a panic or a model that does not load is not.
    if let Err(error) = import(kind, &[file("in", text)], &ImportOptions::default()) {
        let broken = error.0.iter().find(|finding| finding.message.contains("does not load"));
        assert!(broken.is_none(), "{broken:#?}\n{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_input_with_lines_missing_or_doubled_never_makes_a_model_that_does_not_load(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..6)
    ) {
        let mut inputs = vec![(Kind::Cube, CUBE.to_owned())];
        for (kind, name) in [
            (Kind::Cortex, "cortex_revenue_timeseries.yaml"),
            (Kind::Dbt, "dbt_jaffle/order_items.yml"),
            (Kind::Dbt, "dbt_jaffle/orders.yml"),
            (Kind::Wren, "wren_mdl_base.json"),
        ] {
            inputs.extend(sample(name).map(|file| (kind, file.text)));
        }
        for (kind, text) in inputs {
            let mut lines: Vec<&str> = text.lines().collect();
            for (index, double) in &edits {
                let at = index.index(lines.len());
                if *double {
                    lines.insert(at, lines[at]);
                } else {
                    lines.remove(at);
                }
            }
            assert_survives(kind, &lines.join("\n"));
        }
    }
}

#[test]
fn a_remark_is_one_line_whatever_it_quotes() {
    let remark = Remark {
        lost: true,
        file: "a.yml".into(),
        line: 3,
        column: 1,
        what: "filter `a\nb`".to_owned(),
        why: "why".to_owned(),
        remedy: "do".to_owned(),
    };
    assert_eq!(remark.line(), "a.yml:3: not carried over: filter `a b`: why; do");
}
