//! The text of an action file → its typed form, with a finding for every mistake. Pure.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_saphyr::Location;
use url::Url;

use super::super::name::{ApiName, NameError};
use super::super::yaml::{Findings, Node, Placed, Section, parse};
use super::credential::read_credentials;
use super::{ActionFile, BaseUrl, Limits, Publish, PublishedOperation, ResponsePolicy, SpecSource};

/// Reads the text of an action file; `path` is where it was found and what relative paths in it start from.
/// `None` where an error makes the API unusable; the findings say why.
pub fn parse_action_file(text: &str, path: &Path, findings: &Findings) -> Option<ActionFile> {
    let root = parse(text, findings)?;
    let top = Section::new(&root, "", findings)?;
    let folder = path.parent().unwrap_or(Path::new("."));

    let name = top.text("name");
    if name.is_none() {
        top.missing("name", "add `name:`, for example `name: weather`");
    }
    let name = name.and_then(|text| match text.value.parse::<ApiName>() {
        Ok(name) => Some(name),
        Err(error) => {
            findings.error(text.referenced, "actions/name", error.to_string(), "");
            None
        }
    });
    let description = top.text("description").map(|text| text.value.trim().to_owned());
    if description.as_deref().is_none_or(str::is_empty) {
        findings.warning(
            top.at(),
            "actions/description",
            "the API has no description".to_owned(),
            "add `description:`; agents choose by it",
        );
    }
    let spec = top.text("spec");
    if spec.is_none() {
        top.missing("spec", "name the OpenAPI document: a path relative to this file, or an https URL");
    }
    let allow_hosts = read_hosts(&top, "allow_hosts", false, findings);
    let allow_redirect_hosts = read_hosts(&top, "allow_redirect_hosts", true, findings);
    let spec_at = spec.as_ref().map_or(top.at(), |text| text.referenced);
    let spec = spec.and_then(|text| read_spec(text.value, text.referenced, folder, &allow_hosts, findings));
    let base_url_at = top.get("base_url").map_or(spec_at, |node| node.referenced);
    let base_url = read_base_url(&top, findings);
    let publish = read_operations(&top, findings);
    let credentials = read_credentials(&top, folder, findings);
    let limits = read_limits(&top);
    let response = read_response(&top, findings);
    top.finish();

    if findings.has_errors() {
        return None;
    }
    Some(ActionFile {
        name: name?,
        description: description.unwrap_or_default(),
        spec: spec?,
        base_url,
        allow_hosts,
        allow_redirect_hosts,
        publish: publish?,
        credentials,
        limits,
        response,
        spec_at,
        base_url_at,
    })
}

fn read_hosts(
    top: &Section<'_>,
    key: &'static str,
    with_port: bool,
    findings: &Findings,
) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    for text in top.texts(key).unwrap_or_default() {
        match normal_host(text.value.trim(), with_port) {
            Some(host) => {
                hosts.insert(host);
            }
            None => findings.error(
                text.referenced,
                "actions/host",
                format!("`{}` in `{key}` is not a host", text.value),
                if with_port {
                    "write a host name or address, with `:port` if it is not the scheme's own; no scheme, path or wildcard"
                } else {
                    "write a bare host name or address; no scheme, port, path or wildcard"
                },
            ),
        }
    }
    hosts
}

/// A host as `net::host_text` writes it, with `:port` where there is one.
pub(super) fn normal_host(text: &str, with_port: bool) -> Option<String> {
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !is_address && !text.ends_with(']') => {
            (host, Some(port.parse::<u16>().ok().filter(|_| with_port)?))
        }
        _ => (text, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => match url::Host::parse(host).ok()? {
            url::Host::Domain(name) if name.contains(['*', ' ']) => return None,
            other => other.to_string().to_ascii_lowercase(),
        },
    };
    Some(match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

fn read_spec(
    text: &str,
    at: Location,
    folder: &Path,
    allow_hosts: &BTreeSet<String>,
    findings: &Findings,
) -> Option<SpecSource> {
    if !text.contains("://") {
        return Some(SpecSource::File(folder.join(text)));
    }
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" => Some(SpecSource::Url(url)),
        Ok(url)
            if url.scheme() == "http" && url.host_str().is_some_and(|host| allow_hosts.contains(host)) =>
        {
            Some(SpecSource::Url(url))
        }
        _ => {
            findings.error(
                at,
                "actions/spec",
                "the document's URL must be https".to_owned(),
                "use https, or a file next to this one (http is taken for hosts in `allow_hosts` only)",
            );
            None
        }
    }
}

fn read_base_url(top: &Section<'_>, findings: &Findings) -> Option<BaseUrl> {
    let node = top.get("base_url")?;
    match &node.value {
        Node::Text(text) => Some(match text.strip_prefix("env:") {
            Some(name) => BaseUrl { env: Some(name.trim().to_owned()), default: None },
            None => BaseUrl { env: None, default: Some(text.clone()) },
        }),
        Node::Map(_) => {
            let section = Section::new(node, "base_url", findings)?;
            let env = section.text("env").map(|text| text.value.to_owned());
            let default = section.text("default").map(|text| text.value.to_owned());
            if env.is_none() && default.is_none() {
                section.missing("env", "name an environment variable, a default, or both");
            }
            section.finish();
            Some(BaseUrl { env, default })
        }
        other => {
            findings.error(
                node.referenced,
                "actions/type",
                format!(
                    "`base_url` must be a URL or a mapping of `env` and `default`, but is {}",
                    other.sort()
                ),
                "",
            );
            None
        }
    }
}

fn read_operations(top: &Section<'_>, findings: &Findings) -> Option<Publish> {
    let Some(node) = top.get("operations") else {
        top.missing(
            "operations",
            "list the operationIds that agents may call, or write `operations: \"*\"` for all of them",
        );
        return None;
    };
    match &node.value {
        Node::Text(text) if text == "*" => Some(Publish::All),
        Node::List(items) => {
            let mut listed = Vec::new();
            for item in items {
                match &item.value {
                    Node::Text(text) => listed.push(PublishedOperation {
                        wanted: text.clone(),
                        publish: true,
                        rename: None,
                        at: item.referenced,
                    }),
                    other => findings.error(
                        item.referenced,
                        "actions/type",
                        format!("`operations` must list operationIds, but holds {}", other.sort()),
                        "",
                    ),
                }
            }
            Some(Publish::Listed(listed))
        }
        Node::Map(entries) => Some(Publish::Listed(
            entries
                .iter()
                .map(|(key, value)| read_operation(&key.value, key.referenced, value, findings))
                .collect(),
        )),
        other => {
            findings.error(
                node.referenced,
                "actions/type",
                format!("`operations` must be a list, a mapping or \"*\", but is {}", other.sort()),
                "",
            );
            None
        }
    }
}

fn read_operation(wanted: &str, at: Location, node: &Placed, findings: &Findings) -> PublishedOperation {
    let mut operation = PublishedOperation { wanted: wanted.to_owned(), publish: true, rename: None, at };
    match &node.value {
        Node::Null => {}
        Node::Bool(publish) => operation.publish = *publish,
        _ => {
            if let Some(section) = Section::new(node, format!("operations.{wanted}"), findings) {
                operation.publish = section.boolean("publish").unwrap_or(true);
                operation.rename = section.text("rename").and_then(|text| match text.value.parse() {
                    Ok(name) => Some(name),
                    Err(error) => {
                        let error: NameError = error;
                        findings.error(text.referenced, "actions/name", error.to_string(), "");
                        None
                    }
                });
                section.finish();
            }
        }
    }
    operation
}

/// A day; nobody waits longer for one call.
const MAX_SECONDS: u64 = 86_400;
/// 64 GiB: what one stored answer may ever take.
const MAX_BYTES: u64 = 64 << 30;

fn read_limits(top: &Section<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(section) = top.section("limits") else { return limits };
    let seconds = |key| section.whole_number(key, 1..=MAX_SECONDS).map(Duration::from_secs);
    if let Some(value) = seconds("timeout_seconds") {
        limits.timeout = value;
    }
    if let Some(value) = seconds("connect_timeout_seconds") {
        limits.connect_timeout = value;
    }
    if let Some(value) = seconds("idle_timeout_seconds") {
        limits.idle_timeout = value;
    }
    if let Some(value) = section.whole_number("max_response_bytes", 1..=MAX_BYTES) {
        limits.max_response_bytes = value;
    }
    limits.requests_per_minute = section
        .whole_number("requests_per_minute", 1..=1_000_000)
        .and_then(|value| u32::try_from(value).ok());
    if let Some(value) = section.whole_number("max_retries", 0..=10) {
        limits.max_retries = u32::try_from(value).unwrap_or(limits.max_retries);
    }
    section.finish();
    limits
}

fn read_response(top: &Section<'_>, findings: &Findings) -> ResponsePolicy {
    let mut response = ResponsePolicy::default();
    let Some(section) = top.section("response") else { return response };
    if let Some(value) = section.whole_number("store_over_tokens", 0..=10_000_000) {
        response.store_over_tokens = value;
    }
    if let Some(text) = section.text("index") {
        if text.value.parse::<ApiName>().is_ok() {
            response.index = text.value.to_owned();
        } else {
            findings.error(
                text.referenced,
                "actions/name",
                format!("`{}` is not an index name", text.value),
                "use a lowercase letter, then up to 62 of a-z, 0-9 and _",
            );
        }
    }
    section.finish();
    response
}
