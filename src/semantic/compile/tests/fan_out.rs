//! Random stars with random rows: what is compiled gives what counting by hand gives.
//!
//! The tables: facts `f1` and `f2` and bridge `b` point at dimension `d1`, the bridge at `d2` as well. Keys may be NULL or
//! lead nowhere, and dimension values repeat.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const STAR: &str = r#"
name: star
datasets:
  - {name: f1, source: f1, primary_key: [id], fields: [{name: id}, {name: k}, {name: x}, {name: g}]}
  - {name: f2, source: f2, primary_key: [id], fields: [{name: id}, {name: k}, {name: x}, {name: g}]}
  - {name: d1, source: d1, primary_key: [id], fields: [{name: id}, {name: x}, {name: g}]}
  - {name: d2, source: d2, primary_key: [id], fields: [{name: id}, {name: x}, {name: g}]}
  - {name: b, source: b, role: bridge, primary_key: [id], fields: [{name: id}, {name: k}, {name: l}]}
relationships:
  - {name: f1_d1, from: f1, to: d1, from_columns: [k], to_columns: [id]}
  - {name: f2_d1, from: f2, to: d1, from_columns: [k], to_columns: [id]}
  - {name: b_d1, from: b, to: d1, from_columns: [k], to_columns: [id]}
  - {name: b_d2, from: b, to: d2, from_columns: [l], to_columns: [id]}
metrics:
  - {name: f1_sum, dataset: f1, expression: SUM(x)}
  - {name: f1_count, dataset: f1, expression: COUNT(*)}
  - {name: f2_sum, dataset: f2, expression: SUM(x)}
  - {name: f2_max, dataset: f2, expression: MAX(x)}
  - {name: d1_sum, dataset: d1, expression: SUM(x)}
  - {name: d1_count, dataset: d1, expression: COUNT(id)}
  - {name: d2_sum, dataset: d2, expression: SUM(x)}
  - {name: d2_distinct, dataset: d2, expression: COUNT(DISTINCT x)}
"#;
const METRICS: &[&str] =
    &["f1_sum", "f1_count", "f2_sum", "f2_max", "d1_sum", "d1_count", "d2_sum", "d2_distinct"];
/// Columns after `id`, by table.
const COLUMNS: &[(&str, &[&str])] = &[
    ("f1", &["k", "x", "g"]),
    ("f2", &["k", "x", "g"]),
    ("d1", &["x", "g"]),
    ("d2", &["x", "g"]),
    ("b", &["k", "l"]),
];
/// `(from, column, to)`: each leads to the other table's `id`.
const LINKS: &[(&str, &str, &str)] =
    &[("f1", "k", "d1"), ("f2", "k", "d1"), ("b", "k", "d1"), ("b", "l", "d2")];

type Row = BTreeMap<&'static str, Option<i64>>;
type Data = BTreeMap<&'static str, Vec<Row>>;

fn data() -> impl Strategy<Value = Data> {
    let cell = || prop::option::weighted(0.85, 0i64..5);
    let tables = COLUMNS.iter().map(|(table, columns)| {
        let (table, columns) = (*table, *columns);
        prop::collection::vec(prop::collection::vec(cell(), columns.len()), 0..7).prop_map(move |rows| {
            let rows = rows.into_iter().enumerate().map(|(id, cells)| {
                let mut row: Row = columns.iter().copied().zip(cells).collect();
                row.insert("id", Some(id as i64));
                row
            });
            (table, rows.collect::<Vec<Row>>())
        })
    });
    tables.collect::<Vec<_>>().prop_map(|tables| tables.into_iter().collect())
}

fn setup(data: &Data) -> Vec<String> {
    let value = |cell: &Option<i64>| cell.map_or("NULL".to_owned(), |cell| cell.to_string());
    COLUMNS
        .iter()
        .map(|(table, columns)| {
            let all: Vec<&str> = std::iter::once("id").chain(columns.iter().copied()).collect();
            let types: Vec<String> =
                all.iter().map(|name| format!("CAST({name} AS BIGINT) AS {name}")).collect();
            // A row of NULLs gives an empty table its columns.
            let mut rows = vec![format!("({})", vec!["NULL"; all.len()].join(", "))];
            rows.extend(data[table].iter().map(|row| {
                format!("({})", all.iter().map(|name| value(&row[name])).collect::<Vec<_>>().join(", "))
            }));
            format!(
                "CREATE TABLE {table} AS SELECT {} FROM (VALUES {}) AS t ({}) WHERE id IS NOT NULL",
                types.join(", "),
                rows.join(", "),
                all.join(", ")
            )
        })
        .collect()
}

/// Tables on the way between two; the links form a tree.
fn way(from: &'static str, to: &'static str) -> Vec<&'static str> {
    fn walk(at: &'static str, to: &'static str, path: &mut Vec<&'static str>) -> bool {
        path.push(at);
        if at == to {
            return true;
        }
        let next = LINKS.iter().filter_map(|(a, _, b)| {
            if *a == at {
                Some(*b)
            } else if *b == at {
                Some(*a)
            } else {
                None
            }
        });
        for table in next.collect::<Vec<_>>() {
            if !path.contains(&table) && walk(table, to, path) {
                return true;
            }
        }
        path.pop();
        false
    }
    let mut path = Vec::new();
    assert!(walk(from, to, &mut path));
    path
}

type Joined<'d> = BTreeMap<&'static str, Option<&'d Row>>;

/// The tables of `needed` next to `at` that are not in `have`, each with the link's column and its direction.
fn beside(
    at: &str,
    needed: &BTreeSet<&'static str>,
    have: &BTreeSet<&'static str>,
) -> Vec<(&'static str, &'static str, bool)> {
    let next = LINKS.iter().filter_map(|(a, column, b)| {
        if *a == at {
            Some((*b, *column, true))
        } else if *b == at {
            Some((*a, *column, false))
        } else {
            None
        }
    });
    next.filter(|(table, ..)| needed.contains(table) && !have.contains(table)).collect()
}

/// The rows of `far` that belong to a row beside it.
fn partners<'d>(
    data: &'d Data,
    near: Option<&Row>,
    (far, column, forward): (&str, &str, bool),
) -> Vec<&'d Row> {
    let Some(near) = near else { return Vec::new() };
    let matches = |other: &&Row| {
        let (ours, theirs) = if forward { (near[column], other["id"]) } else { (near["id"], other[column]) };
        ours.is_some() && ours == theirs
    };
    data[far].iter().filter(matches).collect()
}

/// All that one row of `home` is associated with in the tables of `needed`, as nested loops. What lies behind a table that
/// repeats rows and of which nothing is `read` counts as a whole or not at all.
fn joined<'d>(
    data: &'d Data,
    home: &'static str,
    row: &'d Row,
    needed: &BTreeSet<&'static str>,
    read: &BTreeSet<&'static str>,
) -> Vec<Joined<'d>> {
    let mut all: Vec<Joined<'d>> = vec![BTreeMap::from([(home, Some(row))])];
    let mut have = BTreeSet::from([home]);
    while let Some((near, hop)) =
        have.iter().find_map(|near| Some((*near, *beside(near, needed, &have).first()?)))
    {
        let mut chain = vec![(near, hop)];
        have.insert(hop.0);
        while !hop.2 && !read.contains(chain[chain.len() - 1].1.0) {
            let at = chain[chain.len() - 1].1.0;
            let next = beside(at, needed, &have);
            let [only] = next.as_slice() else { break };
            have.insert(only.0);
            chain.push((at, *only));
        }
        let mut more = Vec::new();
        for known in all {
            let mut whole = vec![known.clone()];
            for (near, hop) in &chain {
                let extend = |known: Joined<'d>| {
                    let found = partners(data, known[near], *hop);
                    found.into_iter().map(move |row| {
                        let mut known = known.clone();
                        known.insert(hop.0, Some(row));
                        known
                    })
                };
                whole = whole.into_iter().flat_map(extend).collect();
            }
            if whole.is_empty() {
                let mut known = known;
                known.extend(chain.iter().map(|(_, hop)| (hop.0, None)));
                whole.push(known);
            }
            more.extend(whole);
        }
        all = more;
    }
    all
}

type Field = (&'static str, &'static str);

/// A metric by hand: each row of its table once in each group that it belongs to.
fn by_hand(
    data: &Data,
    metric: &str,
    key: Option<Field>,
    filter: Option<(Field, i64)>,
) -> BTreeMap<Option<i64>, Option<i64>> {
    let (home, aggregate) = metric.split_once('_').unwrap();
    let home = COLUMNS.iter().find(|(table, _)| *table == home).unwrap().0;
    let mut needed = BTreeSet::new();
    let mut read = BTreeSet::new();
    for (table, _) in key.into_iter().chain(filter.map(|(field, _)| field)) {
        needed.extend(way(home, table));
        read.insert(table);
    }
    let mut groups: BTreeMap<Option<i64>, Vec<&Row>> = BTreeMap::new();
    for row in &data[home] {
        let mut mine = BTreeSet::new();
        for joined in joined(data, home, row, &needed, &read) {
            let value = |(table, column): Field| joined[table].and_then(|row| row[column]);
            if filter.is_none_or(|(field, wanted)| value(field) == Some(wanted)) {
                mine.insert(key.and_then(value));
            }
        }
        for group in mine {
            groups.entry(group).or_default().push(row);
        }
    }
    if key.is_none() {
        groups.entry(None).or_default();
    }
    let aggregate = |rows: Vec<&Row>| -> Option<i64> {
        let values: Vec<i64> = rows.iter().filter_map(|row| row.get("x").copied().flatten()).collect();
        match aggregate {
            "count" => Some(rows.len() as i64),
            "distinct" => Some(values.iter().collect::<BTreeSet<_>>().len() as i64),
            "max" => values.into_iter().max(),
            _ => values.into_iter().reduce(|a, b| a + b),
        }
    };
    groups.into_iter().map(|(group, rows)| (group, aggregate(rows))).collect()
}

fn fields() -> impl Strategy<Value = Field> {
    prop::sample::select(vec![("f1", "g"), ("f2", "g"), ("d1", "g"), ("d2", "g")])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_join_inflates_a_metric_and_none_loses_a_row(
        data in data(),
        metrics in prop::sample::subsequence(METRICS, 1..=4),
        key in prop::option::weighted(0.8, fields()),
        filter in prop::option::weighted(0.4, (fields(), 0i64..5)),
    ) {
        let named = |(table, column): Field| format!("{table}.{column}");
        let query = request(json!({
            "metrics": metrics,
            "dimensions": key.map(named).into_iter().collect::<Vec<_>>(),
            "filters": filter.map(|(field, value)| format!("{} = {value}", named(field))).into_iter().collect::<Vec<_>>(),
        }));
        let compiled = Compiler::new(&models(STAR)).compile_over(&query, Relations::Physical).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(run(&setup(&data), &compiled.sql));

        let by_metric: Vec<_> = metrics.iter().map(|metric| (metric, by_hand(&data, metric, key, filter))).collect();
        let groups: BTreeSet<Option<i64>> = by_metric.iter().flat_map(|(_, groups)| groups.keys().copied()).collect();
        let text = |value: Option<i64>| value.map(|value| value.to_string());
        let mut expected: Vec<Vec<Option<String>>> = groups.into_iter().map(|group| {
            let cells = by_metric.iter().map(|(metric, groups)| {
                let counts = metric.ends_with("count") || metric.ends_with("distinct");
                text(groups.get(&group).copied().unwrap_or(counts.then_some(0)))
            });
            key.map(|_| text(group)).into_iter().chain(cells).collect()
        }).collect();
        expected.sort();
        prop_assert_eq!(found, expected, "{}", compiled.sql);
    }
}
