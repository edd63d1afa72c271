//! Security schemes and requirements as the document states them. Pure; knows no credential.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::document::{Dialect, Document, text_of};

/// Where an API key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyPlace {
    Header,
    Query,
    Cookie,
}

/// One security scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    ApiKey {
        place: KeyPlace,
        name: String,
    },
    Basic,
    Bearer,
    OAuth2(Flows),
    /// OpenID Connect; the URL of its discovery document.
    OpenIdConnect {
        discovery_url: String,
    },
    /// Something that this service cannot do, and why.
    Unsupported(String),
}

/// The token endpoints of an OAuth2 scheme, by grant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flows {
    pub client_credentials: Option<String>,
    pub password: Option<String>,
    /// For refresh tokens: the refresh URL, or else the token URL.
    pub refresh: Option<String>,
}

/// One scheme of a requirement, with the OAuth2 scopes that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemeUse {
    pub scheme: String,
    pub scopes: Vec<String>,
}

/// Alternatives; each is a set of schemes that must all be satisfied. Empty: no security.
pub type Requirements = Vec<Vec<SchemeUse>>;

/// All schemes of a document, in its order.
pub fn read_schemes(document: &Document) -> IndexMap<String, Scheme> {
    let pointer = match document.dialect() {
        Dialect::V2 => "/securityDefinitions",
        Dialect::V30 | Dialect::V31 => "/components/securitySchemes",
    };
    let Some(Value::Object(schemes)) = document.root().pointer(pointer) else { return IndexMap::new() };
    schemes
        .iter()
        .map(|(name, value)| {
            let scheme = match document.object(value) {
                Ok(map) => read_scheme(map),
                Err(error) => Scheme::Unsupported(error.to_string()),
            };
            (name.clone(), scheme)
        })
        .collect()
}

fn read_scheme(map: &Map<String, Value>) -> Scheme {
    let text = |key| text_of(map, key).unwrap_or_default();
    match text("type") {
        "basic" => Scheme::Basic,
        "http" => match text("scheme").to_ascii_lowercase().as_str() {
            "basic" => Scheme::Basic,
            "bearer" => Scheme::Bearer,
            other => Scheme::Unsupported(format!("HTTP authentication `{other}` is not supported")),
        },
        "apiKey" => {
            let place = match text("in") {
                "header" => KeyPlace::Header,
                "query" => KeyPlace::Query,
                "cookie" => KeyPlace::Cookie,
                other => return Scheme::Unsupported(format!("an API key in `{other}` is not supported")),
            };
            match text_of(map, "name") {
                Some(name) => Scheme::ApiKey { place, name: name.to_owned() },
                None => Scheme::Unsupported("the document gives the API key no name".to_owned()),
            }
        }
        "oauth2" => Scheme::OAuth2(read_flows(map)),
        "openIdConnect" => match text_of(map, "openIdConnectUrl") {
            Some(url) => Scheme::OpenIdConnect { discovery_url: url.to_owned() },
            None => Scheme::Unsupported("the document gives no openIdConnectUrl".to_owned()),
        },
        "mutualTLS" => Scheme::Unsupported("client certificates are not supported".to_owned()),
        other => Scheme::Unsupported(format!("security of type `{other}` is not supported")),
    }
}

fn read_flows(map: &Map<String, Value>) -> Flows {
    let mut flows = Flows::default();
    if let Some(Value::Object(stated)) = map.get("flows") {
        let url = |flow: &str, key: &str| {
            stated.get(flow).and_then(|flow| flow.get(key)).and_then(Value::as_str).map(str::to_owned)
        };
        flows.client_credentials = url("clientCredentials", "tokenUrl");
        flows.password = url("password", "tokenUrl");
        flows.refresh = ["authorizationCode", "password", "clientCredentials", "implicit"]
            .into_iter()
            .find_map(|flow| url(flow, "refreshUrl"))
            .or_else(|| url("authorizationCode", "tokenUrl"))
            .or_else(|| url("password", "tokenUrl"));
    } else {
        let url = text_of(map, "tokenUrl").map(str::to_owned);
        match text_of(map, "flow") {
            Some("application") => flows.client_credentials = url,
            Some("password") => {
                flows.password = url.clone();
                flows.refresh = url;
            }
            _ => flows.refresh = url,
        }
    }
    flows
}

/// The requirements under `security`, if it is there.
pub fn read_requirements(map: &Map<String, Value>) -> Option<Requirements> {
    let alternatives = map.get("security")?.as_array()?;
    Some(
        alternatives
            .iter()
            .filter_map(Value::as_object)
            .map(|set| {
                set.iter()
                    .map(|(scheme, scopes)| SchemeUse {
                        scheme: scheme.clone(),
                        scopes: scopes
                            .as_array()
                            .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                            .unwrap_or_default(),
                    })
                    .collect()
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemes_of_2_and_3_mean_the_same() {
        let v3 = Document::parse(
            &json!({"openapi": "3.0.0", "components": {"securitySchemes": {
                "b": {"type": "http", "scheme": "Basic"},
                "k": {"type": "apiKey", "in": "query", "name": "key"},
                "o": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "https://a/t"}}},
                "d": {"type": "http", "scheme": "digest"},
            }}})
            .to_string(),
        )
        .unwrap();
        let v2 = Document::parse(
            &json!({"swagger": "2.0", "securityDefinitions": {
                "b": {"type": "basic"},
                "k": {"type": "apiKey", "in": "query", "name": "key"},
                "o": {"type": "oauth2", "flow": "application", "tokenUrl": "https://a/t"},
            }})
            .to_string(),
        )
        .unwrap();
        let (v3, v2) = (read_schemes(&v3), read_schemes(&v2));
        for name in ["b", "k", "o"] {
            assert_eq!(v3[name], v2[name]);
        }
        assert!(matches!(v3["d"], Scheme::Unsupported(_)));
    }

    #[test]
    fn alternatives_and_sets_keep_their_order() {
        let map = json!({"security": [{"a": [], "b": ["x"]}, {}]});
        let requirements = read_requirements(map.as_object().unwrap()).unwrap();
        assert_eq!(requirements[0].iter().map(|u| u.scheme.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(requirements[1].is_empty());
        assert!(read_requirements(&Map::new()).is_none());
    }
}
