//! What stands in FROM: tables, subqueries, and how they are joined.

use super::super::world::Kind;
use super::{Column, Grammar, Source, base, outputs, pairs, shared};

/// Of rows, that a FROM may join: what is joined again and again would take minutes.
const MOST_PAIRS: usize = 4000;

impl Grammar<'_, '_> {
    pub(super) fn from(&mut self, depth: usize) -> (String, Vec<Source>) {
        let (mut sql, first) =
            if self.choices.once_in(3) { self.source_in_subquery() } else { self.source(depth) };
        let mut scope = vec![first];
        for _ in 0..self.choices.pick(3).min(depth) {
            let at = self.choices.pick(10);
            let (text, source) = self.source(if at < 7 { depth - 1 } else { 0 });
            if pairs(&scope) * source.rows > MOST_PAIRS {
                break;
            }
            sql = match at {
                7 => self.joined_by_names(sql, &text, source, &mut scope),
                8 => self.joined_laterally(sql, &text, source, &mut scope),
                9 => self.filtered_by_a_join(sql, &text, source, &mut scope),
                _ => self.joined(sql, &text, source, &mut scope),
            };
        }
        (sql, scope)
    }

    fn joined(&mut self, sql: String, text: &str, source: Source, scope: &mut Vec<Source>) -> String {
        let join = *self.choices.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]);
        let on = if join == "CROSS JOIN" { None } else { self.equal(scope, std::slice::from_ref(&source)) };
        let Some(mut on) = on else {
            scope.push(source);
            return format!("{sql} CROSS JOIN {text}");
        };
        if self.choices.once_in(6) {
            on = self.unequal(scope, std::slice::from_ref(&source));
        }
        scope.push(source);
        if self.choices.once_in(3) {
            on = format!("{on} AND {}", self.condition(scope, 0, 1));
        }
        format!("{sql} {join} {text} ON {on}")
    }

    /// USING or NATURAL, where two things with names in common are joined.
    fn joined_by_names(
        &mut self,
        sql: String,
        text: &str,
        source: Source,
        scope: &mut Vec<Source>,
    ) -> String {
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
        let merged = |columns| Source { alias: String::new(), columns, rows: 1 };
        if self.choices.once_in(2) {
            scope.push(merged(shared));
            return format!("{sql} NATURAL {join} {text}");
        }
        let used = self.choices.of(&shared).clone();
        let name = used.name.clone();
        scope.push(merged(vec![used]));
        format!("{sql} {join} {text} USING ({name})")
    }

    /// A subquery in FROM that names what stands left of it.
    fn joined_laterally(
        &mut self,
        sql: String,
        from: &str,
        source: Source,
        scope: &mut Vec<Source>,
    ) -> String {
        let inner = std::slice::from_ref(&source);
        let kinds: Vec<Kind> = (0..1 + self.choices.pick(2)).map(|_| self.kind()).collect();
        let items =
            kinds.iter().enumerate().map(|(at, kind)| format!("{} AS o{at}", self.leaf(*kind, inner)));
        let items = items.collect::<Vec<_>>().join(", ");
        let condition = self.correlated(inner, scope);
        let alias = self.alias();
        let (join, on) =
            *self.choices.of(&[("CROSS JOIN", ""), ("JOIN", " ON TRUE"), ("LEFT JOIN", " ON TRUE")]);
        scope.push(Source { alias: alias.clone(), columns: outputs(&kinds), rows: source.rows });
        format!("{sql} {join} LATERAL (SELECT {items} FROM {from} WHERE {condition}) AS {alias}{on}")
    }

    /// A join that adds no column: semi or anti.
    fn filtered_by_a_join(
        &mut self,
        sql: String,
        text: &str,
        source: Source,
        scope: &mut Vec<Source>,
    ) -> String {
        let on = self.equal(scope, std::slice::from_ref(&source)).unwrap_or_else(|| "TRUE".to_owned());
        let filter = *self.choices.of(&["SEMI", "ANTI"]);
        // DuckDB knows none of the right.
        let side = if self.choices.once_in(4) { "RIGHT" } else { "LEFT" };
        if side == "RIGHT" {
            *scope = vec![source];
        }
        format!("{sql} {side} {filter} JOIN {text} ON {on}")
    }

    pub(super) fn source(&mut self, depth: usize) -> (String, Source) {
        let alias = self.alias();
        if depth > 0 && self.choices.once_in(4) {
            let nested = self.nested(None, depth - 1);
            let columns = outputs(&nested.kinds);
            return (format!("({}) AS {alias}", nested.sql), Source { alias, columns, rows: nested.rows });
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
            let rows = "(VALUES (1, 'a'), (2, NULL), (3, 'b'))";
            return (format!("{rows} AS {alias}(column1, column2)"), Source { alias, columns, rows: 3 });
        }
        let table = self.choices.of(self.tables);
        let is_hidden_by_cte = self.ctes.iter().any(|cte| cte.alias == table.name);
        let schema = if is_hidden_by_cte || self.choices.once_in(2) { "m." } else { "" };
        (format!("{schema}{} AS {alias}", table.name), base(table, alias))
    }

    /// As analysts write it: now and then under the table's own name, though the query around it may have that too. What
    /// stands beside it has an alias.
    pub(super) fn source_in_subquery(&mut self) -> (String, Source) {
        if self.tables.is_empty() || !self.choices.once_in(2) {
            return self.source(0);
        }
        let table = self.choices.of(self.tables);
        (format!("m.{}", table.name), base(table, table.name.clone()))
    }
}
