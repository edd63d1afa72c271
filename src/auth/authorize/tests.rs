//! Requests, sessions and consent without HTTP. How the pages behave is tested at the door.

use std::net::Ipv4Addr;

use super::*;
use crate::auth::client::{Client, ClientChange, GrantType, NewClient};
use crate::auth::oauth_error::OAuthErrorCode;
use crate::auth::testing::Fixture;
use crate::auth::user::{NewUser, UserChange};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const ABROAD: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const PASSWORD: &str = "correct horse battery";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const URI: &str = "https://app.example/cb";

async fn client(fixture: &Fixture, authentication: ClientAuthentication, uris: &[&str]) -> Client {
    let new = NewClient {
        name: "app".into(),
        scopes: "semantic:read rag:read:notes".parse().unwrap(),
        authentication,
        grant_types: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
        redirect_uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        ..NewClient::default()
    };
    fixture.auth.clients().create(&new).await.unwrap().client
}

async fn ann(fixture: &Fixture, scopes: &str) -> User {
    let new = NewUser {
        username: "ann".into(),
        password: Some(SecretString::from(PASSWORD)),
        scopes: scopes.parse().unwrap(),
        ..NewUser::default()
    };
    fixture.auth.users().create(&new).await.unwrap().user
}

fn fields(client: &Client, changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = [
        ("response_type", "code"),
        ("client_id", client.client_id.as_str()),
        ("redirect_uri", URI),
        ("state", "s t&1"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]
    .into_iter()
    .filter(|(name, _)| !changes.iter().any(|(other, _)| other == name))
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    fields.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    fields
}

async fn log_in(fixture: &Fixture) -> (SecretString, Session) {
    let password = SecretString::from(PASSWORD);
    let logic = fixture.auth.authorize();
    let (_, secret) = logic.log_in("Ann", &password, HOME, None).await.unwrap();
    let session = logic.session(secret.expose_secret()).await.unwrap().unwrap();
    (secret, session)
}

#[tokio::test]
async fn until_client_and_redirect_uri_belong_together_nothing_is_redirected() {
    let fixture = Fixture::new().await;
    let client = client(&fixture, ClientAuthentication::None, &[URI, "https://app.example/other"]).await;
    for changes in [
        &[("client_id", "nobody")][..],
        &[("client_id", "")],
        &[("redirect_uri", "https://evil.example/cb")],
        &[("redirect_uri", "")],
        &[("redirect_uri", URI), ("redirect_uri", "https://evil.example/")],
        &[("client_id", client.client_id.as_str()), ("client_id", "x")],
        &[("state", &"s".repeat(MAX_REQUEST_BYTES))],
    ] {
        let refusal = fixture.auth.authorize().request(&fields(&client, changes)).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Page(_)), "{changes:?}: {refusal:?}");
    }
    fixture.auth.clients().disable(&client.client_id).await.unwrap();
    let refusal = fixture.auth.authorize().request(&fields(&client, &[])).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Page(_)));
}

#[tokio::test]
async fn later_errors_go_to_the_client_with_state_and_issuer() {
    let fixture = Fixture::new().await;
    let client = client(&fixture, ClientAuthentication::None, &[URI]).await;
    for (changes, code) in [
        (&[("response_type", "token")][..], "unsupported_response_type"),
        (&[("response_type", "code id_token")], "unsupported_response_type"),
        (&[("response_type", "")], "invalid_request"),
        (&[("code_challenge", "")], "invalid_request"),
        (&[("code_challenge_method", "")], "invalid_request"),
        (&[("code_challenge_method", "plain")], "invalid_request"),
        (&[("code_challenge", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjX=")], "invalid_request"),
        (&[("prompt", "none login")], "invalid_request"),
        (&[("prompt", "maybe")], "invalid_request"),
        (&[("scope", "rag:write")], "invalid_scope"),
        (&[("scope", "rag:read")], "invalid_scope"),
        (&[("scope", "openid")], "invalid_scope"),
        (&[("scope", "semantic:read"), ("scope", "semantic:read")], "invalid_request"),
        (&[("resource", "https://other.example")], "invalid_target"),
        (&[("response_mode", "fragment")], "invalid_request"),
        (&[("request_uri", "https://evil.example/r")], "invalid_request"),
    ] {
        let refusal = fixture.auth.authorize().request(&fields(&client, changes)).await.unwrap_err();
        let Refusal::Redirect { uri, error, .. } = refusal else { panic!("{changes:?}") };
        assert_eq!(error.as_str(), code, "{changes:?}");
        assert!(uri.starts_with(&format!("{URI}?error={code}&error_description=")), "{uri}");
        assert!(uri.ends_with("&state=s+t%261&iss=https%3A%2F%2Fsteward.example"), "{uri}");
    }
    // A state that cannot be given back is not given back cut.
    let long = fields(&client, &[("state", &"s".repeat(3_000))]);
    let Refusal::Redirect { uri, .. } = fixture.auth.authorize().request(&long).await.unwrap_err() else {
        panic!("a page")
    };
    assert!(uri.contains("error=invalid_request") && !uri.contains("state="), "{uri}");
}

#[tokio::test]
async fn a_client_that_is_not_registered_for_codes_gets_none() {
    let fixture = Fixture::new().await;
    let new = NewClient {
        name: "old".into(),
        scopes: "semantic:read".parse().unwrap(),
        redirect_uris: vec![URI.to_owned()],
        ..NewClient::default()
    };
    let client = fixture.auth.clients().create(&new).await.unwrap().client;
    let refusal = fixture.auth.authorize().request(&fields(&client, &[])).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Redirect { error: OAuthErrorCode::UnauthorizedClient, .. }));
}

#[tokio::test]
async fn a_request_survives_being_written_down_and_the_one_uri_need_not_be_named() {
    let fixture = Fixture::new().await;
    let client = client(&fixture, ClientAuthentication::None, &[URI]).await;
    let logic = fixture.auth.authorize();
    let given = fields(&client, &[("redirect_uri", ""), ("prompt", "login consent"), ("nonce", "n")]);
    let request = logic.request(&given).await.unwrap();
    assert_eq!((request.redirect_uri.as_str(), request.names_redirect_uri), (URI, false));
    let read = |query: String| -> Vec<(String, String)> {
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    };
    assert_eq!(logic.request(&read(request.to_query())).await.unwrap(), request);
    let after = logic.request(&read(request.to_query_after_login())).await.unwrap();
    assert_eq!(after.prompt, Prompt { none: false, login: false, consent: true });
}

#[tokio::test]
async fn consent_is_remembered_until_more_is_asked_for() {
    let fixture = Fixture::new().await;
    let client = client(&fixture, ClientAuthentication::ClientSecret, &[URI]).await;
    ann(&fixture, "semantic:read rag:read sql:run").await;
    let (_, session) = log_in(&fixture).await;
    let logic = fixture.auth.authorize();
    let narrow = logic.request(&fields(&client, &[("scope", "semantic:read")])).await.unwrap();
    let wide = logic.request(&fields(&client, &[])).await.unwrap();
    let Next::Ask(scopes) = logic.next(&narrow, Some(&session)).await.unwrap() else { panic!("not asked") };
    assert_eq!(scopes.to_string(), "semantic:read");
    logic.allow(&narrow, &session, &scopes).await.unwrap().unwrap();
    assert!(matches!(logic.next(&narrow, Some(&session)).await.unwrap(), Next::Go(_)));
    let Next::Ask(scopes) = logic.next(&wide, Some(&session)).await.unwrap() else { panic!("not asked") };
    logic.allow(&wide, &session, &scopes).await.unwrap().unwrap();
    for request in [&wide, &narrow] {
        assert!(matches!(logic.next(request, Some(&session)).await.unwrap(), Next::Go(_)));
    }
    let again = logic.request(&fields(&client, &[("prompt", "consent")])).await.unwrap();
    assert!(matches!(logic.next(&again, Some(&session)).await.unwrap(), Next::Ask(_)));
}

#[tokio::test]
async fn an_app_that_anybody_can_pass_for_is_asked_about_every_time() {
    let fixture = Fixture::new().await;
    ann(&fixture, "semantic:read rag:read").await;
    let (_, session) = log_in(&fixture).await;
    let logic = fixture.auth.authorize();
    for (uri, asks) in [("http://127.0.0.1/cb", true), ("com.example.app:/cb", true), (URI, false)] {
        let client = client(&fixture, ClientAuthentication::None, &[uri]).await;
        let request = logic.request(&fields(&client, &[("redirect_uri", uri)])).await.unwrap();
        logic.allow(&request, &session, &request.scopes).await.unwrap().unwrap();
        let next = logic.next(&request, Some(&session)).await.unwrap();
        assert_eq!(matches!(next, Next::Ask(_)), asks, "{uri}");
    }
}

#[tokio::test]
async fn prompt_none_never_shows_a_page() {
    let fixture = Fixture::new().await;
    let client = client(&fixture, ClientAuthentication::ClientSecret, &[URI]).await;
    ann(&fixture, "semantic:read rag:read").await;
    let (_, session) = log_in(&fixture).await;
    let logic = fixture.auth.authorize();
    let request = logic.request(&fields(&client, &[("prompt", "none")])).await.unwrap();
    let code = async |session: Option<&Session>| match logic.next(&request, session).await.unwrap() {
        Next::Refuse(Refusal::Redirect { error, .. }) => error.as_str(),
        Next::Go(_) => "go",
        _ => "page",
    };
    assert_eq!(code(None).await, "login_required");
    assert_eq!(code(Some(&session)).await, "consent_required");
    logic.allow(&request, &session, &request.scopes).await.unwrap().unwrap();
    assert_eq!(code(Some(&session)).await, "go");
}

#[tokio::test]
async fn a_user_gives_what_it_has_and_what_it_was_shown() {
    let fixture = Fixture::new().await;
    let client = client(&fixture, ClientAuthentication::ClientSecret, &[URI]).await;
    let user = ann(&fixture, "rag:read sql:run").await;
    let (_, session) = log_in(&fixture).await;
    let logic = fixture.auth.authorize();
    let request = logic.request(&fields(&client, &[])).await.unwrap();
    let Next::Ask(scopes) = logic.next(&request, Some(&session)).await.unwrap() else { panic!("not asked") };
    assert_eq!(scopes.to_string(), "rag:read:notes");
    assert!(logic.allow(&request, &session, &request.scopes).await.unwrap().is_none(), "never shown");
    // The user gets more while the page is open: it must be asked again.
    let more =
        UserChange { scopes: Some("rag:read semantic:read sql:run".parse().unwrap()), ..Default::default() };
    fixture.auth.users().update(&user.user_id, &more).await.unwrap();
    let session = Session { user: fixture.auth.users().get(&user.user_id).await.unwrap(), ..session };
    assert!(logic.allow(&request, &session, &scopes).await.unwrap().is_none());
    let only = logic.request(&fields(&client, &[("scope", "semantic:read")])).await.unwrap();
    let less = Session {
        user: User { scopes: "sql:run".parse().unwrap(), ..session.user.clone() },
        ..session.clone()
    };
    let next = logic.next(&only, Some(&less)).await.unwrap();
    assert!(matches!(next, Next::Refuse(Refusal::Redirect { error: OAuthErrorCode::AccessDenied, .. })));
}

#[tokio::test]
async fn a_session_ends_by_time_by_logout_and_with_the_users_tokens() {
    let fixture = Fixture::new().await;
    let user = ann(&fixture, "semantic:read").await;
    let logic = fixture.auth.authorize();
    let holds = async |secret: &SecretString| logic.session(secret.expose_secret()).await.unwrap().is_some();
    let (idle, _) = log_in(&fixture).await;
    let (used, _) = log_in(&fixture).await;
    for _ in 0..9 {
        fixture.clock.advance_ms(SESSION_MAX_MS / 9 - 1);
        assert!(holds(&used).await);
    }
    assert!(!holds(&idle).await, "an hour without use");
    fixture.clock.advance_ms(10);
    assert!(!holds(&used).await, "eight hours");

    let (out, session) = log_in(&fixture).await;
    logic.log_out(&session).await.unwrap();
    assert!(!holds(&out).await);

    let (before, _) = log_in(&fixture).await;
    let replica = fixture.replica().await;
    fixture.clock.advance_ms(1);
    replica.users().set_password(&user.user_id, Some(SecretString::from(PASSWORD))).await.unwrap();
    assert!(!holds(&before).await, "a new password, set by another replica");
    fixture.clock.advance_ms(1);
    let (before, _) = log_in(&fixture).await;
    fixture.auth.users().disable(&user.user_id).await.unwrap();
    assert!(!holds(&before).await);
    assert!(logic.session("").await.unwrap().is_none());
}

#[tokio::test]
async fn logging_in_makes_a_new_value_and_ends_the_one_before() {
    let fixture = Fixture::new().await;
    ann(&fixture, "semantic:read").await;
    let logic = fixture.auth.authorize();
    let (planted, _) = log_in(&fixture).await;
    let password = SecretString::from(PASSWORD);
    let (_, fresh) = logic.log_in("ann", &password, HOME, Some(planted.expose_secret())).await.unwrap();
    assert_ne!(planted.expose_secret(), fresh.expose_secret());
    assert!(logic.session(planted.expose_secret()).await.unwrap().is_none());
    let store = fixture.store().await;
    let row =
        sqlx::query("SELECT session_sha256 FROM browser_sessions").fetch_one(store.pool()).await.unwrap();
    let kept: String = sqlx::Row::get(&row, 0);
    assert_eq!(kept, crate::auth::opaque::sha256_hex(fresh.expose_secret()), "only the hash is kept");
}

#[tokio::test]
async fn failures_hold_up_an_address_and_never_the_user_elsewhere() {
    let fixture = Fixture::new().await;
    ann(&fixture, "semantic:read").await;
    let logic = fixture.auth.authorize();
    let attempt = async |password: &str, remote: IpAddr| {
        logic.log_in("ann", &SecretString::from(password), remote, None).await.map(|_| ())
    };
    for _ in 0..10 {
        let error = attempt("wrong horse battery", ABROAD).await.unwrap_err();
        assert!(matches!(error, AuthorizeError::BadCredentials), "{error}");
    }
    let error = attempt(PASSWORD, ABROAD).await.unwrap_err();
    assert!(matches!(error, AuthorizeError::RateLimited { .. }), "{error}");
    attempt(PASSWORD, HOME).await.unwrap();
    fixture.clock.advance_ms(10_000);
    attempt(PASSWORD, ABROAD).await.unwrap();
}

#[tokio::test]
async fn consent_goes_with_the_user_and_with_the_client() {
    let fixture = Fixture::new().await;
    let client = client(&fixture, ClientAuthentication::ClientSecret, &[URI]).await;
    let user = ann(&fixture, "semantic:read rag:read").await;
    let (_, session) = log_in(&fixture).await;
    let logic = fixture.auth.authorize();
    let request = logic.request(&fields(&client, &[])).await.unwrap();
    logic.allow(&request, &session, &request.scopes).await.unwrap().unwrap();
    let renamed = ClientChange { name: Some("other name".into()), ..ClientChange::default() };
    fixture.auth.clients().update(&client.client_id, &renamed).await.unwrap();
    fixture.auth.users().delete(&user.user_id).await.unwrap();
    let store = fixture.store().await;
    for table in ["SELECT 1 FROM consents", "SELECT 1 FROM browser_sessions"] {
        assert!(sqlx::query(table).fetch_all(store.pool()).await.unwrap().is_empty(), "{table}");
    }
}
