//! One operation, whole: its parameters, body, security and the JSON Schema of its arguments. Pure.
//!
//! O1 the arguments are one object: a member a parameter, and `body`; nothing else is taken.
//! O2 a parameter that carries an API key of the operation's security is no argument: the service sets it.

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::document::{Dialect, Document, text_of};
use super::parameter::{Parameter, Place, RawParameter, Style, essence, is_json, read_parameters};
use super::schema::{Direction, SchemaBuilder};
use super::scheme::{KeyPlace, Requirements, Scheme, read_requirements};
use super::{OperationHead, SpecError};

/// The member of the arguments that holds the request's body.
pub const BODY: &str = "body";

/// How a body is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyKind {
    Json,
    /// `application/x-www-form-urlencoded`; the members named are written as `name[key]=value`.
    Form {
        deep: Vec<String>,
    },
    /// A text, sent as it is.
    Text,
}

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub kind: BodyKind,
    /// The Content-Type to send.
    pub content_type: String,
    pub required: bool,
}

/// An operation that can be called.
pub struct Operation {
    pub head: OperationHead,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    /// Alternatives; empty: no security.
    pub security: Requirements,
    /// Self-contained JSON Schema 2020-12 of the arguments object.
    pub arguments_schema: Value,
    /// What of the document's schema could not be kept, for the administrator.
    pub notes: Vec<String>,
    pub(in crate::actions) validator: jsonschema::Validator,
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation").field("head", &self.head).finish_non_exhaustive()
    }
}

/// Builds an operation from its path item and its own object.
pub fn build(
    document: &Document,
    schemes: &IndexMap<String, Scheme>,
    head: &OperationHead,
    item: &Map<String, Value>,
    operation: &Map<String, Value>,
) -> Result<Operation, SpecError> {
    let security = read_requirements(operation)
        .or_else(|| document.root().as_object().and_then(read_requirements))
        .unwrap_or_default();
    let (mut raw, body_parameters) = read_parameters(document, item, operation)?;
    raw.retain(|raw| !carries_api_key(&raw.parameter, &security, schemes));

    let mut builder = SchemaBuilder::new(document, Direction::Request);
    let body = match document.dialect() {
        Dialect::V2 => body_of_v2(document, operation, &body_parameters, &mut builder)?,
        Dialect::V30 | Dialect::V31 => body_of_v3(document, operation, &mut builder)?,
    };
    name_arguments(&mut raw, body.is_some());

    let mut properties = Map::new();
    let mut required = Vec::new();
    for raw in &raw {
        properties.insert(raw.parameter.argument.clone(), parameter_schema(document, raw, &mut builder)?);
        if raw.parameter.required {
            required.push(Value::from(raw.parameter.argument.as_str()));
        }
    }
    let body = body.map(|(body, schema)| {
        properties.insert(BODY.to_owned(), schema);
        if body.required {
            required.push(Value::from(BODY));
        }
        body
    });
    let definitions = builder.finish()?;
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    if !definitions.is_empty() {
        schema["$defs"] = Value::Object(definitions);
    }
    let mut notes = Vec::new();
    let validator = compile(&mut schema, &mut notes)?;
    Ok(Operation {
        head: head.clone(),
        parameters: raw.into_iter().map(|raw| raw.parameter).collect(),
        body,
        security,
        arguments_schema: schema,
        notes,
        validator,
    })
}

fn compile(schema: &mut Value, notes: &mut Vec<String>) -> Result<jsonschema::Validator, SpecError> {
    let build = |schema: &Value| {
        jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            .build(schema)
    };
    match build(schema) {
        Ok(validator) => Ok(validator),
        Err(_) => {
            // Documents hold patterns of every dialect; one that does not compile here restricts nothing.
            drop_broken_patterns(schema, notes);
            build(schema).map_err(|error| SpecError::Schema(error.masked().to_string()))
        }
    }
}

fn drop_broken_patterns(schema: &mut Value, notes: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(pattern)) = map.get("pattern")
                && regex::Regex::new(pattern).is_err()
            {
                notes.push(format!("pattern `{pattern}` does not compile and is not checked"));
                map.remove("pattern");
            }
            if let Some(Value::Object(patterns)) = map.get_mut("patternProperties") {
                patterns.retain(|pattern, _| regex::Regex::new(pattern).is_ok());
            }
            map.values_mut().for_each(|value| drop_broken_patterns(value, notes));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| drop_broken_patterns(value, notes)),
        _ => {}
    }
}

fn carries_api_key(
    parameter: &Parameter,
    security: &Requirements,
    schemes: &IndexMap<String, Scheme>,
) -> bool {
    security.iter().flatten().any(|one| match schemes.get(&one.scheme) {
        Some(Scheme::ApiKey { place, name }) => match (place, parameter.place) {
            (KeyPlace::Header, Place::Header) => name.eq_ignore_ascii_case(&parameter.name),
            (KeyPlace::Query, Place::Query) | (KeyPlace::Cookie, Place::Cookie) => *name == parameter.name,
            _ => false,
        },
        _ => false,
    })
}

/// Where one name occurs in two places, the first of path, query, header, cookie keeps it and the others get a suffix.
fn name_arguments(raw: &mut [RawParameter<'_>], has_body: bool) {
    let mut taken: Vec<String> = if has_body { vec![BODY.to_owned()] } else { Vec::new() };
    let mut order: Vec<usize> = (0..raw.len()).collect();
    order.sort_by_key(|&index| raw[index].parameter.place);
    for index in order {
        let parameter = &mut raw[index].parameter;
        let mut argument = parameter.name.clone();
        while taken.contains(&argument) {
            argument = format!("{argument}_{}", parameter.place.as_str());
        }
        taken.push(argument.clone());
        parameter.argument = argument;
    }
}

fn parameter_schema(
    document: &Document,
    raw: &RawParameter<'_>,
    builder: &mut SchemaBuilder<'_>,
) -> Result<Value, SpecError> {
    let own;
    let source = match (document.dialect(), raw.schema) {
        (_, Some(schema)) => schema,
        (Dialect::V2, None) => {
            own = raw.own_schema();
            &own
        }
        _ => &Value::Bool(true),
    };
    let mut schema = builder.convert(source)?;
    if schema == Value::Bool(true) {
        schema = Value::Object(Map::new());
    }
    if let Value::Object(map) = &mut schema {
        if let Some(description) = raw.description {
            map.insert("description".to_owned(), Value::from(description));
        }
        if let Some(example) = raw.example {
            map.insert("examples".to_owned(), json!([example]));
        }
        if raw.deprecated {
            map.insert("deprecated".to_owned(), Value::Bool(true));
        }
    }
    Ok(schema)
}

fn body_of_v3(
    document: &Document,
    operation: &Map<String, Value>,
    builder: &mut SchemaBuilder<'_>,
) -> Result<Option<(Body, Value)>, SpecError> {
    let Some(body) = operation.get("requestBody") else { return Ok(None) };
    let body = document.object(body)?;
    let required = super::flag_of(body, "required");
    let Some(content) = body.get("content").and_then(Value::as_object).filter(|content| !content.is_empty())
    else {
        return Ok(None);
    };
    let (media, value) = choose_media(content)?;
    let schema = value.get("schema").unwrap_or(&Value::Bool(true));
    let kind = body_kind(media, value.get("encoding"));
    let content_type = if media.contains('*') { "application/json".to_owned() } else { media.to_owned() };
    let schema = describe(body_schema(&kind, schema, &content_type, builder)?, text_of(body, "description"));
    Ok(Some((Body { kind, content_type, required }, schema)))
}

/// JSON first, then forms, then text; multipart alone is an error.
fn choose_media(content: &Map<String, Value>) -> Result<(&str, &Value), SpecError> {
    let by = |wanted: &dyn Fn(&str) -> bool| {
        content.iter().find(|(media, _)| wanted(media)).map(|(media, value)| (media.as_str(), value))
    };
    by(&|media| essence(media) == "application/json")
        .or_else(|| by(&is_json))
        .or_else(|| by(&|media| essence(media) == "application/x-www-form-urlencoded"))
        .or_else(|| by(&|media| essence(media).starts_with("text/")))
        .or_else(|| by(&|media| !essence(media).starts_with("multipart/")))
        .ok_or_else(|| SpecError::UnsupportedBody(content.keys().next().cloned().unwrap_or_default()))
}

fn body_kind(media: &str, encoding: Option<&Value>) -> BodyKind {
    if is_json(media) {
        BodyKind::Json
    } else if essence(media) == "application/x-www-form-urlencoded" {
        let deep = encoding.and_then(Value::as_object).map(|members| {
            members
                .iter()
                .filter(|(_, one)| one.get("style").and_then(Value::as_str) == Some("deepObject"))
                .map(|(name, _)| name.clone())
                .collect()
        });
        BodyKind::Form { deep: deep.unwrap_or_default() }
    } else {
        BodyKind::Text
    }
}

fn body_schema(
    kind: &BodyKind,
    schema: &Value,
    content_type: &str,
    builder: &mut SchemaBuilder<'_>,
) -> Result<Value, SpecError> {
    match kind {
        BodyKind::Text => {
            Ok(json!({"type": "string", "description": format!("the body as {content_type} text")}))
        }
        BodyKind::Form { .. } => {
            let converted = builder.convert(schema)?;
            if converted == Value::Bool(true) { Ok(json!({"type": "object"})) } else { Ok(converted) }
        }
        BodyKind::Json => builder.convert(schema),
    }
}

fn describe(mut schema: Value, description: Option<&str>) -> Value {
    if schema == Value::Bool(true) {
        schema = Value::Object(Map::new());
    }
    if let (Value::Object(map), Some(description)) = (&mut schema, description)
        && !map.contains_key("description")
    {
        map.insert("description".to_owned(), Value::from(description));
    }
    schema
}

fn body_of_v2(
    document: &Document,
    operation: &Map<String, Value>,
    parameters: &[&Map<String, Value>],
    builder: &mut SchemaBuilder<'_>,
) -> Result<Option<(Body, Value)>, SpecError> {
    if parameters.is_empty() {
        return Ok(None);
    }
    let consumes: Vec<&str> = operation
        .get("consumes")
        .or_else(|| document.root().get("consumes"))
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    if let Some(body) = parameters.iter().find(|map| text_of(map, "in") == Some("body")) {
        let media = consumes.iter().find(|media| is_json(media)).or(consumes.first()).copied();
        let media = media.filter(|media| !media.contains('*')).unwrap_or("application/json");
        let kind = body_kind(media, None);
        let schema = body_schema(&kind, body.get("schema").unwrap_or(&Value::Bool(true)), media, builder)?;
        let schema = describe(schema, text_of(body, "description"));
        let required = super::flag_of(body, "required");
        return Ok(Some((Body { kind, content_type: media.to_owned(), required }, schema)));
    }
    let form = "application/x-www-form-urlencoded";
    let has_file = parameters.iter().any(|map| text_of(map, "type") == Some("file"));
    if has_file || (!consumes.is_empty() && !consumes.iter().any(|media| essence(media) == form)) {
        let media = if has_file { "multipart/form-data" } else { consumes[0] };
        return Err(SpecError::UnsupportedBody(media.to_owned()));
    }
    let mut properties = Map::new();
    let mut required = Vec::new();
    for map in parameters {
        let name = text_of(map, "name").unwrap_or_default();
        let mut own = (*map).clone();
        own.remove("required");
        properties.insert(name.to_owned(), builder.convert(&Value::Object(own))?);
        if super::flag_of(map, "required") {
            required.push(name);
        }
    }
    let body = Body {
        kind: BodyKind::Form { deep: Vec::new() },
        content_type: form.to_owned(),
        required: !required.is_empty(),
    };
    let schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    Ok(Some((body, schema)))
}

impl Parameter {
    /// Whether lists and objects of this parameter are JSON text.
    pub fn is_json(&self) -> bool {
        self.style == Style::Json
    }
}
