//! Users at the HTTP door: administration, each guard with its attack, and the password grant from end to end.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Service, read};

const ADMIN: &str = "admin:users admin:clients admin:audit semantic:read sql:run:flights.*";
const PASSWORD: &str = "correct horse battery";

async fn start() -> Service {
    Service::start_with(|config| config.auth.password_grant = true).await
}

async fn call(service: &Service, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request =
        service.http.request(method.parse().unwrap(), format!("{}{path}", service.url)).bearer_auth(token);
    read(request.json(&body).send().await.unwrap()).await
}

/// As FastAgency's client does it: a name, a password, nothing else.
async fn login(service: &Service, username: &str, password: &str) -> (u16, Value) {
    let form = [("username", username), ("password", password)];
    read(service.http.post(format!("{}/oauth/token", service.url)).form(&form).send().await.unwrap()).await
}

async fn token_of(service: &Service, username: &str, password: &str) -> String {
    let (status, answer) = login(service, username, password).await;
    assert_eq!(status, 200, "{answer:#}");
    answer["access_token"].as_str().unwrap().to_owned()
}

async fn create(service: &Service, admin: &str, username: &str, scopes: &[&str]) -> String {
    let body = json!({"username": username, "password": PASSWORD, "scopes": scopes});
    let (status, made) = service.post(admin, "/admin/api/users", body).await;
    assert_eq!(status, 201, "{made:#}");
    assert!(made.get("password").is_none(), "what was given is not repeated");
    made["user"]["user_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_life_from_creation_to_deletion() {
    let service = start().await;
    let admin = service.token(ADMIN).await;
    let body = json!({"username": "Ann", "display_name": "Ann Example", "scopes": ["semantic:read", "sql:run:flights.*"],
        "claims": {"carrier": "UA", "origins": ["JFK", "LGA"]}});
    let request =
        service.http.post(format!("{}/admin/api/users", service.url)).bearer_auth(&admin).json(&body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let (status, made) = read(answer).await;
    assert_eq!((status, &made["user"]["username"]), (201, &json!("ann")), "{made:#}");
    let first = made["password"].as_str().unwrap().to_owned();
    let id = made["user"]["user_id"].as_str().unwrap();
    let path = format!("/admin/api/users/{id}");

    let token = token_of(&service, "ann", &first).await;
    let (_, me) = service.get(&token, "/v1/me").await;
    assert_eq!(me["subject"], id, "{me:#}");
    assert_eq!(service.sql(&token, "SELECT count(*) FROM flights.airlines").await.0, 200);
    assert_eq!(service.get(&token, "/admin/api/users").await.0, 403);
    for path in [&path, "/admin/api/users/ann", "/admin/api/users/ANN"] {
        let (_, shown) = service.get(&admin, path).await;
        assert_eq!((&shown["user_id"], &shown["claims"]), (&json!(id), &body["claims"]));
        assert!(!shown.to_string().contains("argon2") && !shown.to_string().contains(&first));
    }

    // A new password ends what the old one began.
    let (status, second) = service.post(&admin, &format!("{path}/password"), json!({})).await;
    assert_eq!(status, 200, "{second:#}");
    let second = second["password"].as_str().unwrap().to_owned();
    assert_eq!(service.get(&token, "/v1/me").await.0, 401);
    assert_eq!(login(&service, "ann", &first).await.1["error"], "invalid_grant");
    let token = token_of(&service, "ann", &second).await;

    let rename = json!({"display_name": "Ann Other"});
    assert_eq!(call(&service, &admin, "PATCH", &path, rename).await.1["display_name"], "Ann Other");
    assert_eq!(service.get(&token, "/v1/me").await.0, 200);
    let narrower = json!({"scopes": ["semantic:read"]});
    assert_eq!(call(&service, &admin, "PATCH", &path, narrower).await.0, 200);
    assert_eq!(service.get(&token, "/v1/me").await.0, 401);

    let token = token_of(&service, "ann", &second).await;
    let (_, disabled) = service.post(&admin, &format!("{path}/disable"), json!({})).await;
    assert!(disabled["disabled_at_ms"].is_i64(), "{disabled:#}");
    assert_eq!(service.get(&token, "/v1/me").await.0, 401);
    assert_eq!(login(&service, "ann", &second).await.0, 400);
    assert_eq!(service.post(&admin, &format!("{path}/enable"), json!({})).await.0, 200);
    assert_eq!(service.get(&token, "/v1/me").await.0, 401, "dead stays dead");
    let token = token_of(&service, "ann", &second).await;
    assert_eq!(call(&service, &admin, "DELETE", &path, json!({})).await.0, 204);
    assert_eq!(service.get(&token, "/v1/me").await.0, 401);
    assert_eq!(service.get(&admin, &path).await.0, 404);

    let (_, events) = service.get(&admin, "/admin/api/audit?limit=1000").await;
    assert!(!events.to_string().contains(&first) && !events.to_string().contains(&second));
    let done: BTreeSet<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["target"] == id && event["outcome"] == "ok")
        .map(|event| event["operation"].as_str().unwrap())
        .collect();
    let expected = [
        "create_user",
        "get_user",
        "set_user_password",
        "update_user",
        "disable_user",
        "enable_user",
        "delete_user",
    ];
    assert_eq!(done, BTreeSet::from(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_cannot_give_users_or_take_over_more_than_it_holds() {
    let service = start().await;
    let owner = service.token(&format!("{ADMIN} rag:write")).await;
    let admin = service.token("admin:users semantic:read").await;
    let body = json!({"username": "x", "scopes": ["semantic:read", "rag:write"]});
    let (status, problem) = service.post(&admin, "/admin/api/users", body).await;
    assert_eq!((status, &problem["required_scope"]), (403, &json!("rag:write")), "{problem:#}");
    assert_eq!(service.get(&admin, "/admin/api/users").await.1, json!([]));

    create(&service, &owner, "greater", &["rag:write"]).await;
    let path = "/admin/api/users/greater";
    let attacks = [
        ("PATCH", path.to_owned(), json!({"scopes": ["rag:write", "admin:keys"]})),
        ("PATCH", path.to_owned(), json!({"claims": {"carrier": "UA"}})),
        ("POST", format!("{path}/password"), json!({"password": "a password of the attacker"})),
        ("POST", format!("{path}/enable"), json!({})),
    ];
    for (method, path, body) in attacks {
        let (status, problem) = call(&service, &admin, method, &path, body).await;
        assert_eq!(status, 403, "{method} {path}: {problem:#}");
    }
    token_of(&service, "greater", PASSWORD).await;

    // Nobody locks itself out, by whichever name.
    let id = create(&service, &owner, "root", &["admin:users"]).await;
    let root = token_of(&service, "root", PASSWORD).await;
    for path in [format!("/admin/api/users/{id}"), "/admin/api/users/Root".to_owned()] {
        assert_eq!(call(&service, &root, "DELETE", &path, json!({})).await.0, 409);
        assert_eq!(service.post(&root, &format!("{path}/disable"), json!({})).await.0, 409);
    }
    assert_eq!(service.get(&root, "/v1/me").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_change_no_user_and_repeat_no_password() {
    let service = start().await;
    let admin = service.token(ADMIN).await;
    create(&service, &admin, "ann", &["semantic:read"]).await;
    let before = service.get(&admin, "/admin/api/users").await.1;
    let user = |change: Value| {
        let mut body = json!({"username": "bob", "scopes": ["semantic:read"]});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    for (change, expected) in [
        (json!({"username": "ANN"}), 409),
        (json!({"username": "a b"}), 400),
        (json!({"username": ""}), 400),
        (json!({"password": "too short"}), 400),
        (json!({"password": "x".repeat(1_025)}), 400),
        (json!({"display_name": "a\nb"}), 400),
        (json!({"scopes": []}), 400),
        (json!({"scopes": ["semantic:raed"]}), 400),
        (json!({"claims": {"sub": "root"}}), 400),
        (json!({"claims": {"x": {"y": 1}}}), 400),
        (json!({"user_id": "user:chosen"}), 400),
    ] {
        let (status, problem) = service.post(&admin, "/admin/api/users", user(change.clone())).await;
        assert_eq!(status, expected, "{change} {problem:#}");
        assert!(!problem.to_string().contains("too short"), "{problem:#}");
    }
    for name in ["nobody", "user:00000000-0000-4000-8000-000000000000", "a%20b", "%00", &"x".repeat(300)] {
        let path = format!("/admin/api/users/{name}");
        for (method, path) in [
            ("PATCH", path.clone()),
            ("DELETE", path.clone()),
            ("POST", format!("{path}/password")),
            ("POST", format!("{path}/disable")),
            ("POST", format!("{path}/enable")),
        ] {
            assert_eq!(call(&service, &admin, method, &path, json!({})).await.0, 404, "{method} {path}");
        }
    }
    assert_eq!(service.get(&admin, "/admin/api/users").await.1, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_grant_is_off_unless_it_is_configured() {
    let service = Service::start().await;
    let admin = service.token(ADMIN).await;
    create(&service, &admin, "ann", &["semantic:read"]).await;
    assert_eq!(login(&service, "ann", PASSWORD).await.1["error"], "invalid_request");
    let (_, clients) = service.get(&admin, "/admin/api/clients").await;
    assert!(!clients.to_string().contains("password-grant"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_narrows_and_disables_what_logins_without_a_client_open() {
    let service = start().await;
    let admin = service.token("admin:users admin:clients semantic:read sql:run").await;
    create(&service, &admin, "ann", &["semantic:read", "sql:run"]).await;
    let token = token_of(&service, "ann", PASSWORD).await;
    let (_, clients) = service.get(&admin, "/admin/api/clients").await;
    let made = clients.as_array().unwrap().iter().find(|client| client["name"] == "password-grant").unwrap();
    assert_eq!(
        (&made["authentication"], &made["grant_types"]),
        (&json!("none"), &json!(["refresh_token", "password"]))
    );
    let path = format!("/admin/api/clients/{}", made["client_id"].as_str().unwrap());
    assert_eq!(call(&service, &admin, "PATCH", &path, json!({"scopes": ["semantic:read"]})).await.0, 200);
    assert_eq!(service.get(&token, "/v1/me").await.0, 401);
    assert_eq!(login(&service, "ann", PASSWORD).await.1["scope"], "semantic:read");
    assert_eq!(service.post(&admin, &format!("{path}/disable"), json!({})).await.0, 200);
    let (status, refused) = login(&service, "ann", PASSWORD).await;
    assert_eq!((status, &refused["error"]), (401, &json!("invalid_client")), "{refused:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_registered_over_http_for_what_they_do_and_show_no_useless_secret() {
    let service = Service::start().await;
    let admin = service.token(ADMIN).await;
    let app = json!({"name": "app", "scopes": ["semantic:read"], "authentication": "none",
        "grant_types": ["authorization_code", "refresh_token"], "redirect_uris": ["https://app.example/cb"],
        "claims": {"carrier": "UA"}});
    let (status, made) = service.post(&admin, "/admin/api/clients", app.clone()).await;
    assert_eq!(status, 201, "{made:#}");
    assert!(made.get("client_secret").is_none(), "{made:#}");
    for member in ["authentication", "grant_types", "redirect_uris", "claims"] {
        assert_eq!(made["client"][member], app[member], "{member}");
    }
    let path = format!("/admin/api/clients/{}", made["client"]["client_id"].as_str().unwrap());
    assert_eq!(service.get(&admin, &path).await.1["secrets"], json!([]));
    assert_eq!(service.post(&admin, &format!("{path}/secrets"), json!({})).await.0, 409);
    let change = json!({"authentication": "client_secret", "grant_types": ["token_exchange"], "redirect_uris": [],
        "audiences": ["https://api.example"]});
    let (status, changed) = call(&service, &admin, "PATCH", &path, change).await;
    assert_eq!(status, 200, "{changed:#}");
    assert_eq!(changed["grant_types"], json!(["urn:ietf:params:oauth:grant-type:token-exchange"]));
    assert_eq!(service.post(&admin, &format!("{path}/secrets"), json!({})).await.0, 201);
    for bad in [
        json!({"grant_types": ["implicit"]}),
        json!({"grant_types": []}),
        json!({"authentication": "basic"}),
        json!({"redirect_uris": ["http://app.example/cb"]}),
        json!({"jwks": "keys"}),
        json!({"authentication": "none"}),
        json!({"authentication": "private_key_jwt"}),
        json!({"audiences": ["api"]}),
        json!({"claims": {"client_id": "x"}}),
    ] {
        let (status, problem) = call(&service, &admin, "PATCH", &path, bad.clone()).await;
        assert_eq!(status, 400, "{bad} {problem:#}");
    }
    // Another way in, or other claims, would be a way to all that the client may do.
    let weak = service.token("admin:clients").await;
    for change in
        [json!({"redirect_uris": ["https://attacker.example/cb"]}), json!({"claims": {"carrier": "AA"}})]
    {
        assert_eq!(call(&service, &weak, "PATCH", &path, change).await.0, 403);
    }
}
