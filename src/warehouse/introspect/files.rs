//! Files and folders of files as tables, the way the `local` warehouse has them: `<schema>/<table>.<ending>`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::cast as cast_expr;
use datafusion::prelude::{DataFrame, SessionContext, ident, lit};
use futures::StreamExt;

use super::{IntrospectError, ProfileLimits, Values, is_reference};
use crate::semantic::introspect::{ColumnProfile, TableProfile};
use crate::warehouse::{data_ending, file_table};

/// A file, or a folder of files of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    pub path: PathBuf,
    pub ending: String,
    pub schema: String,
    pub table: String,
}

/// The tables that paths hold. A file is one. A folder's files are one each, and so is each of its folders that holds
/// files; the folder's name is the schema.
pub fn find_files(paths: &[PathBuf]) -> Result<Vec<DataFile>, IntrospectError> {
    let mut found = Vec::new();
    for path in paths {
        let shown = || path.display().to_string();
        let path =
            std::fs::canonicalize(path).map_err(|source| IntrospectError::Io { path: shown(), source })?;
        let before = found.len();
        if path.is_dir() {
            for entry in entries(&path)? {
                match ending(&entry) {
                    Some(ending) => found.push(table(&entry, ending)?),
                    None if entry.is_dir() => {
                        let inner = entries(&entry)?;
                        if let Some(ending) = inner.iter().find_map(|file| ending(file)) {
                            found.push(table(&entry, ending)?);
                        }
                    }
                    None => {}
                }
            }
        } else if let Some(ending) = ending(&path) {
            found.push(table(&path, ending)?);
        }
        if found.len() == before {
            return Err(IntrospectError::NoTable { path: shown() });
        }
    }
    let mut names: BTreeMap<(String, String), &DataFile> = BTreeMap::new();
    let mut files: Vec<DataFile> = Vec::new();
    for file in &found {
        match names.insert((file.schema.clone(), file.table.clone()), file) {
            Some(first) if first.path != file.path => {
                return Err(IntrospectError::SameName {
                    name: file.table.clone(),
                    first: first.path.display().to_string(),
                    second: file.path.display().to_string(),
                });
            }
            Some(_) => {}
            None => files.push(file.clone()),
        }
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, IntrospectError> {
    let failed = |source| IntrospectError::Io { path: folder.display().to_string(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// With its compression, such as `csv.gz`.
fn ending(path: &Path) -> Option<&str> {
    data_ending(path.file_name()?.to_str()?).filter(|_| path.is_file())
}

fn table(path: &Path, ending: &str) -> Result<DataFile, IntrospectError> {
    let name = |path: Option<&std::ffi::OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
    let mut table = name(path.file_name());
    if !path.is_dir() {
        let stem = table.strip_suffix(ending).and_then(|stem| stem.strip_suffix('.')).map(str::to_owned);
        table = stem.unwrap_or(table);
    }
    let schema = name(path.parent().and_then(Path::file_name));
    for name in [&schema, &table] {
        let is_plain =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !is_plain {
            return Err(IntrospectError::BadName { name: name.clone() });
        }
    }
    Ok(DataFile { path: path.to_path_buf(), ending: ending.to_owned(), schema, table })
}

/// Profiles of files as tables of the warehouse of that name.
pub async fn profile_files(
    state: &SessionState,
    files: &[DataFile],
    warehouse: &str,
    limits: ProfileLimits,
) -> Result<Vec<TableProfile>, IntrospectError> {
    let mut tables = Vec::with_capacity(files.len());
    for file in files {
        let profile = profile(state, file, limits).await.map_err(|source| IntrospectError::Table {
            path: file.path.display().to_string(),
            source: Box::new(source),
        })?;
        tables.push(TableProfile {
            name: file.table.clone(),
            source: format!("{warehouse}.{}.{}", file.schema, file.table),
            ..profile
        });
    }
    Ok(tables)
}

async fn profile(
    state: &SessionState,
    file: &DataFile,
    limits: ProfileLimits,
) -> Result<TableProfile, DataFusionError> {
    let context = SessionContext::new_with_state(state.clone());
    let provider = file_table(state, &file.path, &file.ending).await?;
    let limit = usize::try_from(limits.max_rows).unwrap_or(usize::MAX);
    let frame = context.read_table(provider)?.limit(0, Some(limit))?;
    let schema = frame.schema().inner().clone();
    let mut profile = TableProfile { is_whole: true, ..TableProfile::default() };
    let mut bounds = Vec::new();
    for field in schema.fields() {
        let datatype = datatype(field.data_type());
        if has_bounds(datatype) {
            let column = ident(field.name());
            bounds.push(min(column.clone()).alias(format!("min {}", bounds.len())));
            bounds.push(max(column).alias(format!("max {}", bounds.len())));
        }
        profile.columns.push(ColumnProfile {
            name: field.name().clone(),
            datatype: datatype.to_owned(),
            native_type: field.data_type().to_string(),
            ..ColumnProfile::default()
        });
    }
    bounds.push(count(lit(1)).alias("rows"));
    let batches = frame.clone().aggregate(vec![], bounds)?.collect().await?;
    let mut found = Vec::new();
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        for column in batch.columns() {
            let texts = cast(column, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            found.push(texts.is_valid(0).then(|| texts.value(0).to_owned()));
        }
    }
    profile.rows = found.pop().flatten().and_then(|text| text.parse().ok()).unwrap_or_default();
    // A table of exactly that many rows is taken for a longer one, which errs on the safe side.
    profile.is_whole = profile.rows < limits.max_rows;
    let mut bounds = found.into_iter();
    for column in profile.columns.iter_mut().filter(|column| has_bounds(&column.datatype)) {
        (column.min, column.max) = (bounds.next().flatten(), bounds.next().flatten());
    }
    for (column, field) in profile.columns.iter_mut().zip(schema.fields()) {
        if groups(field.data_type()) {
            values(&frame, column).await?;
        }
    }
    if !profile.columns.iter().any(|column| column.nulls == 0 && column.distinct == profile.rows) {
        profile.found_key = composite(&frame, &profile).await?;
    }
    Ok(profile)
}

/// Every value of a column with its count, most frequent first.
async fn values(frame: &DataFrame, column: &mut ColumnProfile) -> Result<(), DataFusionError> {
    let text = cast_expr(ident(&column.name), DataType::Utf8).alias("value");
    let grouped = frame.clone().aggregate(vec![text], vec![count(lit(1)).alias("count")])?;
    let sorted = grouped.sort(vec![ident("count").sort(false, false), ident("value").sort(true, false)])?;
    let mut stream = sorted.execute_stream().await?;
    let mut values = Values::default();
    let is_reference = is_reference(&column.datatype);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let texts = cast(batch.column(0), &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let counts = batch.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let text = texts.is_valid(row).then(|| texts.value(row));
            values.add(text, u64::try_from(counts.value(row)).unwrap_or_default(), is_reference);
        }
    }
    values.into(column);
    Ok(())
}

/// Two or three columns that are unique together, the likeliest first; few are tried.
async fn composite(frame: &DataFrame, profile: &TableProfile) -> Result<Vec<String>, DataFusionError> {
    const MOST_TRIED: usize = 40;
    let mut candidates: Vec<&ColumnProfile> = profile
        .columns
        .iter()
        .filter(|column| column.nulls == 0 && column.distinct > 1)
        .filter(|column| {
            matches!(column.datatype.as_str(), "String" | "Integer" | "Date" | "DateTime" | "DateTimeTz")
        })
        .collect();
    // Columns of many values are unique with fewer others.
    candidates.sort_by_key(|column| std::cmp::Reverse(column.distinct));
    candidates.truncate(8);
    let mut sets: Vec<Vec<&ColumnProfile>> = Vec::new();
    for (first, a) in candidates.iter().enumerate() {
        for (second, b) in candidates.iter().enumerate().skip(first + 1) {
            sets.push(vec![a, b]);
            sets.extend(candidates.iter().skip(second + 1).map(|c| vec![*a, *b, *c]));
        }
    }
    sets.sort_by_key(Vec::len);
    let is_possible = |set: &&Vec<&ColumnProfile>| {
        let product = set.iter().fold(1_u64, |product, column| product.saturating_mul(column.distinct));
        product >= profile.rows
    };
    for set in sets.iter().filter(is_possible).take(MOST_TRIED) {
        let columns = set.iter().map(|column| ident(&column.name)).collect();
        let distinct = frame.clone().aggregate(columns, vec![])?.count().await?;
        if profile.rows > 1 && u64::try_from(distinct).unwrap_or_default() == profile.rows {
            let is_in = |name: &str| set.iter().any(|column| column.name == name);
            // In the order of the table.
            let names = profile.columns.iter().map(|column| column.name.clone());
            return Ok(names.filter(|name| is_in(name)).collect());
        }
    }
    Ok(Vec::new())
}

/// Ossie's logical type of an Arrow type.
fn datatype(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "String",
        DataType::Dictionary(_, value) => datatype(value),
        DataType::Boolean => "Boolean",
        data_type if data_type.is_integer() => "Integer",
        data_type if data_type.is_floating() => "Float",
        data_type if data_type.is_decimal() => "Decimal",
        DataType::Date32 | DataType::Date64 => "Date",
        DataType::Time32(_) | DataType::Time64(_) => "Time",
        DataType::Timestamp(_, None) => "DateTime",
        DataType::Timestamp(_, Some(_)) => "DateTimeTz",
        _ => "Opaque",
    }
}

fn has_bounds(datatype: &str) -> bool {
    matches!(datatype, "Integer" | "Decimal" | "Float" | "Date" | "DateTime" | "DateTimeTz" | "Time")
}

/// Whether values of the type can be told apart as text.
fn groups(data_type: &DataType) -> bool {
    !matches!(datatype(data_type), "Opaque")
}
