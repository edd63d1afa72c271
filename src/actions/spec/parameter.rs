//! Parameters of an operation: where they go and how their values are written. Pure.

use serde_json::{Map, Value};

use super::SpecError;
use super::document::{Dialect, Document, flag_of, text_of};

/// Where a parameter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    Path,
    Query,
    Header,
    Cookie,
}

impl Place {
    /// The document's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }
}

/// How lists and objects are written (OpenAPI 3, "Style Values").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    SpaceDelimited,
    PipeDelimited,
    /// 2.0's `tsv`.
    TabDelimited,
    DeepObject,
    /// The value as JSON text: `content: {application/json: …}`.
    Json,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name among the arguments.
    pub argument: String,
    /// Its name on the wire.
    pub name: String,
    pub place: Place,
    pub required: bool,
    pub style: Style,
    /// Whether each item of a list (each member of an object) is written by itself.
    pub explode: bool,
}

/// A parameter and the document's schema of it.
pub struct RawParameter<'a> {
    pub parameter: Parameter,
    pub description: Option<&'a str>,
    pub schema: Option<&'a Value>,
    pub example: Option<&'a Value>,
    pub deprecated: bool,
    source: &'a Map<String, Value>,
}

impl RawParameter<'_> {
    /// In 2.0 the parameter is its own schema.
    pub fn own_schema(&self) -> Value {
        let mut own = self.source.clone();
        own.remove("required");
        Value::Object(own)
    }
}

/// Parameters that the transport sets itself; OpenAPI says to ignore the first three in documents.
const OWN_HEADERS: [&str; 14] = [
    "accept",
    "content-type",
    "authorization",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "cookie",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "accept-encoding",
    "keep-alive",
];

/// The parameters of path item and operation merged, the operation's winning; those of 2.0 that make up the body are
/// returned apart.
pub fn read_parameters<'a>(
    document: &'a Document,
    item: &'a Map<String, Value>,
    operation: &'a Map<String, Value>,
) -> Result<(Vec<RawParameter<'a>>, Vec<&'a Map<String, Value>>), SpecError> {
    let mut parameters: Vec<RawParameter<'a>> = Vec::new();
    let mut body: Vec<&'a Map<String, Value>> = Vec::new();
    for owner in [item, operation] {
        let Some(Value::Array(list)) = owner.get("parameters") else { continue };
        for value in list {
            let map = document.object(value)?;
            let Some(name) = text_of(map, "name") else { continue };
            let place = match text_of(map, "in").unwrap_or_default() {
                "path" => Place::Path,
                "query" => Place::Query,
                "header" => Place::Header,
                "cookie" => Place::Cookie,
                "body" | "formData" => {
                    body.retain(|other| {
                        text_of(other, "in") != text_of(map, "in") || text_of(other, "name") != Some(name)
                    });
                    body.push(map);
                    continue;
                }
                _ => continue,
            };
            if place == Place::Header && OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                continue;
            }
            let raw = read_parameter(document, map, name, place);
            let same =
                |other: &RawParameter<'_>| other.parameter.name == name && other.parameter.place == place;
            match parameters.iter().position(same) {
                Some(index) => parameters[index] = raw,
                None => parameters.push(raw),
            }
        }
    }
    Ok((parameters, body))
}

fn read_parameter<'a>(
    document: &Document,
    map: &'a Map<String, Value>,
    name: &str,
    place: Place,
) -> RawParameter<'a> {
    let content = map.get("content").and_then(Value::as_object).and_then(preferred_media);
    let (style, explode, schema) = match document.dialect() {
        Dialect::V2 => {
            let (style, explode) = collection_format(text_of(map, "collectionFormat"), place);
            (style, explode, None)
        }
        _ if content.is_some() => (Style::Json, false, content.and_then(|(_, media)| media.get("schema"))),
        _ => {
            let style = match text_of(map, "style") {
                Some("label") => Style::Label,
                Some("matrix") => Style::Matrix,
                Some("spaceDelimited") => Style::SpaceDelimited,
                Some("pipeDelimited") => Style::PipeDelimited,
                Some("deepObject") => Style::DeepObject,
                Some("simple") => Style::Simple,
                Some("form") => Style::Form,
                _ => match place {
                    Place::Path | Place::Header => Style::Simple,
                    Place::Query | Place::Cookie => Style::Form,
                },
            };
            let explode = map.get("explode").and_then(Value::as_bool).unwrap_or(style == Style::Form);
            (style, explode, map.get("schema"))
        }
    };
    let parameter = Parameter {
        argument: name.to_owned(),
        name: name.to_owned(),
        place,
        required: place == Place::Path || flag_of(map, "required"),
        style,
        explode,
    };
    RawParameter {
        parameter,
        description: text_of(map, "description"),
        schema,
        example: map.get("example"),
        deprecated: flag_of(map, "deprecated"),
        source: map,
    }
}

fn collection_format(format: Option<&str>, place: Place) -> (Style, bool) {
    match format {
        Some("multi") => (Style::Form, true),
        Some("ssv") => (Style::SpaceDelimited, false),
        Some("tsv") => (Style::TabDelimited, false),
        Some("pipes") => (Style::PipeDelimited, false),
        _ => match place {
            Place::Path | Place::Header => (Style::Simple, false),
            Place::Query | Place::Cookie => (Style::Form, false),
        },
    }
}

/// `application/json; charset=utf-8` → `application/json`, lowercase.
pub fn essence(media: &str) -> String {
    media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a media type is JSON, or a range that JSON is in.
pub fn is_json(media: &str) -> bool {
    let essence = essence(media);
    essence == "*/*" || essence == "application/*" || essence.ends_with("/json") || essence.ends_with("+json")
}

/// JSON before all else, else the first.
pub fn preferred_media(content: &Map<String, Value>) -> Option<(&str, &Value)> {
    let exact = content.iter().find(|(media, _)| essence(media) == "application/json");
    let found =
        exact.or_else(|| content.iter().find(|(media, _)| is_json(media))).or_else(|| content.iter().next());
    found.map(|(media, value)| (media.as_str(), value))
}
