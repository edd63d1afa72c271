//! Random data under random policies, and what a caller is permitted of it, worked out here without any SQL.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::{Value as Json, json};

use super::choices::Choices;
use crate::auth::Sensitivity;

/// A column's value of a row, from its own and all of them.
type Compute = Box<dyn Fn(&Value, &[Value]) -> Value>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
}

use Value::{Int, Null, Text};

/// What a column holds; `Any` is a column of nothing but NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Int,
    Text,
    Any,
}

pub const INTS: std::ops::Range<i64> = -2..6;
const TEXTS: &[&str] = &["a", "b", "", "B'", "a\\", "ü", "%", "aa"];

/// How a field comes from its physical column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Derived {
    Same,
    Renamed,
    /// One more, or with an exclamation mark behind it.
    Computed,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    derived: Derived,
    sensitivity: Sensitivity,
    mask: Option<Mask>,
}

#[derive(Debug, Clone)]
enum Mask {
    Null,
    Constant(Value),
    ConstantUnlessNull(Value),
    /// `LEFT(f, 1) || '***'`, or `f % 2`.
    Part,
    Other(String),
    Claim(&'static str),
}

#[derive(Debug, Clone)]
enum Operand {
    Literal(Value),
    Claim(&'static str),
}

#[derive(Debug, Clone)]
enum Filter {
    Compare(String, &'static str, Operand),
    In(String, Vec<Operand>),
    IsNull(String),
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
}

#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    sensitivity: Sensitivity,
    pub fields: Vec<Field>,
    filter: Option<Filter>,
    /// Of the fields, unmasked.
    rows: Vec<Vec<Value>>,
    /// Written as two files in a folder.
    is_split: bool,
}

#[derive(Debug)]
pub struct Caller {
    pub claims: BTreeMap<&'static str, Json>,
    clearance: Sensitivity,
    /// The only tables whose SQL scope it holds; `None`: all.
    only: Option<Vec<usize>>,
}

#[derive(Debug)]
pub struct World {
    pub tables: Vec<Table>,
    pub caller: Caller,
}

/// A table as the caller may see it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub name: String,
    pub columns: Vec<(String, Kind)>,
    pub rows: Vec<Vec<Value>>,
    /// By column: values of hidden rows, or behind a mask, that no permitted row has.
    pub hidden: Vec<Vec<i64>>,
    /// Names that exist, but not for the caller.
    pub denied: Vec<String>,
}

impl World {
    pub fn new(choices: &mut Choices<'_>) -> Self {
        let tables = (0..2 + choices.pick(2)).map(|number| table(choices, number)).collect::<Vec<_>>();
        let clearance = *choices.of(&[
            Sensitivity::Public,
            Sensitivity::Public,
            Sensitivity::Protected,
            Sensitivity::HighlySensitive,
        ]);
        let only = choices.once_in(5).then(|| {
            let mut some = vec![choices.pick(tables.len())];
            some.extend(choices.once_in(2).then(|| choices.pick(tables.len())));
            some
        });
        Self { caller: Caller { claims: claims(choices), clearance, only }, tables }
    }

    /// The scopes that the caller's token holds.
    pub fn scopes(&self) -> String {
        let mut scopes = match &self.caller.only {
            None => "semantic:read sql:run".to_owned(),
            // Without `semantic:read`: what may not be run is then not known of either.
            Some(only) => {
                let names = only.iter().map(|at| format!("sql:run:m.{}", self.tables[*at].name));
                names.collect::<Vec<_>>().join(" ")
            }
        };
        match self.caller.clearance {
            Sensitivity::Public => {}
            Sensitivity::Protected => scopes.push_str(" data:protected"),
            Sensitivity::HighlySensitive => scopes.push_str(" data:highly_sensitive"),
        }
        scopes
    }

    /// The tables as published, as a model; `folder` is the schema in the warehouse.
    pub fn model(&self, folder: &str) -> String {
        let datasets: Vec<Json> = self.tables.iter().map(|table| table.definition(folder)).collect();
        json!({"name": "m", "description": "A world.", "datasets": datasets}).to_string()
    }

    /// Writes the data below `folder`, with a column that no field publishes.
    pub fn write(&self, folder: &Path) {
        for table in &self.tables {
            let mut columns: Vec<(String, Kind)> =
                table.fields.iter().map(|field| (field.physical(), field.kind)).collect();
            columns.push(("secret".to_owned(), Kind::Int));
            let physical = |row: &Vec<Value>| -> Vec<Value> {
                let values = row.iter().zip(&table.fields).map(|(value, field)| field.stored(value));
                values.chain([Int(41)]).collect()
            };
            let rows: Vec<Vec<Value>> = table.rows.iter().map(physical).collect();
            write(folder, &table.name, &columns, &rows, table.is_split);
        }
    }

    /// What the caller may see, by the meaning of the policies.
    pub fn seen(&self) -> Vec<Seen> {
        let may_run = |at: usize| self.caller.only.as_ref().is_none_or(|only| only.contains(&at));
        let tables = self.tables.iter().enumerate();
        let visible = tables.filter(|(at, table)| may_run(*at) && table.sensitivity <= self.caller.clearance);
        visible.map(|(_, table)| table.seen(&self.caller)).collect()
    }

    pub fn hidden_tables(&self) -> Vec<String> {
        let seen = self.seen();
        let names = self.tables.iter().map(|table| table.name.clone());
        names.filter(|name| seen.iter().all(|table| table.name != *name)).collect()
    }

    /// Whether anything is withheld from the caller.
    pub fn is_restricted(&self) -> bool {
        let whole = |seen: &Seen| {
            let table = self.tables.iter().find(|table| table.name == seen.name);
            table.is_some_and(|table| table.rows == seen.rows)
        };
        let seen = self.seen();
        seen.len() < self.tables.len() || !seen.iter().all(whole)
    }
}

impl Seen {
    /// Writes it as a table of its own. A column of nothing but NULL has no type to be written with, and is published
    /// as an expression instead.
    pub fn write(&self, folder: &Path) {
        let (mut columns, mut rows) = (self.columns.clone(), self.rows.clone());
        for at in (0..columns.len()).rev().filter(|at| self.columns[*at].1 == Kind::Any) {
            columns.remove(at);
            for row in &mut rows {
                row.remove(at);
            }
        }
        write(folder, &self.name, &columns, &rows, false);
    }

    pub fn definition(&self, folder: &str) -> Json {
        let field = |(name, kind): &(String, Kind)| match kind {
            Kind::Any => json!({"name": name, "description": "A field.", "expression": "NULL"}),
            _ => json!({"name": name, "description": "A field."}),
        };
        let (source, fields) =
            (format!("local.{folder}.{}", self.name), self.columns.iter().map(field).collect::<Vec<_>>());
        json!({"name": self.name, "source": source, "description": "A table.", "fields": fields})
    }
}

fn table(choices: &mut Choices<'_>, number: usize) -> Table {
    let levels =
        [Sensitivity::Public, Sensitivity::Public, Sensitivity::Protected, Sensitivity::HighlySensitive];
    let mut fields: Vec<Field> = Vec::new();
    for at in 0..3 + choices.pick(2) {
        let kind = if at == 0 { Kind::Int } else { *choices.of(&[Kind::Text, Kind::Int]) };
        // The first one is everybody's, so that there is something to select.
        let sensitivity = if at == 0 { Sensitivity::Public } else { *choices.of(&levels) };
        let derived = *choices.of(&[Derived::Same, Derived::Renamed, Derived::Computed]);
        fields.push(Field { name: format!("c{at}"), kind, derived, sensitivity, mask: None });
    }
    for at in 1..fields.len() {
        if fields[at].sensitivity > Sensitivity::Public && !choices.once_in(3) {
            fields[at].mask = Some(mask(choices, &fields[at], &fields));
        }
    }
    let row = |choices: &mut Choices<'_>| -> Vec<Value> {
        let value = |field: &Field, choices: &mut Choices<'_>| match field.kind {
            _ if choices.once_in(6) => Null,
            Kind::Text => Text((*choices.of(TEXTS)).to_owned()),
            _ => Int(INTS.start + choices.pick(8) as i64),
        };
        fields.iter().map(|field| field.made(value(field, choices))).collect()
    };
    let rows = (0..choices.pick(9)).map(|_| row(choices)).collect();
    let filter = choices.pick(4).min(1).eq(&1).then(|| filter(choices, &fields, 2));
    Table {
        name: format!("t{number}"),
        sensitivity: if choices.once_in(6) { Sensitivity::Protected } else { Sensitivity::Public },
        fields,
        filter,
        rows,
        is_split: choices.once_in(3),
    }
}

fn claims(choices: &mut Choices<'_>) -> BTreeMap<&'static str, Json> {
    let mut claims = BTreeMap::new();
    for name in ["n", "s"] {
        let one = |choices: &mut Choices<'_>| match name {
            "n" => Json::from(INTS.start + choices.pick(8) as i64),
            _ => Json::from(*choices.of(TEXTS)),
        };
        match choices.pick(8) {
            0..=2 => claims.insert(name, one(choices)),
            3 => claims.insert(name, json!([one(choices)])),
            4 => claims.insert(name, json!([one(choices), one(choices), one(choices)])),
            5 => claims.insert(name, json!([])),
            6 => claims.insert(name, Json::clone(choices.of(&[Json::Null, json!({"n": 1}), json!([null])]))),
            _ => None,
        };
    }
    claims
}

/// A claim's values, or nothing where it permits nothing.
fn claimed(claims: &BTreeMap<&'static str, Json>, name: &str) -> Option<Vec<Value>> {
    let one = |json: &Json| match json {
        Json::Number(number) => number.as_i64().map(Int),
        Json::String(text) => Some(Text(text.clone())),
        _ => None,
    };
    match claims.get(name)? {
        Json::Array(items) if items.is_empty() => None,
        Json::Array(items) => items.iter().map(one).collect(),
        json => one(json).map(|value| vec![value]),
    }
}

fn literal(value: &Value) -> String {
    match value {
        Null => "NULL".to_owned(),
        Int(number) => number.to_string(),
        Text(text) => format!("'{}'", text.replace('\'', "''")),
    }
}

fn constant(choices: &mut Choices<'_>, kind: Kind) -> Value {
    match kind {
        Kind::Text => Text((*choices.of(&["a", "b", "z!"])).to_owned()),
        _ => Int(choices.pick(5) as i64),
    }
}

fn claim_of(kind: Kind) -> &'static str {
    if kind == Kind::Text { "s" } else { "n" }
}

fn mask(choices: &mut Choices<'_>, field: &Field, fields: &[Field]) -> Mask {
    match choices.pick(6) {
        0 => Mask::Null,
        1 => Mask::Constant(constant(choices, field.kind)),
        2 => Mask::ConstantUnlessNull(constant(choices, field.kind)),
        3 => Mask::Part,
        4 => Mask::Other(choices.of(fields).name.clone()),
        _ => Mask::Claim(claim_of(field.kind)),
    }
}

fn filter(choices: &mut Choices<'_>, fields: &[Field], depth: usize) -> Filter {
    let field = choices.of(fields).clone();
    let operand = |choices: &mut Choices<'_>| match choices.pick(2) {
        0 => Operand::Literal(constant(choices, field.kind)),
        _ => Operand::Claim(claim_of(field.kind)),
    };
    match choices.pick(if depth == 0 { 4 } else { 7 }) {
        0 | 1 => {
            let operator = *choices.of(&["=", "<>", "<", ">="]);
            Filter::Compare(field.name.clone(), operator, operand(choices))
        }
        2 => {
            let items = (0..1 + choices.pick(3)).map(|_| operand(choices)).collect();
            Filter::In(field.name.clone(), items)
        }
        3 => Filter::IsNull(field.name.clone()),
        at => {
            let one = Box::new(filter(choices, fields, depth - 1));
            match at {
                4 => Filter::Not(one),
                5 => Filter::And(one, Box::new(filter(choices, fields, depth - 1))),
                _ => Filter::Or(one, Box::new(filter(choices, fields, depth - 1))),
            }
        }
    }
}

impl Field {
    fn physical(&self) -> String {
        if self.derived == Derived::Same { self.name.clone() } else { self.name.replace('c', "p") }
    }

    fn expression(&self) -> String {
        match (self.derived, self.kind) {
            (Derived::Computed, Kind::Text) => format!("{} || '!'", self.physical()),
            (Derived::Computed, _) => format!("{} + 1", self.physical()),
            _ => self.physical(),
        }
    }

    /// The field's value where the column holds `stored`.
    fn made(&self, stored: Value) -> Value {
        match (self.derived, stored) {
            (Derived::Computed, Text(text)) => Text(text + "!"),
            (Derived::Computed, Int(number)) => Int(number + 1),
            (_, value) => value,
        }
    }

    /// The other way round.
    fn stored(&self, value: &Value) -> Value {
        match (self.derived, value) {
            (Derived::Computed, Text(text)) => Text(text.strip_suffix('!').unwrap_or(text).to_owned()),
            (Derived::Computed, Int(number)) => Int(number - 1),
            (_, value) => value.clone(),
        }
    }
}

impl Mask {
    fn text(&self, field: &Field) -> String {
        let name = &field.name;
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Constant(value) => literal(value),
            Self::ConstantUnlessNull(value) => {
                format!("CASE WHEN {name} IS NULL THEN NULL ELSE {} END", literal(value))
            }
            Self::Part if field.kind == Kind::Text => format!("LEFT({name}, 1) || '***'"),
            Self::Part => format!("{name} % 2"),
            Self::Other(other) => other.clone(),
            Self::Claim(claim) => format!("{{{{claims.{claim}}}}}"),
        }
    }

    /// Kind of the masked column, and how a row's value comes about.
    fn applied(&self, field: &Field, fields: &[Field], caller: &Caller) -> (Kind, Compute) {
        match self {
            Self::Null => (Kind::Any, Box::new(|_, _| Null)),
            Self::Constant(value) => {
                let value = value.clone();
                (field.kind, Box::new(move |_, _| value.clone()))
            }
            Self::ConstantUnlessNull(value) => {
                let value = value.clone();
                (field.kind, Box::new(move |own, _| if *own == Null { Null } else { value.clone() }))
            }
            Self::Part => (
                field.kind,
                Box::new(|own, _| match own {
                    Null => Null,
                    Int(number) => Int(number % 2),
                    Text(text) => Text(text.chars().take(1).collect::<String>() + "***"),
                }),
            ),
            Self::Other(other) => {
                let at = fields.iter().position(|field| field.name == *other).unwrap();
                (fields[at].kind, Box::new(move |_, row| row[at].clone()))
            }
            Self::Claim(name) => match claimed(&caller.claims, name).as_deref() {
                Some([value]) => {
                    let value = value.clone();
                    (field.kind, Box::new(move |_, _| value.clone()))
                }
                _ => (Kind::Any, Box::new(|_, _| Null)),
            },
        }
    }
}

impl Operand {
    fn text(&self) -> String {
        match self {
            Self::Literal(value) => literal(value),
            Self::Claim(name) => format!("{{{{claims.{name}}}}}"),
        }
    }

    fn values(&self, caller: &Caller) -> Option<Vec<Value>> {
        match self {
            Self::Literal(value) => Some(vec![value.clone()]),
            Self::Claim(name) => claimed(&caller.claims, name),
        }
    }
}

impl Filter {
    fn text(&self) -> String {
        match self {
            Self::Compare(field, operator, operand) => format!("{field} {operator} {}", operand.text()),
            Self::In(field, items) => {
                let items: Vec<String> = items.iter().map(Operand::text).collect();
                format!("{field} IN ({})", items.join(", "))
            }
            Self::IsNull(field) => format!("{field} IS NULL"),
            Self::And(a, b) => format!("({} AND {})", a.text(), b.text()),
            Self::Or(a, b) => format!("({} OR {})", a.text(), b.text()),
            Self::Not(a) => format!("NOT ({})", a.text()),
        }
    }

    /// Whether every claim that it asks for is there and of the right shape; else it permits no row.
    fn is_open(&self, caller: &Caller) -> bool {
        match self {
            Self::Compare(_, _, operand) => operand.values(caller).is_some_and(|values| values.len() == 1),
            Self::In(_, items) => items.iter().all(|item| item.values(caller).is_some()),
            Self::IsNull(_) => true,
            Self::And(a, b) | Self::Or(a, b) => a.is_open(caller) && b.is_open(caller),
            Self::Not(a) => a.is_open(caller),
        }
    }

    /// SQL's three values; `None` is unknown.
    fn holds(&self, fields: &[Field], row: &[Value], caller: &Caller) -> Option<bool> {
        let value = |name: &String| {
            let at = fields.iter().position(|field| field.name == *name).unwrap();
            Some(row[at].clone()).filter(|value| *value != Null)
        };
        match self {
            Self::Compare(field, operator, operand) => {
                let (left, right) = (value(field)?, operand.values(caller)?.remove(0));
                Some(match *operator {
                    "=" => left == right,
                    "<>" => left != right,
                    "<" => left < right,
                    _ => left >= right,
                })
            }
            Self::In(field, items) => {
                let left = value(field)?;
                Some(items.iter().flat_map(|item| item.values(caller).unwrap()).any(|item| item == left))
            }
            Self::IsNull(field) => Some(value(field).is_none()),
            Self::And(a, b) => match (a.holds(fields, row, caller), b.holds(fields, row, caller)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(a, b) => match (a.holds(fields, row, caller), b.holds(fields, row, caller)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(a) => a.holds(fields, row, caller).map(|holds| !holds),
        }
    }
}

impl Table {
    fn definition(&self, folder: &str) -> Json {
        let level = |sensitivity| match sensitivity {
            Sensitivity::Public => "public",
            Sensitivity::Protected => "protected",
            Sensitivity::HighlySensitive => "highly_sensitive",
        };
        let fields = self.fields.iter().map(|field| {
            let mut definition = json!({
                "name": field.name, "description": "A field.", "expression": field.expression(),
                "sensitivity": level(field.sensitivity),
            });
            if let Some(mask) = &field.mask {
                definition["access"] = json!({"mask": mask.text(field)});
            }
            definition
        });
        let mut definition = json!({
            "name": self.name, "source": format!("local.{folder}.{}", self.name), "description": "A table.",
            "sensitivity": level(self.sensitivity), "fields": fields.collect::<Vec<_>>(),
        });
        if let Some(filter) = &self.filter {
            definition["access"] = json!({"row_filter": filter.text()});
        }
        definition
    }

    fn seen(&self, caller: &Caller) -> Seen {
        let is_permitted = |row: &&Vec<Value>| match &self.filter {
            None => true,
            Some(filter) => filter.is_open(caller) && filter.holds(&self.fields, row, caller) == Some(true),
        };
        let mut seen = Seen {
            name: self.name.clone(),
            columns: Vec::new(),
            rows: self.rows.iter().filter(is_permitted).map(|_| Vec::new()).collect(),
            hidden: Vec::new(),
            denied: vec!["secret".to_owned()],
        };
        for (at, field) in self.fields.iter().enumerate() {
            if field.derived != Derived::Same {
                seen.denied.push(field.physical());
            }
            let is_clear = field.sensitivity <= caller.clearance;
            let (kind, value): (Kind, Compute) = match (&field.mask, is_clear) {
                (_, true) => (field.kind, Box::new(|own, _| own.clone())),
                (Some(mask), false) => mask.applied(field, &self.fields, caller),
                (None, false) => {
                    seen.denied.push(field.name.clone());
                    continue;
                }
            };
            for (row, permitted) in seen.rows.iter_mut().zip(self.rows.iter().filter(is_permitted)) {
                row.push(value(&permitted[at], permitted));
            }
            let column = seen.columns.len();
            let shown = |number: &i64| seen.rows.iter().any(|row| row[column] == Int(*number));
            let raw = self.rows.iter().filter_map(|row| match row[at] {
                Int(number) => Some(number),
                _ => None,
            });
            seen.hidden.push(raw.filter(|number| !shown(number)).collect());
            seen.columns.push((field.name.clone(), kind));
        }
        seen
    }
}

fn write(folder: &Path, name: &str, columns: &[(String, Kind)], rows: &[Vec<Value>], is_split: bool) {
    let batch = |rows: &[Vec<Value>]| {
        let array = |at: usize, kind: Kind| -> ArrayRef {
            let values = rows.iter().map(|row| &row[at]);
            match kind {
                Kind::Int | Kind::Any => Arc::new(Int64Array::from_iter(values.map(|value| match value {
                    Int(number) => Some(*number),
                    _ => None,
                }))),
                Kind::Text => Arc::new(StringArray::from_iter(values.map(|value| match value {
                    Text(text) => Some(text.as_str()),
                    _ => None,
                }))),
            }
        };
        let arrays = columns.iter().enumerate().map(|(at, (name, kind))| (name, array(at, *kind), true));
        RecordBatch::try_from_iter_with_nullable(arrays).unwrap()
    };
    let file = |path: &Path, rows: &[Vec<Value>]| {
        let batch = batch(rows);
        // Several row groups, so that statistics have something to skip.
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(3)).build();
        let file = std::fs::File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    };
    if is_split {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (first, second) = rows.split_at(rows.len() / 2);
        file(&folder.join("a.parquet"), first);
        file(&folder.join("b.parquet"), second);
    } else {
        std::fs::create_dir_all(folder).unwrap();
        file(&folder.join(format!("{name}.parquet")), rows);
    }
}
