//! What columns a table has.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use futures::TryStreamExt;

use super::super::convert::{Shape, Step, shapes, strict_cast};
use super::super::dialect::quoted;
use super::super::pushdown::{Layout, Pushes, RemoteColumn};
use super::super::remote_table::TableShape;
use super::run::{Take, Work};
use super::{Inner, QueryTag, RemoteError, RemoteQuery, RemoteSql, WarehouseDialect, WarehouseError, run};

/// Asks the database for the columns that the service may read.
pub(super) async fn look_up(
    inner: &Inner,
    schema: &str,
    table: &str,
    tag: &QueryTag,
) -> Result<TableShape, WarehouseError> {
    let unknown = || WarehouseError::UnknownTable { schema: schema.to_owned(), table: table.to_owned() };
    if [schema, table].iter().any(|name| name.is_empty() || name.contains('\0')) {
        let name = format!("{schema}.{table}").escape_default().to_string();
        return Err(WarehouseError::BadName { name });
    }
    let relation = format!("{}.{}", quoted(schema), quoted(table));
    match inner.dialect {
        WarehouseDialect::Sqlite => {
            // Asked for columns of a schema that is not there, SQLite fails rather than find none.
            let schemas = rows(inner, "SELECT name FROM pragma_database_list".to_owned(), tag).await?;
            if !schemas.iter().any(|row| row.first().is_some_and(|name| name == schema)) {
                return Err(unknown());
            }
            let sql = format!(
                "SELECT name, type FROM pragma_table_xinfo({}, {}) WHERE hidden <> 1 ORDER BY cid",
                literal(table),
                literal(schema)
            );
            let columns = rows(inner, sql, tag).await?;
            if columns.is_empty() {
                return Err(unknown());
            }
            Ok(sqlite(relation, &columns))
        }
        WarehouseDialect::PostgreSql => {
            // Least privilege may leave out columns, so that `SELECT *` would be refused.
            let sql = format!(
                "SELECT a.attname::text, (c.collisdeterministic IS FALSE)::text \
                 FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation \
                 WHERE a.attrelid = pg_catalog.to_regclass({}) AND a.attnum > 0 AND NOT a.attisdropped \
                 AND pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT') ORDER BY a.attnum",
                literal(&relation)
            );
            let columns = rows(inner, sql, tag).await?;
            if columns.is_empty() {
                return Err(unknown());
            }
            let names: Vec<String> =
                columns.iter().filter_map(|row| row.first().map(|name| quoted(name))).collect();
            let mut found = sample(inner, &names.join(", "), &relation, tag).await?;
            // What such a collation takes for equal, DataFusion does not.
            for (shape, row) in found.iter_mut().zip(&columns) {
                if row.get(1).is_some_and(|odd| odd == "true") {
                    shape.pushes = Pushes::Nulls;
                }
            }
            Ok(described(inner.dialect, relation, found))
        }
        _ => match sample(inner, "*", &relation, tag).await {
            Ok(found) => Ok(described(inner.dialect, relation, found)),
            // Asked for by name, so that a message is not relied on.
            Err(error) => {
                let sql = format!(
                    "SELECT table_name FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
                    literal(schema),
                    literal(table)
                );
                if rows(inner, sql, tag).await?.is_empty() { Err(unknown()) } else { Err(error.into()) }
            }
        },
    }
}

/// The types of columns, as the driver gives them.
async fn sample(
    inner: &Inner,
    columns: &str,
    relation: &str,
    tag: &QueryTag,
) -> Result<Vec<Shape>, RemoteError> {
    let sql = RemoteSql::made(format!("SELECT {columns} FROM {relation} LIMIT 0"));
    let work = Work { sql, timeout: inner.timeout, tag: tag.clone(), take: Take::Raw };
    let stream = run::start(inner.pool.clone(), work).await?;
    let found = shapes(&stream.schema());
    // Read to its end, so that the connection can be used again.
    let _: Vec<_> = stream.try_collect().await.map_err(|_| RemoteError::Failed)?;
    Ok(found)
}

fn described(dialect: WarehouseDialect, relation: String, found: Vec<Shape>) -> TableShape {
    let mut columns = Vec::with_capacity(found.len());
    let mut kept = Vec::with_capacity(found.len());
    for mut shape in found {
        let mut value = quoted(&shape.name);
        if shape.step == Step::Opaque {
            value = format!("CAST({value} AS text)");
            shape.step = Step::Keep;
        }
        columns.push(RemoteColumn {
            name: shape.name.clone(),
            value,
            data_type: shape.data_type.clone(),
            pushes: shape.pushes,
            blank: None,
        });
        kept.push(shape);
    }
    TableShape { layout: Arc::new(Layout { dialect, relation, columns }), shapes: kept.into() }
}

/// SQLite types values, not columns, and its driver guesses by the first rows: so each column is cast to what its
/// declaration says (SQLite, "Datatypes", section 3.1), and a row of blanks comes first.
fn sqlite(relation: String, declared: &[Vec<String>]) -> TableShape {
    let (mut columns, mut kept) = (Vec::new(), Vec::new());
    for row in declared {
        let [name, declared, ..] = row.as_slice() else { continue };
        let upper = declared.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| upper.contains(part));
        let (cast, blank, step, data_type, pushes) = match () {
            () if has(&["BOOL"]) => ("INTEGER", "0", Step::Cast, DataType::Boolean, Pushes::Nulls),
            () if has(&["INT"]) => ("INTEGER", "0", Step::Keep, DataType::Int64, Pushes::Order),
            () if has(&["DATETIME", "TIMESTAMP"]) => {
                let instant = DataType::Timestamp(TimeUnit::Microsecond, None);
                ("TEXT", "''", Step::Cast, instant, Pushes::Nulls)
            }
            () if upper.trim() == "DATE" => ("TEXT", "''", Step::Cast, DataType::Date32, Pushes::Nulls),
            () if has(&["CHAR", "CLOB", "TEXT"]) => {
                ("TEXT", "''", Step::Keep, DataType::Utf8, Pushes::Equality)
            }
            () if has(&["BLOB"]) || upper.trim().is_empty() => {
                ("BLOB", "x''", Step::Keep, DataType::Binary, Pushes::Nulls)
            }
            () => match decimal(&upper) {
                Some((precision, scale)) => {
                    ("TEXT", "''", Step::Decimal, DataType::Decimal128(precision, scale), Pushes::Nulls)
                }
                None => ("REAL", "0.0", Step::Keep, DataType::Float64, Pushes::Order),
            },
        };
        columns.push(RemoteColumn {
            name: name.clone(),
            value: format!("CAST({} AS {cast})", quoted(name)),
            data_type: data_type.clone(),
            pushes,
            blank: Some(blank),
        });
        kept.push(Shape { name: name.clone(), step, data_type, pushes });
    }
    let layout = Layout { dialect: WarehouseDialect::Sqlite, relation, columns };
    TableShape { layout: Arc::new(layout), shapes: kept.into() }
}

/// `DECIMAL(12, 2)`: precision and scale.
fn decimal(declared: &str) -> Option<(u8, i8)> {
    let (name, rest) = declared.split_once('(')?;
    if !matches!(name.trim(), "DECIMAL" | "NUMERIC") {
        return None;
    }
    let mut numbers = rest.trim_end().strip_suffix(')')?.split(',').map(str::trim);
    let precision: u8 = numbers.next()?.parse().ok().filter(|precision| (1..=38).contains(precision))?;
    let scale: i8 = numbers.next().map_or(Some(0), |scale| scale.parse().ok())?;
    (numbers.next().is_none() && (0..=precision).contains(&u8::try_from(scale).ok()?))
        .then_some((precision, scale))
}

/// A text in quotes, for catalogs: PostgreSQL is told that a backslash is one, the others know no other way.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// All rows of a small result of texts.
async fn rows(inner: &Inner, sql: String, tag: &QueryTag) -> Result<Vec<Vec<String>>, RemoteError> {
    let query = RemoteQuery { sql: RemoteSql::made(sql), timeout: inner.timeout, tag: tag.clone() };
    texts(inner, query, Take::Raw).await
}

/// All rows of a small result, as texts; NULL is empty.
pub(super) async fn texts(
    inner: &Inner,
    query: RemoteQuery,
    take: Take,
) -> Result<Vec<Vec<String>>, RemoteError> {
    let RemoteQuery { sql, timeout, tag } = query;
    let mut stream = run::start(inner.pool.clone(), Work { sql, timeout, tag, take }).await?;
    let mut found = Vec::new();
    while let Some(batch) = stream.try_next().await.map_err(|_| RemoteError::Failed)? {
        let columns = batch
            .columns()
            .iter()
            .map(|column| strict_cast(column, &DataType::Utf8))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| RemoteError::Failed)?;
        for row in 0..batch.num_rows() {
            let text = |column: &Arc<dyn Array>| {
                column
                    .as_string_opt::<i32>()
                    .filter(|texts| texts.is_valid(row))
                    .map(|texts| texts.value(row).to_owned())
            };
            found.push(columns.iter().map(|column| text(column).unwrap_or_default()).collect());
        }
    }
    Ok(found)
}
