//! The calendar: moments, periods, offsets. Pure arithmetic; the dialect writes it down.

use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};

use super::error::{CompileError, Result};
use crate::semantic::model::{Grain, TimeSpan};

/// How a metric's periods lie to those of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shift {
    /// That much earlier.
    Back(TimeSpan),
    /// At the start of the enclosing period.
    ToStartOf(Grain),
}

/// More periods than this are not listed.
pub(super) const MAX_PERIODS: usize = 100_000;

/// Reads an ISO date, or date and time; with an offset it is taken to UTC.
pub(super) fn moment(text: &str) -> Result<NaiveDateTime> {
    let text = text.trim();
    let with_offset = || chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| at.naive_utc());
    let plain = || {
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
    };
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|date| date.and_time(NaiveTime::MIN));
    let year_fits = |at: &NaiveDateTime| (1..=9999).contains(&at.year());
    date().or_else(plain).or_else(with_offset).filter(year_fits).ok_or_else(|| {
        CompileError::invalid(format!(
            "`{}` is no moment; write an ISO date such as 2013-01-31, or 2013-01-31T12:00:00",
            text.escape_debug()
        ))
    })
}

/// The start of the period that `at` falls into; weeks begin on Monday.
pub(super) fn truncate(at: NaiveDateTime, grain: Grain) -> NaiveDateTime {
    let date = at.date();
    let first = |year, month| NaiveDate::from_ymd_opt(year, month, 1).unwrap_or(date);
    let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN);
    let clock = |hour, minute, second| {
        date.and_time(NaiveTime::from_hms_opt(hour, minute, second).unwrap_or_default())
    };
    match grain {
        Grain::Second => clock(at.hour(), at.minute(), at.second()),
        Grain::Minute => clock(at.hour(), at.minute(), 0),
        Grain::Hour => clock(at.hour(), 0, 0),
        Grain::Day => midnight(date),
        Grain::Week => {
            let back = Days::new(u64::from(date.weekday().num_days_from_monday()));
            midnight(date.checked_sub_days(back).unwrap_or(date))
        }
        Grain::Month => midnight(first(date.year(), date.month())),
        Grain::Quarter => midnight(first(date.year(), (date.month0() / 3) * 3 + 1)),
        Grain::Year => midnight(first(date.year(), 1)),
    }
}

/// `at` moved by a span; an error where the calendar ends.
pub(super) fn shifted(at: NaiveDateTime, span: TimeSpan, back: bool) -> Result<NaiveDateTime> {
    let count = span.count;
    let months = |months: u32| {
        if back {
            at.checked_sub_months(Months::new(months))
        } else {
            at.checked_add_months(Months::new(months))
        }
    };
    let delta = |unit: TimeDelta| {
        let delta = unit.checked_mul(i32::try_from(count).ok()?)?;
        if back { at.checked_sub_signed(delta) } else { at.checked_add_signed(delta) }
    };
    let moved = match span.grain {
        Grain::Year => count.checked_mul(12).and_then(months),
        Grain::Quarter => count.checked_mul(3).and_then(months),
        Grain::Month => months(count),
        Grain::Week => delta(TimeDelta::weeks(1)),
        Grain::Day => delta(TimeDelta::days(1)),
        Grain::Hour => delta(TimeDelta::hours(1)),
        Grain::Minute => delta(TimeDelta::minutes(1)),
        Grain::Second => delta(TimeDelta::seconds(1)),
    };
    moved.filter(|at| (1..=9999).contains(&at.year())).ok_or_else(|| {
        CompileError::invalid(format!("{at} moved by {span} leaves the calendar; use a shorter span"))
    })
}

/// The starts of all periods that overlap `[from, to)`.
pub(super) fn periods(from: NaiveDateTime, to: NaiveDateTime, grain: Grain) -> Result<Vec<NaiveDateTime>> {
    let mut starts = Vec::new();
    let mut at = truncate(from, grain);
    while at < to {
        if starts.len() >= MAX_PERIODS {
            return Err(CompileError::invalid(format!(
                "there are more than {MAX_PERIODS} periods of a {} between {from} and {to}; use a coarser grain or a shorter range",
                grain.as_str()
            )));
        }
        starts.push(at);
        at = shifted(at, TimeSpan { count: 1, grain }, false)?;
    }
    Ok(starts)
}

/// True if `span` takes every start of a period of `grain` to another one.
pub(super) fn is_aligned(span: TimeSpan, grain: Grain) -> bool {
    let months = match span.grain {
        Grain::Year => Some(u64::from(span.count) * 12),
        Grain::Quarter => Some(u64::from(span.count) * 3),
        Grain::Month => Some(u64::from(span.count)),
        _ => None,
    };
    let days = match span.grain {
        Grain::Week => Some(u64::from(span.count) * 7),
        Grain::Day => Some(u64::from(span.count)),
        _ => None,
    };
    match grain {
        Grain::Year => months.is_some_and(|count| count % 12 == 0),
        Grain::Quarter => months.is_some_and(|count| count % 3 == 0),
        Grain::Month => months.is_some(),
        Grain::Week => days.is_some_and(|count| count % 7 == 0),
        _ => span.grain >= grain,
    }
}

/// A grain whose periods add up to those of both.
pub(super) fn common(a: Grain, b: Grain) -> Grain {
    let finer = a.min(b);
    if a != b && (a == Grain::Week || b == Grain::Week) { finer.min(Grain::Day) } else { finer }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        moment(text).unwrap()
    }

    #[test]
    fn moments_come_as_dates_as_times_and_with_an_offset() {
        assert_eq!(at("2013-02-28"), at("2013-02-28T00:00:00"));
        assert_eq!(at("2013-02-28T12:30"), at("2013-02-28T14:30:00+02:00"));
        for bad in ["", "yesterday", "2013-02-30", "2013", "99999-01-01", "2013-01-01'; --"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn periods_cover_the_range_and_begin_with_the_period_of_its_first_moment() {
        let months = periods(at("2013-01-15"), at("2013-03-01"), Grain::Month).unwrap();
        assert_eq!(months, [at("2013-01-01"), at("2013-02-01")]);
        let weeks = periods(at("2013-01-01"), at("2013-01-08"), Grain::Week).unwrap();
        assert_eq!(weeks, [at("2012-12-31"), at("2013-01-07")]);
        assert!(periods(at("0001-01-01"), at("9999-01-01"), Grain::Second).is_err());
    }

    #[test]
    fn a_span_is_aligned_only_if_it_leads_from_period_to_period() {
        let span = |text| TimeSpan::from_text(text).unwrap();
        assert!(is_aligned(span("1 year"), Grain::Quarter));
        assert!(is_aligned(span("14 days"), Grain::Week));
        assert!(is_aligned(span("1 month"), Grain::Day));
        assert!(!is_aligned(span("7 days"), Grain::Month));
        assert!(!is_aligned(span("1 month"), Grain::Week));
        assert!(!is_aligned(span("4 months"), Grain::Quarter));
    }
}
