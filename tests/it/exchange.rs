//! Clients with keys, tokens in exchange, other resources and introspection, at the HTTP door.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use steward::auth::{ClientAuthentication, GrantType, NewClient, NewUser, TokenSpec};

use crate::harness::{Service, read};

const RESOURCE: &str = "https://weather.example/v1";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client's key, made where the client is.
struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwks(&self) -> String {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "1", "use": "sig"}]}).to_string()
    }

    fn assertion(&self, client_id: &str, audience: &str, jti: &str) -> String {
        let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 60;
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": "1"});
        let claims = json!({"iss": client_id, "sub": client_id, "aud": audience, "exp": exp, "jti": jti});
        let b64 = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn start() -> Service {
    Service::start_with(|config| config.auth.resources = vec![RESOURCE.to_owned()]).await
}

async fn register(service: &Service, new: NewClient) -> (String, String) {
    let made = service.engine.auth().unwrap().clients().create(&new).await.unwrap();
    (made.client.client_id.to_string(), made.secret.expose_secret().to_owned())
}

fn agent(key: &Key, scopes: &str) -> NewClient {
    NewClient {
        name: "agent".to_owned(),
        scopes: scopes.parse().unwrap(),
        authentication: ClientAuthentication::PrivateKeyJwt,
        grant_types: [GrantType::ClientCredentials, GrantType::TokenExchange].into(),
        jwks: Some(key.jwks()),
        ..NewClient::default()
    }
}

async fn post(service: &Service, path: &str, form: &[(&str, &str)]) -> reqwest::Response {
    service.http.post(format!("{}{path}", service.url)).form(form).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_a_key_acts_for_a_user_and_the_audit_names_both() {
    let service = start().await;
    let auth = service.engine.auth().unwrap();
    let key = Key::new();
    let (agent_id, _) = register(&service, agent(&key, "semantic:read admin:audit")).await;
    let (app_id, _) = service.client("semantic:read sql:run").await;
    let new = NewUser {
        username: "ann".to_owned(),
        scopes: "semantic:read sql:run".parse().unwrap(),
        ..NewUser::default()
    };
    let ann = auth.users().create(&new).await.unwrap().user;
    let login = auth
        .tokens()
        .issue(&TokenSpec {
            client_id: app_id.parse().unwrap(),
            subject: ann.user_id.to_string(),
            scopes: ann.scopes.clone(),
            claims: ann.claims.clone(),
            actor: None,
            audience: None,
            exchanged: None,
        })
        .unwrap();

    let assertion = key.assertion(&agent_id, &service.url, "1");
    let form = [
        ("grant_type", EXCHANGE),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
        ("subject_token", login.token.expose()),
        ("subject_token_type", ACCESS),
    ];
    let answer = post(&service, "/oauth/token", &form).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let (status, body) = read(answer).await;
    assert_eq!((status, &body["issued_token_type"]), (200, &json!(ACCESS)), "{body:#}");
    assert_eq!((&body["scope"], body.get("refresh_token")), (&json!("semantic:read"), None));
    let exchanged = body["access_token"].as_str().unwrap();

    let (status, me) = service.get(exchanged, "/v1/me").await;
    assert_eq!(status, 200, "{me:#}");
    assert_eq!((&me["subject"], &me["client_id"]), (&json!(ann.user_id.as_str()), &json!(agent_id)));
    assert_eq!(me["actors"], json!([agent_id]));
    let (_, login_me) = service.get(login.token.expose(), "/v1/me").await;
    assert_eq!(login_me["actors"], json!([]));

    let (status, again) = read(post(&service, "/oauth/token", &form).await).await;
    assert_eq!((status, &again["error"]), (401, &json!("invalid_client")), "the assertion is used up");

    service.engine.audit().flush().await.unwrap();
    let query = steward::audit::AuditQuery { limit: 100, ..Default::default() };
    let events = service.engine.audit().list(&query).await.unwrap();
    for operation in ["issue_token", "me"] {
        assert!(
            events.iter().any(|record| {
                record.operation == operation
                    && record.subject == ann.user_id.as_str()
                    && record.client_id == agent_id
            }),
            "{operation} names user and agent"
        );
    }

    auth.tokens().revoke(login.token.expose(), &app_id.parse().unwrap()).await.unwrap();
    assert_eq!(service.get(exchanged, "/v1/me").await.0, 401, "it dies with the login");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_assertion_in_many_requests_at_once_is_taken_once() {
    let service = start().await;
    let key = Key::new();
    let (id, _) = register(&service, agent(&key, "semantic:read")).await;
    let assertion = key.assertion(&id, &format!("{}/oauth/token", service.url), "race");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
    ];
    let answers = futures::future::join_all((0..8).map(|_| post(&service, "/oauth/token", &form))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401, 401, 401, 401, 401, 401, 401]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_service_is_verified_there_and_opens_nothing_here() {
    let service = start().await;
    let (id, secret) = service.client("semantic:read").await;
    let (stranger, stranger_secret) = service.client("semantic:read").await;
    let weather = NewClient {
        name: "weather".to_owned(),
        scopes: "semantic:read".parse().unwrap(),
        audiences: vec![RESOURCE.to_owned()],
        ..NewClient::default()
    };
    let (weather, weather_secret) = register(&service, weather).await;
    let ask = async |resource: &str| {
        let request = service
            .http
            .post(format!("{}/oauth/token", service.url))
            .basic_auth(&id, Some(&secret))
            .form(&[("grant_type", "client_credentials"), ("resource", resource)]);
        read(request.send().await.unwrap()).await
    };
    let (status, body) = ask("https://evil.example").await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_target")));
    let (status, body) = ask(RESOURCE).await;
    assert_eq!(status, 200, "{body:#}");
    let token = body["access_token"].as_str().unwrap();
    assert_eq!(service.get(token, "/v1/me").await.0, 401);

    let (_, jwks) = service.get("", "/oauth/jwks").await;
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(jwks).unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.set_audience(&[RESOURCE]);
    let public = jsonwebtoken::DecodingKey::from_jwk(set.find(&kid).unwrap()).unwrap();
    jsonwebtoken::decode::<Value>(token, &public, &rules).unwrap();

    let introspect = async |client: &str, secret: &str, token: &str| {
        let request = service
            .http
            .post(format!("{}/oauth/introspect", service.url))
            .basic_auth(client, Some(secret))
            .form(&[("token", token)]);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-store");
        read(answer).await
    };
    let (status, seen) = introspect(&weather, &weather_secret, token).await;
    assert_eq!((status, &seen["active"], &seen["aud"]), (200, &json!(true), &json!(RESOURCE)));
    let unknown = introspect(&stranger, &stranger_secret, "rubbish").await;
    assert_eq!(introspect(&stranger, &stranger_secret, token).await, unknown);
    assert_eq!(unknown, (200, json!({"active": false})));

    // Nor does a stranger learn anything by revoking, and does nothing by it.
    let revoke = async |client: &str, secret: &str, token: &str| {
        let request = service
            .http
            .post(format!("{}/oauth/revoke", service.url))
            .basic_auth(client, Some(secret))
            .form(&[("token", token)]);
        read(request.send().await.unwrap()).await
    };
    let theirs = revoke(&stranger, &stranger_secret, token).await;
    assert_eq!(theirs, revoke(&stranger, &stranger_secret, "rubbish").await);
    assert_eq!(introspect(&weather, &weather_secret, token).await.1["active"], true);
    assert_eq!(revoke(&id, &secret, token).await.0, 200);
    assert_eq!(introspect(&weather, &weather_secret, token).await.1["active"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_says_how_clients_authenticate_and_what_they_may_ask_for() {
    let service = start().await;
    let (_, metadata) = service.get("", "/.well-known/oauth-authorization-server").await;
    let with_key = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
    let any = [&with_key[..], &["none"]].concat();
    assert_eq!(metadata["token_endpoint_auth_methods_supported"], json!(any));
    assert_eq!(metadata["revocation_endpoint_auth_methods_supported"], json!(any));
    assert_eq!(metadata["introspection_endpoint_auth_methods_supported"], json!(with_key));
    for endpoint in ["token", "revocation", "introspection"] {
        let member = format!("{endpoint}_endpoint_auth_signing_alg_values_supported");
        assert_eq!(metadata[&member], json!(["ES256", "EdDSA", "RS256", "PS256"]), "{member}");
    }
    assert!(metadata["grant_types_supported"].as_array().unwrap().contains(&json!(EXCHANGE)));
}
