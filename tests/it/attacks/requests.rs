//! Requests to the OAuth endpoints, and tokens in places where they do not belong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Forge, form};
use crate::harness::{Service, read};

const GRANT: (&str, &str) = ("grant_type", "client_credentials");
const ENDPOINTS: [&str; 3] = ["/oauth/token", "/oauth/introspect", "/oauth/revoke"];

/// Sends a form body as it stands.
async fn raw(service: &Service, path: &str, authorization: Option<&str>, body: String) -> (u16, Value) {
    let mut request = service
        .http
        .post(format!("{}{path}", service.url))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    read(request.send().await.unwrap()).await
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_in_the_query_open_nothing_anywhere() {
    let service = Service::start().await;
    let (id, secret) = service.client("semantic:read").await;
    let query = [GRANT, ("client_id", id.as_str()), ("client_secret", secret.as_str()), ("token", "x")];
    for path in ENDPOINTS {
        let url = format!("{}{path}", service.url);
        for body in
            [vec![], vec![GRANT, ("token", "x")], vec![GRANT, ("token", "x"), ("client_id", id.as_str())]]
        {
            let request = service.http.post(&url).query(&query).form(&body);
            let (status, answer) = read(request.send().await.unwrap()).await;
            assert!([400, 401].contains(&status), "{path} {body:?}: {status} {answer}");
            assert!(answer["access_token"].is_null() && answer["active"].is_null(), "{path}: {answer}");
        }
        let (status, _) = read(service.http.get(&url).query(&query).send().await.unwrap()).await;
        assert!([400, 404, 405].contains(&status), "GET {path}: {status}");
    }
    // The control: the same fields in the body.
    let request = service.http.post(format!("{}/oauth/token", service.url)).form(&query[..3]);
    assert_eq!(read(request.send().await.unwrap()).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_appears_twice_is_an_error_whatever_its_values() {
    let service = Service::start().await;
    let (id, secret) = service.client("semantic:read").await;
    let good = format!(
        "grant_type=client_credentials&client_id={id}&client_secret={secret}&scope=semantic:read&token=x"
    );
    assert_eq!(raw(&service, "/oauth/token", None, good.clone()).await.0, 200);
    for (name, value) in [
        ("grant_type", "client_credentials"),
        ("grant_type", ""),
        ("client_id", id.as_str()),
        ("client_id", "other"),
        ("client_secret", secret.as_str()),
        ("scope", "semantic:read"),
        ("scope", "admin:clients"),
        ("token", "x"),
    ] {
        for body in [format!("{good}&{name}={value}"), format!("{name}={value}&{good}")] {
            for path in ENDPOINTS {
                let (status, answer) = raw(&service, path, None, body.clone()).await;
                assert_eq!(
                    (status, &answer["error"]),
                    (400, &json!("invalid_request")),
                    "{path} {name}: {answer}"
                );
            }
        }
    }
    // Escapes and plus signs do not make another name of it.
    let disguised = format!("{good}&%73cope=semantic:read");
    assert_eq!(raw(&service, "/oauth/token", None, disguised).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_authenticates_in_two_ways_is_not_authenticated() {
    let service = Service::start().await;
    let (id, secret) = service.client("semantic:read").await;
    let (other, other_secret) = service.client("semantic:read").await;
    let header = basic(&id, &secret);
    let body = |id: &str, secret: &str| {
        format!("grant_type=client_credentials&token=x&client_id={id}&client_secret={secret}")
    };
    for path in ENDPOINTS {
        for body in [
            body(&id, &secret),
            body(&other, &other_secret),
            body(&id, "wrong"),
            format!("grant_type=client_credentials&token=x&client_id={other}"),
            "grant_type=client_credentials&token=x&client_assertion=a.b.c&client_assertion_type=\
             urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
                .to_owned(),
        ] {
            let (status, answer) = raw(&service, path, Some(&header), body.clone()).await;
            assert_eq!(
                (status, &answer["error"]),
                (400, &json!("invalid_request")),
                "{path} {body}: {answer}"
            );
        }
    }
    let twice = service
        .http
        .post(format!("{}/oauth/token", service.url))
        .header("authorization", &header)
        .header("authorization", &header)
        .form(&[GRANT]);
    assert_eq!(read(twice.send().await.unwrap()).await.0, 400);
    assert_eq!(
        raw(&service, "/oauth/token", Some(&header), "grant_type=client_credentials".into()).await.0,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_form_is_read() {
    let service = Service::start().await;
    let (id, secret) = service.client("semantic:read").await;
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let object =
        json!({"grant_type": "client_credentials", "client_id": id, "client_secret": secret}).to_string();
    for path in ENDPOINTS {
        for (kind, body) in [
            (Some("application/json"), &object),
            (Some("application/x-www-form-urlencoded-2"), &form),
            (Some("text/plain"), &form),
            (Some("multipart/form-data; boundary=x"), &form),
            (Some(""), &form),
            (None, &form),
            (None, &object),
        ] {
            let mut request = service.http.post(format!("{}{path}", service.url)).body(body.clone());
            if let Some(kind) = kind {
                request = request.header("content-type", kind);
            }
            let (status, answer) = read(request.send().await.unwrap()).await;
            assert_eq!(
                (status, &answer["error"]),
                (400, &json!("invalid_request")),
                "{path} {kind:?}: {answer}"
            );
            assert!(!answer.to_string().contains(&secret));
        }
    }
    // A JSON text that calls itself a form is a form of one strange name.
    assert_eq!(raw(&service, "/oauth/token", None, object).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn oversize_and_control_characters_are_refused_before_anything_is_done_with_them() {
    let service = Service::start().await;
    let (id, secret) = service.client("semantic:read").await;
    let good = format!("grant_type=client_credentials&token=x&client_id={id}&client_secret={secret}");
    let many: String = (0..40).map(|n| format!("&p{n}=x")).collect();
    for path in ENDPOINTS {
        for (name, body) in [
            ("a long value", format!("{good}&scope={}", "a".repeat(9_000))),
            ("a long token", good.replace("token=x", &format!("token={}", "a".repeat(9_000)))),
            ("a long name", format!("{good}&{}=x", "n".repeat(200))),
            ("many parameters", format!("{good}{many}")),
            ("a long id", good.replace(&id, &"i".repeat(300))),
            ("a long secret", good.replace(&secret, &"s".repeat(300))),
            ("NUL in scope", format!("{good}&scope=semantic:read%00")),
            ("NUL in an id", good.replace(&id, &format!("{id}%00"))),
            ("NUL in a secret", good.replace(&secret, &format!("{secret}%00x"))),
            ("a line feed", format!("{good}&state=a%0ab")),
            ("NUL in a name", format!("{good}&a%00=b")),
        ] {
            let (status, answer) = raw(&service, path, None, body).await;
            assert_eq!(
                (status, &answer["error"]),
                (400, &json!("invalid_request")),
                "{path} {name}: {answer}"
            );
        }
        for header in [
            basic(&id, &"s".repeat(5_000)),
            basic(&format!("{id}\0"), &secret),
            basic(&id, &format!("{secret}%00")),
        ] {
            let (status, _) =
                raw(&service, path, Some(&header), "grant_type=client_credentials&token=x".into()).await;
            assert_eq!(status, 400, "{path}");
        }
        let huge = format!("{good}&scope={}", "a".repeat(2 * 1024 * 1024));
        assert_eq!(raw(&service, path, None, huge).await.0, 413, "{path}");
        // Bytes that are no UTF-8, bare and escaped.
        let bytes = service
            .http
            .post(format!("{}{path}", service.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body([good.as_bytes(), b"&scope=\xff"].concat());
        assert_eq!(read(bytes.send().await.unwrap()).await.0, 400, "{path}");
        let (status, _) = raw(&service, path, None, good.replace(&id, "%ff%fe")).await;
        assert!([400, 401].contains(&status), "{path}: {status}");
    }
    assert_eq!(raw(&service, "/oauth/token", None, good).await.0, 200, "the service goes on");
}

/// Status, headers and body of a refusal, without what differs between any two answers.
async fn refusal(
    service: &Service,
    path: &str,
    id: &str,
    secret: &str,
) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let request = service
        .http
        .post(format!("{}{path}", service.url))
        .basic_auth(id, Some(secret))
        .form(&[GRANT, ("token", "x")]);
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let headers = answer.headers().iter().filter(|(name, _)| *name != "x-request-id" && *name != "date");
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    (status, headers, answer.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_wrong_and_disabled_clients_get_the_same_bytes() {
    let service = Service::start().await;
    let (id, secret) = service.client("semantic:read").await;
    let (disabled, disabled_secret) = service.client("semantic:read").await;
    let (deleted, deleted_secret) = service.client("semantic:read").await;
    let clients = service.engine.auth().unwrap().clients();
    clients.disable(&disabled.parse().unwrap()).await.unwrap();
    clients.delete(&deleted.parse().unwrap()).await.unwrap();
    for path in ENDPOINTS {
        let wrong = refusal(&service, path, &id, "stw_wrong").await;
        assert_eq!(wrong.0, 401);
        for (id, secret) in [
            (id.as_str(), ""),
            (id.as_str(), &disabled_secret),
            ("nobody-00000000", "stw_wrong"),
            ("nobody-00000000", &secret),
            ("' OR 1=1 --", "stw_wrong"),
            (&disabled, &disabled_secret),
            (&disabled, "stw_wrong"),
            (&deleted, &deleted_secret),
        ] {
            assert_eq!(refusal(&service, path, id, secret).await, wrong, "{path} {id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_anywhere_but_in_one_authorization_header_is_not_seen() {
    let forge = Forge::new().await;
    let service = &forge.service;
    let (url, token) = (format!("{}/v1/me", service.url), forge.token.as_str());
    let bearer = format!("Bearer {token}");
    let get = || service.http.get(&url);
    for (name, request) in [
        ("query", get().query(&[("access_token", token)])),
        (
            "query, other name",
            get().query(&[("token", token), ("bearer", token), ("authorization", &bearer)]),
        ),
        ("form", get().form(&[("access_token", token)])),
        ("cookie", get().header("cookie", format!("access_token={token}; Authorization={token}"))),
        ("proxy header", get().header("proxy-authorization", &bearer)),
        ("X-Authorization", get().header("x-authorization", &bearer)),
        ("forwarded", get().header("x-forwarded-authorization", &bearer)),
        ("twice", get().header("authorization", &bearer).header("authorization", &bearer)),
        ("beside another", get().header("authorization", "Basic eDp5").header("authorization", &bearer)),
        ("before another", get().header("authorization", &bearer).header("authorization", "Basic eDp5")),
        ("beside an empty one", get().header("authorization", &bearer).header("authorization", "")),
    ] {
        let (status, problem) = read(request.send().await.unwrap()).await;
        assert_eq!(status, 401, "{name}: {problem:#}");
        assert!(!problem.to_string().contains(token), "{name}");
    }
    let sql = service
        .http
        .post(format!("{}/v1/sql/run", service.url))
        .form(&[("access_token", token), ("sql", "SELECT 1")]);
    assert_eq!(read(sql.send().await.unwrap()).await.0, 401);
    // The controls; the scheme is read in any case (RFC 9110 section 11.1).
    for good in [bearer.clone(), bearer.replace("Bearer", "bearer"), bearer.replace("Bearer", "BEARER")] {
        let answer = get().header("authorization", good).send().await.unwrap();
        assert_eq!(read(answer).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_outside_of_the_registration_are_never_granted() {
    let service = Service::start().await;
    let (id, secret) =
        service.client("semantic:read sql:run:flights.airlines actions:call:weather.get_daily").await;
    for scope in [
        "admin:clients",
        "semantic:read admin:clients",
        "sql:run",
        "sql:run:*",
        "sql:run:flights.*",
        "sql:run:flights.air",
        "sql:run:flights.airlines2",
        "sql:run:flights.airline",
        "sql:run:*.airlines",
        "sql:run:fl.airlines",
        "sql:run:flights.AIRLINES",
        "actions:call:weather.get",
        "actions:call:weather.*",
        "actions:call:weather.get_daily.x",
        "protected",
        "highly_sensitive",
        "data:protected",
        "semantic:read:x",
        "semantic",
        "semantic:rea",
        "semantic:reads",
        "SEMANTIC:READ",
        "*",
        "semantic:*",
        "semantic:read,admin:clients",
        "semantic:read\u{a0}admin:clients",
        "openid",
        "offline_access",
    ] {
        let fields = [GRANT, ("scope", scope)];
        let (status, answer) = form(&service, "/oauth/token", &id, &secret, &fields).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_scope")), "{scope}: {answer}");
    }
    let fields = [GRANT, ("scope", "sql:run:flights.airlines")];
    let (status, answer) = form(&service, "/oauth/token", &id, &secret, &fields).await;
    assert_eq!((status, &answer["scope"]), (200, &json!("sql:run:flights.airlines")));
}
