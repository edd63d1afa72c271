//! Names of APIs and operations as agents, scopes and URLs write them. Pure.

use std::fmt;
use std::str::FromStr;

use crate::error::ErrorKind;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("`{0}` is not an API name; use a lowercase letter, then up to 62 of a-z, 0-9 and _")]
    Api(String),
    #[error("`{0}` is not an operation name; use a lowercase letter, then up to 127 of a-z, 0-9 and _")]
    Operation(String),
}

impl NameError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// The name of an external API: `[a-z][a-z0-9_]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct ApiName(String);

/// The name of one operation of an API, unique within it: `[a-z][a-z0-9_]{0,127}`.
///
/// Derived from the document's operationId (or method and path), so that it fits into a scope such as
/// `actions:call:weather.get_daily`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct OperationName(String);

/// The longest operation name in characters.
const MAX_OPERATION_LEN: usize = 128;

fn is_name(text: &str, max_len: usize) -> bool {
    text.len() <= max_len
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl ApiName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ApiName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_name(text, 63) { Ok(Self(text.to_owned())) } else { Err(NameError::Api(text.to_owned())) }
    }
}

impl fmt::Display for ApiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl OperationName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest valid name to any text: snake_case, at most 128 characters; never fails.
    pub fn derive(text: &str) -> Self {
        let mut name = snake_case(text);
        if name.is_empty() {
            name.push_str("operation");
        }
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name.insert_str(0, "op_");
        }
        name.truncate(MAX_OPERATION_LEN);
        Self(name)
    }

    /// The same name with a number at its end, still within the longest length.
    pub fn numbered(&self, number: usize) -> Self {
        let suffix = format!("_{number}");
        let kept = self.0.len().min(MAX_OPERATION_LEN - suffix.len());
        Self(format!("{}{suffix}", &self.0[..kept]))
    }
}

impl FromStr for OperationName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_name(text, MAX_OPERATION_LEN) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Operation(text.to_owned()))
        }
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `getHTTPStatus/v2` → `get_http_status_v2`: ASCII letters and digits kept, everything else a single `_`.
pub fn snake_case(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + 8);
    for (index, &c) in chars.iter().enumerate() {
        if !c.is_ascii_alphanumeric() {
            if !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
            continue;
        }
        if c.is_ascii_uppercase() && index > 0 {
            let previous = chars[index - 1];
            let next_is_lower = chars.get(index + 1).is_some_and(char::is_ascii_lowercase);
            let boundary = previous.is_ascii_lowercase()
                || previous.is_ascii_digit()
                || (previous.is_ascii_uppercase() && next_is_lower);
            if boundary && !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
        }
        out.push(c.to_ascii_lowercase());
    }
    while out.ends_with('_') {
        out.pop();
    }
    out
}

/// The candidate nearest to `wanted`, if any is near enough to be what was meant. Ties go to the first.
pub fn closest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_ascii_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let score = strsim::jaro_winkler(&wanted, &candidate.to_ascii_lowercase());
        if score >= 0.8 && best.is_none_or(|(other, _)| score > other) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn operation_ids_of_every_habit_become_snake_case() {
        for (from, to) in [
            ("getDaily", "get_daily"),
            ("repos/get-content", "repos_get_content"),
            ("GET_AssumeRole", "get_assume_role"),
            ("listHTTPServers", "list_http_servers"),
            ("  Pets  ", "pets"),
            ("2fa.check", "op_2fa_check"),
            ("日本", "operation"),
        ] {
            assert_eq!(OperationName::derive(from).as_str(), to);
        }
    }

    #[test]
    fn api_names_are_checked() {
        assert!("weather".parse::<ApiName>().is_ok());
        for bad in ["", "Weather", "1a", "a-b", "a.b", &"a".repeat(64)] {
            assert!(bad.parse::<ApiName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(closest("wether", ["flights", "weather"]), Some("weather"));
        assert_eq!(closest("zzz", ["flights", "weather"]), None);
    }

    proptest! {
        #[test]
        fn any_text_derives_a_valid_operation_name(text in any::<String>(), number in 0usize..100_000) {
            let name = OperationName::derive(&text);
            prop_assert!(name.as_str().parse::<OperationName>().is_ok());
            prop_assert!(name.numbered(number).as_str().parse::<OperationName>().is_ok());
        }
    }
}
