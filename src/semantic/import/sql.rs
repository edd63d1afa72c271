//! What importers ask of SQL: which columns, whether it aggregates, and new names in the old text.
//!
//! Replacements go into the text at the places that the parser names, so that formatting and comments stay.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident, Query, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::{self, Keyword};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token};

use crate::semantic::{compile, parse_expression, quote};

/// A column as it is written: `qualifier.column` or `column`.
pub type Column = (Option<String>, String);

/// Aggregates that only other systems have, or that are windows here.
const THEIR_AGGREGATES: &[&str] =
    &["countif", "sum_boolean", "approx_count_distinct", "approx_percentile", "first_value", "last_value"];

/// An identifier as SQL: bare where every engine takes it as it is, quoted otherwise.
pub fn identifier(name: &str) -> String {
    let mut characters = name.chars();
    let bare = characters.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_')
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let keyword = match Token::make_keyword(name) {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let is_reserved = keywords::RESERVED_FOR_COLUMN_ALIAS.contains(&keyword)
        || keywords::RESERVED_FOR_TABLE_ALIAS.contains(&keyword)
        || matches!(keyword, Keyword::CASE | Keyword::CAST | Keyword::NOT | Keyword::NULL | Keyword::TRUE)
        || matches!(keyword, Keyword::FALSE | Keyword::AND | Keyword::OR | Keyword::IN | Keyword::IS);
    if bare && !is_reserved { name.to_owned() } else { quote(name) }
}

/// `dataset.field` as SQL.
pub fn qualified(dataset: &str, field: &str) -> String {
    format!("{}.{}", identifier(dataset), identifier(field))
}

/// The column, if the expression is nothing but one: its name, without a qualifier.
pub fn as_column(text: &str) -> Option<String> {
    match parse_expression(text).ok()? {
        Expr::Identifier(name) => Some(name.value),
        Expr::CompoundIdentifier(parts) => parts.last().map(|name| name.value.clone()),
        _ => None,
    }
}

/// Whether the expression aggregates rows, other than over a window.
pub fn is_aggregate(expr: &Expr) -> bool {
    struct Seek;
    impl Visitor for Seek {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function) if function.over.is_none() => {
                    let name = function.name.to_string().to_lowercase();
                    match compile::is_aggregate(&name) || THEIR_AGGREGATES.contains(&name.as_str()) {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Seek).is_break()
}

/// The column pairs of a join condition that is a conjunction of equalities of columns.
pub fn equalities(text: &str) -> Option<Vec<(Column, Column)>> {
    let expr = parse_expression(text).ok()?;
    let mut pairs = Vec::new();
    let mut open = vec![&expr];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::Nested(inner) => open.push(inner),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                open.push(right);
                open.push(left);
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                pairs.push((column(left)?, column(right)?));
            }
            _ => return None,
        }
    }
    Some(pairs)
}

fn column(expr: &Expr) -> Option<Column> {
    match expr {
        Expr::Nested(inner) => column(inner),
        Expr::Identifier(name) => Some((None, name.value.clone())),
        Expr::CompoundIdentifier(parts) if parts.len() >= 2 => {
            Some((Some(parts[parts.len() - 2].value.clone()), parts[parts.len() - 1].value.clone()))
        }
        _ => None,
    }
}

/// The text with columns replaced by what `replace` says of `(qualifier, column)`; `None` leaves one as it is.
/// An expression that does not parse comes back as it was.
pub fn with_columns(
    text: &str,
    replace: impl FnMut(Option<&str>, &str) -> Option<String>,
) -> Result<String, String> {
    struct Columns<F> {
        replace: F,
        edits: Vec<(Span, String)>,
    }
    impl<F: FnMut(Option<&str>, &str) -> Option<String>> Visitor for Columns<F> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let (span, new) = match expr {
                Expr::Identifier(name) => (name.span, (self.replace)(None, &name.value)),
                Expr::CompoundIdentifier(parts) if parts.len() >= 2 => {
                    let (first, last) = (&parts[0], &parts[parts.len() - 1]);
                    let span = Span { start: first.span.start, end: last.span.end };
                    (span, (self.replace)(Some(&parts[parts.len() - 2].value), &last.value))
                }
                _ => return ControlFlow::Continue(()),
            };
            if let Some(new) = new {
                self.edits.push((span, new));
            }
            ControlFlow::Continue(())
        }
    }
    let expr = parse_expression(text)?;
    let mut columns = Columns { replace, edits: Vec::new() };
    let _ = expr.visit(&mut columns);
    Ok(edited(text, columns.edits))
}

/// One query with its tables renamed: `rename` gives the new relation for a name without qualifier that is no CTE.
/// Tables without an alias keep what the query calls them.
pub fn with_tables(text: &str, rename: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    struct Tables<F> {
        rename: F,
        ctes: HashSet<String>,
        edits: Vec<(Span, String)>,
    }
    impl<F: Fn(&str) -> Option<String>> Visitor for Tables<F> {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
            self.ctes.extend(ctes.map(|cte| cte.alias.name.value.to_lowercase()));
            ControlFlow::Continue(())
        }
        fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
            let TableFactor::Table { name, alias, args: None, .. } = table else {
                return ControlFlow::Continue(());
            };
            let parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
            let [only] = parts.as_slice() else { return ControlFlow::Continue(()) };
            if self.ctes.contains(&only.value.to_lowercase()) {
                return ControlFlow::Continue(());
            }
            if let Some(mut new) = (self.rename)(&only.value) {
                let called = new.rsplit('.').next().unwrap_or_default().trim_matches('"');
                if alias.is_none() && called != only.value {
                    new = format!("{new} AS {only}");
                }
                self.edits.push((only.span, new));
            }
            ControlFlow::Continue(())
        }
    }
    let statements = Parser::new(&GenericDialect {})
        .with_recursion_limit(64)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| error.to_string())?;
    let [statement] = statements.as_slice() else {
        return Err(format!("it holds {} statements", statements.len()));
    };
    let mut tables = Tables { rename, ctes: HashSet::new(), edits: Vec::new() };
    let _ = statement.visit(&mut tables);
    Ok(edited(text, tables.edits))
}

/// Puts replacements into a text; those that overlap an earlier one, or lie outside, are left out.
fn edited(text: &str, mut edits: Vec<(Span, String)>) -> String {
    if edits.is_empty() {
        return text.to_owned();
    }
    edits.sort_by_key(|(span, _)| (span.start.line, span.start.column));
    let starts: Vec<usize> =
        std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let offset = |location: Location| {
        let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
        let start = *starts.get(line)?;
        let rest = &text[start..];
        let characters = usize::try_from(location.column).ok()?.checked_sub(1)?;
        let within = rest.char_indices().map(|(at, _)| at).chain([rest.len()]).nth(characters)?;
        Some(start + within)
    };
    let mut out = String::with_capacity(text.len() + 32);
    let mut done = 0;
    for (span, new) in edits {
        let (Some(start), Some(end)) = (offset(span.start), offset(span.end)) else { continue };
        if start < done || end < start {
            continue;
        }
        out.push_str(&text[done..start]);
        out.push_str(&new);
        done = end;
    }
    out.push_str(&text[done..]);
    out
}

/// A query as it is kept: without the semicolon at its end and spaces at the ends of lines.
pub fn tidy(text: &str) -> String {
    let text = text.trim().trim_end_matches(';').trim_end();
    // A literal that spans lines would lose its spaces.
    if text.lines().any(|line| line.matches('\'').count() % 2 == 1) {
        return text.to_owned();
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_replaced_where_they_stand_and_nowhere_else() {
        let text = "SUM(größe) -- größe\n  + 'größe' || t.\"größe\"";
        let new = with_columns(text, |qualifier, column| {
            (column == "größe").then(|| format!("{}x", qualifier.map_or("", |_| "u.")))
        });
        assert_eq!(new.unwrap(), "SUM(x) -- größe\n  + 'größe' || u.x");
    }

    #[test]
    fn tables_are_renamed_but_for_ctes_and_keep_what_the_query_calls_them() {
        let text =
            "WITH c AS (SELECT * FROM __orders)\nSELECT __orders.a FROM c, __orders, orders o, s.orders";
        let new = with_tables(text, |name| {
            name.trim_start_matches('_').eq_ignore_ascii_case("orders").then(|| "m.orders".to_owned())
        });
        assert_eq!(
            new.unwrap(),
            "WITH c AS (SELECT * FROM m.orders AS __orders)\nSELECT __orders.a FROM c, m.orders AS __orders, \
             m.orders o, s.orders"
        );
    }

    #[test]
    fn join_conditions_that_are_not_equalities_of_columns_have_no_pairs() {
        assert_eq!(equalities("(a.x = b.y) AND a.z = b.w").unwrap().len(), 2);
        for text in ["a.x > b.y", "a.x = b.y OR a.z = b.w", "a.x = 1", "a.x ="] {
            assert!(equalities(text).is_none(), "{text}");
        }
    }

    #[test]
    fn names_that_are_keywords_or_have_capitals_are_quoted() {
        assert_eq!(identifier("orders_2"), "orders_2");
        for name in ["select", "Orders", "a b", "2a", "a-b", ""] {
            assert!(identifier(name).starts_with('"'), "{name}");
        }
    }
}
