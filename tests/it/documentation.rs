//! The OpenAPI document says what the engine enforces.

use std::collections::BTreeMap;

use serde_json::{Value, json};
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
                .filter_map(|scheme| scheme.get("OAuth2"))
                .flat_map(|scopes| scopes.as_array().unwrap())
                .map(|scope| scope.as_str().unwrap())
                .collect();
            assert!(
                operation["security"].as_array().unwrap().contains(&json!({"HTTPBearer": []})),
                "{id} takes no plain bearer token"
            );
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
    let bodies = [
        &document["paths"]["/v1/sql/run"]["post"]["requestBody"]["content"],
        &document["paths"]["/v1/me"]["get"]["responses"]["200"]["content"],
    ];
    assert!(
        bodies.iter().all(|content| content.get("application/json").is_some()),
        "generators drop a body whose media type has parameters: {bodies:?}"
    );
    assert!(documented.len() >= 48, "{documented:?}");
    assert_eq!(document["servers"][0]["url"], service.url.as_str());
    assert!(document["openapi"].as_str().unwrap().starts_with("3.0"));
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes.as_object().unwrap().len(), 2);
    assert_eq!(
        (&schemes["HTTPBearer"]["type"], &schemes["HTTPBearer"]["scheme"]),
        (&json!("http"), &json!("bearer"))
    );
    let flows = &schemes["OAuth2"]["flows"];
    assert_eq!(flows["clientCredentials"]["tokenUrl"], format!("{}/oauth/token", service.url));
    assert_eq!(flows["password"], Value::Null, "it is off");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_flow_shows_when_it_is_on_where_old_clients_and_browsers_look_for_it() {
    let service = Service::start_with(|config| config.auth.password_grant = true).await;
    let (_, document) = service.get("", "/openapi.json").await;
    let flows = &document["components"]["securitySchemes"]["OAuth2"]["flows"];
    // FastAgency joins the server's address, a slash and the tokenUrl.
    let server = document["servers"][0]["url"].as_str().unwrap();
    let joined = format!("{server}/{}", flows["password"]["tokenUrl"].as_str().unwrap());
    assert_eq!(joined, format!("{}/oauth/token", service.url));
    assert_eq!(flows["password"]["scopes"], flows["clientCredentials"]["scopes"]);
    for path in ["/docs", "/docs/"] {
        let page = service.http.get(format!("{}{path}", service.url)).send().await.unwrap();
        let page = page.text().await.unwrap();
        assert!(page.contains("\"password\": {") && page.contains("HTTPBearer"), "{path}");
        assert!(page.contains(&format!("\"tokenUrl\": \"{}/oauth/token\"", service.url)));
        assert!(!page.contains("\"tokenUrl\": \"/oauth/token\""));
    }
    let receiver =
        service.http.get(format!("{}/docs/oauth-receiver.html", service.url)).send().await.unwrap();
    assert_eq!(receiver.status(), 200);
    let (_, metadata) = service.get("", "/.well-known/oauth-authorization-server").await;
    assert!(metadata["grant_types_supported"].as_array().unwrap().contains(&json!("password")));
}
