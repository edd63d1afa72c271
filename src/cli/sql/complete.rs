//! Completion in the shell: keywords, functions, schemas, tables, and the columns of the tables that the text names. Pure.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::split::tokens;
use crate::semantic::quote;

const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CROSS JOIN",
    "DATE",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "FALSE",
    "FILTER",
    "FROM",
    "FULL JOIN",
    "GROUP BY",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER JOIN",
    "INTERSECT",
    "INTERVAL",
    "IS NOT NULL",
    "IS NULL",
    "JOIN",
    "LEFT JOIN",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "NULLS FIRST",
    "NULLS LAST",
    "OFFSET",
    "ON",
    "OR",
    "ORDER BY",
    "OVER",
    "PARTITION BY",
    "RIGHT JOIN",
    "SELECT",
    "THEN",
    "TIMESTAMP",
    "TRUE",
    "UNION",
    "UNION ALL",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

const FUNCTIONS: &[&str] = &[
    "abs",
    "approx_distinct",
    "array_agg",
    "avg",
    "ceil",
    "coalesce",
    "concat",
    "corr",
    "count",
    "date_bin",
    "date_part",
    "date_trunc",
    "dense_rank",
    "first_value",
    "floor",
    "greatest",
    "lag",
    "last_value",
    "lead",
    "least",
    "length",
    "lower",
    "max",
    "median",
    "min",
    "now",
    "nullif",
    "percentile_cont",
    "power",
    "rank",
    "regexp_like",
    "replace",
    "round",
    "row_number",
    "split_part",
    "sqrt",
    "stddev",
    "string_agg",
    "strpos",
    "substr",
    "sum",
    "to_char",
    "to_date",
    "to_timestamp",
    "trim",
    "upper",
];

const COMMANDS: &[&str] = &["\\d", "\\format", "\\h", "\\q", "\\timing"];

/// Every table with its columns, by schema and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    tables: BTreeMap<(String, String), Vec<String>>,
}

/// A text that may stand in the place of what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub text: String,
    /// What it is.
    pub kind: String,
}

impl Names {
    /// From rows of schema, table and column.
    pub fn from_rows(rows: Vec<Vec<String>>) -> Self {
        let mut tables: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for row in rows {
            if let [schema, table, column] = row.as_slice() {
                tables.entry((schema.clone(), table.clone())).or_default().push(column.clone());
            }
        }
        Self { tables }
    }

    /// `schema` and `name` of the one table that is meant by `schema.name` or `name`, in whatever case; otherwise those
    /// that it could be.
    pub fn resolve(&self, name: &str) -> Result<(&str, &str), Vec<String>> {
        let wanted = name.replace('"', "").to_lowercase();
        let is_meant = |(schema, table): &&(String, String)| match wanted.split_once('.') {
            Some(_) => format!("{schema}.{table}").to_lowercase() == wanted,
            None => table.to_lowercase() == wanted,
        };
        match self.tables.keys().filter(is_meant).collect::<Vec<_>>().as_slice() {
            [(schema, table)] => Ok((schema, table)),
            several => Err(several.iter().map(|(schema, table)| format!("{schema}.{table}")).collect()),
        }
    }

    /// All tables as `schema.name`.
    pub fn tables(&self) -> impl Iterator<Item = String> {
        self.tables.keys().map(|(schema, table)| format!("{schema}.{table}"))
    }

    /// What may stand for the word before byte `at` of `text`, and the byte where that word begins.
    pub fn complete(&self, text: &str, at: usize) -> (usize, Vec<Candidate>) {
        let before = text.get(..at).unwrap_or(text);
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '"' | '\\');
        let start = before
            .char_indices()
            .rev()
            .take_while(|(_, c)| is_part(*c))
            .last()
            .map_or(at, |(start, _)| start);
        let typed = &before[start..];
        if typed.starts_with('\\') {
            let fitting = COMMANDS.iter().filter(|command| command.starts_with(typed));
            return (start, fitting.map(|command| candidate((*command).to_owned(), "command")).collect());
        }
        let (known, _) = tokens(text);
        let used = self.used(&known);
        let mut found = match typed.rsplit_once('.') {
            Some((qualifier, part)) => self.qualified(qualifier, part, &used),
            None => self.unqualified(typed, before[..start].trim_end(), &used),
        };
        found.dedup();
        (start, found)
    }

    fn qualified(&self, qualifier: &str, part: &str, used: &[Used<'_>]) -> Vec<Candidate> {
        let plain = qualifier.replace('"', "");
        let mut found = Vec::new();
        for (schema, table) in self.tables.keys() {
            if schema.eq_ignore_ascii_case(&plain) && fits(table, part) {
                found.push(candidate(format!("{qualifier}.{}", written(table)), "table"));
            }
        }
        if found.is_empty() && !used.iter().any(|used| used.is_called(&plain)) && is_alias(&plain) {
            let columns = self.any_columns(part);
            found.extend(
                columns.map(|column| candidate(format!("{qualifier}.{}", written(column)), "column")),
            );
        }
        for used in used.iter().filter(|used| used.is_called(&plain)) {
            let columns = used.columns.iter().filter(|column| fits(column, part));
            found.extend(
                columns.map(|column| candidate(format!("{qualifier}.{}", written(column)), "column")),
            );
        }
        found
    }

    fn unqualified(&self, part: &str, before: &str, used: &[Used<'_>]) -> Vec<Candidate> {
        let last =
            before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_ascii_uppercase();
        let mut found = Vec::new();
        let wants_table = matches!(last.as_str(), "FROM" | "JOIN" | "D") && !before.ends_with('(');
        if !wants_table && !part.is_empty() {
            for used in used {
                let columns = used.columns.iter().filter(|column| fits(column, part));
                found.extend(
                    columns.map(|column| candidate(written(column), &format!("column of {}", used.table))),
                );
            }
        }
        if !wants_table && !part.is_empty() && used.is_empty() {
            found.extend(self.any_columns(part).map(|column| candidate(written(column), "column")));
        }
        for (schema, table) in self.tables.keys() {
            if (wants_table || !part.is_empty()) && (fits(schema, part) || fits(table, part)) {
                found.push(candidate(format!("{}.{}", written(schema), written(table)), "table"));
            }
        }
        if !wants_table && !part.is_empty() {
            let is_lower = part.chars().all(|c| !c.is_uppercase());
            let cased = |word: &str| if is_lower { word.to_lowercase() } else { word.to_owned() };
            found.extend(
                KEYWORDS.iter().filter(|word| fits(word, part)).map(|word| candidate(cased(word), "keyword")),
            );
            let functions = FUNCTIONS.iter().filter(|name| fits(name, part));
            found.extend(functions.map(|name| candidate(format!("{name}("), "function")));
        }
        found
    }

    /// Columns of any table, each name once: SELECT is written before FROM.
    fn any_columns<'a>(&'a self, part: &'a str) -> impl Iterator<Item = &'a str> {
        let names: BTreeSet<&str> = self.tables.values().flatten().map(String::as_str).collect();
        names.into_iter().filter(move |name| fits(name, part))
    }

    /// The tables that a text reads, as far as it is written.
    fn used<'a>(&'a self, tokens: &[TokenWithSpan]) -> Vec<Used<'a>> {
        let words: Vec<&Token> = tokens
            .iter()
            .map(|token| &token.token)
            .filter(|token| !matches!(token, Token::Whitespace(_)))
            .collect();
        let mut used = Vec::new();
        for at in 0..words.len().saturating_sub(2) {
            let [Token::Word(schema), Token::Period, Token::Word(table)] = words[at..at + 3] else {
                continue;
            };
            let name = format!("{}.{}", schema.value, table.value);
            let Ok((schema, table)) = self.resolve(&name) else { continue };
            let Some(columns) = self.tables.get(&(schema.to_owned(), table.to_owned())) else { continue };
            let rest = words.get(at + 3..).unwrap_or_default();
            let alias = match rest {
                [Token::Word(word), Token::Word(alias), ..] if word.value.eq_ignore_ascii_case("as") => {
                    Some(alias)
                }
                [Token::Word(alias), ..] if !is_keyword(&alias.value) => Some(alias),
                _ => None,
            };
            let alias = alias.map(|alias| alias.value.clone());
            used.push(Used { table, full: format!("{schema}.{table}"), alias, columns });
        }
        used
    }
}

/// A table in the text.
struct Used<'a> {
    table: &'a str,
    full: String,
    alias: Option<String>,
    columns: &'a [String],
}

impl Used<'_> {
    fn is_called(&self, qualifier: &str) -> bool {
        match &self.alias {
            Some(alias) => alias.eq_ignore_ascii_case(qualifier),
            None => self.table.eq_ignore_ascii_case(qualifier) || self.full.eq_ignore_ascii_case(qualifier),
        }
    }
}

fn candidate(text: String, kind: &str) -> Candidate {
    Candidate { text, kind: kind.to_owned() }
}

fn fits(name: &str, part: &str) -> bool {
    let part = part.trim_start_matches('"');
    name.get(..part.len()).is_some_and(|head| head.eq_ignore_ascii_case(part))
}

/// What may be the name of a table that is still to be written.
fn is_alias(qualifier: &str) -> bool {
    !qualifier.is_empty() && !qualifier.contains('.')
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|known| known.split(' ').any(|part| part.eq_ignore_ascii_case(word)))
}

/// The name as SQL has to spell it.
fn written(name: &str) -> String {
    let is_plain = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !is_keyword(name);
    if is_plain { name.to_owned() } else { quote(name) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        let rows = [
            ("flights", "flights", "origin"),
            ("flights", "flights", "dep_delay"),
            ("flights", "planes", "tailnum"),
            ("semantic", "fields", "name"),
            ("responses", "weather_1", "Wind Speed"),
        ];
        Names::from_rows(
            rows.iter().map(|(a, b, c)| vec![a.to_string(), b.to_string(), c.to_string()]).collect(),
        )
    }

    fn completed(text: &str) -> Vec<String> {
        names().complete(text, text.len()).1.into_iter().map(|candidate| candidate.text).collect()
    }

    #[test]
    fn after_from_there_are_tables_alone() {
        assert_eq!(completed("SELECT * FROM fl"), ["flights.flights", "flights.planes"]);
        assert_eq!(completed("SELECT * FROM ").len(), 4);
        assert_eq!(completed("SELECT * FROM flights.pl"), ["flights.planes"]);
        assert_eq!(completed("\\d pla"), ["flights.planes"]);
    }

    #[test]
    fn columns_are_those_of_the_tables_in_the_text_by_alias_too() {
        assert_eq!(completed("SELECT 1 FROM flights.flights AS f WHERE f.dep"), ["f.dep_delay"]);
        assert_eq!(completed("SELECT 1 FROM flights.flights f JOIN flights.planes p ON p."), ["p.tailnum"]);
        assert_eq!(completed("SELECT 1 FROM flights.planes WHERE planes.t"), ["planes.tailnum"]);
        let text = "SELECT dep FROM flights.flights";
        let (start, found) = names().complete(text, 10);
        assert_eq!((start, found[0].text.as_str()), (7, "dep_delay"));
    }

    #[test]
    fn before_from_is_written_any_column_may_be_meant() {
        assert_eq!(completed("SELECT f.dep"), ["f.dep_delay"]);
        assert!(completed("SELECT tail").contains(&"tailnum".to_owned()));
        assert_eq!(completed("SELECT flights.pl"), ["flights.planes"]);
    }

    #[test]
    fn names_that_need_quotes_get_them() {
        assert_eq!(completed("SELECT 1 FROM responses.weather_1 w WHERE w.wi"), ["w.\"Wind Speed\""]);
    }

    #[test]
    fn keywords_keep_the_case_of_the_one_who_types() {
        assert!(completed("sel").contains(&"select".to_owned()));
        assert!(completed("SEL").contains(&"SELECT".to_owned()));
        assert_eq!(completed("\\ti"), ["\\timing"]);
    }

    #[test]
    fn every_function_that_is_offered_is_allowed() {
        for name in FUNCTIONS {
            assert!(crate::guard::is_function_allowed(name), "{name}");
        }
    }

    #[test]
    fn a_table_is_found_by_its_short_name_where_that_is_unique() {
        assert_eq!(names().resolve("PLANES"), Ok(("flights", "planes")));
        assert_eq!(names().resolve("\"flights\".\"planes\""), Ok(("flights", "planes")));
        assert_eq!(names().resolve("nothing"), Err(vec![]));
    }

    proptest! {
        #[test]
        fn completion_never_panics_and_begins_where_a_character_begins(text in "[a-zéF.\" \\\\;'✈(]{0,24}", cut in 0usize..30) {
            let at = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let (start, _) = names().complete(&text, at);
            prop_assert!(start <= at && text.is_char_boundary(start));
        }
    }
}
