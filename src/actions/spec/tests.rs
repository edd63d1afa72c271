use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::*;

fn spec(document: Value) -> ApiSpec {
    ApiSpec::parse(&document.to_string()).unwrap()
}

fn built(spec: &ApiSpec, name: &str) -> Arc<Operation> {
    spec.operation(spec.find(name).unwrap()).unwrap().unwrap()
}

#[test]
fn names_are_unique_and_come_from_method_and_path_where_there_is_no_id() {
    let spec = spec(json!({"openapi": "3.0.0", "paths": {
        "/a/{id}/b": {"get": {}, "post": {"operationId": "getA"}},
        "/x": {"get": {"operationId": "get-a"}, "put": {"operationId": "get_a"}},
    }}));
    let names: Vec<_> = spec.heads().map(|head| head.name.as_str()).collect();
    assert_eq!(names, ["get_a_id_b", "get_a", "get_a_2", "get_a_3"]);
    assert_eq!(spec.find("getA").unwrap().as_str(), "get_a");
    assert_eq!(spec.find("get-a").unwrap().as_str(), "get_a_2");
}

#[test]
fn path_level_parameters_are_merged_and_collisions_get_suffixes() {
    let spec = spec(json!({"openapi": "3.0.0", "paths": {"/a/{id}": {
        "parameters": [
            {"$ref": "#/components/parameters/Id"},
            {"name": "limit", "in": "query", "schema": {"type": "integer"}},
        ],
        "post": {"operationId": "a", "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}, "parameters": [
            {"name": "limit", "in": "query", "required": true, "schema": {"type": "string"}},
            {"name": "id", "in": "query", "schema": {"type": "integer"}},
            {"name": "body", "in": "header", "schema": {"type": "string"}},
            {"name": "Authorization", "in": "header", "schema": {"type": "string"}},
        ]},
    }}, "components": {"parameters": {"Id": {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}}}}));
    let operation = built(&spec, "a");
    let schema = &operation.arguments_schema;
    let names: Vec<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["id", "limit", "id_query", "body_header", "body"]);
    assert_eq!(schema["properties"]["limit"]["type"], "string");
    assert_eq!(schema["required"], json!(["id", "limit"]));
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn an_api_key_of_the_operation_is_no_argument() {
    let document = |security: Value| {
        json!({"openapi": "3.0.0", "security": security, "paths": {"/a": {"get": {"operationId": "a", "parameters": [
            {"name": "key", "in": "query", "required": true, "schema": {}},
            {"name": "x-api-key", "in": "header", "schema": {}},
        ]}}}, "components": {"securitySchemes": {
            "q": {"type": "apiKey", "in": "query", "name": "key"}, "h": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }}})
    };
    let names = |security| {
        let operation = built(&spec(document(security)), "a");
        operation.parameters.iter().map(|p| p.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(json!([{"q": [], "h": []}])), [""; 0]);
    assert_eq!(names(json!([{"h": []}])), ["key"]);
}

#[test]
fn swagger_2_means_the_same_as_openapi_3() {
    let spec = spec(json!({"swagger": "2.0", "consumes": ["application/json"], "paths": {
        "/a/{id}": {"post": {"operationId": "a", "parameters": [
            {"name": "id", "in": "path", "required": true, "type": "integer"},
            {"name": "tags", "in": "query", "type": "array", "items": {"type": "string"}, "collectionFormat": "pipes"},
            {"name": "many", "in": "query", "type": "array", "items": {"type": "string"}, "collectionFormat": "multi"},
            {"name": "thing", "in": "body", "required": true, "schema": {"$ref": "#/definitions/Thing"}},
        ]}},
        "/form": {"post": {"operationId": "form", "consumes": ["application/x-www-form-urlencoded"], "parameters": [
            {"name": "q", "in": "formData", "required": true, "type": "string"},
        ]}},
        "/file": {"post": {"operationId": "file", "consumes": ["multipart/form-data"], "parameters": [
            {"name": "f", "in": "formData", "type": "file"},
        ]}},
    }, "definitions": {"Thing": {"type": "object", "properties": {"next": {"$ref": "#/definitions/Thing"}}}}}));
    let operation = built(&spec, "a");
    let properties = &operation.arguments_schema["properties"];
    assert_eq!(properties["id"], json!({"type": "integer"}));
    assert_eq!(properties["tags"], json!({"type": "array", "items": {"type": "string"}}));
    assert_eq!(properties["body"], json!({"$ref": "#/$defs/Thing"}));
    let styles: Vec<_> = operation.parameters.iter().map(|p| (p.style, p.explode)).collect();
    assert_eq!(styles, [(Style::Simple, false), (Style::PipeDelimited, false), (Style::Form, true)]);

    let form = built(&spec, "form");
    assert_eq!(form.body.as_ref().unwrap().kind, BodyKind::Form { deep: vec![] });
    assert_eq!(form.arguments_schema["required"], json!(["body"]));
    let file = spec.operation(spec.find("file").unwrap()).unwrap();
    assert_eq!(file.unwrap_err(), SpecError::UnsupportedBody("multipart/form-data".to_owned()));
}

#[test]
fn a_mistake_in_one_operation_spoils_that_one_alone() {
    let spec = spec(json!({"openapi": "3.0.0", "paths": {
        "/bad": {"get": {"operationId": "bad", "parameters": [{"name": "a", "in": "query", "schema": {"$ref": "#/nowhere"}}]}},
        "/far": {"get": {"operationId": "far", "parameters": [{"$ref": "other.yaml#/a"}]}},
        "/good": {"get": {"operationId": "good", "responses": {"200": {"description": "ok"}}}},
    }}));
    let error = |name: &str| spec.operation(spec.find(name).unwrap()).unwrap().unwrap_err();
    assert_eq!(error("bad"), SpecError::DanglingReference("#/nowhere".to_owned()));
    assert_eq!(error("far"), SpecError::ExternalReference("other.yaml#/a".to_owned()));
    built(&spec, "good");
}

#[test]
fn patterns_that_do_not_compile_are_left_out_and_noted() {
    let spec = spec(json!({"openapi": "3.0.0", "paths": {"/a": {"get": {"operationId": "a", "parameters": [
        {"name": "a", "in": "query", "schema": {"type": "string", "pattern": "(unclosed"}},
        {"name": "b", "in": "query", "schema": {"type": "string", "pattern": "^x"}},
    ]}}}}));
    let operation = built(&spec, "a");
    assert_eq!(operation.notes.len(), 1);
    let check = |b: &str| crate::actions::arguments::check_arguments(&operation, &json!({"a": "z", "b": b}));
    assert!(check("xy").is_ok() && check("y").is_err());
}

#[test]
fn answers_are_documented_by_the_lowest_success() {
    let spec = spec(json!({"openapi": "3.0.0", "paths": {"/a": {"get": {"operationId": "a", "responses": {
        "default": {"description": "error"},
        "201": {"description": "made"},
        "200": {"$ref": "#/components/responses/Ok"},
    }}}}, "components": {
        "responses": {"Ok": {"description": "fine", "content": {
            "text/csv": {}, "application/json": {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/T"}}}}}},
        "schemas": {"T": {"type": "object", "properties": {"t": {"$ref": "#/components/schemas/T"}}}},
    }}));
    let doc = spec.response_doc(spec.find("a").unwrap()).unwrap().unwrap();
    assert_eq!((doc.status.as_str(), doc.content_type.as_deref()), ("200", Some("application/json")));
    assert_eq!(doc.schema["items"], json!({"$ref": "#/$defs/T"}));
    assert!(doc.schema["$defs"]["T"].is_object());
}

#[test]
fn schemas_that_are_or_contain_themselves_neither_hang_nor_overflow() {
    let spec = |schemas: Value| {
        spec(json!({"openapi": "3.0.0", "paths": {"/a": {"get": {"operationId": "a", "parameters": [
            {"name": "a", "in": "query", "schema": {"$ref": "#/components/schemas/A"}},
        ]}}}, "components": {"schemas": schemas}}))
    };
    let a = json!({"$ref": "#/components/schemas/A"});
    for only_itself in [
        json!({"A": a}),
        json!({"A": {"allOf": [{"type": "object"}, a]}}),
        json!({"A": {"anyOf": [{"$ref": "#/components/schemas/B"}]}, "B": {"not": a}}),
        json!({"A": {"oneOf": [{"type": "string"}, {"anyOf": [a]}]}}),
    ] {
        let spec = spec(only_itself);
        let operation = built(&spec, "a");
        for value in [json!(1), json!({"x": [1]}), json!("x")] {
            let _ = crate::actions::arguments::check_arguments(&operation, &json!({ "a": value }));
        }
    }
    let contains = json!({"A": {"anyOf": [{"type": "array", "items": a}, {"type": "object", "additionalProperties": a}, {"type": "integer"}]}});
    let operation = built(&spec(contains), "a");
    let check = |value| crate::actions::arguments::check_arguments(&operation, &json!({"a": value}));
    assert!(check(json!([{"x": [1, {}]}])).is_ok() && check(json!([{"x": ["1"]}])).is_err());
}

fn any_document() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let keys = vec![
        "$ref",
        "type",
        "properties",
        "items",
        "paths",
        "/a/{b}",
        "get",
        "post",
        "parameters",
        "name",
        "in",
        "schema",
        "content",
        "requestBody",
        "application/json",
        "allOf",
        "anyOf",
        "not",
        "required",
        "enum",
        "nullable",
        "pattern",
        "security",
        "components",
        "schemas",
        "A",
        "servers",
        "url",
        "variables",
        "default",
        "format",
        "minimum",
        "style",
        "exclusiveMinimum",
        "additionalProperties",
        "responses",
        "200",
        "operationId",
        "securitySchemes",
        "tags",
    ];
    let texts = vec![
        "#/components/schemas/A",
        "#/paths",
        "#",
        "#/",
        "other.json",
        "query",
        "path",
        "header",
        "b",
        "string",
        "array",
        "object",
        "(",
        "https://x.org",
        "{a}",
        "",
    ];
    let leaf = prop_oneof![
        prop::sample::select(texts).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        (-2i64..3).prop_map(Value::from),
        Just(Value::Null),
    ];
    let tree = leaf.prop_recursive(8, 64, 5, move |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            4 => proptest::collection::vec((prop::sample::select(keys.clone()), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    });
    let shapes = (tree.clone(), tree.clone(), tree.clone(), tree);
    (shapes, prop::sample::select(vec!["3.0.0", "3.1.0", "2.0"])).prop_map(|((get, post, schema, more), version)| {
        let key = if version == "2.0" { "swagger" } else { "openapi" };
        json!({
            key: version, "security": more, "definitions": {"A": schema}, "components": {"schemas": {"A": schema}},
            "paths": {"/a/{b}": {"get": get, "post": post, "put": {"parameters": [
                {"name": "b", "in": "path", "schema": schema}, more,
            ], "requestBody": {"content": {"application/json": {"schema": post}}}, "responses": get}}},
        })
    })
}

proptest::proptest! {
    #[test]
    fn no_document_makes_the_reader_panic(document in any_document(), argument in "[a-z./]{0,6}") {
        let spec = ApiSpec::parse(&document.to_string()).unwrap();
        for head in spec.heads().cloned().collect::<Vec<_>>() {
            let _ = spec.server(&head.name, None);
            let _ = spec.response_doc(&head.name);
            if let Ok(operation) = spec.operation(&head.name).unwrap() {
                let arguments = json!({"b": argument, "body": {"A": [argument]}});
                let _ = crate::actions::arguments::check_arguments(&operation, &arguments);
                let base = url::Url::parse("https://x.org").unwrap();
                let _ = crate::actions::request::build_request(&operation, &base, &arguments);
            }
        }
    }
}

/// Real documents of 38 APIs; vacuous where the shared folder is not mounted.
#[test]
fn every_real_document_loads_and_every_operation_builds_or_says_why_not() {
    let folder = Path::new("../shared/data/openapi");
    if !folder.is_dir() {
        println!("note: {} is absent; nothing checked", folder.display());
        return;
    }
    let mut documents = 0;
    let mut refused = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let started = Instant::now();
        let spec = ApiSpec::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let parsed = started.elapsed();
        assert!(parsed.as_secs_f64() < 2.0, "{} took {parsed:?}", path.display());
        documents += 1;
        let heads: Vec<_> = spec.heads().cloned().collect();
        let distinct: HashSet<_> = heads.iter().map(|head| head.name.clone()).collect();
        assert_eq!(distinct.len(), heads.len(), "{}", path.display());
        for head in &heads {
            match spec.operation(&head.name).unwrap() {
                Ok(operation) => {
                    let text = operation.arguments_schema.to_string();
                    assert!(
                        !text.contains("#/components/"),
                        "{} {}: leftover reference",
                        path.display(),
                        head.name
                    );
                    let templates = head.path.split('#').next().unwrap().matches('{').count();
                    let declared = operation.parameters.iter().filter(|p| p.place == Place::Path).count();
                    assert!(declared >= templates, "{} {} {}", path.display(), head.name, head.path);
                }
                Err(error) => {
                    let file = path.file_name().unwrap().to_string_lossy().into_owned();
                    refused
                        .entry((file, error.to_string()))
                        .or_insert_with(Vec::new)
                        .push(head.name.to_string());
                }
            }
            spec.response_doc(&head.name)
                .transpose()
                .unwrap_or_else(|e| panic!("{} {}: {e}", path.display(), head.name));
        }
        println!("{:>8.1?} {:>4} operations {}", parsed, heads.len(), path.display());
    }
    for ((file, error), operations) in &refused {
        println!("{file}: {error}: {operations:?}");
    }
    assert_eq!(documents, 38);
    assert!(
        refused.keys().all(|(_, error)| error.contains("multipart")),
        "only multipart bodies may be refused: {refused:?}"
    );
}
