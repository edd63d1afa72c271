//! Foreign semantic models → Steward's, with a report of everything that did not come over.
//!
//! Pure: texts in, models out. One file (or folder) a format; what they share is in the others.
//! I1 Nothing is dropped silently: a key that no importer asks for is reported with its line ([`keys`]).
//! I2 The result loads: names, keys, columns and expressions are settled for all formats in one place ([`settle`]),
//!    and the written YAML is read back before it is handed out.  I3 All input is read, or nothing comes out.
//! I4 Work is linear in the input: manifests of 50 MB are usual.

pub(super) mod blank;
mod columns;
mod cortex;
mod cube;
mod dbt;
mod keys;
pub(super) mod names;
mod ossie;
mod report;
mod settle;
mod sql;
mod template;
mod wren;

use std::sync::Arc;

use super::export::{Notes, to_files};
use super::node::{self, Node};
use super::{Catalog, Diagnostic, Model, Position, Severity, Source};

pub use report::{Remark, Report};

/// A format that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Snowflake Cortex Analyst semantic models and semantic views, YAML.
    Cortex,
    /// dbt: `semantic_manifest.json`, or YAML with semantic models and metrics, of the legacy or the latest spec.
    Dbt,
    /// Wren's MDL, JSON.
    Wren,
    /// Cube's data model, YAML.
    Cube,
    /// Apache Ossie, YAML or JSON.
    Ossie,
}

/// A file of the input.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// For remarks.
    pub name: String,
    pub text: String,
}

#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Name of the model, where the input has none.
    pub default_name: Option<String>,
    /// Name of the model, whatever the input says. Ignored where the input has several.
    pub name: Option<String>,
    /// First part of every source, instead of the input's database.
    pub warehouse: Option<String>,
    /// Second part of the sources to which the input gives no schema.
    pub schema: Option<String>,
}

/// What came over, and what did not.
#[derive(Debug)]
pub struct Imported {
    pub models: Vec<Model>,
    /// In the order of files and lines.
    pub report: Vec<Remark>,
}

/// Why nothing could be imported.
#[derive(Debug, thiserror::Error)]
#[error("the input cannot be imported: {} finding(s), nothing was written", .0.len())]
pub struct ImportError(pub Vec<Diagnostic>);

/// A file that has been parsed.
struct Parsed {
    name: Arc<str>,
    root: Node,
}

/// Reads all files of one kind into models.
pub fn import(kind: Kind, files: &[SourceFile], options: &ImportOptions) -> Result<Imported, ImportError> {
    let mut report = Report::default();
    let mut errors = Vec::new();
    let mut parsed = Vec::new();
    for file in files {
        match parse(kind, file, &mut report) {
            Ok(root) => parsed.push(Parsed { name: file.name.as_str().into(), root }),
            Err(error) => errors.push(*error),
        }
    }
    if !errors.is_empty() {
        return Err(ImportError(errors));
    }
    let read = match kind {
        Kind::Cortex => cortex::read,
        Kind::Dbt => dbt::read,
        Kind::Wren => wren::read,
        Kind::Cube => cube::read,
        Kind::Ossie => ossie::read,
    };
    let mut models = read(&parsed, options, &mut report)?;
    if let ([model], Some(name)) = (models.as_mut_slice(), &options.name) {
        model.name = names::clean(name);
    }
    models.retain(|model| {
        let is_empty = model.datasets.is_empty();
        if is_empty {
            report.file = model.source.file.clone();
            let what = format!("model `{}`", model.name);
            report.lost(model.source.at, what, "no dataset of it could be read", "");
        }
        !is_empty
    });
    if models.is_empty() {
        let file = files.first().map_or("", |file| file.name.as_str());
        let mut errors =
            vec![error(file, Position { line: 1, column: 1 }, "nothing_to_import", kind.wanted())];
        errors.extend(report.remarks.iter().map(|remark| {
            let at = Position { line: remark.line, column: remark.column };
            error(&remark.file, at, &format!("{}: {}", remark.what, remark.why), &remark.remedy)
        }));
        return Err(ImportError(errors));
    }
    // An Ossie document says what Steward says, in its words: one that loads is not touched.
    if kind != Kind::Ossie || check(&models).is_err() {
        for model in &mut models {
            settle::settle(model, &mut report);
        }
    }
    let mut names = names::Unique::default();
    for model in &mut models {
        model.name = names.take(&model.name);
    }
    check(&models)?;
    let order: std::collections::HashMap<&str, usize> =
        files.iter().enumerate().map(|(position, file)| (file.name.as_str(), position)).collect();
    let mut report = report.remarks;
    report.sort_by_key(|remark| (order.get(remark.file.as_ref()).copied(), remark.line, remark.column));
    Ok(Imported { models, report })
}

impl Kind {
    /// What a file of this kind holds.
    fn wanted(self) -> &'static str {
        match self {
            Self::Cortex => "a Cortex Analyst file has `name:` and `tables:`",
            Self::Dbt => "dbt files have `semantic_models:`, or `models:` with `semantic_model:`",
            Self::Wren => "an MDL file has `models` and `relationships`",
            Self::Cube => "a Cube file has `cubes:`",
            Self::Ossie => "an Ossie document has `name:` and `datasets:`, or `semantic_model:`",
        }
    }
}

fn parse(kind: Kind, file: &SourceFile, report: &mut Report) -> Result<Node, Box<Diagnostic>> {
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
    let problem = match node::parse_large(text) {
        Ok(root) => return Ok(root),
        Err(problem) => problem,
    };
    let is_template = matches!(kind, Kind::Cube | Kind::Dbt) && (text.contains("{{") || text.contains("{%"));
    if is_template {
        let (masked, statements) = template::masked(text);
        if let Ok(root) = node::parse_large(&masked) {
            report.file = file.name.as_str().into();
            for (line, statement) in statements {
                report.lost(
                    Position { line, column: 1 },
                    format!("`{{% {statement} %}}`"),
                    "Jinja is not run; what stands inside was read once, as it is",
                    "import the files that the tool renders",
                );
            }
            return Ok(root);
        }
    }
    let mut found = error(&file.name, problem.at, &problem.message, "mend the file, or leave it out");
    let line = usize::try_from(problem.at.line.saturating_sub(1)).unwrap_or(usize::MAX);
    found.snippet = text.lines().nth(line).unwrap_or_default().chars().take(200).collect();
    Err(Box::new(found))
}

fn error(file: &str, at: Position, message: &str, help: &str) -> Diagnostic {
    let message = if message == "nothing_to_import" { "there is nothing to import" } else { message };
    Diagnostic {
        severity: Severity::Error,
        rule: "import",
        file: file.to_owned(),
        line: at.line.max(1),
        column: at.column.max(1),
        message: message.to_owned(),
        help: help.to_owned(),
        snippet: String::new(),
    }
}

/// Reads the result back (I2): what does not load is a defect of the import, told instead of written.
fn check(models: &[Model]) -> Result<(), ImportError> {
    let mut found = Vec::new();
    for model in models {
        let files = to_files(model, &Notes::default(), "semantic.schema.json");
        let files = files.into_iter().map(|(file, text)| (file, Ok(text)));
        found.extend(Catalog::from_sources(files, Vec::new()).diagnostics);
    }
    found.retain(|finding| finding.severity == Severity::Error);
    for finding in &mut found {
        finding.message = format!("what was made of the input does not load: {}", finding.message);
    }
    if found.is_empty() { Ok(()) } else { Err(ImportError(found)) }
}

fn source(file: &Arc<str>, at: Position) -> Source {
    Source { file: file.clone(), at }
}

/// `warehouse.schema.table` from the parts that the input gives, which may be empty.
fn relation(database: &str, schema: &str, table: &str, options: &ImportOptions) -> String {
    let part = |text: &str| text.trim().trim_matches(['"', '`', '[', ']']).replace('.', "_");
    let database = options.warehouse.as_deref().unwrap_or(database);
    let schema = if schema.is_empty() { options.schema.as_deref().unwrap_or_default() } else { schema };
    let parts = match (part(database), part(schema)) {
        (database, schema) if database.is_empty() && schema.is_empty() => vec![],
        (database, schema) if database.is_empty() => vec![schema],
        (_, schema) if schema.is_empty() => vec![],
        (database, schema) => vec![database, schema],
    };
    parts.into_iter().chain([part(table)]).collect::<Vec<_>>().join(".")
}

/// The parts of a relation that is written as one text: database, schema, table.
fn relation_parts(text: &str) -> Option<[String; 3]> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut quote = None;
    for character in text.trim().chars() {
        match (quote, character) {
            (Some(open), character) if open == character => quote = None,
            (Some(_), character) => part.push(character),
            (None, '"' | '`') => quote = Some(character),
            (None, '.') => parts.push(std::mem::take(&mut part)),
            (None, character) if character.is_whitespace() || "(){};,".contains(character) => return None,
            (None, character) => part.push(character),
        }
    }
    parts.push(part);
    if parts.len() > 3 || parts.iter().any(String::is_empty) {
        return None;
    }
    let mut all: Vec<String> = vec![String::new(); 3 - parts.len()];
    all.extend(parts);
    all.try_into().ok()
}

/// Ossie's logical type for a type of a database; empty if there is none.
fn datatype(name: &str) -> &'static str {
    let lower = name.trim().to_lowercase();
    let base = lower.split(['(', ' ']).next().unwrap_or_default();
    match base {
        "varchar" | "char" | "character" | "text" | "string" | "uuid" | "nvarchar" | "nchar" | "bpchar"
        | "clob" | "enum" | "categorical" => "String",
        "int" | "integer" | "bigint" | "smallint" | "tinyint" | "int2" | "int4" | "int8" | "int16"
        | "int32" | "int64" | "uint8" | "uint16" | "uint32" | "uint64" | "byteint" | "serial"
        | "bigserial" | "long" => "Integer",
        "decimal" | "numeric" | "number" | "bignumeric" | "money" => "Decimal",
        "float" | "double" | "real" | "float4" | "float8" | "float32" | "float64" => "Float",
        "bool" | "boolean" => "Boolean",
        "date" | "date32" => "Date",
        "time" => "Time",
        "timestamptz" | "timestamp_tz" | "timestamp_ltz" | "timestampltz" => "DateTimeTz",
        "timestamp" if lower.contains("with time zone") => "DateTimeTz",
        "timestamp" | "datetime" | "timestamp_ntz" | "timestampntz" => "DateTime",
        "variant" | "json" | "jsonb" | "object" | "array" | "struct" | "map" | "geography" | "geometry"
        | "binary" | "bytea" | "super" | "record" => "Opaque",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
