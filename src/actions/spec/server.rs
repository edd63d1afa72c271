//! Which address an operation is at, as the document says. Pure.

use serde_json::{Map, Value};
use url::Url;

use super::SpecError;
use super::document::{Dialect, Document, text_of};

/// The first server of the operation, of its path, or of the document.
pub fn choose(
    document: &Document,
    item: &Map<String, Value>,
    operation: &Map<String, Value>,
    source: Option<&Url>,
) -> Result<Url, SpecError> {
    let text = match document.dialect() {
        Dialect::V2 => server_of_v2(document, operation, source)?,
        Dialect::V30 | Dialect::V31 => {
            let root = document.root().as_object().and_then(first_server);
            match first_server(operation).or_else(|| first_server(item)).or(root) {
                Some(server) => filled(server),
                None => "/".to_owned(),
            }
        }
    };
    let url = match source {
        Some(source) => source.join(&text).map_err(|_| SpecError::BadServer(text.clone()))?,
        None if !text.contains("://") => return Err(SpecError::NoServer),
        None => Url::parse(&text).map_err(|_| SpecError::BadServer(text.clone()))?,
    };
    if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() {
        Ok(url)
    } else {
        Err(SpecError::BadServer(text))
    }
}

fn first_server(map: &Map<String, Value>) -> Option<&Map<String, Value>> {
    map.get("servers")?.as_array()?.first()?.as_object()
}

/// The server's URL with each variable's default in its place.
fn filled(server: &Map<String, Value>) -> String {
    let mut text = text_of(server, "url").unwrap_or("/").to_owned();
    if let Some(Value::Object(variables)) = server.get("variables") {
        for (name, variable) in variables {
            let default =
                variable.get("default").or_else(|| variable.get("enum").and_then(|list| list.get(0)));
            if let Some(value) = default {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text = text.replace(&format!("{{{name}}}"), &value);
            }
        }
    }
    text
}

fn server_of_v2(
    document: &Document,
    operation: &Map<String, Value>,
    source: Option<&Url>,
) -> Result<String, SpecError> {
    let empty = Map::new();
    let root = document.root().as_object().unwrap_or(&empty);
    let base_path = text_of(root, "basePath").unwrap_or("/");
    let Some(host) = text_of(root, "host") else {
        return if source.is_some() { Ok(base_path.to_owned()) } else { Err(SpecError::NoServer) };
    };
    let schemes = operation.get("schemes").or_else(|| root.get("schemes")).and_then(Value::as_array);
    let scheme = match schemes {
        Some(schemes) if !schemes.is_empty() => {
            let offers = |wanted: &str| schemes.iter().any(|scheme| scheme.as_str() == Some(wanted));
            if offers("https") || !offers("http") { "https" } else { "http" }
        }
        _ => source.map_or("https", Url::scheme),
    };
    Ok(format!("{scheme}://{host}/{}", base_path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn server(document: Value, source: Option<&str>) -> Result<String, SpecError> {
        let document = Document::parse(&document.to_string()).unwrap();
        let source = source.map(|text| Url::parse(text).unwrap());
        let item = json!({});
        choose(&document, item.as_object().unwrap(), item.as_object().unwrap(), source.as_ref())
            .map(String::from)
    }

    #[test]
    fn servers_of_every_version_are_found() {
        let variables = json!({"openapi": "3.0.0", "servers": [
            {"url": "{p}://{h}/api", "variables": {"p": {"default": "https"}, "h": {"default": "x.org"}}}]});
        assert_eq!(server(variables, None).unwrap(), "https://x.org/api");
        let swagger =
            json!({"swagger": "2.0", "host": "x.org", "basePath": "/v1", "schemes": ["http", "https"]});
        assert_eq!(server(swagger, None).unwrap(), "https://x.org/v1");
        let relative = json!({"openapi": "3.0.0", "servers": [{"url": "/api/v2"}]});
        assert_eq!(
            server(relative.clone(), Some("https://x.org/docs/s.json")).unwrap(),
            "https://x.org/api/v2"
        );
        assert_eq!(server(relative, None), Err(SpecError::NoServer));
        let odd = json!({"openapi": "3.0.0", "servers": [{"url": "ftp://x.org"}]});
        assert!(matches!(server(odd, None), Err(SpecError::BadServer(_))));
    }
}
