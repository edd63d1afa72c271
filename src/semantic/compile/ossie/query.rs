//! The query file of the suite: its keys, and its texts taken apart.

use datafusion::sql::sqlparser::ast::{Expr, SelectItem};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use serde::Deserialize;

use crate::semantic::compile::error::{CompileCode, CompileError, Result};
use crate::semantic::compile::expr;
use crate::semantic::compile::resolve::check_alias;

/// The suite's query file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    #[serde(default)]
    pub(super) dataset: Option<String>,
    #[serde(default)]
    pub(super) dimensions: Option<Vec<Item>>,
    #[serde(default)]
    pub(super) fields: Option<Vec<Item>>,
    #[serde(default)]
    pub(super) measures: Option<Vec<Item>>,
    #[serde(default, rename = "where")]
    pub(super) filter: Option<Predicates>,
    #[serde(default)]
    pub(super) having: Option<Predicates>,
    #[serde(default)]
    pub(super) order_by: Vec<Ordering>,
    #[serde(default)]
    pub(super) limit: Option<u64>,
}

/// Something to project: text with an optional `AS alias`, or the two apart.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Item {
    Text(String),
    Full(FullItem),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FullItem {
    /// What the result's column is called; alone, also what is projected.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    alias: Option<String>,
    #[serde(default, alias = "expression", alias = "field", alias = "dimension")]
    metric: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Predicates {
    One(String),
    All(Vec<String>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Ordering {
    Text(String),
    Full(FullOrdering),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FullOrdering {
    #[serde(alias = "field", alias = "name", alias = "measure", alias = "expression")]
    target: String,
    #[serde(default)]
    direction: Option<String>,
    #[serde(default)]
    nulls: Option<String>,
}

impl Predicates {
    pub(super) fn list(predicates: &Option<Self>) -> &[String] {
        match predicates {
            None => &[],
            Some(Self::One(one)) => std::slice::from_ref(one),
            Some(Self::All(all)) => all,
        }
    }
}

/// One projected thing: its expression as parsed, and its alias if it has one.
pub(super) struct Projected {
    pub(super) expr: Expr,
    pub(super) alias: Option<String>,
}

pub(super) fn projected(item: &Item) -> Result<Projected> {
    let (text, alias) = match item {
        Item::Text(text) => (text.clone(), None),
        Item::Full(full) => {
            let text = full.metric.clone().or_else(|| full.name.clone());
            let text =
                text.ok_or_else(|| CompileError::invalid("an entry has neither a name nor an expression"))?;
            let alias = full.alias.clone().or_else(|| full.name.clone().filter(|_| full.metric.is_some()));
            (text, alias)
        }
    };
    expr::bounded(&text, "an entry")?;
    let syntax =
        |error: String| CompileError::new(CompileCode::Syntax, format!("`{text}` does not parse: {error}"));
    let mut parser = Parser::new(&GenericDialect {})
        .with_recursion_limit(64)
        .try_with_sql(&text)
        .map_err(|error| syntax(error.to_string()))?;
    let item = parser.parse_select_item().map_err(|error| syntax(error.to_string()))?;
    if parser.peek_token().token != datafusion::sql::sqlparser::tokenizer::Token::EOF {
        return Err(syntax("there is more after the expression".to_owned()));
    }
    match item {
        SelectItem::UnnamedExpr(expr) => Ok(Projected { expr, alias }),
        SelectItem::ExprWithAlias { expr, alias: own } => {
            Ok(Projected { expr, alias: alias.or(Some(own.value)) })
        }
        other => Err(syntax(format!("`{other}` is no expression"))),
    }
}

/// The name of a column that has no alias: the last part of a name, else its place.
fn leaf(expr: &Expr, kind: &str, at: usize) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()).unwrap_or_default(),
        _ => format!("{kind}_{}", at + 1),
    }
}

/// Gives every column its name; a leaf that is taken gets its place besides.
pub(super) struct Columns(pub(super) Vec<String>);

impl Columns {
    pub(super) fn add(&mut self, projected: &Projected, kind: &str) -> Result<String> {
        let taken =
            |columns: &[String], name: &str| columns.iter().any(|known| known.eq_ignore_ascii_case(name));
        let name = match &projected.alias {
            Some(alias) if taken(&self.0, alias) => {
                let message = format!("two columns would be called `{alias}`; rename one");
                return Err(CompileError::new(CompileCode::NameCollision, message));
            }
            Some(alias) => alias.clone(),
            None => {
                let name = leaf(&projected.expr, kind, self.0.len());
                if taken(&self.0, &name) { format!("{name}_{}", self.0.len() + 1) } else { name }
            }
        };
        check_alias(&name)?;
        self.0.push(name.clone());
        Ok(name)
    }
}

pub(super) fn ordering(item: &Ordering) -> Result<(String, bool, Option<bool>)> {
    let (text, direction, nulls) = match item {
        Ordering::Text(text) => (text.clone(), None, None),
        Ordering::Full(full) => (full.target.clone(), full.direction.as_deref(), full.nulls.as_deref()),
    };
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let mut descending = None;
    let mut nulls_first = None;
    let ends = |words: &[&str], tail: &[&str]| {
        words.len() > tail.len()
            && words[words.len() - tail.len()..]
                .iter()
                .zip(tail)
                .all(|(word, end)| word.eq_ignore_ascii_case(end))
    };
    for (tail, first) in [(["nulls", "first"], true), (["nulls", "last"], false)] {
        if ends(&words, &tail) {
            nulls_first = Some(first);
            words.truncate(words.len() - 2);
        }
    }
    for (tail, down) in [("asc", false), ("desc", true)] {
        if ends(&words, &[tail]) {
            descending = Some(down);
            words.truncate(words.len() - 1);
        }
    }
    match direction.map(str::to_ascii_lowercase).as_deref() {
        None => {}
        Some("asc" | "ascending") => descending = Some(false),
        Some("desc" | "descending") => descending = Some(true),
        Some(other) => {
            return Err(CompileError::invalid(format!("`{other}` is no direction; write ASC or DESC")));
        }
    }
    match nulls.map(str::to_ascii_lowercase).as_deref() {
        None => {}
        Some("first") => nulls_first = Some(true),
        Some("last") => nulls_first = Some(false),
        Some(other) => {
            return Err(CompileError::invalid(format!("`{other}` places no NULLs; write FIRST or LAST")));
        }
    }
    Ok((words.join(" "), descending.unwrap_or(false), nulls_first))
}
