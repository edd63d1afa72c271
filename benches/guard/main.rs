//! How long the guard takes: `cargo bench --bench guard`.
//!
//! A query of 50 lines over 10 relations, in each dialect, among 2,000 published relations. Bar: 0.3 ms in release (p50).

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::sql::sqlparser::ast::Expr;
use steward::guard::{Column, Dialect, Judge, Namespace, Relation, SharedRelations, Verdict, approve};
use steward::semantic::parse_expression;

const ROUNDS: usize = 2_000;
/// Relations that the query does not name.
const OTHERS: usize = 1_990;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let sql = query();
    assert_eq!(sql.lines().count(), 50);
    let namespace = namespace();
    println!("| dialect | p50 | p99 | bytes in | bytes out |\n|---|---|---|---|---|");
    for dialect in [Dialect::DataFusion, Dialect::PostgreSql, Dialect::Snowflake] {
        let approved = approve(&sql, &namespace, dialect, 10_000).expect("the query is honest");
        assert_eq!(approved.relations().len(), 10);
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let started = Instant::now();
                std::hint::black_box(approve(&sql, &namespace, dialect, 10_000))
                    .expect("the query is honest");
                started.elapsed()
            })
            .collect();
        times.sort();
        let (p50, p99) = (times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
        println!("| {dialect:?} | {p50:.1?} | {p99:.1?} | {} | {} |", sql.len(), approved.sql().len());
    }
}

/// Everybody reads everything, but some rows and values. Policies are kept parsed, as the engine keeps them.
struct Everybody {
    row_filter: Expr,
    mask: Arc<Expr>,
}

impl Judge for Everybody {
    fn may_know(&self, _: usize, _: &Relation) -> bool {
        true
    }

    fn judge(&self, position: usize, _: &Relation) -> Verdict {
        match position % 2 {
            0 => Verdict::Open { row_filter: None, columns: Vec::new() },
            _ => Verdict::Open {
                row_filter: Some(Box::new(self.row_filter.clone())),
                columns: vec![(3, self.mask.clone())],
            },
        }
    }
}

fn namespace() -> Namespace {
    let relation = |at: usize| Relation {
        schema: "shop".to_owned(),
        name: format!("t{at}"),
        source: vec!["public".to_owned(), format!("physical_t{at}")],
        columns: (0..15).map(|column| Column { name: format!("c{column}"), expression: None }).collect(),
        row_filter: None,
        missing_scope: None,
    };
    let shared = SharedRelations::new((0..10 + OTHERS).map(relation).collect());
    let parsed = |text: &str| parse_expression(text).expect("it is an expression");
    let row_filter = parsed("region IN ('EU', 'US') AND is_test = FALSE");
    Namespace::over(Arc::new(shared), Arc::new(Everybody { row_filter, mask: Arc::new(parsed("NULL")) }))
}

/// Five CTEs of eight lines over two relations each, and ten lines that join them.
fn query() -> String {
    let mut lines = Vec::new();
    for at in 0..5 {
        let (left, right) = (2 * at, 2 * at + 1);
        lines.push(format!("{} part{at} AS (", if at == 0 { "WITH" } else { "" }));
        lines.push(format!("  SELECT a.c0, a.c1, date_trunc('month', b.c2) AS month{at},"));
        lines.push("    sum(CASE WHEN b.c4 > 100 THEN b.c5 * (1 - b.c6) ELSE 0 END) AS revenue,".to_owned());
        lines.push("    count(DISTINCT b.c7) AS customers, avg(b.c8) AS mean".to_owned());
        lines.push(format!("  FROM shop.t{left} a JOIN t{right} b ON b.c0 = a.c0 AND b.c9 <> 'it''s void'"));
        lines.push(
            "  WHERE a.c10 IN ('x', 'y', 'z') AND b.c11 BETWEEN 10 AND 20 AND a.c12 IS NOT NULL".to_owned(),
        );
        lines.push(format!("  GROUP BY a.c0, a.c1, date_trunc('month', b.c2) HAVING count(*) > {at}"));
        lines.push(if at == 4 { ")".to_owned() } else { "),".to_owned() });
    }
    lines.push("SELECT part0.c0, part0.c1, part0.month0,".to_owned());
    lines.push("  part0.revenue + part1.revenue + coalesce(part2.revenue, 0) AS total,".to_owned());
    lines.push("  rank() OVER (PARTITION BY part0.month0 ORDER BY part0.revenue DESC) AS place,".to_owned());
    lines.push("  part3.customers, part4.mean".to_owned());
    lines.push("FROM part0 JOIN part1 ON part1.c0 = part0.c0".to_owned());
    lines.push("  LEFT JOIN part2 ON part2.c0 = part0.c0 AND part2.month2 = part0.month0".to_owned());
    lines.push("  LEFT JOIN part3 ON part3.c0 = part0.c0 AND part3.month3 = part0.month0".to_owned());
    lines.push("  LEFT JOIN part4 ON part4.c0 = part0.c0 AND part4.month4 = part0.month0".to_owned());
    lines.push("WHERE part0.revenue > (SELECT avg(revenue) FROM part0)".to_owned());
    lines.push("ORDER BY total DESC, part0.c0 LIMIT 100".to_owned());
    lines.join("\n")
}
