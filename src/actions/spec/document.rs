//! An OpenAPI document as data, with its references. Pure.
//!
//! D1 a `$ref` is followed only within the document. D2 a chain of references ends, also where it is a circle.

use serde_json::{Map, Value};

use super::SpecError;

/// Which grammar the document follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Swagger 2.0.
    V2,
    V30,
    /// 3.1 and later: schemas are JSON Schema 2020-12.
    V31,
}

/// A parsed document.
#[derive(Debug)]
pub struct Document {
    root: Value,
    dialect: Dialect,
}

/// The longest chain of references to references.
const MAX_HOPS: usize = 32;

impl Document {
    /// Reads JSON or YAML text.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let text = text.trim_start_matches('\u{feff}');
        let root: Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| SpecError::Syntax(error.to_string()))?
        } else {
            let options = serde_saphyr::options! {
                budget: serde_saphyr::budget! {
                    max_events: 20_000_000,
                    max_nodes: 10_000_000,
                    max_depth: 100,
                    max_total_scalar_bytes: 64 << 20,
                },
            };
            serde_saphyr::from_str_with_options(text, options).map_err(|error| {
                let first = error.without_snippet().to_string();
                SpecError::Syntax(first.lines().next().unwrap_or("not YAML").to_owned())
            })?
        };
        let version =
            |key: &str| root.get(key).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
        let dialect = match (version("openapi"), version("swagger")) {
            (Some(version), _) if version.starts_with("3.0") => Dialect::V30,
            (Some(version), _) if version.starts_with("3.") => Dialect::V31,
            (None, Some(version)) if version.starts_with("2.") || version == "2" => Dialect::V2,
            (Some(version), _) | (None, Some(version)) => return Err(SpecError::Version(version)),
            (None, None) => return Err(SpecError::NotOpenApi),
        };
        Ok(Self { root, dialect })
    }

    /// The document's grammar.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The whole document.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// What a reference such as `#/components/schemas/Pet` names.
    pub fn lookup(&self, reference: &str) -> Result<&Value, SpecError> {
        let pointer = local_pointer(reference)?;
        self.root.pointer(&pointer).ok_or_else(|| SpecError::DanglingReference(reference.to_owned()))
    }

    /// The value itself, or what its `$ref` leads to.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> Result<&'a Value, SpecError> {
        let mut value = value;
        for _ in 0..MAX_HOPS {
            match value.get("$ref").and_then(Value::as_str) {
                Some(reference) => value = self.lookup(reference)?,
                None => return Ok(value),
            }
        }
        Err(SpecError::CircularReference(reference_of(value)))
    }

    /// The value, resolved, as an object.
    pub fn object<'a>(&'a self, value: &'a Value) -> Result<&'a Map<String, Value>, SpecError> {
        self.resolve(value)?
            .as_object()
            .ok_or(SpecError::Malformed { what: "an object", at: reference_of(value) })
    }
}

fn reference_of(value: &Value) -> String {
    value.get("$ref").and_then(Value::as_str).unwrap_or("(inline)").to_owned()
}

/// `#/a/b%7Bc%7D` → `/a/b{c}`; an error for references that leave the document.
pub fn local_pointer(reference: &str) -> Result<String, SpecError> {
    let pointer = reference
        .strip_prefix('#')
        .filter(|pointer| pointer.is_empty() || pointer.starts_with('/'))
        .ok_or_else(|| SpecError::ExternalReference(reference.to_owned()))?;
    Ok(percent_encoding::percent_decode_str(pointer).decode_utf8_lossy().into_owned())
}

/// A text member, trimmed, unless empty.
pub fn text_of<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// A boolean member; absent is false.
pub fn flag_of(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_of_every_version_are_told_apart() {
        for (text, dialect) in [
            (r#"{"openapi": "3.0.3"}"#, Dialect::V30),
            ("openapi: 3.1.0\npaths: {/a: {get: {responses: {200: {description: ok}}}}}\n", Dialect::V31),
            ("swagger: '2.0'\n", Dialect::V2),
            ("swagger: 2.0\n", Dialect::V2),
        ] {
            assert_eq!(Document::parse(text).unwrap().dialect(), dialect, "{text}");
        }
        let yaml =
            Document::parse("openapi: 3.1.0\npaths: {/a: {get: {responses: {200: {description: ok}}}}}\n")
                .unwrap();
        assert!(yaml.root().pointer("/paths/~1a/get/responses/200").is_some());
    }

    #[test]
    fn what_is_no_openapi_document_says_so() {
        assert!(matches!(Document::parse("{}"), Err(SpecError::NotOpenApi)));
        assert!(matches!(Document::parse("[1, 2]"), Err(SpecError::NotOpenApi)));
        assert!(matches!(Document::parse("{\"openapi\": \"4.0\"}"), Err(SpecError::Version(_))));
        assert!(matches!(Document::parse("{\"openapi\": "), Err(SpecError::Syntax(_))));
    }

    #[test]
    fn references_decode_and_circles_end() {
        let document = Document::parse(
            r##"{"openapi": "3.0.0", "paths": {"/a/{b}": 1}, "x": {"$ref": "#/y"}, "y": {"$ref": "#/x"}}"##,
        )
        .unwrap();
        assert_eq!(document.lookup("#/paths/~1a~1%7Bb%7D").unwrap(), &Value::from(1));
        let circle = document.root().get("x").unwrap();
        assert!(matches!(document.resolve(circle), Err(SpecError::CircularReference(_))));
        assert!(matches!(document.lookup("other.json#/a"), Err(SpecError::ExternalReference(_))));
        assert!(matches!(document.lookup("#/nowhere"), Err(SpecError::DanglingReference(_))));
    }
}
