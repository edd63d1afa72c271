//! The JSON Schema of the semantic YAML, for editors and for other programs, made from the table in `format`.

use serde_json::{Map, Value, json};

use super::format::{Kind, METRIC, Need, ROOT, Shape, WRAPPER};
use super::model::Grain;

/// The schema that stands in `schemas/semantic.schema.json` (JSON Schema 2020-12).
pub fn json_schema() -> Value {
    let mut definitions = Map::new();
    define(&ROOT, &mut definitions);
    define(&WRAPPER, &mut definitions);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Steward semantic model",
        "description": "Apache Ossie 0.2.0.dev0 with Steward's shorthands and first-class keys. \
            A model may be spread over the files of one folder that share its name.",
        "oneOf": [reference(&ROOT), reference(&WRAPPER)],
        "$defs": definitions,
    })
}

fn reference(shape: &Shape) -> Value {
    json!({"$ref": format!("#/$defs/{}", shape.name)})
}

fn define(shape: &'static Shape, definitions: &mut Map<String, Value>) {
    if definitions.contains_key(shape.name) {
        return;
    }
    // Holds the place, so that shapes come in the order in which they are met.
    definitions.insert(shape.name.to_owned(), Value::Null);
    let mut properties = Map::new();
    for key in shape.keys {
        let mut value = of_kind(key.kind, key.need == Need::Filled, definitions);
        if let Value::Object(members) = &mut value {
            members.insert("description".to_owned(), key.description.into());
        }
        properties.insert(key.name.to_owned(), value);
    }
    let required: Vec<&str> =
        shape.keys.iter().filter(|key| key.need != Need::Free).map(|key| key.name).collect();
    let mut definition = json!({"type": "object", "description": shape.description});
    if !required.is_empty() {
        definition["required"] = json!(required);
    }
    definition["additionalProperties"] = shape.is_open.into();
    definition["properties"] = properties.into();
    if std::ptr::eq(shape, &METRIC) {
        definition["allOf"] = keys_of_types();
    }
    definitions.insert(shape.name.to_owned(), definition);
}

/// Which keys a metric's type asks for and which belong to one type alone, as the reader has it (rule `metric-keys`).
fn keys_of_types() -> Value {
    let only = |types: Value, keys: &[&str]| {
        let keys: Vec<Value> = keys.iter().map(|key| json!({"required": [key]})).collect();
        json!({"if": {"anyOf": keys}, "then": {"required": ["type"], "properties": {"type": types}}})
    };
    json!([
        {
            "if": {"required": ["type"], "properties": {"type": {"const": "ratio"}}},
            "then": {"required": ["numerator", "denominator"]},
        },
        only(json!({"const": "cumulative"}), &["window", "grain_to_date"]),
        {"not": {"required": ["window", "grain_to_date"]}},
    ])
}

fn of_kind(kind: Kind, is_filled: bool, definitions: &mut Map<String, Value>) -> Value {
    let scalar = json!(["string", "number", "boolean"]);
    let list = |items: Value| match is_filled {
        true => json!({"type": "array", "minItems": 1, "items": items}),
        false => json!({"type": "array", "items": items}),
    };
    let mut defined = |shape: &'static Shape| {
        define(shape, definitions);
        reference(shape)
    };
    match kind {
        Kind::Text | Kind::Name if is_filled => json!({"type": "string", "minLength": 1}),
        Kind::Text | Kind::Name => json!({"type": "string"}),
        Kind::Scalar => json!({"type": scalar}),
        Kind::Number => json!({"type": "number"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Span => {
            let grains = Grain::NAMES.join("|");
            json!({"type": "string", "pattern": format!("^\\s*([1-9][0-9]{{0,5}}\\s+)?({grains})s?\\s*$")})
        }
        Kind::OneOf(values) => json!({"enum": values}),
        Kind::SomeOf(values) => list(json!({"enum": values})),
        Kind::Texts => list(json!({"type": "string"})),
        Kind::Scalars => list(json!({"type": scalar})),
        Kind::TextLists => list(json!({"type": "array", "items": {"type": "string"}})),
        Kind::Object(shape) => defined(shape),
        Kind::Objects(shape) => list(defined(shape)),
        Kind::TextOr(shape) => json!({"anyOf": [{"type": "string"}, defined(shape)]}),
        Kind::ScalarOr(shape) => json!({"anyOf": [{"type": scalar}, defined(shape)]}),
        Kind::TextsOr(shape) => list(json!({"anyOf": [{"type": "string"}, defined(shape)]})),
    }
}
