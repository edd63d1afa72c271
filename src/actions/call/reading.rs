//! What is worth telling of an answer: some headers, an excerpt of an error, and what to do about it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};

use super::super::security::redact::Redactor;

/// Headers that are worth passing on.
pub fn kept_headers(headers: &HeaderMap, redactor: &Redactor) -> BTreeMap<String, String> {
    const KEPT: [&str; 5] = ["etag", "last-modified", "content-language", "link", "retry-after"];
    headers
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            KEPT.contains(&name) || name.starts_with("x-ratelimit") || name.starts_with("ratelimit")
        })
        .filter_map(|(name, value)| Some((name.to_string(), redactor.text(value.to_str().ok()?))))
        .collect()
}

/// How much of an error's body is read, and how much of that is shown, in bytes.
const EXCERPT_READ: usize = 16 << 10;
const EXCERPT_SHOWN: usize = 2 << 10;
/// An error that does not come to its point within this time is shown without its body.
pub const EXCERPT_PATIENCE: Duration = Duration::from_secs(2);

/// The beginning of an error's body, as far as it comes.
pub async fn read_excerpt(response: Response) -> String {
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(Ok(piece)) = stream.next().await {
        bytes.extend_from_slice(&piece[..piece.len().min(EXCERPT_READ - bytes.len())]);
        if bytes.len() >= EXCERPT_READ {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One line of at most 2 KiB.
pub fn clip(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line: String = line.chars().filter(|c| !c.is_control()).collect();
    if line.len() > EXCERPT_SHOWN {
        let mut end = EXCERPT_SHOWN;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

/// What to do about a status.
pub fn advice(status: StatusCode, anonymous: bool, retry_after: Option<Duration>) -> String {
    match status.as_u16() {
        400 | 422 => "it does not accept these arguments; change them".to_owned(),
        401 | 403 if anonymous => {
            "it wants credentials, but none are configured; add them to the action file".to_owned()
        }
        401 => "the configured credential was refused; the administrator must renew it".to_owned(),
        403 => "the configured credential may not do this; the administrator must widen it".to_owned(),
        404 | 410 => "there is nothing at this address; check the arguments".to_owned(),
        405 => "it does not know this method; the document and the API disagree".to_owned(),
        409 | 412 => "the thing changed meanwhile; read it anew and try again".to_owned(),
        429 => match retry_after {
            Some(wait) => format!("too many requests; retry after {} s", wait.as_secs()),
            None => "too many requests; retry later".to_owned(),
        },
        300..=399 => "an answer that is no redirect and no result; check the base_url".to_owned(),
        500..=599 => "the API failed; try again later".to_owned(),
        _ => "the API refused the request".to_owned(),
    }
}
