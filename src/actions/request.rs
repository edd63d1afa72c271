//! Checked arguments → the request, without credentials. Pure.
//!
//! Q1 whatever the arguments are, the URL keeps the base's scheme, host and port, and the template's number of segments.
//! Q2 no argument starts a new header, cookie or query parameter.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use url::Url;

use super::arguments::ArgumentProblem;
use super::spec::operation::BODY;
use super::spec::{BodyKind, Operation, Parameter, Place, Style};

/// Everything but RFC 3986's unreserved characters is percent-encoded.
pub const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request as the arguments make it.
#[derive(Debug, Clone)]
pub struct PreparedRequest {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    /// Names and values, encoded.
    pub cookies: Vec<(String, String)>,
    pub body: Option<Bytes>,
}

/// Builds the request; the arguments must have passed `check_arguments`.
pub fn build_request(
    operation: &Operation,
    base: &Url,
    arguments: &Value,
) -> Result<PreparedRequest, Vec<ArgumentProblem>> {
    let empty = Map::new();
    let arguments = arguments.as_object().unwrap_or(&empty);
    let mut problems = Vec::new();
    let mut query = Vec::new();
    let mut headers = HeaderMap::new();
    let mut cookies = Vec::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));

    for parameter in &operation.parameters {
        let value = match arguments.get(&parameter.argument) {
            None | Some(Value::Null) => continue,
            Some(value) => value,
        };
        match parameter.place {
            Place::Path => {}
            Place::Query => query.extend(query_pairs(parameter, value)),
            Place::Cookie => cookies.extend(query_pairs(parameter, value)),
            Place::Header => match header(parameter, value) {
                Ok((name, value)) => {
                    headers.insert(name, value);
                }
                Err(message) => problems.push(problem(parameter, message)),
            },
        }
    }
    let url = match build_url(operation, base, arguments, &query) {
        Ok(url) => Some(url),
        Err(found) => {
            problems.push(found);
            None
        }
    };
    let mut body = None;
    if let (Some(shape), Some(value)) = (&operation.body, arguments.get(BODY)) {
        if let Ok(content_type) = HeaderValue::from_str(&shape.content_type) {
            headers.insert(CONTENT_TYPE, content_type);
        }
        body = Some(Bytes::from(match &shape.kind {
            BodyKind::Json => value.to_string(),
            BodyKind::Form { deep } => form_text(value, deep),
            BodyKind::Text => plain(value),
        }));
    }
    match url {
        Some(url) if problems.is_empty() => {
            Ok(PreparedRequest { method: operation.head.method.clone(), url, headers, cookies, body })
        }
        _ => Err(problems),
    }
}

fn problem(parameter: &Parameter, message: impl Into<String>) -> ArgumentProblem {
    let pointer = format!("/{}", parameter.argument.replace('~', "~0").replace('/', "~1"));
    ArgumentProblem { pointer, message: message.into() }
}

fn build_url(
    operation: &Operation,
    base: &Url,
    arguments: &Map<String, Value>,
    query: &[(String, String)],
) -> Result<Url, ArgumentProblem> {
    // Some documents put a fixed query or a fragment into the path to tell operations apart.
    let template = operation.head.path.split('#').next().unwrap_or_default();
    let (template, fixed_query) = template.split_once('?').unwrap_or((template, ""));
    let mut path = base.path().trim_end_matches('/').to_owned();
    for segment in template.trim_start_matches('/').split('/') {
        path.push('/');
        path.push_str(&fill_segment(segment, operation, arguments)?);
    }
    let mut url = base.clone();
    url.set_fragment(None);
    url.set_path(&path);
    let whole = |message: &str| ArgumentProblem { pointer: String::new(), message: message.to_owned() };
    if url.path() != path {
        // The URL parser found something to normalise that the checks above should have refused.
        return Err(whole("the path parameters do not make a plain path"));
    }
    let mut pairs: Vec<String> = Vec::new();
    pairs.extend(
        [base.query().unwrap_or_default(), fixed_query]
            .iter()
            .filter(|q| !q.is_empty())
            .map(|q| (*q).to_owned()),
    );
    pairs.extend(query.iter().map(|(name, value)| format!("{name}={value}")));
    url.set_query(if pairs.is_empty() { None } else { Some(pairs.join("&")) }.as_deref());
    Ok(url)
}

/// One template segment, such as `{id}` or `{a}...{b}`, with its parameters filled in.
fn fill_segment(
    template: &str,
    operation: &Operation,
    arguments: &Map<String, Value>,
) -> Result<String, ArgumentProblem> {
    let mut out = String::new();
    let mut rest = template;
    let mut last = None;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(&literal(before));
        let Some((name, tail)) = after.split_once('}') else {
            return Err(ArgumentProblem {
                pointer: String::new(),
                message: format!("the document's path `{}` has an unclosed brace", operation.head.path),
            });
        };
        rest = tail;
        let parameter = operation.parameters.iter().find(|p| p.place == Place::Path && p.name == name);
        let Some(parameter) = parameter else {
            return Err(ArgumentProblem {
                pointer: String::new(),
                message: format!("the document's path names `{name}`, but does not declare it"),
            });
        };
        let value = arguments.get(&parameter.argument).unwrap_or(&Value::Null);
        out.push_str(&path_text(parameter, value)?);
        last = Some(parameter);
    }
    out.push_str(&literal(rest));
    if let Some(parameter) = last {
        let decoded = percent_decode_str(&out).decode_utf8_lossy().into_owned();
        if matches!(decoded.as_str(), "" | "." | "..") {
            return Err(problem(parameter, "must not be empty, `.` or `..`"));
        }
    }
    Ok(out)
}

/// Fixed text of the template: characters that mean nothing special in a path stay.
fn literal(text: &str) -> String {
    const PATH: &AsciiSet = &UNRESERVED
        .remove(b'!')
        .remove(b'$')
        .remove(b'&')
        .remove(b'\'')
        .remove(b'(')
        .remove(b')')
        .remove(b'*')
        .remove(b'+')
        .remove(b',')
        .remove(b';')
        .remove(b'=')
        .remove(b':')
        .remove(b'@')
        .remove(b'%');
    // `url` encodes nothing of this set differently, but for an apostrophe nowhere.
    utf8_percent_encode(text, PATH).to_string()
}

fn path_text(parameter: &Parameter, value: &Value) -> Result<String, ArgumentProblem> {
    let encode = |value: &Value| -> Result<String, ArgumentProblem> {
        let text = plain(value);
        if let Some(reason) = path_refusal(&text) {
            return Err(problem(parameter, reason));
        }
        Ok(encoded(&text))
    };
    if parameter.is_json() {
        return encode(&Value::from(value.to_string()));
    }
    let name = encoded(&parameter.name);
    let (prefix, separator) = match parameter.style {
        Style::Label => (".".to_owned(), if parameter.explode { "." } else { "," }),
        Style::Matrix if parameter.explode => (String::new(), ""),
        Style::Matrix => (format!(";{name}="), ","),
        _ => (String::new(), ","),
    };
    let exploded_matrix = parameter.style == Style::Matrix && parameter.explode;
    let parts: Vec<String> = match value {
        Value::Array(items) => items
            .iter()
            .map(|item| {
                Ok(if exploded_matrix { format!(";{name}={}", encode(item)?) } else { encode(item)? })
            })
            .collect::<Result<_, _>>()?,
        Value::Object(members) => {
            let mut parts = Vec::new();
            for (key, member) in members {
                let (key, member) = (encode(&Value::from(key.as_str()))?, encode(member)?);
                match (exploded_matrix, parameter.explode) {
                    (true, _) => parts.push(format!(";{key}={member}")),
                    (_, true) => parts.push(format!("{key}={member}")),
                    _ => parts.extend([key, member]),
                }
            }
            parts
        }
        one if exploded_matrix => vec![format!(";{name}={}", encode(one)?)],
        one => vec![encode(one)?],
    };
    if parts.is_empty() {
        return Err(problem(parameter, "must not be empty, as it is part of the path"));
    }
    Ok(format!("{prefix}{}", parts.join(separator)))
}

/// Decoding is repeated this often, as servers and proxies in a row might.
const MAX_DECODINGS: usize = 4;

/// Why a value must not stand in a path: what some server might read as a way out of its segment.
fn path_refusal(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("must not be empty, as it is part of the path");
    }
    let mut text = text.to_owned();
    for _ in 0..MAX_DECODINGS {
        if text.chars().any(|c| c.is_control()) {
            return Some("must not hold control characters");
        }
        if text.split(['/', '\\']).any(|part| part == "." || part == "..") {
            return Some("must not hold `.` or `..` as a path segment");
        }
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            return None;
        }
        text = decoded;
    }
    Some("is percent-encoded too many times")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// Up to here every whole number is a float of its own.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// A scalar as text; lists and objects as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        // JSON Schema takes 5.0 for an integer; an API's query may not.
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < MAX_EXACT => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Encoded names and values of a query or cookie parameter.
fn query_pairs(parameter: &Parameter, value: &Value) -> Vec<(String, String)> {
    let name = encoded(&parameter.name);
    if parameter.is_json() {
        return vec![(name, encoded(&value.to_string()))];
    }
    let separator = match parameter.style {
        Style::SpaceDelimited => "%20",
        Style::PipeDelimited => "%7C",
        Style::TabDelimited => "%09",
        _ => ",",
    };
    match value {
        Value::Array(items) if parameter.explode => {
            items.iter().map(|item| (name.clone(), encoded(&plain(item)))).collect()
        }
        // An empty list is an absent parameter.
        Value::Array(items) if items.is_empty() => Vec::new(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| encoded(&plain(item))).collect();
            vec![(name, items.join(separator))]
        }
        Value::Object(members) if parameter.style == Style::DeepObject => {
            let mut pairs = Vec::new();
            for (key, member) in members {
                deep_pairs(&format!("{name}[{}]", encoded(key)), member, &mut pairs);
            }
            pairs
        }
        Value::Object(members) if parameter.explode => {
            members.iter().map(|(key, member)| (encoded(key), encoded(&plain(member)))).collect()
        }
        Value::Object(members) if members.is_empty() => Vec::new(),
        Value::Object(members) => {
            let parts: Vec<_> =
                members.iter().flat_map(|(key, member)| [encoded(key), encoded(&plain(member))]).collect();
            vec![(name, parts.join(separator))]
        }
        one => vec![(name, encoded(&plain(one)))],
    }
}

/// `a[b][c]=1`; lists repeat the name.
fn deep_pairs(name: &str, value: &Value, pairs: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                deep_pairs(&format!("{name}[{}]", encoded(key)), member, pairs);
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| pairs.push((name.to_owned(), encoded(&plain(item)))))
        }
        one => pairs.push((name.to_owned(), encoded(&plain(one)))),
    }
}

fn header(parameter: &Parameter, value: &Value) -> Result<(HeaderName, HeaderValue), String> {
    let name: HeaderName = parameter
        .name
        .parse()
        .map_err(|_| format!("the document's header name `{}` is not one", parameter.name))?;
    let text = match value {
        _ if parameter.is_json() => value.to_string(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(members) => {
            let joint = if parameter.explode { "=" } else { "," };
            members
                .iter()
                .map(|(key, member)| format!("{key}{joint}{}", plain(member)))
                .collect::<Vec<_>>()
                .join(",")
        }
        one => plain(one),
    };
    if text.chars().any(char::is_control) {
        return Err("must not hold line breaks or other control characters, as it is a header".to_owned());
    }
    HeaderValue::from_str(&text)
        .or_else(|_| HeaderValue::from_bytes(text.as_bytes()))
        .map(|value| (name, value))
        .map_err(|_| "cannot stand in a header".to_owned())
}

fn form_text(value: &Value, deep: &[String]) -> String {
    let Value::Object(members) = value else { return plain(value) };
    let mut pairs = Vec::new();
    for (key, member) in members {
        let name = encoded(key);
        match member {
            Value::Null => {}
            Value::Array(items) => {
                pairs.extend(items.iter().map(|item| (name.clone(), encoded(&plain(item)))))
            }
            Value::Object(_) if deep.contains(key) => deep_pairs(&name, member, &mut pairs),
            one => pairs.push((name, encoded(&plain(one)))),
        }
    }
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests;
