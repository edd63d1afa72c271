//! OpenAPI schemas of every version → self-contained JSON Schema 2020-12. Pure.
//!
//! C1 what a reference names becomes one entry of `$defs`, however often and however circularly it is named.
//! C2 the result holds only keywords with values that the meta-schema takes; sloppy ones are left out.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Number, Value};

use super::SpecError;
use super::document::{Dialect, Document, local_pointer};

/// Which way the data goes: members that are read-only are not required of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Request,
    Response,
}

/// Converts schemas and gathers what they refer to.
pub struct SchemaBuilder<'a> {
    document: &'a Document,
    direction: Direction,
    names: HashMap<String, String>,
    pending: VecDeque<(String, String)>,
    definitions: Map<String, Value>,
}

impl<'a> SchemaBuilder<'a> {
    pub fn new(document: &'a Document, direction: Direction) -> Self {
        Self { document, direction, names: HashMap::new(), pending: VecDeque::new(), definitions: Map::new() }
    }

    /// One schema, its references rewritten to `#/$defs/…`.
    pub fn convert(&mut self, schema: &Value) -> Result<Value, SpecError> {
        let source = match schema {
            Value::Object(map) => map,
            Value::Bool(_) => return Ok(schema.clone()),
            _ => return Ok(Value::Bool(true)),
        };
        if let Some(reference) = source.get("$ref").and_then(Value::as_str) {
            return self.convert_reference(reference, source);
        }
        let mut out = Map::new();
        for (key, value) in source {
            self.convert_keyword(key, value, &mut out)?;
        }
        self.drop_read_only_requirements(source, &mut out);
        self.finish_bounds(source, &mut out);
        if self.document.dialect() != Dialect::V31
            && (is_true(source, "nullable") || is_true(source, "x-nullable"))
        {
            out = allow_null(out);
        }
        Ok(Value::Object(out))
    }

    /// Everything that was referred to, converted; call it last.
    pub fn finish(mut self) -> Result<Map<String, Value>, SpecError> {
        while let Some((reference, name)) = self.pending.pop_front() {
            let target = self.document.lookup(&reference)?;
            let converted = self.convert(target)?;
            self.definitions.insert(name, converted);
        }
        Ok(self.definitions)
    }

    fn convert_reference(
        &mut self,
        reference: &str,
        source: &Map<String, Value>,
    ) -> Result<Value, SpecError> {
        let name = self.definition_name(reference)?;
        let mut out = Map::new();
        // Before 3.1 what stands beside `$ref` is ignored, but a description does no harm and helps.
        if self.document.dialect() == Dialect::V31 {
            for (key, value) in source.iter().filter(|(key, _)| *key != "$ref") {
                self.convert_keyword(key, value, &mut out)?;
            }
        } else if let Some(Value::String(text)) = source.get("description") {
            out.insert("description".to_owned(), Value::from(text.as_str()));
        }
        out.insert("$ref".to_owned(), Value::from(format!("#/$defs/{name}")));
        Ok(Value::Object(out))
    }

    fn definition_name(&mut self, reference: &str) -> Result<String, SpecError> {
        let pointer = local_pointer(reference)?;
        if let Some(name) = self.names.get(&pointer) {
            return Ok(name.clone());
        }
        // Fails here, where the referring operation is known, not later.
        self.document.lookup(reference)?;
        let last = pointer.rsplit('/').next().unwrap_or_default().replace("~1", "_").replace("~0", "_");
        let mut base: String = last
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' })
            .collect();
        if base.is_empty() {
            base.push_str("root");
        }
        let mut name = base.clone();
        let mut number = 2;
        while self.names.values().any(|taken| *taken == name) {
            name = format!("{base}_{number}");
            number += 1;
        }
        self.names.insert(pointer, name.clone());
        self.pending.push_back((reference.to_owned(), name.clone()));
        Ok(name)
    }

    fn convert_keyword(
        &mut self,
        key: &str,
        value: &Value,
        out: &mut Map<String, Value>,
    ) -> Result<(), SpecError> {
        let converted = match key {
            "type" => convert_type(value),
            "not"
            | "if"
            | "then"
            | "else"
            | "contains"
            | "propertyNames"
            | "additionalProperties"
            | "unevaluatedProperties"
            | "unevaluatedItems" => match value {
                Value::Object(_) | Value::Bool(_) => Some(self.convert(value)?),
                _ => None,
            },
            "items" => match value {
                Value::Object(_) | Value::Bool(_) => Some(self.convert(value)?),
                Value::Array(items) => {
                    let items = items.iter().map(|item| self.convert(item)).collect::<Result<Vec<_>, _>>()?;
                    out.insert("prefixItems".to_owned(), Value::Array(items));
                    None
                }
                _ => None,
            },
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => match value.as_array() {
                Some(list) if !list.is_empty() => {
                    Some(Value::Array(list.iter().map(|item| self.convert(item)).collect::<Result<_, _>>()?))
                }
                _ => None,
            },
            "properties" | "patternProperties" | "dependentSchemas" => match value {
                Value::Object(map) => {
                    let mut members = Map::new();
                    for (name, member) in map {
                        members.insert(name.clone(), self.convert(member)?);
                    }
                    Some(Value::Object(members))
                }
                _ => None,
            },
            "enum" => value.as_array().filter(|list| !list.is_empty()).map(|list| Value::Array(list.clone())),
            "const" | "default" => Some(value.clone()),
            "example" => {
                out.insert("examples".to_owned(), Value::Array(vec![value.clone()]));
                None
            }
            "examples" => value.as_array().map(|list| Value::Array(list.clone())),
            "title" | "description" | "format" | "pattern" | "contentEncoding" | "contentMediaType" => {
                value.as_str().map(Value::from)
            }
            "required" => string_set(value),
            "uniqueItems" | "readOnly" | "writeOnly" | "deprecated" => value.as_bool().map(Value::from),
            "maximum" | "minimum" => value.as_number().cloned().map(Value::Number),
            // The boolean form of 2.0 and 3.0 is taken up in `finish_bounds`.
            "exclusiveMaximum" | "exclusiveMinimum" => value.as_number().cloned().map(Value::Number),
            "multipleOf" => {
                value.as_number().filter(|n| n.as_f64().is_some_and(|n| n > 0.0)).cloned().map(Value::Number)
            }
            "maxLength" | "minLength" | "maxItems" | "minItems" | "maxProperties" | "minProperties"
            | "minContains" | "maxContains" => whole(value).map(Value::Number),
            "dependentRequired" => value.as_object().map(|map| {
                Value::Object(map.iter().filter_map(|(k, v)| Some((k.clone(), string_set(v)?))).collect())
            }),
            _ => None,
        };
        if let Some(converted) = converted {
            out.insert(key.to_owned(), converted);
        }
        Ok(())
    }

    fn finish_bounds(&self, source: &Map<String, Value>, out: &mut Map<String, Value>) {
        for (exclusive, inclusive) in [("exclusiveMaximum", "maximum"), ("exclusiveMinimum", "minimum")] {
            if is_true(source, exclusive)
                && let Some(bound) = out.remove(inclusive)
            {
                out.insert(exclusive.to_owned(), bound);
            }
        }
    }

    fn drop_read_only_requirements(&self, source: &Map<String, Value>, out: &mut Map<String, Value>) {
        if self.direction == Direction::Response {
            return;
        }
        let Some(Value::Object(properties)) = source.get("properties") else { return };
        let Some(Value::Array(required)) = out.get_mut("required") else { return };
        required.retain(|name| {
            let property = name.as_str().and_then(|name| properties.get(name));
            let property = property.map(|property| self.document.resolve(property).unwrap_or(property));
            !property.and_then(Value::as_object).is_some_and(|property| is_true(property, "readOnly"))
        });
    }
}

fn is_true(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key) == Some(&Value::Bool(true))
}

fn convert_type(value: &Value) -> Option<Value> {
    match value {
        Value::String(name) => json_type(name).map(Value::from),
        Value::Array(names) => {
            let mut types: Vec<&str> = Vec::new();
            for name in names.iter().filter_map(Value::as_str).filter_map(json_type) {
                if !types.contains(&name) {
                    types.push(name);
                }
            }
            (!types.is_empty()).then(|| Value::from(types))
        }
        _ => None,
    }
}

/// The JSON Schema type that a document's type word means; `None` for words that restrict nothing.
fn json_type(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "string" | "file" | "date" | "datetime" | "uuid" => "string",
        "integer" | "int" | "long" => "integer",
        "number" | "float" | "double" => "number",
        "boolean" | "bool" => "boolean",
        "array" => "array",
        "object" => "object",
        "null" => "null",
        _ => return None,
    })
}

fn string_set(value: &Value) -> Option<Value> {
    let mut names: Vec<&str> = Vec::new();
    for name in value.as_array()?.iter().filter_map(Value::as_str) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Some(Value::from(names))
}

fn whole(value: &Value) -> Option<Number> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).map(Number::from)
}

fn allow_null(mut schema: Map<String, Value>) -> Map<String, Value> {
    let combines = ["allOf", "anyOf", "oneOf"].iter().any(|key| schema.contains_key(*key));
    match schema.get_mut("type") {
        Some(Value::String(name)) => {
            let types = Value::from(vec![name.as_str(), "null"]);
            schema.insert("type".to_owned(), types);
        }
        Some(Value::Array(types)) if !types.contains(&Value::from("null")) => types.push(Value::from("null")),
        Some(_) => {}
        // 3.0.3: `nullable` means something only next to `type`; people write it next to `allOf` and mean it.
        None if combines => {
            let mut outer = Map::new();
            for key in ["title", "description", "default", "examples"] {
                if let Some(value) = schema.remove(key) {
                    outer.insert(key.to_owned(), value);
                }
            }
            outer.insert("anyOf".to_owned(), serde_json::json!([Value::Object(schema), {"type": "null"}]));
            return outer;
        }
        None => {}
    }
    if let Some(Value::Array(options)) = schema.get_mut("enum")
        && !options.contains(&Value::Null)
    {
        options.push(Value::Null);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn convert(version: &str, schema: Value) -> (Value, Map<String, Value>) {
        let text = json!({
            "openapi": version,
            "components": {"schemas": {
                "Node": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}}},
            }},
        });
        let document = Document::parse(&text.to_string()).unwrap();
        let mut builder = SchemaBuilder::new(&document, Direction::Request);
        let converted = builder.convert(&schema).unwrap();
        (converted, builder.finish().unwrap())
    }

    #[test]
    fn a_circular_reference_becomes_one_definition() {
        let (schema, definitions) = convert("3.0.0", json!({"$ref": "#/components/schemas/Node"}));
        assert_eq!(schema, json!({"$ref": "#/$defs/Node"}));
        assert_eq!(
            Value::Object(definitions),
            json!({"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}})
        );
    }

    #[test]
    fn the_dialect_of_3_0_becomes_2020_12() {
        for (from, to) in [
            (
                json!({"type": "string", "nullable": true, "enum": ["a"]}),
                json!({"type": ["string", "null"], "enum": ["a", null]}),
            ),
            (
                json!({"type": "number", "minimum": 1, "exclusiveMinimum": true}),
                json!({"type": "number", "exclusiveMinimum": 1}),
            ),
            (
                json!({"type": "string", "example": "x", "xml": {}, "x-y": 1}),
                json!({"type": "string", "examples": ["x"]}),
            ),
            (
                json!({"type": "string", "minLength": "3", "required": true, "description": null}),
                json!({"type": "string", "minLength": 3}),
            ),
            (
                json!({"nullable": true, "allOf": [{"type": "object"}]}),
                json!({"anyOf": [{"allOf": [{"type": "object"}]}, {"type": "null"}]}),
            ),
            (
                json!({"required": ["id", "name", "id"], "properties": {"id": {"type": "any", "readOnly": true}, "name": {}}}),
                json!({"required": ["name"], "properties": {"id": {"readOnly": true}, "name": {}}}),
            ),
        ] {
            assert_eq!(convert("3.0.0", from).0, to);
        }
    }

    #[test]
    fn siblings_of_a_reference_count_from_3_1_on() {
        let schema = json!({"$ref": "#/components/schemas/Node", "maxProperties": 1});
        assert_eq!(convert("3.0.0", schema.clone()).0, json!({"$ref": "#/$defs/Node"}));
        assert_eq!(convert("3.1.0", schema).0, json!({"maxProperties": 1, "$ref": "#/$defs/Node"}));
    }
}
