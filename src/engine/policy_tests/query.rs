//! Random queries over what a caller may see; now and then one that names what it may not.
//!
//! A query has one right answer: rows are cut only below a total order, windows that depend on order have one, sums are
//! of integers. An expression may fail on values of hidden rows, and never on a permitted one. Names meet by themselves in
//! USING, NATURAL and `*`, where a hidden column must not take part.

use super::choices::Choices;
use super::world::{INTS, Kind, Seen};

pub struct Query {
    pub sql: String,
    /// Whether the order of the rows is told.
    pub is_ordered: bool,
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
}

pub struct Grammar<'g, 'c> {
    choices: &'g mut Choices<'c>,
    tables: &'g [Seen],
    hidden_tables: &'g [String],
    ctes: Vec<Source>,
    aliases: usize,
    /// Whether this SELECT has an aggregate with an order: the engine plans two only if it cannot see that they clash.
    has_ordered: bool,
}

const COMPARE: &[&str] = &["=", "<>", "<", ">="];

impl<'g, 'c> Grammar<'g, 'c> {
    pub fn new(choices: &'g mut Choices<'c>, tables: &'g [Seen], hidden_tables: &'g [String]) -> Self {
        Self { choices, tables, hidden_tables, ctes: Vec::new(), aliases: 0, has_ordered: false }
    }

    pub fn query(mut self) -> Query {
        let (mut sql, _, is_ordered) = self.nested(None, 2);
        match self.choices.pick(12) {
            10 => match self.with_star(&sql) {
                Some(sql) => return Query { sql, is_ordered: false },
                None => return Query { sql, is_ordered },
            },
            11 => sql = self.with_something_denied(&sql),
            _ => {}
        }
        Query { sql, is_ordered }
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

    /// A whole query: its text, the kinds of its columns `o0`, `o1` …, and whether it is ordered.
    fn nested(&mut self, wanted: Option<&[Kind]>, depth: usize) -> (String, Vec<Kind>, bool) {
        let before = self.ctes.len();
        let mut with = String::new();
        if depth > 1 && self.choices.once_in(4) {
            let (sql, kinds, _) = self.nested(None, depth - 1);
            // Now and then it hides a table of the same name.
            let name = if self.choices.once_in(3) { "t0".to_owned() } else { self.alias() };
            with = format!("WITH {name} AS ({sql}) ");
            self.ctes.push(Source { alias: name, columns: outputs(&kinds) });
        }
        let (mut sql, kinds) = self.core(wanted, depth);
        for _ in 0..self.choices.pick(3).saturating_sub(1) {
            let operator = *self.choices.of(&["UNION ALL", "UNION", "EXCEPT", "INTERSECT"]);
            let (other, _) = self.core(Some(&kinds), depth);
            sql = format!("({sql}) {operator} ({other})");
        }
        let is_ordered = self.choices.once_in(2);
        if is_ordered {
            let positions: Vec<String> = (1..=kinds.len())
                .map(|at| {
                    format!("{at}{}", self.choices.of(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]))
                })
                .collect();
            sql.push_str(&format!(" ORDER BY {}", positions.join(", ")));
            if self.choices.once_in(2) {
                sql.push_str(&format!(" LIMIT {}", 1 + self.choices.pick(5)));
                if self.choices.once_in(3) {
                    sql.push_str(&format!(" OFFSET {}", self.choices.pick(3)));
                }
            }
        }
        self.ctes.truncate(before);
        (with + &sql, kinds, is_ordered)
    }

    /// One SELECT.
    fn core(&mut self, wanted: Option<&[Kind]>, depth: usize) -> (String, Vec<Kind>) {
        let kinds: Vec<Kind> = match wanted {
            Some(kinds) => kinds.to_vec(),
            None => {
                (0..1 + self.choices.pick(3)).map(|_| *self.choices.of(&[Kind::Int, Kind::Text])).collect()
            }
        };
        let (from, scope) = self.from(depth);
        let mut sql = format!(" FROM {from}");
        if self.choices.once_in(2) {
            sql.push_str(&format!(" WHERE {}", self.condition(&scope, depth, 2)));
        }
        let items: Vec<String>;
        match self.choices.pick(3) {
            0 | 1 => {
                items = kinds.iter().map(|kind| self.item(*kind, &scope, depth)).collect();
            }
            _ => {
                self.has_ordered = false;
                let keys: Vec<(String, Kind)> =
                    (0..self.choices.pick(3)).filter_map(|_| self.any_column(&scope)).collect();
                items = kinds.iter().map(|kind| self.aggregate(*kind, &keys, &scope)).collect();
                if !keys.is_empty() {
                    let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
                    let names = names.join(", ");
                    sql.push_str(&match self.choices.once_in(6) {
                        true => format!(" GROUP BY ROLLUP ({names})"),
                        false => format!(" GROUP BY {names}"),
                    });
                    if self.choices.once_in(3) {
                        sql.push_str(&format!(" HAVING {} >= 1", self.aggregate(Kind::Int, &[], &scope)));
                    }
                }
            }
        }
        let items: Vec<String> =
            items.iter().enumerate().map(|(at, item)| format!("{item} AS o{at}")).collect();
        let distinct = if self.choices.once_in(6) { "DISTINCT " } else { "" };
        (format!("SELECT {distinct}{}{sql}", items.join(", ")), kinds)
    }

    fn from(&mut self, depth: usize) -> (String, Vec<Source>) {
        let (mut sql, first) = self.source(depth);
        let mut scope = vec![first];
        for _ in 0..self.choices.pick(3).min(depth) {
            sql = match self.choices.pick(10) {
                7 => self.joined_by_names(sql, &mut scope),
                8 => self.joined_laterally(sql, &mut scope),
                9 => self.filtered_by_a_join(sql, &mut scope),
                _ => self.joined(sql, &mut scope, depth),
            };
        }
        (sql, scope)
    }

    fn joined(&mut self, sql: String, scope: &mut Vec<Source>, depth: usize) -> String {
        let (text, source) = self.source(depth.saturating_sub(1));
        let join = *self.choices.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]);
        let on = if join == "CROSS JOIN" { None } else { self.equal(scope, std::slice::from_ref(&source)) };
        scope.push(source);
        match on {
            Some(mut on) => {
                if join != "FULL JOIN" && self.choices.once_in(3) {
                    on = format!("{on} AND {}", self.condition(scope, 0, 1));
                }
                format!("{sql} {join} {text} ON {on}")
            }
            None => format!("{sql} CROSS JOIN {text}"),
        }
    }

    /// USING or NATURAL, where two things with names in common are joined.
    fn joined_by_names(&mut self, sql: String, scope: &mut Vec<Source>) -> String {
        let (text, source) = self.source(0);
        let shared = match scope.as_slice() {
            [only] => shared(only, &source).filter(|columns| !columns.is_empty()),
            _ => None,
        };
        let Some(shared) = shared else {
            scope.push(source);
            return format!("{sql} CROSS JOIN {text}");
        };
        let join = *self.choices.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        scope.push(source);
        if self.choices.once_in(2) {
            scope.push(Source { alias: String::new(), columns: shared });
            return format!("{sql} NATURAL {join} {text}");
        }
        let used = self.choices.of(&shared).clone();
        let name = used.name.clone();
        scope.push(Source { alias: String::new(), columns: vec![used] });
        format!("{sql} {join} {text} USING ({name})")
    }

    /// A subquery in FROM that names what stands left of it.
    fn joined_laterally(&mut self, sql: String, scope: &mut Vec<Source>) -> String {
        let (from, source) = self.source(0);
        let inner = std::slice::from_ref(&source);
        let kinds: Vec<Kind> =
            (0..1 + self.choices.pick(2)).map(|_| *self.choices.of(&[Kind::Int, Kind::Text])).collect();
        let items =
            kinds.iter().enumerate().map(|(at, kind)| format!("{} AS o{at}", self.leaf(*kind, inner)));
        let items = items.collect::<Vec<_>>().join(", ");
        let condition = self.equal(inner, scope).unwrap_or_else(|| "TRUE".to_owned());
        let further = match self.choices.once_in(2) {
            true => format!(" AND {}", self.condition(inner, 0, 1)),
            false => String::new(),
        };
        let alias = self.alias();
        let (join, on) =
            *self.choices.of(&[("CROSS JOIN", ""), ("JOIN", " ON TRUE"), ("LEFT JOIN", " ON TRUE")]);
        scope.push(Source { alias: alias.clone(), columns: outputs(&kinds) });
        format!("{sql} {join} LATERAL (SELECT {items} FROM {from} WHERE {condition}{further}) AS {alias}{on}")
    }

    /// A join that adds no column: semi or anti.
    fn filtered_by_a_join(&mut self, sql: String, scope: &mut Vec<Source>) -> String {
        let (text, source) = self.source(0);
        let on = self.equal(scope, std::slice::from_ref(&source)).unwrap_or_else(|| "TRUE".to_owned());
        let join =
            *self.choices.of(&["LEFT SEMI JOIN", "LEFT ANTI JOIN", "RIGHT SEMI JOIN", "RIGHT ANTI JOIN"]);
        if join.starts_with("RIGHT") {
            *scope = vec![source];
        }
        format!("{sql} {join} {text} ON {on}")
    }

    fn source(&mut self, depth: usize) -> (String, Source) {
        let alias = self.alias();
        if depth > 0 && self.choices.once_in(4) {
            let (sql, kinds, _) = self.nested(None, depth - 1);
            return (format!("({sql}) AS {alias}"), Source { alias, columns: outputs(&kinds) });
        }
        if !self.ctes.is_empty() && self.choices.once_in(2) {
            let cte = self.choices.of(&self.ctes).clone();
            return (format!("{} AS {alias}", cte.alias), Source { alias, ..cte });
        }
        if self.tables.is_empty() || self.choices.once_in(15) {
            let columns = vec![
                Column { name: "column1".to_owned(), kind: Kind::Int, absent: Vec::new() },
                Column { name: "column2".to_owned(), kind: Kind::Text, absent: Vec::new() },
            ];
            return (format!("(VALUES (1, 'a'), (2, NULL), (3, 'b')) AS {alias}"), Source { alias, columns });
        }
        let table = self.choices.of(self.tables);
        let is_hidden_by_cte = self.ctes.iter().any(|cte| cte.alias == table.name);
        let schema = if is_hidden_by_cte || self.choices.once_in(2) { "m." } else { "" };
        (format!("{schema}{} AS {alias}", table.name), base(table, alias))
    }

    fn any_column(&mut self, scope: &[Source]) -> Option<(String, Kind)> {
        let columns: Vec<(String, Kind)> = scope
            .iter()
            .flat_map(|source| source.columns.iter().map(|column| (named(source, column), column.kind)))
            .collect();
        (!columns.is_empty()).then(|| self.choices.of(&columns).clone())
    }

    fn column(&mut self, kind: Kind, scope: &[Source]) -> Option<String> {
        let fits = |column: &&Column| column.kind == kind || column.kind == Kind::Any;
        let columns: Vec<String> = scope
            .iter()
            .flat_map(|source| source.columns.iter().filter(fits).map(|column| named(source, column)))
            .collect();
        (!columns.is_empty()).then(|| self.choices.of(&columns).clone())
    }

    /// `left.x = right.y`, where there are two of a kind.
    fn equal(&mut self, left: &[Source], right: &[Source]) -> Option<String> {
        let kind = *self.choices.of(&[Kind::Int, Kind::Text]);
        Some(format!("{} = {}", self.column(kind, left)?, self.column(kind, right)?))
    }

    fn literal(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Text => self.choices.of(&["'a'", "'b'", "''", "'B'''", "'***'", "'ü'"]).to_string(),
            _ => (INTS.start + self.choices.pick(8) as i64).to_string(),
        }
    }

    fn leaf(&mut self, kind: Kind, scope: &[Source]) -> String {
        match self.column(kind, scope) {
            Some(column) => column,
            None => self.literal(kind),
        }
    }

    /// Fails with a division by zero on rows that the caller may not see, and on no others.
    fn risky(&mut self, scope: &[Source]) -> Option<String> {
        let columns: Vec<(String, Vec<i64>)> = scope
            .iter()
            .flat_map(|source| {
                let risky = source.columns.iter().filter(|column| !column.absent.is_empty());
                risky.map(|column| (named(source, column), column.absent.clone()))
            })
            .collect();
        if columns.is_empty() {
            return None;
        }
        let (name, absent) = self.choices.of(&columns).clone();
        Some(format!("60 / ({name} - ({}))", self.choices.of(&absent)))
    }

    fn expression(&mut self, kind: Kind, scope: &[Source], depth: usize, size: usize) -> String {
        if size == 0 {
            return self.leaf(kind, scope);
        }
        let more = |this: &mut Self, kind| this.expression(kind, scope, 0, size - 1);
        match (kind, self.choices.pick(10)) {
            (_, 0 | 1) => self.leaf(kind, scope),
            (_, 2) => self.literal(kind),
            (_, 3) => {
                let condition = self.condition(scope, 0, size - 1);
                format!("CASE WHEN {condition} THEN {} ELSE {} END", more(self, kind), more(self, kind))
            }
            (_, 4) => format!("COALESCE({}, {})", more(self, kind), self.literal(kind)),
            (_, 5) if depth > 0 => self.scalar(kind, scope),
            (Kind::Text, 6) => format!("UPPER({})", more(self, kind)),
            (Kind::Text, 7) => format!("SUBSTR({}, 1, 1)", more(self, kind)),
            (Kind::Text, _) => format!("({} || '-')", more(self, kind)),
            (_, 6) => format!("CAST(LENGTH(CAST({} AS VARCHAR)) AS BIGINT)", more(self, Kind::Text)),
            (_, 7) => format!("({} / NULLIF({}, 0))", more(self, kind), more(self, kind)),
            (_, 8) => format!("({} + {})", more(self, kind), more(self, kind)),
            _ => self.risky(scope).unwrap_or_else(|| self.leaf(kind, scope)),
        }
    }

    /// A subquery that gives one value; correlated or not.
    fn scalar(&mut self, kind: Kind, scope: &[Source]) -> String {
        let (from, source) = self.source(0);
        let inner = std::slice::from_ref(&source);
        let value = self.leaf(kind, inner);
        let condition = match self.choices.once_in(2) {
            true => self.equal(inner, scope),
            false => Some(self.condition(inner, 0, 1)),
        };
        let condition = condition.unwrap_or_else(|| "TRUE".to_owned());
        format!("(SELECT {}({value}) FROM {from} WHERE {condition})", self.choices.of(&["MAX", "MIN"]))
    }

    fn condition(&mut self, scope: &[Source], depth: usize, size: usize) -> String {
        let kind = *self.choices.of(&[Kind::Int, Kind::Text]);
        match self.choices.pick(if size == 0 { 4 } else { 14 }) {
            0 | 1 => {
                let left = self.expression(kind, scope, 0, size.min(1));
                format!(
                    "{left} {} {}",
                    self.choices.of(COMPARE),
                    self.expression(kind, scope, depth, size.min(1))
                )
            }
            2 => format!("{} IS {}NULL", self.leaf(kind, scope), self.choices.of(&["", "NOT "])),
            3 => format!("{} IN ({}, {})", self.leaf(kind, scope), self.literal(kind), self.literal(kind)),
            4 => format!("NOT ({})", self.condition(scope, depth, size - 1)),
            5 | 6 => {
                let operator = *self.choices.of(&["AND", "OR"]);
                let left = self.condition(scope, depth, size - 1);
                format!("({left} {operator} {})", self.condition(scope, 0, size - 1))
            }
            7 => format!(
                "{} BETWEEN {} AND {}",
                self.leaf(kind, scope),
                self.literal(kind),
                self.leaf(kind, scope)
            ),
            8 => format!(
                "{} LIKE '{}'",
                self.leaf(Kind::Text, scope),
                self.choices.of(&["a%", "%", "_", "%'"])
            ),
            9 | 10 => match self.risky(scope) {
                Some(risky) => format!("{risky} {} 0", self.choices.of(COMPARE)),
                None => "TRUE".to_owned(),
            },
            at if depth > 0 => {
                let not = *self.choices.of(&["", "NOT "]);
                let (from, source) = self.source(0);
                let inner = std::slice::from_ref(&source);
                if at == 11 {
                    let condition = self.equal(inner, scope).unwrap_or_else(|| "TRUE".to_owned());
                    let further = match self.choices.once_in(2) {
                        true => format!(" AND {}", self.condition(inner, 0, 1)),
                        false => String::new(),
                    };
                    format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {condition}{further})")
                } else {
                    let (value, left) = (self.leaf(kind, inner), self.leaf(kind, scope));
                    let condition = self.condition(inner, 0, 1);
                    format!("{left} {not}IN (SELECT {value} FROM {from} WHERE {condition})")
                }
            }
            _ => format!("{} IS NOT DISTINCT FROM {}", self.leaf(kind, scope), self.leaf(kind, scope)),
        }
    }

    /// A column of the result: an expression, or a window over a total order.
    fn item(&mut self, kind: Kind, scope: &[Source], depth: usize) -> String {
        if !self.choices.once_in(5) {
            return self.expression(kind, scope, depth, 2);
        }
        let columns: Vec<String> = scope
            .iter()
            .flat_map(|source| source.columns.iter().map(|column| named(source, column)))
            .collect();
        let total = columns.join(", ");
        let partition = match self.any_column(scope) {
            Some((name, _)) if self.choices.once_in(2) => format!("PARTITION BY {name} "),
            _ => String::new(),
        };
        let value = self.leaf(kind, scope);
        match (kind, self.choices.pick(4)) {
            (Kind::Int, 0) => format!("CAST(ROW_NUMBER() OVER ({partition}ORDER BY {total}) AS BIGINT)"),
            (Kind::Int, 1) => format!("SUM({value}) OVER ({partition})"),
            (Kind::Int, 2) => format!("CAST(RANK() OVER ({partition}ORDER BY {value}) AS BIGINT)"),
            (_, 3) => format!("LAG({value}) OVER ({partition}ORDER BY {total})"),
            _ => format!("MAX({value}) OVER ({partition}ORDER BY {value})"),
        }
    }

    fn aggregate(&mut self, kind: Kind, keys: &[(String, Kind)], scope: &[Source]) -> String {
        let own: Vec<&String> =
            keys.iter().filter(|(_, other)| *other == kind).map(|(name, _)| name).collect();
        if !own.is_empty() && self.choices.once_in(2) {
            return (*self.choices.of(&own)).clone();
        }
        let filter = match self.choices.once_in(5) {
            true => format!(" FILTER (WHERE {})", self.condition(scope, 0, 1)),
            false => String::new(),
        };
        let value = self.expression(kind, scope, 0, 1);
        match (kind, self.choices.pick(6)) {
            (Kind::Text, 0 | 1) if !self.has_ordered => {
                self.has_ordered = true;
                format!("STRING_AGG({value}, ',' ORDER BY {value}){filter}")
            }
            (Kind::Text, 0..=3) => format!("MIN({value}){filter}"),
            (Kind::Text, _) => format!("MAX({value}){filter}"),
            (_, 0) => format!("COUNT(*){filter}"),
            (_, 1) => format!("COUNT({value}){filter}"),
            (_, 2) => format!("COUNT(DISTINCT {value}){filter}"),
            (_, 3) => format!("SUM({value}){filter}"),
            (_, 4) => format!("CAST(AVG({value}){filter} AS BIGINT)"),
            _ => format!("MIN({value}){filter}"),
        }
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
    Source { alias, columns: columns.collect() }
}
