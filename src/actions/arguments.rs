//! Are these arguments what the operation takes? Every mistake at once, in words an agent can act on. Pure.

use std::borrow::Cow;
use std::fmt;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::name::closest;
use super::spec::Operation;

/// One thing that is wrong with the arguments.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ArgumentProblem {
    /// JSON Pointer into the arguments; empty for the arguments as a whole.
    pub pointer: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for ArgumentProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.pointer, self.message)
        }
    }
}

/// Checks arguments against the operation's schema; in the order of the schema.
pub fn check_arguments(operation: &Operation, arguments: &Value) -> Result<(), Vec<ArgumentProblem>> {
    let mut problems = Vec::new();
    let present = without_nulls(operation, arguments);
    for error in operation.validator.iter_errors(&present) {
        explain(&error, &operation.arguments_schema, &mut problems);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Agents write null for what they leave out, and nothing is sent for it: an optional parameter that is null is absent.
fn without_nulls<'a>(operation: &Operation, arguments: &'a Value) -> Cow<'a, Value> {
    let is_absent = |name: &str, value: &Value| {
        value.is_null()
            && operation.parameters.iter().any(|parameter| parameter.argument == name && !parameter.required)
    };
    match arguments {
        Value::Object(members) if members.iter().any(|(name, value)| is_absent(name, value)) => {
            let kept = members.iter().filter(|(name, value)| !is_absent(name, value));
            Cow::Owned(Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect()))
        }
        _ => Cow::Borrowed(arguments),
    }
}

/// Branches of anyOf and oneOf are looked into this deep.
const MAX_BRANCH_DEPTH: usize = 3;

fn explain(error: &ValidationError<'_>, schema: &Value, problems: &mut Vec<ArgumentProblem>) {
    explain_within(error, schema, problems, 0);
}

fn explain_within(
    error: &ValidationError<'_>,
    schema: &Value,
    problems: &mut Vec<ArgumentProblem>,
    depth: usize,
) {
    let pointer = error.instance_path().to_string();
    let instance = error.instance().as_ref();
    let mut add = |pointer: String, message: String| problems.push(ArgumentProblem { pointer, message });
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = members_at(schema, error);
            for name in unexpected {
                let help = match closest(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "it takes none".to_owned(),
                    None => format!("it takes {}", known.join(", ")),
                };
                let what = if pointer.is_empty() { "unknown argument" } else { "unknown member" };
                add(pointer.clone(), format!("{what} `{name}`; {help}"));
            }
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().map_or_else(|| property.to_string(), str::to_owned);
            let hint = describe_member(schema, error, &name);
            add(pointer, format!("`{name}` is required but missing{hint}"));
        }
        ValidationErrorKind::Type { kind } => {
            add(pointer, format!("expected {}, got {}", type_names(kind), shown(instance)));
        }
        ValidationErrorKind::Enum { options } => {
            let help = match (instance.as_str(), options.as_array()) {
                (Some(text), Some(list)) => closest(text, list.iter().filter_map(Value::as_str))
                    .map(|near| format!(" (did you mean \"{near}\"?)"))
                    .unwrap_or_default(),
                _ => String::new(),
            };
            add(
                pointer,
                format!(
                    "expected one of {}, got {}{help}",
                    clipped(&options.to_string(), 400),
                    shown(instance)
                ),
            );
        }
        ValidationErrorKind::Constant { expected_value } => {
            add(pointer, format!("expected {expected_value}, got {}", shown(instance)));
        }
        ValidationErrorKind::Format { format } => {
            add(pointer, format!("expected {}, got {}", format_words(format), shown(instance)));
        }
        ValidationErrorKind::Pattern { pattern } => {
            add(pointer, format!("expected a text that matches {pattern}, got {}", shown(instance)));
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let nearest = context.iter().filter(|branch| !branch.is_empty()).min_by_key(|branch| {
                let wrong_type = branch.iter().any(|e| {
                    matches!(e.kind(), ValidationErrorKind::Type { .. })
                        && e.instance_path() == error.instance_path()
                });
                (wrong_type, branch.len())
            });
            match nearest {
                Some(branch) if depth < MAX_BRANCH_DEPTH => {
                    add(pointer, format!("fits none of the {} forms; of the nearest:", context.len()));
                    for inner in branch {
                        explain_within(inner, schema, problems, depth + 1);
                    }
                }
                _ => add(pointer, format!("fits none of the {} forms", context.len())),
            }
        }
        ValidationErrorKind::OneOfMultipleValid { .. } => {
            add(pointer, "fits more than one of the forms, of which exactly one must fit".to_owned());
        }
        _ => add(pointer, clipped(&error.masked_with("the value").to_string(), 300)),
    }
}

/// The member names that the schema knows at the place of an error.
fn members_at(schema: &Value, error: &ValidationError<'_>) -> Vec<String> {
    parent_schema(schema, error)
        .and_then(|owner| owner.get("properties"))
        .and_then(Value::as_object)
        .map(|members| members.keys().cloned().collect())
        .unwrap_or_default()
}

fn describe_member(schema: &Value, error: &ValidationError<'_>, name: &str) -> String {
    let member =
        parent_schema(schema, error).and_then(|owner| owner.get("properties")).and_then(|p| p.get(name));
    let Some(member) = member else { return String::new() };
    let mut words = Vec::new();
    if let Some(kind) = member.get("type") {
        words.push(kind.as_str().map_or_else(|| kind.to_string(), str::to_owned));
    }
    if let Some(text) = member.get("description").and_then(Value::as_str) {
        words.push(clipped(text.lines().next().unwrap_or_default(), 120));
    }
    if words.is_empty() { String::new() } else { format!(" ({})", words.join("; ")) }
}

/// The schema object that holds the failing keyword.
fn parent_schema<'a>(schema: &'a Value, error: &ValidationError<'_>) -> Option<&'a Value> {
    let path = error.schema_path().to_string();
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    schema.pointer(parent)
}

fn type_names(kind: &TypeKind) -> String {
    let name = |one: JsonType| match one {
        JsonType::Array => "an array",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "an integer",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "an object",
        JsonType::String => "a string",
    };
    match kind {
        TypeKind::Single(one) => name(*one).to_owned(),
        TypeKind::Multiple(set) => set.iter().map(name).collect::<Vec<_>>().join(" or "),
    }
}

fn format_words(format: &str) -> String {
    match format {
        "date" => "a date such as 2013-01-31".to_owned(),
        "date-time" => "a time such as 2013-01-31T09:30:00Z".to_owned(),
        "time" => "a time of day such as 09:30:00Z".to_owned(),
        "uuid" => "a UUID".to_owned(),
        other => format!("format `{other}`"),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        other => clipped(&other.to_string(), 80),
    }
}

fn clipped(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::ApiSpec;
    use super::*;
    use serde_json::json;

    fn problems(arguments: Value) -> Vec<String> {
        let document = json!({"openapi": "3.1.0", "paths": {"/h/{origin}": {"get": {"operationId": "get", "parameters": [
            {"name": "origin", "in": "path", "required": true, "schema": {"type": "string", "enum": ["EWR", "JFK", "LGA"]}},
            {"name": "from", "in": "query", "required": true, "description": "First day.", "schema": {"type": "string", "format": "date"}},
            {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}},
        ], "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/B"}}}}}}},
        "components": {"schemas": {"B": {"type": "object", "additionalProperties": false, "properties": {
            "kind": {"anyOf": [{"type": "integer"}, {"type": "object", "required": ["a"]}]}, "child": {"$ref": "#/components/schemas/B"},
        }}}}});
        let spec = ApiSpec::parse(&document.to_string()).unwrap();
        let operation = spec.operation(spec.find("get").unwrap()).unwrap().unwrap();
        match check_arguments(&operation, &arguments) {
            Ok(()) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn good_arguments_pass() {
        let nested = json!({"kind": 1, "child": {"child": {"kind": {"a": 1}}}});
        assert_eq!(
            problems(json!({"origin": "JFK", "from": "2013-01-01", "limit": 5, "body": nested})),
            [""; 0]
        );
    }

    #[test]
    fn an_optional_parameter_that_is_null_is_absent() {
        assert_eq!(problems(json!({"origin": "JFK", "from": "2013-01-01", "limit": null})), [""; 0]);
        assert_eq!(problems(json!({"origin": "JFK", "from": null})).len(), 1);
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place_and_what_would_do() {
        let found = problems(json!({"origin": "JFKK", "limit": "5", "form": "2013-01-01"})).join("\n");
        for part in [
            "`from` is required but missing (string; First day.)",
            "/origin: expected one of [\"EWR\",\"JFK\",\"LGA\"], got \"JFKK\" (did you mean \"JFK\"?)",
            "/limit: expected an integer, got \"5\"",
            "unknown argument `form`; did you mean `from`?",
        ] {
            assert!(found.contains(part), "{part} not in:\n{found}");
        }
    }

    #[test]
    fn mistakes_behind_references_have_their_place_too() {
        let body = json!({"child": {"chid": 1, "kind": {"b": 2}}});
        let found = problems(json!({"origin": "JFK", "from": "2013-13-01", "body": body})).join("\n");
        for part in [
            "/from: expected a date such as 2013-01-31, got \"2013-13-01\"",
            "/body/child: unknown member `chid`; did you mean `child`?",
            "/body/child/kind: `a` is required but missing",
        ] {
            assert!(found.contains(part), "{part} not in:\n{found}");
        }
    }

    #[test]
    fn arguments_that_are_no_object_say_so() {
        assert_eq!(problems(json!([1])), ["expected an object, got an array"]);
    }
}
