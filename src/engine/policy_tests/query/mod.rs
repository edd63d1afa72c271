//! Random queries over what a caller may see; now and then one that names what it may not.
//!
//! A query has one right answer: rows are cut only below a total order, windows that depend on order have one, sums are
//! of integers. An expression may fail on values of hidden rows, and never on a permitted one. Names meet by themselves in
//! USING, NATURAL and `*`, where a hidden column must not take part.

mod conditions;
mod from;
mod results;
mod values;

use super::choices::Choices;
use super::world::{Kind, Seen};

pub struct Query {
    pub sql: String,
    /// Whether the order of the rows is told.
    pub is_ordered: bool,
    /// Whether no other system can be asked.
    pub is_ours_alone: bool,
}

#[derive(Clone)]
struct Column {
    name: String,
    kind: Kind,
    /// Numbers that no permitted row holds, hidden ones first; empty for what is computed.
    absent: Vec<i64>,
}

/// Something in FROM.
#[derive(Clone)]
struct Source {
    /// Empty: its columns are named alone, as those of USING can be.
    alias: String,
    columns: Vec<Column>,
    /// At most, about.
    rows: usize,
}

/// A whole query.
struct Nested {
    sql: String,
    /// Of its columns `o0`, `o1` …
    kinds: Vec<Kind>,
    is_ordered: bool,
    rows: usize,
}

pub struct Grammar<'g, 'c> {
    choices: &'g mut Choices<'c>,
    tables: &'g [Seen],
    hidden_tables: &'g [String],
    ctes: Vec<Source>,
    aliases: usize,
    /// Whether this SELECT has an aggregate with an order: the engine plans two only if it cannot see that they clash.
    has_ordered: bool,
    /// Whether it has a window that tells rows apart.
    has_numbered: bool,
}

impl<'g, 'c> Grammar<'g, 'c> {
    pub fn new(choices: &'g mut Choices<'c>, tables: &'g [Seen], hidden_tables: &'g [String]) -> Self {
        Self {
            choices,
            tables,
            hidden_tables,
            ctes: Vec::new(),
            aliases: 0,
            has_ordered: false,
            has_numbered: false,
        }
    }

    pub fn query(mut self) -> Query {
        let Nested { mut sql, mut is_ordered, .. } = self.nested(None, 2);
        match self.choices.pick(12) {
            10 => {
                if let Some(all) = self.with_star(&sql) {
                    (sql, is_ordered) = (all, false);
                }
            }
            11 => sql = self.with_something_denied(&sql),
            _ => {}
        }
        Query { sql, is_ordered, is_ours_alone: false }
    }

    /// All columns of two tables, by `*`.
    fn with_star(&mut self, sql: &str) -> Option<String> {
        if self.tables.is_empty() {
            return None;
        }
        let (left, right) = (self.choices.of(self.tables), self.choices.of(self.tables));
        let (x, y) = (base(left, "x".to_owned()), base(right, "y".to_owned()));
        let (t, u) = (format!("m.{} AS x", left.name), format!("m.{} AS y", right.name));
        let join = *self.choices.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        let mut forms = vec![
            format!("SELECT * FROM {t}"),
            format!("SELECT q.*, x.* FROM ({sql}) q CROSS JOIN {t}"),
            format!("SELECT * FROM {t} {join} {u} ON x.c0 = y.c0"),
            format!("SELECT * FROM {t} {join} {u} USING (c0)"),
            format!("SELECT y.*, c0 FROM {t} {join} {u} USING (c0)"),
            format!("SELECT * FROM {t} LEFT ANTI JOIN {u} ON x.c0 = y.c0"),
            format!("SELECT * FROM {t} CROSS JOIN LATERAL (SELECT * FROM {u} WHERE y.c0 = x.c0) AS l"),
        ];
        if shared(&x, &y).is_some() {
            forms.push(format!("SELECT * FROM {t} NATURAL {join} {u}"));
            forms.push(format!("SELECT COUNT(*) AS n FROM {t} NATURAL {join} {u}"));
        }
        Some(self.choices.of(&forms).clone())
    }

    /// Names in the query what the caller may not see.
    fn with_something_denied(&mut self, sql: &str) -> String {
        let mut forms = vec![
            format!("SELECT q.secret FROM ({sql}) q"),
            format!("SELECT 1 FROM ({sql}) q WHERE EXISTS (SELECT 1 FROM physical.x.t0)"),
        ];
        for table in self.hidden_tables {
            forms.push(format!("SELECT 1 FROM ({sql}) q, m.{table}"));
            forms.push(format!("SELECT (SELECT COUNT(*) FROM {table}) FROM ({sql}) q"));
        }
        for table in self.tables {
            for column in &table.denied {
                forms.push(format!("SELECT {column} FROM m.{}", table.name));
                forms.push(format!("SELECT 1 FROM m.{} AS x WHERE x.{column} IS NULL", table.name));
                forms.push(format!(
                    "SELECT COUNT(*) FROM ({sql}) q GROUP BY (SELECT MAX({column}) FROM m.{})",
                    table.name
                ));
            }
        }
        self.choices.of(&forms).clone()
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("a{}", self.aliases)
    }

    fn nested(&mut self, wanted: Option<&[Kind]>, depth: usize) -> Nested {
        let before = self.ctes.len();
        let with = if depth > 1 && self.choices.once_in(3) { self.with(depth) } else { String::new() };
        let (mut sql, kinds, mut rows) = self.core(wanted, depth);
        for _ in 0..self.choices.pick(5).saturating_sub(2) {
            let operator = *self.choices.of(&["UNION ALL", "UNION", "EXCEPT", "INTERSECT"]);
            let (other, _, more) = self.core(Some(&kinds), depth);
            rows += more;
            sql = format!("({sql}) {operator} ({other})");
        }
        let is_ordered = self.choices.once_in(2);
        if is_ordered {
            let mut positions: Vec<String> =
                (1..=kinds.len()).map(|at| format!("{at}{}", self.direction())).collect();
            if self.choices.once_in(10) {
                sql = format!("SELECT DISTINCT ON (o0) * FROM ({sql}) AS {}", self.alias());
            } else {
                let first = self.choices.pick(positions.len());
                positions.rotate_left(first);
            }
            sql.push_str(&format!(" ORDER BY {}", positions.join(", ")));
            if self.choices.once_in(2) {
                sql.push_str(&format!(" LIMIT {}", 1 + self.choices.pick(5)));
                if self.choices.once_in(3) {
                    sql.push_str(&format!(" OFFSET {}", self.choices.pick(3)));
                }
            }
        }
        self.ctes.truncate(before);
        Nested { sql: with + &sql, kinds, is_ordered, rows }
    }

    /// `WITH …`, whose tables are known from then on.
    fn with(&mut self, depth: usize) -> String {
        let before = self.ctes.len();
        let mut texts = Vec::new();
        for _ in 0..1 + self.choices.pick(2) {
            let Nested { mut sql, kinds, mut rows, .. } = self.nested(None, depth - 1);
            // Now and then it hides a table of the same name.
            let mut name = if self.choices.once_in(3) { "t0".to_owned() } else { self.alias() };
            if self.ctes[before..].iter().any(|cte| cte.alias == name) {
                name = self.alias();
            }
            if kinds == [Kind::Int] && self.choices.once_in(2) {
                let union = *self.choices.of(&["UNION", "UNION ALL"]);
                sql = format!("({sql}) {union} SELECT o0 + 1 FROM {name} WHERE o0 BETWEEN 0 AND 3");
                rows *= 5;
                texts.push(format!("RECURSIVE {name}(o0) AS ({sql})"));
            } else {
                texts.push(format!("{name} AS ({sql})"));
            }
            self.ctes.push(Source { alias: name, columns: outputs(&kinds), rows });
        }
        // RECURSIVE is said once, of all.
        let recursive =
            if texts.iter().any(|text| text.starts_with("RECURSIVE")) { "RECURSIVE " } else { "" };
        format!("WITH {recursive}{} ", texts.join(", ").replace("RECURSIVE ", ""))
    }

    /// One SELECT: its text, the kinds of its columns, and about how many rows it has at most.
    fn core(&mut self, wanted: Option<&[Kind]>, depth: usize) -> (String, Vec<Kind>, usize) {
        let kinds: Vec<Kind> = match wanted {
            Some(kinds) => kinds.to_vec(),
            None => (0..1 + self.choices.pick(3)).map(|_| self.kind()).collect(),
        };
        let (from, scope) = self.from(depth);
        let mut sql = format!(" FROM {from}");
        if self.choices.once_in(2) {
            sql.push_str(&format!(" WHERE {}", self.condition(&scope, depth, 2)));
        }
        (self.has_ordered, self.has_numbered) = (false, false);
        let items: Vec<String> = match self.choices.pick(3) {
            0 | 1 => {
                let items = kinds.iter().map(|kind| self.item(*kind, &scope, depth)).collect();
                if !self.has_numbered && self.choices.once_in(10) {
                    sql.push_str(&format!(" QUALIFY {} <= 1", self.numbered(Kind::Int, &scope)));
                }
                items
            }
            _ => self.grouped(&kinds, &scope, &mut sql),
        };
        let items: Vec<String> =
            items.iter().enumerate().map(|(at, item)| format!("{item} AS o{at}")).collect();
        let distinct = if self.choices.once_in(6) { "DISTINCT " } else { "" };
        (format!("SELECT {distinct}{}{sql}", items.join(", ")), kinds, pairs(&scope))
    }

    /// The columns of a SELECT with aggregates; GROUP BY and HAVING are added to `sql`.
    fn grouped(&mut self, kinds: &[Kind], scope: &[Source], sql: &mut String) -> Vec<String> {
        let keys: Vec<(String, Kind)> =
            (0..self.choices.pick(3)).filter_map(|_| self.any_column(scope)).collect();
        let mut items = Vec::new();
        for kind in kinds {
            items.push(match kind {
                Kind::Int if self.choices.once_in(8) => self.over_groups(&keys, scope),
                kind => self.aggregate(*kind, &keys, scope),
            });
        }
        if !keys.is_empty() {
            let groups = self.groups(&keys);
            sql.push_str(&format!(" GROUP BY {groups}"));
            if groups.ends_with(')') {
                // Where nothing of it is read, DataFusion loses the total of no rows.
                sql.push_str(" HAVING COUNT(*) >= 0");
            } else if self.choices.once_in(3) {
                sql.push_str(&format!(" HAVING {} >= 1", self.aggregate(Kind::Int, &[], scope)));
            }
        }
        items
    }
}

fn named(source: &Source, column: &Column) -> String {
    if source.alias.is_empty() { column.name.clone() } else { format!("{}.{}", source.alias, column.name) }
}

/// The columns that two things have in common by name; nothing where two of a name are of different kinds. Which values
/// they lack is not told: a name alone may be another's in a subquery.
fn shared(left: &Source, right: &Source) -> Option<Vec<Column>> {
    let mut shared = Vec::new();
    for column in &left.columns {
        if let Some(other) = right.columns.iter().find(|other| other.name == column.name) {
            if other.kind != column.kind {
                return None;
            }
            shared.push(Column { absent: Vec::new(), ..column.clone() });
        }
    }
    Some(shared)
}

/// How many rows a FROM has, at most.
fn pairs(scope: &[Source]) -> usize {
    scope.iter().map(|source| source.rows.max(1)).product()
}

fn outputs(kinds: &[Kind]) -> Vec<Column> {
    let column =
        |(at, kind): (usize, &Kind)| Column { name: format!("o{at}"), kind: *kind, absent: Vec::new() };
    kinds.iter().enumerate().map(column).collect()
}

fn base(table: &Seen, alias: String) -> Source {
    let columns = table.columns.iter().enumerate().map(|(at, (name, kind))| Column {
        name: name.clone(),
        kind: *kind,
        // 1000 is in no row at all.
        absent: if *kind == Kind::Int {
            table.hidden[at].iter().copied().chain([1000]).collect()
        } else {
            Vec::new()
        },
    });
    Source { alias, columns: columns.collect(), rows: table.rows.len() }
}
