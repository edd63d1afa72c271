//! When to try again, and how long to wait before. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};

/// The first wait; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// No wait that the upstream did not ask for is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Whether a second request of this method does no harm (RFC 9110, section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

/// Whether a status says that trying again may help.
pub fn is_worth_retrying(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// What Retry-After says: seconds, or a date (RFC 9110, section 10.2.3).
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.with_timezone(&Utc) - now).to_std().unwrap_or(Duration::ZERO))
}

/// The wait before retry number `retry` (from 0): exponential, of which a random part between a half and all.
/// `random` is uniform in 0..=u32::MAX.
pub fn backoff(retry: u32, random: u32) -> Duration {
    let whole = FIRST_WAIT.saturating_mul(1u32.checked_shl(retry).unwrap_or(u32::MAX)).min(LONGEST_WAIT);
    whole.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = DateTime::parse_from_rfc3339("2013-06-01T00:00:00Z").unwrap().with_timezone(&Utc);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Sat, 01 Jun 2013 00:02:00 GMT"), Some(Duration::from_secs(120)));
        assert_eq!(read("Fri, 01 Jun 2012 00:02:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        for retry in [0, 1, 5, 31, 32, u32::MAX] {
            let (least, most) = (backoff(retry, 0), backoff(retry, u32::MAX));
            assert!(least * 2 >= most && most <= LONGEST_WAIT && least >= FIRST_WAIT / 2);
        }
        assert!(backoff(1, 0) > backoff(0, 0));
    }
}
