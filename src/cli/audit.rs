//! `steward audit`: the audit log, straight from the service database.

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::admin::{open_store, time};
use super::output::{print, print_json, remark};
use super::{CliError, Exit};
use crate::audit::{Audit, AuditQuery, AuditRecord, Outcome};
use crate::config::Config;

#[derive(Debug, Args)]
pub struct AuditArgs {
    /// From this time on: 2026-01-31, 2026-01-31T12:00:00Z, or so long ago: 30m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Only of this client
    #[arg(long, value_name = "CLIENT_ID")]
    client: Option<String>,
    /// Only this operation, such as sql_run
    #[arg(long)]
    operation: Option<String>,
    /// Only what ended so
    #[arg(long, value_enum)]
    outcome: Option<OutcomeArg>,
    /// At most so many, the latest of them; 1 to 10,000
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OutcomeArg {
    Ok,
    Refused,
    Denied,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    At(DateTime<Utc>),
    Ago(chrono::TimeDelta),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(Since::At(at.to_utc()));
    }
    if let Some(at) = text.parse::<NaiveDate>().ok().and_then(|date| date.and_hms_opt(0, 0, 0)) {
        return Ok(Since::At(at.and_utc()));
    }
    let ago = text.char_indices().next_back().and_then(|(end, unit)| {
        let number = text[..end].parse::<u32>().ok().map(i64::from)?;
        match unit {
            's' => chrono::TimeDelta::try_seconds(number),
            'm' => chrono::TimeDelta::try_minutes(number),
            'h' => chrono::TimeDelta::try_hours(number),
            'd' => chrono::TimeDelta::try_days(number),
            _ => None,
        }
    });
    ago.map(Since::Ago).ok_or_else(|| "write 2026-01-31, 2026-01-31T12:00:00Z, or 30m, 2h, 7d".to_owned())
}

pub async fn run(config: Config, args: AuditArgs) -> Result<Exit, CliError> {
    let query = AuditQuery {
        since_ms: args.since.map(|since| match since {
            Since::At(at) => at.timestamp_millis(),
            Since::Ago(ago) => Utc::now().timestamp_millis().saturating_sub(ago.num_milliseconds()),
        }),
        client_id: args.client,
        operation: args.operation,
        outcome: args.outcome.map(|outcome| match outcome {
            OutcomeArg::Ok => Outcome::Ok,
            OutcomeArg::Refused => Outcome::Refused,
            OutcomeArg::Denied => Outcome::Denied,
            OutcomeArg::Failed => Outcome::Failed,
        }),
        newest_first: true,
        limit: args.limit,
        ..AuditQuery::default()
    };
    let audit = Audit::start(open_store(&config).await?);
    let mut events = audit.list(&query).await?;
    if events.len() == args.limit {
        remark(&format!("steward: the latest {} are shown; there may be more (--limit)", args.limit));
    }
    // Read like a log: the latest last.
    events.reverse();
    if args.json {
        print_json(&events.iter().map(as_value).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for event in &events {
        let AuditRecord { client_id, operation, target, .. } = event;
        let outcome = event.outcome.as_str();
        let reason = event.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        text += &format!("{}  {outcome:7}  {client_id}  {operation}  {target}{reason}\n", time(event.at_ms));
    }
    print(text.as_bytes())?;
    Ok(Exit::Done)
}

fn as_value(event: &AuditRecord) -> Value {
    json!({
        "event_id": event.event_id,
        "at_ms": event.at_ms,
        "at": time(event.at_ms),
        "request_id": event.request_id,
        "client_id": event.client_id,
        "subject": event.subject,
        "operation": event.operation,
        "target": event.target,
        "outcome": event.outcome.as_str(),
        "reason": event.reason,
        "rows": event.rows,
        "size_bytes": event.size_bytes,
        "elapsed_ms": event.elapsed_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_or_ages_and_anything_else_is_told_what_to_write() {
        let at = |text: &str| match since(text).unwrap() {
            Since::At(at) => at.to_rfc3339(),
            Since::Ago(ago) => format!("{} s ago", ago.num_seconds()),
        };
        assert_eq!(at("2026-01-31"), "2026-01-31T00:00:00+00:00");
        assert_eq!(at("2026-01-31T12:00:00+02:00"), "2026-01-31T10:00:00+00:00");
        assert_eq!(at("90m"), "5400 s ago");
        assert_eq!(at("7d"), "604800 s ago");
        for bad in ["", "yesterday", "m", "-1h", "99999999999d", "2026-13-01", "5é"] {
            assert!(since(bad).unwrap_err().contains("7d"), "{bad}");
        }
    }
}
