//! A PostgreSQL database: tables, types, keys and comments from its catalogue, values from the tables.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use futures::StreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::{IntrospectError, ProfileLimits, Values, is_reference};
use crate::semantic::introspect::{ColumnProfile, ForeignKey, TableProfile};
use crate::semantic::quote;

/// Longest a single statement may take.
const STATEMENT_TIMEOUT_MS: u32 = 120_000;

const TABLES: &str = "\
SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name,
       COALESCE(obj_description(c.oid, 'pg_class'), '') AS description
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND n.nspname = ANY($1)
  AND has_table_privilege(c.oid, 'SELECT')
ORDER BY 2, 3";

const COLUMNS: &str = "\
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, CASE WHEN c.relkind IN ('r', 'p', 'f') THEN a.attnotnull WHEN a.attnotnull THEN true END AS required,
       COALESCE(col_description(a.attrelid, a.attnum), '') AS description,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = a.atttypid ORDER BY e.enumsortorder) AS labels
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum";

const CONSTRAINTS: &str = "\
SELECT k.contype::text AS kind, k.confrelid::int8 AS target,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, i)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.i) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, i)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.i) AS to_columns
FROM pg_constraint k
WHERE k.conrelid = $1::oid AND k.contype IN ('p', 'u', 'f')
ORDER BY k.contype, k.conname";

/// Profiles of the tables and views of `schemas` that the user may read, as those of the warehouse of that name.
/// What the URL lacks comes from PostgreSQL's own variables (`PGPASSWORD`, …) and password file.
pub async fn profile_postgres(
    url: &str,
    schemas: &[String],
    warehouse: &str,
    limits: ProfileLimits,
) -> Result<Vec<TableProfile>, IntrospectError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| IntrospectError::BadUrl)?;
    let mut connection = options.disable_statement_logging().connect().await?;
    // The guarantee that nothing is changed is the server's.
    let settings = format!(
        "SET default_transaction_read_only = on; SET statement_timeout = {STATEMENT_TIMEOUT_MS}; \
         SET lock_timeout = {}; SET timezone = 'UTC'",
        Duration::from_secs(10).as_millis()
    );
    sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await?;
    let mut transaction = connection.begin().await?;
    let rows = sqlx::query(TABLES).bind(schemas).fetch_all(&mut *transaction).await?;
    if rows.is_empty() {
        return Err(IntrospectError::EmptySchema(schemas.join(", ")));
    }
    let mut positions: HashMap<i64, usize> = HashMap::new();
    let mut relations = Vec::with_capacity(rows.len());
    for (position, row) in rows.iter().enumerate() {
        let oid: i64 = row.try_get("oid")?;
        let (schema, name): (String, String) = (row.try_get("schema")?, row.try_get("name")?);
        positions.insert(oid, position);
        relations.push((oid, schema, name, row.try_get::<String, _>("description")?));
    }
    let mut tables = Vec::with_capacity(relations.len());
    for (oid, schema, name, description) in relations {
        let mut profile = TableProfile {
            source: format!("{warehouse}.{}.{}", schema.replace('.', "_"), name.replace('.', "_")),
            description,
            ..TableProfile::default()
        };
        for row in sqlx::query(COLUMNS).bind(oid).fetch_all(&mut *transaction).await? {
            let native_type: String = row.try_get("type")?;
            let labels: Vec<String> = row.try_get("labels")?;
            profile.columns.push(ColumnProfile {
                name: row.try_get("name")?,
                datatype: if !labels.is_empty() { "String" } else { datatype(&native_type) }.to_owned(),
                native_type,
                declared_values: labels,
                description: row.try_get("description")?,
                required: row.try_get("required")?,
                ..ColumnProfile::default()
            });
        }
        for row in sqlx::query(CONSTRAINTS).bind(oid).fetch_all(&mut *transaction).await? {
            let columns: Vec<String> = row.try_get("columns")?;
            match row.try_get::<String, _>("kind")?.as_str() {
                "p" => profile.primary_key = columns,
                "u" => profile.unique_keys.push(columns),
                _ => {
                    // A table that is not drafted cannot be joined.
                    if let Some(table) = positions.get(&row.try_get("target")?) {
                        let to_columns = row.try_get("to_columns")?;
                        profile.foreign_keys.push(ForeignKey { columns, table: *table, to_columns });
                    }
                }
            }
        }
        values(&mut transaction, &schema, &name, &mut profile, limits).await?;
        profile.name = name;
        tables.push(profile);
    }
    transaction.rollback().await?;
    connection.close().await?;
    Ok(tables)
}

/// Counts, bounds and values of every column.
async fn values(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    profile: &mut TableProfile,
    limits: ProfileLimits,
) -> Result<(), IntrospectError> {
    let relation = format!("{}.{}", quote(schema), quote(table));
    let bounded: Vec<usize> =
        (0..profile.columns.len()).filter(|at| has_bounds(&profile.columns[*at].datatype)).collect();
    let mut list = vec!["count(*)::text".to_owned()];
    for at in &bounded {
        let column = quote(&profile.columns[*at].name);
        list.push(format!("min({column})::text"));
        list.push(format!("max({column})::text"));
    }
    let text =
        format!("SELECT {} FROM (SELECT * FROM {relation} LIMIT {}) AS s", list.join(", "), limits.max_rows);
    let row = sqlx::query(AssertSqlSafe(text)).fetch_one(&mut *connection).await?;
    profile.rows = row.try_get::<String, _>(0)?.parse().unwrap_or_default();
    profile.is_whole = profile.rows < limits.max_rows;
    for (number, at) in bounded.iter().enumerate() {
        profile.columns[*at].min = row.try_get(1 + 2 * number)?;
        profile.columns[*at].max = row.try_get(2 + 2 * number)?;
    }
    for column in profile.columns.iter_mut().filter(|column| column.datatype != "Opaque") {
        let name = quote(&column.name);
        let text = format!(
            "SELECT v, count(*) FROM (SELECT {name}::text AS v FROM {relation} LIMIT {}) AS s \
             GROUP BY v ORDER BY 2 DESC, 1",
            limits.max_rows
        );
        let mut found = Values::default();
        let mut rows = sqlx::query(AssertSqlSafe(text)).fetch(&mut *connection);
        while let Some(row) = rows.next().await {
            let row = row?;
            let value: Option<String> = row.try_get(0)?;
            let count: i64 = row.try_get(1)?;
            let count = u64::try_from(count).unwrap_or_default();
            found.add(value.as_deref(), count, is_reference(&column.datatype));
        }
        drop(rows);
        found.into(column);
    }
    Ok(())
}

/// Ossie's logical type of a type as `format_type` writes it.
fn datatype(name: &str) -> &'static str {
    let base = name.split('(').next().unwrap_or(name).trim();
    match base {
        _ if name.ends_with("[]") => "Opaque",
        "smallint" | "integer" | "bigint" => "Integer",
        "numeric" | "money" => "Decimal",
        "real" | "double precision" => "Float",
        "boolean" => "Boolean",
        "date" => "Date",
        "time" => "Time",
        _ if name.starts_with("time") && name.ends_with("without time zone") => {
            if name.starts_with("timestamp") { "DateTime" } else { "Time" }
        }
        _ if name.starts_with("timestamp") && name.ends_with("with time zone") => "DateTimeTz",
        _ if name.starts_with("time") && name.ends_with("with time zone") => "Time",
        "text" | "character varying" | "character" | "uuid" | "name" | "citext" | "\"char\"" | "inet"
        | "cidr" => "String",
        _ => "Opaque",
    }
}

fn has_bounds(datatype: &str) -> bool {
    matches!(datatype, "Integer" | "Decimal" | "Float" | "Date" | "DateTime" | "DateTimeTz" | "Time")
}
