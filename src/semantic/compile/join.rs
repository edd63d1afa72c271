//! FROM: one dataset and what is joined to it for grouping, filtering and measuring.
//!
//! J1 rows of the home dataset are never dropped: every join is a LEFT JOIN. J2 whether rows of the home dataset may be
//! repeated is known, so that the caller takes each once. J3 a dataset reached in two ways stands there twice.
//! J4 a row that reaches something through a bridge is not also among those that reach nothing: what is behind the first
//! repeating hop is joined as a whole.

use std::collections::{BTreeSet, HashMap};

use datafusion::sql::sqlparser::ast::{Expr, Ident};

use super::error::{CompileCode, CompileError, Result};
use super::expr::{self, Names, Relations, as_column};
use super::graph::Step;

struct Node {
    dataset: usize,
    alias: String,
    parent: usize,
    step: Option<Step>,
    /// Columns of it are read, besides those that join.
    direct: bool,
    /// Windowed fields that are read of it.
    windowed: BTreeSet<String>,
}

pub(super) struct Joins<'a> {
    names: Names<'a>,
    nodes: Vec<Node>,
    by_step: HashMap<(usize, usize, bool), usize>,
    /// Some join may repeat rows of the home dataset.
    pub fans: bool,
}

impl<'a> Joins<'a> {
    pub fn new(names: Names<'a>, home: usize) -> Self {
        let alias = names.graph.name(home).to_owned();
        let node =
            Node { dataset: home, alias, parent: 0, step: None, direct: true, windowed: BTreeSet::new() };
        Self { names, nodes: vec![node], by_step: HashMap::new(), fans: false }
    }

    pub fn home(&self) -> usize {
        self.nodes[0].dataset
    }

    pub fn datasets(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().map(|node| node.dataset)
    }

    pub fn edges(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().filter_map(|node| node.step).map(|step| step.edge)
    }

    /// The expression over this FROM's aliases, joining what it needs. `hints`: relationships to go by.
    pub fn localize(&mut self, expr: &Expr, hints: &[&[usize]]) -> Result<Expr> {
        let mut local = expr.clone();
        expr::replace(&mut local, |node| {
            let Some(column) = as_column(node) else { return Ok(None) };
            let at = self.node(column.dataset, hints)?;
            let name = if column.windowed {
                self.nodes[at].windowed.insert(column.name.value.clone());
                Ident::with_quote('"', column.name.value)
            } else {
                column.name
            };
            Ok(Some(Expr::CompoundIdentifier(vec![self.alias(at), name])))
        })?;
        Ok(local)
    }

    /// The columns of the home dataset's key, which tells its rows apart.
    pub fn key(&mut self) -> Result<Vec<Expr>> {
        let home = self.home();
        let graph = self.names.graph;
        let key = graph.key(home).ok_or_else(|| {
            let name = graph.name(home);
            CompileError::new(
                CompileCode::MnNoSafeRewrite,
                format!(
                    "rows of `{name}` would be repeated by a join and cannot be told apart, so that there is no safe rewrite; declare the `primary_key` of `{name}`, or go through a bridge dataset"
                ),
            )
        })?;
        key.iter().map(|column| self.column(0, column)).collect()
    }

    fn alias(&self, at: usize) -> Ident {
        Ident::with_quote('"', &self.nodes[at].alias)
    }

    fn node(&mut self, dataset: usize, hints: &[&[usize]]) -> Result<usize> {
        let path = self.names.graph.choose(self.home(), dataset, hints)?;
        let mut at = 0;
        for step in path {
            let key = (at, step.edge, step.forward);
            at = match self.by_step.get(&key) {
                Some(known) => *known,
                None => self.add(at, step),
            };
            self.by_step.insert(key, at);
        }
        self.nodes[at].direct = true;
        Ok(at)
    }

    fn add(&mut self, parent: usize, step: Step) -> usize {
        let dataset = self.names.graph.end(step);
        let name = self.names.graph.name(dataset);
        let taken = |alias: &str| self.nodes.iter().any(|node| node.alias.eq_ignore_ascii_case(alias));
        let mut alias = name.to_owned();
        let mut number = 2;
        while taken(&alias) {
            alias = format!("{name}_{number}");
            number += 1;
        }
        self.fans |= !step.single;
        let windowed = BTreeSet::new();
        self.nodes.push(Node { dataset, alias, parent, step: Some(step), direct: false, windowed });
        self.nodes.len() - 1
    }

    /// A column that a key or a relationship names: a field, or else a physical column.
    fn column(&self, at: usize, name: &str) -> Result<Expr> {
        let node = &self.nodes[at];
        let mut expr = match self.names.graph.find_field(node.dataset, name) {
            Some(_) => self.names.field(node.dataset, name)?,
            None => expr::column(node.dataset, self.names.dialect.ident(name)),
        };
        expr::replace(&mut expr, |inner| match as_column(inner) {
            Some(column) if column.dataset == node.dataset && !column.windowed => {
                Ok(Some(Expr::CompoundIdentifier(vec![self.alias(at), column.name])))
            }
            Some(_) => {
                let message = format!(
                    "the join column `{}.{name}` is computed from another dataset or a window; join by a plain column",
                    self.names.graph.name(node.dataset)
                );
                Err(CompileError::new(CompileCode::InvalidModel, message))
            }
            None => Ok(None),
        })?;
        Ok(expr)
    }

    /// The text after FROM.
    pub fn text(&self) -> Result<String> {
        let mut text = self.relation(0)?;
        let mut done = BTreeSet::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(step) = node.step.filter(|_| !done.contains(&at)) else { continue };
            let behind = if step.single { Vec::new() } else { self.behind(at) };
            let mut relation = self.relation(at)?;
            for next in &behind {
                relation.push_str(&format!(
                    " INNER JOIN {} ON {}",
                    self.relation(*next)?,
                    self.condition(*next)?
                ));
            }
            done.extend(behind.iter().copied());
            let relation = if behind.is_empty() { relation } else { format!("({relation})") };
            text.push_str(&format!("\nLEFT JOIN {relation} ON {}", self.condition(at)?));
        }
        Ok(text)
    }

    /// J4. What is reached through a node of which nothing else is read.
    fn behind(&self, start: usize) -> Vec<usize> {
        let mut chain = Vec::new();
        let mut at = start;
        while !self.nodes[at].direct {
            let is_child = |(_, node): &(usize, &Node)| node.step.is_some() && node.parent == at;
            let mut children = self.nodes.iter().enumerate().filter(is_child).map(|(child, _)| child);
            let (Some(only), None) = (children.next(), children.next()) else { break };
            chain.push(only);
            at = only;
        }
        chain
    }

    fn condition(&self, at: usize) -> Result<String> {
        let node = &self.nodes[at];
        let Some(step) = node.step else { return Ok(String::new()) };
        let dialect = self.names.dialect;
        let link = self.names.graph.relationship(step.edge);
        let mut conditions = Vec::new();
        for (from, to) in link.from_columns.iter().zip(&link.to_columns) {
            let (ours, theirs) = if step.forward { (from, to) } else { (to, from) };
            let left = dialect.print(&self.column(node.parent, ours)?);
            let right = dialect.print(&self.column(at, theirs)?);
            conditions.push(format!("{left} = {right}"));
        }
        if conditions.is_empty() {
            let message =
                format!("relationship `{}` names no columns; add from_columns and to_columns", link.name);
            return Err(CompileError::new(CompileCode::InvalidModel, message));
        }
        Ok(conditions.join(" AND "))
    }

    fn relation(&self, at: usize) -> Result<String> {
        let node = &self.nodes[at];
        let dialect = self.names.dialect;
        let dataset = self.names.graph.dataset(node.dataset);
        let source = match self.names.relations {
            Relations::Published => {
                format!("{}.{}", dialect.name(&self.names.graph.model.name), dialect.name(&dataset.name))
            }
            Relations::Physical => physical(&dataset.relation)?,
        };
        let alias = dialect.alias(&node.alias);
        if node.windowed.is_empty() {
            return Ok(format!("{source} AS {alias}"));
        }
        let mut fields = Vec::new();
        for field in &node.windowed {
            let mut window = expr::window_of(&self.names, node.dataset, field)?;
            expr::replace(&mut window, |inner| {
                Ok(as_column(inner).map(|column| Expr::CompoundIdentifier(vec![self.alias(at), column.name])))
            })?;
            fields.push(format!("{} AS {}", dialect.print(&window), dialect.alias(field)));
        }
        Ok(format!("(SELECT {alias}.*, {} FROM {source} AS {alias}) AS {alias}", fields.join(", ")))
    }
}

/// A dataset's source as a relation: up to three names, each as it stands if it can be, or a query.
fn physical(source: &str) -> Result<String> {
    let trimmed = source.trim();
    let bad = |why: &str| {
        let message = format!("the source `{trimmed}` {why}; write `database.schema.table`, or a SELECT");
        CompileError::new(CompileCode::InvalidModel, message)
    };
    let inner = trimmed.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(trimmed);
    let word = inner.split_whitespace().next().unwrap_or_default();
    if word.eq_ignore_ascii_case("select") || word.eq_ignore_ascii_case("with") {
        use datafusion::sql::sqlparser::{ast::Statement, dialect::GenericDialect, parser::Parser};
        let parsed = Parser::parse_sql(&GenericDialect {}, inner).map_err(|_| bad("does not parse"))?;
        return match parsed.as_slice() {
            [Statement::Query(_)] => Ok(format!("({inner})")),
            _ => Err(bad("is no query")),
        };
    }
    let plain = |part: &str| {
        let mut characters = part.chars();
        characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
    };
    let quoted = |part: &str| {
        part.len() > 2
            && part.starts_with('"')
            && part.ends_with('"')
            && !part[1..part.len() - 1].contains('"')
    };
    let parts: Vec<&str> = trimmed.split('.').map(str::trim).collect();
    if parts.is_empty() || parts.iter().any(|part| part.is_empty()) {
        return Err(bad("has an empty part"));
    }
    let parts: Vec<String> = parts
        .into_iter()
        .map(|part| match (plain(part) && !super::dialect::is_reserved(part)) || quoted(part) {
            true => part.to_owned(),
            false => format!("\"{}\"", part.replace('"', "\"\"")),
        })
        .collect();
    Ok(parts.join("."))
}
