use std::net::{IpAddr, Ipv4Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::auth::client::ClientChange;
use crate::auth::oauth_error::StatusHint;
use crate::auth::principal::Claims;
use crate::auth::testing::Fixture;
use crate::auth::{Auth, NewUser, User};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const ABROAD: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const PASSWORD: &str = "correct horse battery";
const GRANT: (&str, &str) = ("grant_type", "password");
const ANN: [(&str, &str); 2] = [("username", "ann"), ("password", PASSWORD)];

/// A token service with the grant on, and a user.
async fn service(scopes: &str) -> (Fixture, Auth, User) {
    let fixture = Fixture::new().await;
    let auth = with_client(&fixture, None).await.unwrap();
    let ann = NewUser {
        username: "ann".into(),
        password: Some(SecretString::from(PASSWORD)),
        scopes: scopes.parse().unwrap(),
        claims: Claims::from([("carrier".into(), json!("UA"))]),
        ..NewUser::default()
    };
    let ann = auth.users().create(&ann).await.unwrap().user;
    (fixture, auth, ann)
}

async fn with_client(fixture: &Fixture, client_id: Option<&str>) -> Result<Auth, AuthSetupError> {
    let password_grant = Some(PasswordGrantConfig { client_id: client_id.map(str::to_owned) });
    fixture.replica_with(|config| crate::auth::AuthConfig { password_grant, ..config }).await
}

async fn ask(
    auth: &Auth,
    pairs: &[(&str, &str)],
    authorization: Option<&str>,
    remote: IpAddr,
) -> Result<TokenResponse, OAuthError> {
    let form: Vec<(String, String)> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    auth.grants().token(OAuthRequest { form: &form, authorization, remote }).await
}

async fn login(auth: &Auth, username: &str, password: &str) -> Result<TokenResponse, OAuthError> {
    ask(auth, &[("username", username), ("password", password)], None, HOME).await
}

#[tokio::test]
async fn a_name_and_a_password_alone_give_the_users_token_with_the_users_claims() {
    let (_fixture, auth, ann) = service("semantic:read sql:run:flights.*").await;
    let bare = login(&auth, "ann", PASSWORD).await.unwrap();
    let strict = ask(&auth, &[&[GRANT], &ANN[..]].concat(), None, HOME).await.unwrap();
    let swagger = ask(&auth, &[&[GRANT], &ANN[..]].concat(), Some("Basic Og=="), HOME).await.unwrap();
    for answer in [bare, strict, swagger] {
        let principal = auth.tokens().verify(answer.access_token.expose()).unwrap();
        assert_eq!(principal.subject, ann.user_id.as_str());
        assert_eq!(principal.scopes, ann.scopes, "the made client limits nothing");
        assert_eq!(principal.claims["carrier"], "UA");
        assert!(principal.client_id.as_str().starts_with("password-grant-"));
    }
    assert!(auth.grants().grant_types().contains(&GrantType::Password));
}

#[tokio::test]
async fn while_the_grant_is_off_nothing_of_it_is_taken() {
    let (fixture, _, _) = service("semantic:read").await;
    let off = &fixture.auth;
    let strict = ask(off, &[&[GRANT], &ANN[..]].concat(), None, HOME).await.unwrap_err();
    assert_eq!(strict.error, OAuthErrorCode::UnsupportedGrantType);
    let bare = login(off, "ann", PASSWORD).await.unwrap_err();
    assert_eq!(bare.error, OAuthErrorCode::InvalidRequest);
    assert!(!off.grants().grant_types().contains(&GrantType::Password));
}

#[tokio::test]
async fn only_a_request_without_grant_type_is_guessed_at() {
    let (_fixture, auth, _) = service("semantic:read").await;
    for (form, error) in [
        (vec![("username", "ann")], OAuthErrorCode::InvalidRequest),
        (vec![GRANT, ("username", "ann")], OAuthErrorCode::InvalidRequest),
        (vec![GRANT, ("username", "ann"), ("password", "")], OAuthErrorCode::InvalidRequest),
        (vec![("grant_type", "passwort"), ANN[0], ANN[1]], OAuthErrorCode::UnsupportedGrantType),
        (vec![ANN[0], ANN[1], ("password", "other")], OAuthErrorCode::InvalidRequest),
        // Whoever asks for its own token must be a client, whatever else it sends.
        (vec![("grant_type", "client_credentials"), ANN[0], ANN[1]], OAuthErrorCode::InvalidClient),
    ] {
        assert_eq!(ask(&auth, &form, None, HOME).await.unwrap_err().error, error, "{form:?}");
    }
}

#[tokio::test]
async fn a_token_holds_what_client_and_user_share_and_no_more_than_was_asked_for() {
    let (_fixture, auth, _) = service("semantic:read sql:run:flights.* admin:users").await;
    let client = auth.clients().find_by_name(MADE_CLIENT).await.unwrap().unwrap();
    let narrower = ClientChange {
        scopes: Some("semantic:read sql:run:*.airports rag:read".parse().unwrap()),
        ..ClientChange::default()
    };
    auth.clients().update(&client.client_id, &narrower).await.unwrap();
    assert_eq!(
        login(&auth, "ann", PASSWORD).await.unwrap().scope.to_string(),
        "semantic:read sql:run:flights.airports"
    );
    let with_scope = |scope| [ANN[0], ANN[1], ("scope", scope)];
    let narrow = ask(&auth, &with_scope("semantic:read"), None, HOME).await.unwrap();
    assert_eq!(narrow.scope.to_string(), "semantic:read");
    for beyond in ["admin:users", "rag:read", "sql:run:flights.planes", "semantic:read rag:read", "nonsense"]
    {
        let error = ask(&auth, &with_scope(beyond), None, HOME).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::InvalidScope, "{beyond}");
    }
    let foreign = [ANN[0], ANN[1], ("resource", "https://other.example")];
    assert_eq!(ask(&auth, &foreign, None, HOME).await.unwrap_err().error, OAuthErrorCode::InvalidTarget);
    let nothing = ClientChange { scopes: Some("rag:read".parse().unwrap()), ..ClientChange::default() };
    auth.clients().update(&client.client_id, &nothing).await.unwrap();
    assert_eq!(login(&auth, "ann", PASSWORD).await.unwrap_err().error, OAuthErrorCode::InvalidScope);
}

#[tokio::test]
async fn unknown_wrong_long_and_disabled_are_one_answer() {
    let (_fixture, auth, ann) = service("semantic:read").await;
    let long = "x".repeat(5_000);
    let wrong = login(&auth, "ann", "wrong horse battery").await.unwrap_err();
    assert_eq!((wrong.error, wrong.status), (OAuthErrorCode::InvalidGrant, StatusHint::BadRequest));
    assert_eq!(login(&auth, "bob", PASSWORD).await.unwrap_err(), wrong);
    assert_eq!(login(&auth, "no such name", PASSWORD).await.unwrap_err(), wrong);
    assert_eq!(login(&auth, &long, PASSWORD).await.unwrap_err(), wrong);
    assert_eq!(login(&auth, "ann", &long).await.unwrap_err(), wrong);
    // A scope that nobody has is not told about before the password holds.
    let scope = [("username", "ann"), ("password", "wrong horse battery"), ("scope", "nonsense")];
    assert_eq!(ask(&auth, &scope, None, HOME).await.unwrap_err(), wrong);
    auth.users().disable(&ann.user_id).await.unwrap();
    assert_eq!(login(&auth, "ann", PASSWORD).await.unwrap_err(), wrong);
}

#[tokio::test]
async fn guessing_must_wait_here_but_nobody_is_locked_out_elsewhere() {
    let (fixture, auth, _) = service("semantic:read").await;
    let from = async |remote, password| {
        ask(&auth, &[("username", "ANN"), ("password", password)], None, remote).await
    };
    let mut tries = 0;
    let retry_after_s = loop {
        tries += 1;
        assert!(tries < 50, "guessing is never slowed down");
        match from(ABROAD, "wrong horse battery").await.unwrap_err().status {
            StatusHint::TooManyRequests { retry_after_s } => break retry_after_s,
            status => assert_eq!(status, StatusHint::BadRequest),
        }
    };
    let lucky = from(ABROAD, PASSWORD).await.unwrap_err();
    assert!(matches!(lucky.status, StatusHint::TooManyRequests { .. }));
    let other_spelling =
        ask(&auth, &[("username", "ann"), ("password", PASSWORD)], None, ABROAD).await.unwrap_err();
    assert!(matches!(other_spelling.status, StatusHint::TooManyRequests { .. }));
    from(HOME, PASSWORD).await.unwrap();
    fixture.clock.advance_ms(i64::try_from(retry_after_s).unwrap() * 1000);
    from(ABROAD, PASSWORD).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_guesses_at_once_no_more_are_answered_than_one_after_the_other() {
    let (_fixture, auth, _) = service("semantic:read").await;
    let guesses = (0..30).map(|_| login(&auth, "ann", "wrong horse battery"));
    let answers = futures::future::join_all(guesses).await;
    let told = answers
        .iter()
        .filter(|answer| answer.as_ref().is_err_and(|error| error.error == OAuthErrorCode::InvalidGrant))
        .count();
    assert_eq!(told, 10, "the burst that one address has for one user");
}

#[tokio::test]
async fn failing_as_a_user_does_not_hold_up_clients_at_the_same_address() {
    let (fixture, auth, _) = service("semantic:read").await;
    for n in 0..120 {
        let _ = login(&auth, &format!("nobody{n}"), "wrong horse battery").await;
    }
    let stranger = login(&auth, "ann", PASSWORD).await.unwrap_err();
    assert!(matches!(stranger.status, StatusHint::TooManyRequests { .. }));
    let made = fixture.client("semantic:read").await;
    let secret = made.secret.expose_secret();
    let post = [
        ("grant_type", "client_credentials"),
        ("client_id", made.client.client_id.as_str()),
        ("client_secret", secret),
    ];
    ask(&auth, &post, None, HOME).await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_named_must_hold_and_be_registered_for_the_grant() {
    let (fixture, auth, _) = service("semantic:read").await;
    let plain = fixture.client("semantic:read").await;
    let basic = |made: &crate::auth::ClientWithSecret, secret: &str| {
        format!("Basic {}", STANDARD.encode(format!("{}:{secret}", made.client.client_id)))
    };
    let form = [&[GRANT], &ANN[..]].concat();
    let unregistered =
        ask(&auth, &form, Some(&basic(&plain, plain.secret.expose_secret())), HOME).await.unwrap_err();
    assert_eq!(unregistered.error, OAuthErrorCode::UnauthorizedClient);
    let registered = NewClient {
        name: "old".into(),
        scopes: "semantic:read".parse().unwrap(),
        grant_types: [GrantType::Password].into(),
        ..NewClient::default()
    };
    let made = auth.clients().create(&registered).await.unwrap();
    let token = ask(&auth, &form, Some(&basic(&made, made.secret.expose_secret())), HOME).await.unwrap();
    assert_eq!(token.client_id, made.client.client_id);
    // A client that does not hold is not replaced by the one for those without.
    let bad = [
        (form.clone(), Some(basic(&made, "stw_wrong"))),
        ([&form[..], &[("client_id", made.client.client_id.as_str())]].concat(), None),
        ([&form[..], &[("client_id", "nobody")]].concat(), None),
        (form.clone(), Some("Basic Og==x".to_owned())),
        (form.clone(), Some("Bearer Og==".to_owned())),
    ];
    for (form, authorization) in bad {
        let error = ask(&auth, &form, authorization.as_deref(), HOME).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::InvalidClient, "{authorization:?}");
    }
}

#[tokio::test]
async fn one_client_is_made_however_often_and_by_however_many_the_service_starts() {
    let fixture = Fixture::new().await;
    let starts = (0..4).map(|_| with_client(&fixture, None));
    let services: Vec<Auth> =
        futures::future::join_all(starts).await.into_iter().map(Result::unwrap).collect();
    let clients = services[0].clients();
    let made = clients.list().await.unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(
        (made[0].name.as_str(), made[0].authentication, made[0].scopes.clone()),
        ("password-grant", ClientAuthentication::None, ScopeSet::everything())
    );
    // Disabling it holds, also over a restart.
    clients.disable(&made[0].client_id).await.unwrap();
    let restarted = with_client(&fixture, None).await.unwrap();
    assert_eq!(clients.list().await.unwrap().len(), 1);
    let error = login(&restarted, "ann", PASSWORD).await.unwrap_err();
    assert_eq!(error.error, OAuthErrorCode::InvalidClient);
}

#[tokio::test]
async fn a_configured_client_must_exist_be_public_and_be_registered_for_the_grant() {
    let (fixture, auth, _) = service("semantic:read sql:run").await;
    let public = |grant_types: &[GrantType]| NewClient {
        name: "agency".into(),
        scopes: "semantic:read".parse().unwrap(),
        authentication: ClientAuthentication::None,
        grant_types: grant_types.iter().copied().collect(),
        redirect_uris: vec!["https://app.example/cb".into()],
        ..NewClient::default()
    };
    let good = auth.clients().create(&public(&[GrantType::Password])).await.unwrap().client;
    let configured = with_client(&fixture, Some(good.client_id.as_str())).await.unwrap();
    let token = login(&configured, "ann", PASSWORD).await.unwrap();
    assert_eq!((token.client_id, token.scope.to_string()), (good.client_id, "semantic:read".to_owned()));

    let other = auth.clients().create(&public(&[GrantType::AuthorizationCode])).await.unwrap().client;
    let confidential = fixture.client("semantic:read").await.client;
    for (given, reason) in [
        ("nobody-00000000", "does not exist"),
        ("no id", "no client's id"),
        (other.client_id.as_str(), "not registered"),
        (confidential.client_id.as_str(), "must authenticate"),
    ] {
        let error = with_client(&fixture, Some(given)).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{given}: {error}");
        assert!(error.to_string().contains("steward client create"), "{error}");
    }
}
