//! Codes and refresh tokens through the token endpoint's logic, on two replicas.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use secrecy::{ExposeSecret, SecretString};

use super::*;
use crate::auth::authorize::{CODE_LIFETIME_MS, CodeGrant, Codes};
use crate::auth::client::{Client, ClientAuthentication, ClientChange, GrantType, NewClient};
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode};
use crate::auth::testing::Fixture;
use crate::auth::user::{NewUser, User, UserChange};
use crate::auth::{Auth, OAuthRequest, TokenResponse};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const URI: &str = "https://app.example/cb";
/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

struct Scene {
    fixture: Fixture,
    client: Client,
    user: User,
}

impl Scene {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let client = app(&fixture, "app").await;
        let new = NewUser {
            username: "ann".into(),
            password: Some(SecretString::from("correct horse battery")),
            scopes: "semantic:read rag:read sql:run".parse().unwrap(),
            claims: [("carrier".to_owned(), "UA".into())].into(),
            ..NewUser::default()
        };
        let user = fixture.auth.users().create(&new).await.unwrap().user;
        fixture.clock.advance_ms(1_000);
        Self { fixture, client, user }
    }

    async fn code(&self) -> String {
        self.code_with(Some(URI)).await
    }

    async fn code_with(&self, redirect_uri: Option<&str>) -> String {
        let codes = Codes::new(
            LiveState::load(self.fixture.store().await, self.fixture.clock.clone()).await.unwrap(),
        );
        let grant = CodeGrant {
            client_id: self.client.client_id.clone(),
            user_id: self.user.user_id.clone(),
            redirect_uri: redirect_uri.map(str::to_owned),
            scopes: self.client.scopes.clone(),
            resource: String::new(),
            code_challenge: CHALLENGE.to_owned(),
            authenticated_at_ms: self.fixture.clock.now_ms(),
        };
        codes.issue(&grant).await.unwrap().expose_secret().to_owned()
    }

    async fn redeem(&self, code: &str, changes: &[(&str, &str)]) -> Result<TokenResponse, OAuthError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", self.client.client_id.as_str()),
            ("code", code),
            ("redirect_uri", URI),
            ("code_verifier", VERIFIER),
        ];
        ask(&self.fixture.auth, &form, changes).await
    }

    async fn log_in(&self) -> TokenResponse {
        self.redeem(&self.code().await, &[]).await.unwrap()
    }

    async fn refresh(&self, token: &str, changes: &[(&str, &str)]) -> Result<TokenResponse, OAuthError> {
        self.refresh_at(&self.fixture.auth, token, changes).await
    }

    async fn refresh_at(
        &self,
        auth: &Auth,
        token: &str,
        changes: &[(&str, &str)],
    ) -> Result<TokenResponse, OAuthError> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", self.client.client_id.as_str()),
            ("refresh_token", token),
        ];
        ask(auth, &form, changes).await
    }

    fn holds(&self, response: &TokenResponse) -> bool {
        self.fixture.auth.tokens().verify(response.access_token.expose()).is_ok()
    }
}

async fn app(fixture: &Fixture, name: &str) -> Client {
    let new = NewClient {
        name: name.into(),
        scopes: "semantic:read rag:read:notes".parse().unwrap(),
        authentication: ClientAuthentication::None,
        grant_types: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
        redirect_uris: vec![URI.to_owned()],
        ..NewClient::default()
    };
    fixture.auth.clients().create(&new).await.unwrap().client
}

async fn ask(
    auth: &Auth,
    form: &[(&str, &str)],
    changes: &[(&str, &str)],
) -> Result<TokenResponse, OAuthError> {
    let kept = form.iter().filter(|(name, _)| !changes.iter().any(|(other, _)| other == name));
    let form: Vec<(String, String)> =
        kept.chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    auth.grants().token(OAuthRequest { form: &form, authorization: None, remote: HOME }).await
}

fn refresh_token(response: &TokenResponse) -> &str {
    response.refresh_token.as_ref().unwrap().expose()
}

#[track_caller]
fn assert_refused(outcome: Result<TokenResponse, OAuthError>) -> OAuthError {
    let error = outcome.unwrap_err();
    assert_eq!(error.error, OAuthErrorCode::InvalidGrant);
    error
}

#[tokio::test]
async fn a_code_gives_a_token_for_the_user_with_what_both_may_do() {
    let scene = Scene::new().await;
    let response = scene.log_in().await;
    let principal = scene.fixture.auth.tokens().verify(response.access_token.expose()).unwrap();
    assert_eq!(principal.subject, scene.user.user_id.as_str());
    assert_eq!(principal.client_id, scene.client.client_id);
    assert_eq!(principal.scopes.to_string(), "rag:read:notes semantic:read");
    assert_eq!(principal.claims["carrier"], "UA");
    let token = refresh_token(&response);
    assert!(token.starts_with("stwr_") && token.len() == 69, "{token}");
    assert!(!format!("{response:?}").contains(token));
    let body = serde_json::to_value(&response).unwrap();
    assert_eq!(body["refresh_token"], token);
    let store = scene.fixture.store().await;
    let row = sqlx::query("SELECT family_id, refresh_sha256 FROM token_families")
        .fetch_one(store.pool())
        .await
        .unwrap();
    let kept: String = format!("{}{}", row.get::<String, _>(0), row.get::<String, _>(1));
    assert!(kept.len() == 128 && kept.bytes().all(|b| b.is_ascii_hexdigit()), "hashes only: {kept}");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_code_the_answer_is_the_same() {
    let scene = Scene::new().await;
    let other = app(&scene.fixture, "other").await;
    let mut answers = Vec::new();
    for changes in [
        &[("code_verifier", "aBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")][..],
        &[("code_verifier", CHALLENGE)],
        &[("redirect_uri", "https://app.example/cb/")],
        &[("redirect_uri", "")],
        &[("client_id", other.client_id.as_str())],
        &[("code", "stwc_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")],
        &[("code", "x")],
    ] {
        let code = scene.code().await;
        answers.push(assert_refused(scene.redeem(&code, changes).await));
    }
    let code = scene.code().await;
    scene.fixture.clock.advance_ms(CODE_LIFETIME_MS);
    answers.push(assert_refused(scene.redeem(&code, &[]).await));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}

#[tokio::test]
async fn a_verifier_is_required_well_formed_and_has_one_guess() {
    let scene = Scene::new().await;
    let code = scene.code().await;
    for bad in ["", "short", &"a".repeat(129), &"+".repeat(43)] {
        let error = scene.redeem(&code, &[("code_verifier", bad)]).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::InvalidRequest, "{bad}");
    }
    assert_refused(scene.redeem(&code, &[("code_verifier", &"a".repeat(43))]).await);
    assert_refused(scene.redeem(&code, &[]).await);
    // Another client's attempt takes nothing from the one that the code is for.
    let other = app(&scene.fixture, "other").await;
    let code = scene.code().await;
    assert_refused(scene.redeem(&code, &[("client_id", other.client_id.as_str())]).await);
    scene.redeem(&code, &[]).await.unwrap();
}

#[tokio::test]
async fn a_redirect_uri_that_the_request_did_not_name_need_not_be_repeated() {
    let scene = Scene::new().await;
    let code = scene.code_with(None).await;
    scene.redeem(&code, &[("redirect_uri", "")]).await.unwrap();
}

#[tokio::test]
async fn a_code_that_comes_back_kills_what_it_gave_but_only_in_the_hands_of_somebody_with_the_verifier() {
    let scene = Scene::new().await;
    let code = scene.code().await;
    let first = scene.redeem(&code, &[]).await.unwrap();
    assert_refused(scene.redeem(&code, &[("code_verifier", &"a".repeat(43))]).await);
    assert!(scene.holds(&first));
    let error = assert_refused(scene.redeem(&code, &[]).await);
    assert_eq!(error.reuse.unwrap().user_id, scene.user.user_id);
    assert!(!scene.holds(&first));
    assert_refused(scene.refresh(refresh_token(&first), &[]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_redeem_a_code_at_the_same_time_one_has_it() {
    let scene = Scene::new().await;
    for _ in 0..5 {
        let code = scene.code().await;
        let (one, two) = tokio::join!(scene.redeem(&code, &[]), scene.redeem(&code, &[]));
        assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1, "{one:?} {two:?}");
        // The second use was noticed.
        assert!(!scene.holds(&one.or(two).unwrap()));
    }
}

#[tokio::test]
async fn a_refresh_token_changes_with_every_use_and_keeps_the_logins_scopes() {
    let scene = Scene::new().await;
    let first = scene.log_in().await;
    let second = scene.refresh(refresh_token(&first), &[("scope", "semantic:read")]).await.unwrap();
    assert_eq!(second.scope.to_string(), "semantic:read");
    assert_ne!(refresh_token(&second), refresh_token(&first));
    let third = scene.refresh(refresh_token(&second), &[]).await.unwrap();
    assert_eq!(third.scope.to_string(), "rag:read:notes semantic:read", "one narrow token narrows no other");
    assert!([&first, &second, &third].into_iter().all(|response| scene.holds(response)));
    for wider in ["sql:run", "rag:read", "semantic:read sql:run", "rag:read:other"] {
        let error = scene.refresh(refresh_token(&third), &[("scope", wider)]).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::InvalidScope, "{wider}");
    }
    scene.refresh(refresh_token(&third), &[]).await.unwrap();
}

#[tokio::test]
async fn reuse_kills_the_family_and_its_access_tokens_on_every_replica() {
    let scene = Scene::new().await;
    let replica = scene.fixture.replica().await;
    let first = scene.log_in().await;
    let bystander = scene.log_in().await;
    let second = scene.refresh(refresh_token(&first), &[]).await.unwrap();
    for response in [&first, &second] {
        replica.tokens().verify(response.access_token.expose()).unwrap();
    }
    let error = assert_refused(scene.refresh(refresh_token(&first), &[]).await);
    assert_eq!(error.reuse.unwrap().client_id, scene.client.client_id);
    assert!(replica.refresh().await.unwrap());
    for response in [&first, &second] {
        assert!(!scene.holds(response));
        assert!(replica.tokens().verify(response.access_token.expose()).is_err());
    }
    assert_refused(scene.refresh(refresh_token(&second), &[]).await);
    assert!(scene.holds(&bystander), "another login of the same user");
    scene.refresh(refresh_token(&bystander), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refresh_token_used_twice_at_once_on_two_replicas_never_gives_two_live_families() {
    let scene = Scene::new().await;
    let replica = scene.fixture.replica().await;
    for _ in 0..5 {
        let first = scene.log_in().await;
        let token = refresh_token(&first);
        let (one, two) = tokio::join!(scene.refresh(token, &[]), scene.refresh_at(&replica, token, &[]));
        assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1, "{one:?} {two:?}");
        scene.fixture.auth.refresh().await.unwrap();
        let winner = one.or(two).unwrap();
        assert!(!scene.holds(&winner) && !scene.holds(&first));
        assert_refused(scene.refresh(refresh_token(&winner), &[]).await);
    }
}

#[tokio::test]
async fn another_clients_refresh_token_gives_nothing_and_kills_nothing() {
    let scene = Scene::new().await;
    let other = app(&scene.fixture, "other").await;
    let first = scene.log_in().await;
    let second = scene.refresh(refresh_token(&first), &[]).await.unwrap();
    for token in [refresh_token(&first), refresh_token(&second)] {
        assert_refused(scene.refresh(token, &[("client_id", other.client_id.as_str())]).await);
    }
    scene.refresh(refresh_token(&second), &[]).await.unwrap();
    for bad in ["stwr_", "stwr_AAAA", "x", &format!("stwr_{}", "A".repeat(64)), "stwr_é"] {
        assert_refused(scene.refresh(bad, &[]).await);
    }
}

#[tokio::test]
async fn a_refresh_token_ends_when_it_lies_idle_and_in_any_case_with_its_family() {
    let scene = Scene::new().await;
    let day_ms = 86_400_000;
    let idle = scene.log_in().await;
    scene.fixture.clock.advance_ms(14 * day_ms);
    assert_refused(scene.refresh(refresh_token(&idle), &[]).await);
    let mut used = scene.log_in().await;
    for _ in 0..8 {
        scene.fixture.clock.advance_ms(11 * day_ms);
        used = scene.refresh(refresh_token(&used), &[]).await.unwrap();
    }
    scene.fixture.clock.advance_ms(2 * day_ms);
    assert_refused(scene.refresh(refresh_token(&used), &[]).await);
    scene.fixture.clock.advance_ms(8 * day_ms);
    scene.log_in().await;
    let store = scene.fixture.store().await;
    for (table, left) in [("SELECT 1 FROM token_families", 1), ("SELECT 1 FROM family_tokens", 1)] {
        assert_eq!(sqlx::query(table).fetch_all(store.pool()).await.unwrap().len(), left, "{table}");
    }
}

#[tokio::test]
async fn what_ends_the_tokens_of_user_or_client_ends_the_refreshing() {
    let scene = Scene::new().await;
    let replica = scene.fixture.replica().await;
    let (users, clients) = (replica.users(), replica.clients());
    let (user_id, client_id) = (&scene.user.user_id, &scene.client.client_id);
    for step in 0..5 {
        scene.fixture.clock.advance_ms(10);
        scene.fixture.auth.refresh().await.unwrap();
        let login = scene.log_in().await;
        let code = scene.code().await;
        scene.fixture.clock.advance_ms(10);
        // Each by another replica, and not yet polled here.
        match step {
            0 => drop(users.set_password(user_id, None).await.unwrap()),
            1 => {
                let scopes = Some("semantic:read rag:read".parse().unwrap());
                users.update(user_id, &UserChange { scopes, ..UserChange::default() }).await.unwrap();
            }
            2 => {
                users.disable(user_id).await.unwrap();
                scene.fixture.clock.advance_ms(10);
                users.enable(user_id).await.unwrap();
            }
            3 => clients.revoke_tokens(client_id).await.unwrap(),
            _ => {
                let scopes = Some("semantic:read".parse().unwrap());
                clients.update(client_id, &ClientChange { scopes, ..ClientChange::default() }).await.unwrap();
            }
        }
        assert_refused(scene.refresh(refresh_token(&login), &[]).await);
        assert_refused(scene.redeem(&code, &[]).await);
    }
}

#[tokio::test]
async fn a_client_that_is_not_registered_for_refresh_tokens_gets_none_and_its_code_still_kills() {
    let scene = Scene::new().await;
    let change =
        ClientChange { grant_types: Some([GrantType::AuthorizationCode].into()), ..Default::default() };
    let first = scene.log_in().await;
    scene.fixture.auth.clients().update(&scene.client.client_id, &change).await.unwrap();
    let error = scene.refresh(refresh_token(&first), &[]).await.unwrap_err();
    assert_eq!(error.error, OAuthErrorCode::UnauthorizedClient);
    let code = scene.code().await;
    let second = scene.redeem(&code, &[]).await.unwrap();
    assert!(second.refresh_token.is_none() && scene.holds(&second));
    assert_refused(scene.redeem(&code, &[]).await);
    assert!(!scene.holds(&second));
}

#[tokio::test]
async fn revoking_a_refresh_token_ends_the_login_and_revoking_an_access_token_only_that() {
    let scene = Scene::new().await;
    let other = app(&scene.fixture, "other").await;
    let first = scene.log_in().await;
    let second = scene.refresh(refresh_token(&first), &[]).await.unwrap();
    let revoke = async |client: &Client, token: &str| {
        let form =
            [("client_id", client.client_id.as_str()), ("token", token), ("token_type_hint", "access_token")];
        let form: Vec<(String, String)> =
            form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = OAuthRequest { form: &form, authorization: None, remote: HOME };
        scene.fixture.auth.grants().revoke(request).await.unwrap()
    };
    assert!(revoke(&scene.client, first.access_token.expose()).await.is_some());
    assert!(!scene.holds(&first) && scene.holds(&second));
    assert!(revoke(&other, refresh_token(&second)).await.is_none());
    assert!(scene.holds(&second), "a stranger's revocation does nothing");
    assert!(revoke(&scene.client, refresh_token(&second)).await.is_some());
    assert!(!scene.holds(&second));
    assert_refused(scene.refresh(refresh_token(&second), &[]).await);
    assert!(revoke(&scene.client, refresh_token(&second)).await.is_none(), "twice is fine");
}

proptest! {
    #[test]
    fn a_refresh_token_has_one_spelling_and_anything_else_is_none(text in "(stwr_)?[A-Za-z0-9_+/=-]{0,80}") {
        if let Some(parts) = Parts::parse(&text) {
            prop_assert_eq!(parts.to_token().expose().to_owned(), text);
        }
    }
}

#[test]
fn a_successor_leads_to_the_same_family_by_another_secret() {
    let parts = Parts::random().unwrap();
    let next = Parts::parse(parts.successor().unwrap().to_token().expose()).unwrap();
    assert_eq!(next.family_id(), parts.family_id());
    assert_ne!(next.secret_sha256(), parts.secret_sha256());
}
