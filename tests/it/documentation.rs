//! The OpenAPI document says what the engine enforces.

use std::collections::BTreeMap;

use serde_json::Value;
use steward::auth::Operation;

use crate::harness::Service;

/// What anybody may call; no operation of the engine.
const OPEN: &[&str] = &["auth_test_public"];

#[tokio::test(flavor = "multi_thread")]
async fn operation_ids_and_scopes_of_the_document_are_those_of_the_engine() {
    let service = Service::start().await;
    let (_, document) = service.get("", "/openapi.json").await;
    let mut documented: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        // Generated clients join the server and the path.
        assert!(path.starts_with("/v1/") || path.starts_with("/admin/api/"), "{path}");
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"]
                .as_str()
                .unwrap_or_else(|| panic!("{method} {path} has no id"))
                .to_owned();
            if OPEN.contains(&id.as_str()) {
                assert!(operation["security"].is_null(), "{id} says that it needs a token");
                continue;
            }
            let scopes: Vec<&str> = operation["security"]
                .as_array()
                .unwrap_or_else(|| panic!("{id} is open"))
                .iter()
                .flat_map(|scheme| scheme["OAuth2"].as_array().unwrap())
                .map(|scope| scope.as_str().unwrap())
                .collect();
            assert!(scopes.len() <= 1, "{id}: {scopes:?}");
            for status in ["400", "401", "403", "404", "413", "422", "429", "500", "503"] {
                let problem = &operation["responses"][status]["content"];
                assert!(
                    problem.as_object().is_some_and(|kinds| kinds
                        .keys()
                        .any(|kind| kind.starts_with("application/problem+json")))
                        || id == "me",
                    "{id} {status}: {problem}"
                );
            }
            documented.insert(id, scopes.first().map(|scope| (*scope).to_owned()));
        }
    }
    for (id, scope) in &documented {
        let name = if id == "list_api_actions" { "list_actions" } else { id };
        let operation =
            Operation::from_name(name).unwrap_or_else(|| panic!("{id} is not in the engine's table"));
        assert_eq!(
            scope.as_deref(),
            operation.required_scope(None).as_ref().map(|scope| scope.as_str()),
            "{id}"
        );
    }
    assert!(documented.len() >= 38, "{documented:?}");
    assert_eq!(document["servers"][0]["url"], service.url.as_str());
    assert!(document["openapi"].as_str().unwrap().starts_with("3.0"));
    let schemes: Vec<&Value> =
        document["components"]["securitySchemes"].as_object().unwrap().values().collect();
    assert_eq!(schemes.len(), 1);
}
