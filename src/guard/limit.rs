//! G5: the result's limit.

use datafusion::sql::sqlparser::ast::{Expr, LimitClause, Offset, OffsetRows, Query, Value};

use super::Refusal;

/// A smaller literal limit of the caller's own stays. True where it is this one that may cut the result.
pub(super) fn limit(query: &mut Query, max_rows: usize) -> Result<bool, Refusal> {
    let cap = max_rows.saturating_add(1);
    let number = |expr: &Expr| -> Result<usize, Refusal> {
        match expr {
            Expr::Value(value) => match &value.value {
                Value::Number(text, _) => text.parse().ok(),
                Value::Null => Some(usize::MAX),
                _ => None,
            },
            _ => None,
        }
        .ok_or_else(|| {
            let message = format!("LIMIT {expr} is not a whole number");
            Refusal::new("literal-limit", message, "write a whole number after LIMIT and OFFSET")
        })
    };
    let literal = |rows: usize| Expr::Value(Value::Number(rows.to_string(), false).with_empty_span());
    if let Some(fetch) = query.fetch.take() {
        if fetch.with_ties || fetch.percent {
            return Err(Refusal::new(
                "literal-limit",
                "FETCH WITH TIES and PERCENT are not supported",
                "write LIMIT n",
            ));
        }
        let wanted = fetch.quantity.as_ref().map_or(Ok(1), number)?;
        let (limit, offset) = match query.limit_clause.take() {
            None => (None, None),
            Some(LimitClause::LimitOffset { limit, offset, .. }) => (limit, offset),
            Some(LimitClause::OffsetCommaLimit { .. }) => {
                return Err(Refusal::new(
                    "literal-limit",
                    "LIMIT and FETCH together",
                    "write LIMIT n OFFSET m",
                ));
            }
        };
        if limit.is_some() {
            return Err(Refusal::new("literal-limit", "LIMIT and FETCH together", "write LIMIT n OFFSET m"));
        }
        query.limit_clause =
            Some(LimitClause::LimitOffset { limit: Some(literal(wanted)), offset, limit_by: Vec::new() });
    }
    let mut wanted = usize::MAX;
    query.limit_clause = Some(match query.limit_clause.take() {
        None => LimitClause::LimitOffset { limit: Some(literal(cap)), offset: None, limit_by: Vec::new() },
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) => {
            if !limit_by.is_empty() {
                return Err(Refusal::new(
                    "construct",
                    "LIMIT BY is not supported",
                    "use ROW_NUMBER() OVER (PARTITION BY …)",
                ));
            }
            if let Some(offset) = &offset {
                number(&offset.value)?;
            }
            wanted = limit.as_ref().map_or(Ok(usize::MAX), number)?;
            LimitClause::LimitOffset { limit: Some(literal(wanted.min(cap))), offset, limit_by }
        }
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
            number(&offset)?;
            wanted = number(&limit)?;
            let offset = Offset { value: offset, rows: OffsetRows::None };
            LimitClause::LimitOffset {
                limit: Some(literal(wanted.min(cap))),
                offset: Some(offset),
                limit_by: Vec::new(),
            }
        }
    });
    Ok(wanted >= cap)
}
