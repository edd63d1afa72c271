//! The semantic catalog as it is served: with everything that requests need, made once a catalog and clearance.
//!
//! V1 A served catalog never changes: who holds a view keeps it to the end of the request.
//! V2 Nothing in here is about one caller; what is, such as claims, comes in when a relation is judged.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use datafusion::datasource::TableProvider;
use datafusion::sql::sqlparser;
use datafusion::sql::sqlparser::ast::{Expr, Ident, Value, visit_expressions_mut};
use datafusion::sql::sqlparser::dialect::{PostgreSqlDialect, SnowflakeDialect};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Engine;
use super::linking::Linking;
use super::semantic_table::SemanticTable;
use crate::auth::{Operation, Principal, Sensitivity};
use crate::guard::{Column, Dialect, Judge, Relation, SharedRelations, Verdict};
use crate::semantic::compile::{Compiler, case_when};
use crate::semantic::{self, Catalog, Dataset, Field, Finder, Model, Policy, Severity, Tables};

/// A catalog with one view a clearance.
#[derive(Debug)]
pub(super) struct Served {
    pub catalog: Catalog,
    views: [Arc<View>; 3],
    pub linking: Arc<Linking>,
}

/// What callers of one clearance may know.
#[derive(Debug)]
pub(super) struct View {
    pub models: Vec<Arc<Model>>,
    pub tables: Tables,
    providers: Vec<(&'static str, Arc<dyn TableProvider>)>,
    prepared: Arc<Prepared>,
}

/// What is made of the models alone, and hence shared by clearances that see the same.
#[derive(Debug)]
struct Prepared {
    /// As the embedded engine reads them.
    here: Arc<Part>,
    /// As a warehouse reads its own, by its name; made when first asked for.
    there: Mutex<HashMap<String, Arc<Part>>>,
    finder: OnceLock<Finder>,
    compiler: OnceLock<Compiler>,
}

/// All relations in one dialect, with what is enforced on them.
///
/// V3 Names are kept for all of them, parsed expressions for those that queries named lately: a tree takes kilobytes,
/// and a catalog may have hundreds of thousands.
#[derive(Debug)]
pub(super) struct Part {
    dialect: Dialect,
    relations: Arc<SharedRelations>,
    /// The dataset behind each relation, by position: its model, and its place there.
    datasets: Vec<(Arc<Model>, usize)>,
    parsed: Cache<usize, Arc<Expressions>, ByCount>,
}

/// The columns of one relation that are not read as they are, by position.
#[derive(Debug, Default)]
struct Expressions {
    computed: Vec<(usize, Arc<Expr>)>,
    masks: Vec<(usize, Arc<Policy>)>,
}

/// Expressions that are kept parsed in one part, some kilobytes each.
const PARSED_EXPRESSIONS: u64 = 8_192;

/// Weighs what is kept by the number of its expressions.
#[derive(Debug, Clone)]
struct ByCount;

impl Weighter<usize, Arc<Expressions>> for ByCount {
    fn weight(&self, _: &usize, expressions: &Arc<Expressions>) -> u64 {
        // Even none takes a place.
        expressions.computed.len().max(1) as u64
    }
}

/// How the semantic layer is, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemanticState {
    pub models: usize,
    /// Findings that keep something from being served.
    pub errors: usize,
    /// Models served as they were before their last, broken edit.
    pub stale: usize,
}

impl Served {
    pub fn new(catalog: Catalog) -> Self {
        let models = catalog.visible_to(Sensitivity::HighlySensitive);
        let tables = Tables::build(&models);
        // Findings quote the files, which name everything: only the highest clearance reads them as a table.
        let all = tables.clone().with_policies_and_findings(&models, &catalog.diagnostics);
        let prepared = Arc::new(Prepared::new(&models));
        let highest = Arc::new(View::new(models.clone(), all, prepared.clone()));
        let without = Arc::new(View::new(models, tables, prepared));
        let protected = View::below(&catalog, Sensitivity::Protected, &without);
        let public = View::below(&catalog, Sensitivity::Public, &protected);
        let views = [public, protected, highest];
        let linking = Arc::new(Linking::new(std::array::from_fn(|at| views[at].models.as_slice())));
        Self { catalog, views, linking }
    }

    pub fn view(&self, principal: &Principal) -> &Arc<View> {
        &self.views[principal.sensitivity() as usize]
    }

    pub fn state(&self) -> SemanticState {
        let is_error = |severity| severity == Severity::Error;
        SemanticState {
            models: self.catalog.models.len(),
            errors: self.catalog.diagnostics.iter().filter(|found| is_error(found.severity)).count(),
            stale: self.catalog.stale.len(),
        }
    }
}

impl Engine {
    /// How the semantic layer is, for the doors that tell operators.
    pub fn semantic_state(&self) -> SemanticState {
        self.served.load().state()
    }
}

impl Prepared {
    fn new(models: &[Arc<Model>]) -> Self {
        Self {
            here: Arc::new(Part::new(models, Dialect::DataFusion, |_, _| Vec::new())),
            there: Mutex::default(),
            finder: OnceLock::new(),
            compiler: OnceLock::new(),
        }
    }
}

impl Part {
    /// `source` gives the parts of a dataset's physical name where the part's engine has it, none where it has not.
    fn new(
        models: &[Arc<Model>],
        dialect: Dialect,
        source: impl Fn(&Model, &Dataset) -> Vec<String>,
    ) -> Self {
        let (mut relations, mut datasets) = (Vec::new(), Vec::new());
        for model in models {
            for (place, dataset) in model.datasets.iter().enumerate() {
                relations.push(relation(model, dataset, dialect, source(model, dataset)));
                datasets.push((model.clone(), place));
            }
        }
        let estimated = usize::try_from(PARSED_EXPRESSIONS / 16).unwrap_or_default();
        Self {
            dialect,
            relations: Arc::new(SharedRelations::new(relations)),
            datasets,
            parsed: Cache::with_weighter(estimated, PARSED_EXPRESSIONS, ByCount),
        }
    }

    fn dataset(&self, position: usize) -> Option<&Dataset> {
        let (model, place) = self.datasets.get(position)?;
        model.datasets.get(*place)
    }

    /// The expressions of a relation's columns, parsed if they are not at hand.
    fn expressions(&self, position: usize, dataset: &Dataset) -> Arc<Expressions> {
        if let Some(known) = self.parsed.get(&position) {
            return known;
        }
        let mut made = Expressions::default();
        for (at, (field, expression)) in columns(dataset, self.dialect).enumerate() {
            made.computed.extend(expression.map(|expression| (at, Arc::new(expression))));
            made.masks.extend(field.mask.clone().filter(|_| field.is_masked).map(|mask| (at, mask)));
        }
        let made = Arc::new(made);
        self.parsed.insert(position, made.clone());
        made
    }

    pub fn relations(&self) -> Arc<SharedRelations> {
        self.relations.clone()
    }
}

impl View {
    fn new(models: Vec<Arc<Model>>, tables: Tables, prepared: Arc<Prepared>) -> Self {
        let provider = |name: &&'static str| {
            let table = tables.get(name)?.clone();
            Some((*name, Arc::new(SemanticTable::new(table)) as Arc<dyn TableProvider>))
        };
        let providers = semantic::TABLE_NAMES.iter().filter_map(provider).collect();
        Self { models, tables, providers, prepared }
    }

    /// The view of a lower clearance; the same where nothing is hidden.
    fn below(catalog: &Catalog, clearance: Sensitivity, above: &Arc<Self>) -> Arc<Self> {
        let models = catalog.visible_to(clearance);
        let is_same = models.iter().zip(&above.models).all(|(model, other)| Arc::ptr_eq(model, other));
        if is_same {
            return above.clone();
        }
        let (tables, prepared) = (Tables::build(&models), Arc::new(Prepared::new(&models)));
        Arc::new(Self::new(models, tables, prepared))
    }

    /// Every relation as the embedded engine reads it.
    pub fn here(&self) -> Arc<Part> {
        self.prepared.here.clone()
    }

    /// Every relation as `warehouse` reads it; `source` gives the physical names of those that it has.
    pub fn there(
        &self,
        warehouse: &str,
        dialect: Dialect,
        source: impl Fn(&Model, &Dataset) -> Vec<String>,
    ) -> Arc<Part> {
        let mut there = self.prepared.there.lock().unwrap_or_else(PoisonError::into_inner);
        let made = there.entry(warehouse.to_owned());
        made.or_insert_with(|| Arc::new(Part::new(&self.models, dialect, source))).clone()
    }

    /// Whether callers see only some rows, or some masks, of a dataset.
    pub fn is_restricted(&self, model: &str, dataset: &str) -> bool {
        let model = self.models.iter().find(|known| known.name == model);
        model.and_then(|model| model.dataset(dataset)).is_some_and(|dataset| {
            dataset.row_filter.is_some() || dataset.fields.iter().any(|field| field.is_masked)
        })
    }

    /// Made at the first use; that takes seconds for hundreds of thousands of fields, so not on a thread of the runtime.
    pub fn finder(&self) -> &Finder {
        self.prepared.finder.get_or_init(|| Finder::new(&self.models))
    }

    /// Made at the first use, off the runtime as well.
    pub fn compiler(&self) -> &Compiler {
        self.prepared.compiler.get_or_init(|| Compiler::new(&self.models))
    }

    pub fn provider(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.providers.iter().find(|(table, _)| *table == name).map(|(_, provider)| provider.clone())
    }
}

/// The relation of a dataset, without what depends on the caller or has to be parsed.
fn relation(model: &Model, dataset: &Dataset, dialect: Dialect, source: Vec<String>) -> Relation {
    let column = |(field, _): (&Field, _)| Column { name: field.name.clone(), expression: None };
    Relation {
        schema: model.name.clone(),
        name: dataset.name.clone(),
        source,
        columns: columns(dataset, dialect).map(column).collect(),
        row_filter: None,
        missing_scope: None,
    }
}

/// The fields that are columns in a dialect, in order, with their expressions where they have one of their own.
fn columns(dataset: &Dataset, dialect: Dialect) -> impl Iterator<Item = (&Field, Option<Expr>)> {
    dataset.fields.iter().filter_map(move |field| match field.is_masked {
        true => Some((field, Some(no_value(field, dialect)))),
        // In the language of another tool: known, described, and not a column.
        false => Some((field, expression_of(field, dialect)?)),
    })
}

/// `Some(None)` is the physical column of the same name.
fn expression_of(field: &Field, dialect: Dialect) -> Option<Option<Expr>> {
    let own = match dialect {
        Dialect::DataFusion => None,
        Dialect::PostgreSql => Some("POSTGRESQL"),
        Dialect::Snowflake => Some("SNOWFLAKE"),
    };
    let text = match own.and_then(|own| field.expression.in_dialect(own)) {
        Some(text) => text,
        // PostgreSQL's is also what the embedded engine reads in want of a better one.
        None => field.expression.text_for_engine()?,
    };
    if text == field.name || text == semantic::quote(&field.name) {
        return Some(None);
    }
    match dialect {
        Dialect::DataFusion => semantic::parse_expression(text).ok(),
        Dialect::PostgreSql => parsed(&PostgreSqlDialect {}, text),
        Dialect::Snowflake => parsed(&SnowflakeDialect, text),
    }
    .map(Some)
}

/// One whole expression.
fn parsed(dialect: &dyn sqlparser::dialect::Dialect, text: &str) -> Option<Expr> {
    let mut parser = sqlparser::parser::Parser::new(dialect).try_with_sql(text).ok()?;
    let expression = parser.parse_expr().ok()?;
    (parser.peek_token().token == sqlparser::tokenizer::Token::EOF).then_some(expression)
}

/// NULL of the field's own type, which functions over it need; nothing of the column is read for it.
fn no_value(field: &Field, dialect: Dialect) -> Expr {
    let result = match expression_of(field, dialect) {
        Some(Some(expression)) => expression,
        Some(None) => Expr::Identifier(Ident::with_quote('"', dialect.published(&field.name))),
        None => return Expr::Value(Value::Null.with_empty_span()),
    };
    case_when(Expr::Value(Value::Boolean(false).with_empty_span()), result)
}

/// A policy with the columns as the dialect's warehouse calls them: a policy is kept with the exact names of the model.
fn called(mut policy: Expr, dialect: Dialect) -> Expr {
    let rename = |ident: &mut Ident| {
        if ident.quote_style.is_some() {
            ident.value = dialect.published(&ident.value).into_owned();
        }
    };
    let walked: ControlFlow<()> = visit_expressions_mut(&mut policy, |expr| {
        match expr {
            Expr::Identifier(ident) => rename(ident),
            Expr::CompoundIdentifier(idents) => idents.iter_mut().for_each(rename),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    debug_assert!(walked.is_continue());
    policy
}

/// Judges the relations of a view for one caller.
pub(super) struct CallerJudge {
    pub principal: Arc<Principal>,
    /// Whether the caller may read about every dataset of its clearance.
    pub may_read: bool,
    pub part: Arc<Part>,
}

impl CallerJudge {
    fn may_run(&self, relation: &Relation) -> bool {
        Operation::SqlRun.authorize(&self.principal, Some(&target(relation))).is_ok()
    }
}

fn target(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.name)
}

impl Judge for CallerJudge {
    /// Who may neither read about a dataset nor run it does not learn that it exists.
    fn may_know(&self, _: usize, relation: &Relation) -> bool {
        self.may_read || self.may_run(relation)
    }

    fn judge(&self, position: usize, relation: &Relation) -> Verdict {
        if !self.may_run(relation) {
            let required = Operation::SqlRun.required_scope(Some(&target(relation)));
            return match required {
                Some(scope) if self.may_read => Verdict::Needs(scope.to_string()),
                _ => Verdict::Absent,
            };
        }
        let Some(dataset) = self.part.dataset(position) else { return Verdict::Absent };
        let expressions = self.part.expressions(position, dataset);
        let claims = &self.principal.claims;
        let filled = |policy: &Policy| policy.for_claims(claims).map(|made| called(made, self.part.dialect));
        let no_row = || Expr::Value(Value::Boolean(false).with_empty_span());
        let masks = expressions.masks.iter().filter_map(|(at, mask)| Some((*at, Arc::new(filled(mask)?))));
        Verdict::Open {
            row_filter: dataset
                .row_filter
                .as_ref()
                .map(|policy| Box::new(filled(policy).unwrap_or_else(no_row))),
            columns: expressions.computed.iter().cloned().chain(masks).collect(),
        }
    }
}
