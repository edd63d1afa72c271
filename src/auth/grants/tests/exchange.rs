//! RFC 8693 at the token endpoint.

use serde_json::Value;

use super::*;
use crate::auth::client::ClientChange;
use crate::auth::principal::Principal;
use crate::auth::testing::RESOURCE;
use crate::auth::{Auth, Client, ClientAuthentication, GrantType, NewUser, User, UserChange};

const EXCHANGE: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

async fn agent(fixture: &Fixture, scopes: &str) -> ClientWithSecret {
    let new = NewClient {
        name: "agent".into(),
        scopes: scopes.parse().unwrap(),
        grant_types: [GrantType::ClientCredentials, GrantType::TokenExchange].into(),
        ..NewClient::default()
    };
    fixture.auth.clients().create(&new).await.unwrap()
}

async fn ann(fixture: &Fixture, scopes: &str) -> User {
    let new = NewUser {
        username: "ann".into(),
        scopes: scopes.parse().unwrap(),
        claims: Claims::from([("carrier".to_owned(), json!("UA"))]),
        ..NewUser::default()
    };
    fixture.auth.users().create(&new).await.unwrap().user
}

/// A token for the user by way of that client, as a login would give.
fn login(fixture: &Fixture, client: &Client, user: &User) -> String {
    let spec = TokenSpec {
        client_id: client.client_id.clone(),
        subject: user.user_id.to_string(),
        scopes: client.scopes.meet(&user.scopes).unwrap(),
        claims: user.claims.clone(),
        actor: None,
        audience: None,
        exchanged: None,
    };
    fixture.auth.tokens().issue(&spec).unwrap().token.expose().to_owned()
}

async fn exchange(
    fixture: &Fixture,
    by: &ClientWithSecret,
    subject_token: &str,
    more: &[(&str, &str)],
) -> Result<TokenResponse, OAuthError> {
    let mut pairs = vec![EXCHANGE, ("subject_token", subject_token), ("subject_token_type", ACCESS)];
    pairs.extend_from_slice(more);
    token(fixture, &pairs, Some(&basic_of(by))).await
}

fn principal(fixture: &Fixture, response: &TokenResponse) -> Arc<Principal> {
    fixture.auth.tokens().verify(response.access_token.expose()).unwrap()
}

fn holds(auth: &Auth, response: &TokenResponse) -> bool {
    auth.tokens().verify(response.access_token.expose()).is_ok()
}

fn payload(token: &str) -> Value {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn an_agent_gets_a_token_to_act_for_the_user_with_what_both_may_do() {
    let fixture = Fixture::new().await;
    let app = fixture.client("semantic:read sql:run rag:read").await;
    let agent = agent(&fixture, "sql:run:flights.* rag:read actions:call").await;
    let ann = ann(&fixture, "semantic:read sql:run rag:read actions:call").await;
    let subject = login(&fixture, &app.client, &ann);
    let response = exchange(&fixture, &agent, &subject, &[]).await.unwrap();
    let body = serde_json::to_value(&response).unwrap();
    let members: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["access_token", "token_type", "expires_in", "scope", "issued_token_type"]);
    assert_eq!((&body["issued_token_type"], &body["token_type"]), (&json!(ACCESS), &json!("Bearer")));
    let principal = principal(&fixture, &response);
    assert_eq!(principal.subject, ann.user_id.as_str());
    assert_eq!(principal.client_id, agent.client.client_id);
    assert_eq!(principal.scopes.to_string(), "rag:read sql:run:flights.*");
    assert_eq!(principal.actors().collect::<Vec<_>>(), [agent.client.client_id.as_str()]);
    assert_eq!(principal.claims["carrier"], "UA", "the subject's claims");
    assert_eq!(principal.claims["client_id"], agent.client.client_id.as_str());
    let claims = payload(response.access_token.expose());
    assert_eq!(claims["act"], json!({"sub": agent.client.client_id.as_str()}));
    assert_eq!(claims["claims"], json!({"carrier": "UA"}));
}

#[tokio::test]
async fn scopes_are_narrowed_as_asked_and_never_widened_by_an_exchange() {
    let fixture = Fixture::new().await;
    let app = fixture.client("semantic:read sql:run").await;
    let agent = agent(&fixture, "semantic:read rag:read sql:run:flights.*").await;
    let ann = ann(&fixture, "semantic:read rag:read sql:run").await;
    let subject = login(&fixture, &app.client, &ann);
    let ask = async |scope: &str| exchange(&fixture, &agent, &subject, &[("scope", scope)]).await;
    assert_eq!(ask("semantic:read").await.unwrap().scope.to_string(), "semantic:read");
    let narrowed = ask("sql:run:flights.airports").await.unwrap();
    assert_eq!(narrowed.scope.to_string(), "sql:run:flights.airports");
    for wider in ["rag:read", "sql:run", "sql:run:other.x", "semantic:read rag:read", "semantic:*", "x"] {
        assert_eq!(ask(wider).await.unwrap_err().error, OAuthErrorCode::InvalidScope, "{wider}");
    }
    // Not by a second exchange either.
    let again = exchange(&fixture, &agent, narrowed.access_token.expose(), &[]).await.unwrap();
    assert_eq!(again.scope.to_string(), "sql:run:flights.airports");
    let apart = self::agent(&fixture, "actions:call").await;
    let nothing = exchange(&fixture, &apart, &subject, &[]).await.unwrap_err();
    assert_eq!(nothing.error, OAuthErrorCode::InvalidScope);
}

#[tokio::test]
async fn an_exchanged_token_ends_no_later_than_its_subject() {
    let fixture = Fixture::new().await;
    let agent = agent(&fixture, "semantic:read").await;
    let ann = ann(&fixture, "semantic:read").await;
    let subject = login(&fixture, &agent.client, &ann);
    fixture.clock.advance_ms(3_000_000);
    let response = exchange(&fixture, &agent, &subject, &[]).await.unwrap();
    assert_eq!(response.expires_in, 600);
    let ends = |token: &str| fixture.auth.tokens().verify(token).unwrap().expires_at_ms;
    assert_eq!(ends(response.access_token.expose()), ends(&subject));
    fixture.clock.advance_ms(599_749);
    assert!(holds(&fixture.auth, &response));
    let last = exchange(&fixture, &agent, &subject, &[]).await.unwrap();
    assert_eq!(last.expires_in, 1, "also in its last millisecond");
    assert!(holds(&fixture.auth, &last));
    fixture.clock.advance_ms(1);
    assert!(!holds(&fixture.auth, &response));
    let late = exchange(&fixture, &agent, &subject, &[]).await.unwrap_err();
    assert_eq!(late.error, OAuthErrorCode::InvalidRequest);
}

#[tokio::test]
async fn the_chain_of_actors_is_kept_and_bounded() {
    let fixture = Fixture::new().await;
    let app = fixture.client("semantic:read").await;
    let ann = ann(&fixture, "semantic:read").await;
    let mut current = login(&fixture, &app.client, &ann);
    let mut chain: Vec<String> = vec![];
    for _ in 0..4 {
        let agent = agent(&fixture, "semantic:read").await;
        let response = exchange(&fixture, &agent, &current, &[]).await.unwrap();
        chain.insert(0, agent.client.client_id.to_string());
        let principal = principal(&fixture, &response);
        assert_eq!(principal.actors().collect::<Vec<_>>(), chain);
        assert_eq!(principal.subject, ann.user_id.as_str());
        current = response.access_token.expose().to_owned();
    }
    let fifth = agent(&fixture, "semantic:read").await;
    let error = exchange(&fixture, &fifth, &current, &[]).await.unwrap_err();
    assert_eq!(error.error, OAuthErrorCode::InvalidRequest);
    assert!(error.error_description.contains("4 times"), "{}", error.error_description);
}

#[tokio::test]
async fn a_client_that_narrows_its_own_token_is_no_actor_and_none_is_named_twice() {
    let fixture = Fixture::new().await;
    let agent = agent(&fixture, "semantic:read rag:read").await;
    let own = token(&fixture, &[GRANT], Some(&basic_of(&agent))).await.unwrap();
    let narrowed = [("scope", "semantic:read")];
    let response = exchange(&fixture, &agent, own.access_token.expose(), &narrowed).await.unwrap();
    assert_eq!(principal(&fixture, &response).actor, None);
    let ann = ann(&fixture, "semantic:read").await;
    let first = exchange(&fixture, &agent, &login(&fixture, &agent.client, &ann), &[]).await.unwrap();
    let second = exchange(&fixture, &agent, first.access_token.expose(), &[]).await.unwrap();
    assert_eq!(principal(&fixture, &second).actors().count(), 1);
}

#[tokio::test]
async fn an_agent_acts_for_another_client_as_well() {
    let fixture = Fixture::new().await;
    let (robot, subject) = fixture.token("semantic:read").await;
    let agent = agent(&fixture, "semantic:read").await;
    let response = exchange(&fixture, &agent, &subject, &[]).await.unwrap();
    let found = principal(&fixture, &response);
    assert_eq!(found.subject, robot.client.client_id.as_str());
    assert_eq!(found.actors().collect::<Vec<_>>(), [agent.client.client_id.as_str()]);
    fixture.auth.clients().disable(&robot.client.client_id).await.unwrap();
    assert!(!holds(&fixture.auth, &response), "whom it acted for is gone");
}

#[tokio::test]
async fn an_exchanged_token_dies_with_every_token_that_it_came_from() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let app = fixture.client("semantic:read").await;
    let (first, second) = (agent(&fixture, "semantic:read").await, agent(&fixture, "semantic:read").await);
    let ann = ann(&fixture, "semantic:read").await;
    let subject = login(&fixture, &app.client, &ann);
    let one = exchange(&fixture, &first, &subject, &[]).await.unwrap();
    let two = exchange(&fixture, &second, one.access_token.expose(), &[]).await.unwrap();
    let apart = exchange(&fixture, &second, &login(&fixture, &app.client, &ann), &[]).await.unwrap();
    assert!(holds(&fixture.auth, &two) && holds(&replica, &two));
    fixture.auth.tokens().revoke(&subject, &app.client.client_id).await.unwrap();
    replica.refresh().await.unwrap();
    for auth in [&fixture.auth, &replica] {
        assert!(!holds(auth, &one) && !holds(auth, &two), "child and grandchild");
        assert!(holds(auth, &apart), "another login is another matter");
    }
    let again = exchange(&fixture, &second, &subject, &[]).await.unwrap_err();
    assert_eq!(again.error, OAuthErrorCode::InvalidRequest, "a revoked subject");
}

#[tokio::test]
async fn an_exchanged_token_dies_when_the_user_or_a_client_on_the_way_is_disabled_or_narrowed() {
    let narrow = ClientChange { scopes: Some("rag:read".parse().unwrap()), ..ClientChange::default() };
    for what in
        ["user disabled", "user narrowed", "app disabled", "app narrowed", "first disabled", "app deleted"]
    {
        let fixture = Fixture::new().await;
        let app = fixture.client("semantic:read").await;
        let (first, second) =
            (agent(&fixture, "semantic:read").await, agent(&fixture, "semantic:read").await);
        let ann = ann(&fixture, "semantic:read").await;
        let subject = login(&fixture, &app.client, &ann);
        let one = exchange(&fixture, &first, &subject, &[]).await.unwrap();
        let two = exchange(&fixture, &second, one.access_token.expose(), &[]).await.unwrap();
        assert!(holds(&fixture.auth, &two));
        let (users, clients) = (fixture.auth.users(), fixture.auth.clients());
        let app = &app.client.client_id;
        match what {
            "user disabled" => users.disable(&ann.user_id).await.unwrap(),
            "user narrowed" => {
                let scopes = Some("rag:read".parse().unwrap());
                users
                    .update(&ann.user_id, &UserChange { scopes, ..UserChange::default() })
                    .await
                    .map(drop)
                    .unwrap();
            }
            "app disabled" => clients.disable(app).await.unwrap(),
            "app narrowed" => drop(clients.update(app, &narrow).await.unwrap()),
            "app deleted" => clients.delete(app).await.unwrap(),
            _ => clients.disable(&first.client.client_id).await.unwrap(),
        }
        assert!(!holds(&fixture.auth, &two), "{what}");
        assert!(
            exchange(&fixture, &second, &subject, &[]).await.is_err() || what == "first disabled",
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_subject_token_that_is_not_ours_for_here_and_now_is_an_invalid_request() {
    let fixture = Fixture::new().await;
    let elsewhere = Fixture::new().await;
    let agent = agent(&fixture, "semantic:read").await;
    let ann = ann(&fixture, "semantic:read").await;
    let good = login(&fixture, &agent.client, &ann);
    let foreign = token(&fixture, &[GRANT, ("resource", RESOURCE)], Some(&basic_of(&agent))).await.unwrap();
    let (_, stranger) = elsewhere.token("semantic:read").await;
    let changed = good.replacen('.', ".x", 1);
    for bad in [foreign.access_token.expose(), &stranger, &changed, "rubbish", &"a".repeat(8_000)] {
        let error = exchange(&fixture, &agent, bad, &[]).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::InvalidRequest);
        assert!(
            error.error_description.contains("does")
                || error.error_description.contains("not an access token")
        );
    }
    let header = basic_of(&agent);
    for pairs in [
        vec![EXCHANGE],
        vec![EXCHANGE, ("subject_token", &good)],
        vec![EXCHANGE, ("subject_token_type", ACCESS)],
        vec![EXCHANGE, ("subject_token", &good), ("subject_token_type", "access_token")],
        vec![
            EXCHANGE,
            ("subject_token", &good),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
        ],
        vec![
            EXCHANGE,
            ("subject_token", &good),
            ("subject_token_type", ACCESS),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
        ],
    ] {
        let error = token(&fixture, &pairs, Some(&header)).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::InvalidRequest, "{pairs:?}");
    }
    let as_jwt =
        [EXCHANGE, ("subject_token", &good), ("subject_token_type", JWT), ("requested_token_type", ACCESS)];
    token(&fixture, &as_jwt, Some(&header)).await.unwrap();
}

#[tokio::test]
async fn only_clients_registered_for_it_exchange_and_only_after_they_have_authenticated() {
    let fixture = Fixture::new().await;
    let agent = agent(&fixture, "semantic:read").await;
    let ann = ann(&fixture, "semantic:read").await;
    let subject = login(&fixture, &agent.client, &ann);
    let other = fixture.client("semantic:read").await;
    let error = exchange(&fixture, &other, &subject, &[]).await.unwrap_err();
    assert_eq!(error.error, OAuthErrorCode::UnauthorizedClient);
    let pairs = [EXCHANGE, ("subject_token", subject.as_str()), ("subject_token_type", ACCESS)];
    let id = [&pairs[..], &[("client_id", agent.client.client_id.as_str())]].concat();
    for (pairs, header) in [
        (&pairs[..], None),
        (&id[..], None),
        (&pairs[..], Some(basic(agent.client.client_id.as_str(), "stw_wrong"))),
    ] {
        let error = token(&fixture, pairs, header.as_deref()).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::InvalidClient);
    }
    let public = NewClient {
        name: "app".into(),
        scopes: "semantic:read".parse().unwrap(),
        authentication: ClientAuthentication::None,
        grant_types: [GrantType::TokenExchange].into(),
        ..NewClient::default()
    };
    assert!(fixture.auth.clients().create(&public).await.is_err());
}

#[tokio::test]
async fn an_actor_token_must_be_the_clients_own() {
    let fixture = Fixture::new().await;
    let agent = agent(&fixture, "semantic:read").await;
    let ann = ann(&fixture, "semantic:read").await;
    let subject = login(&fixture, &agent.client, &ann);
    let own = fixture.issue(&agent);
    let (_, other) = fixture.token("semantic:read").await;
    // Its subject is the agent, but another client holds it.
    let helper = self::agent(&fixture, "semantic:read").await;
    let for_agent = exchange(&fixture, &helper, &own, &[]).await.unwrap();
    let for_agent = for_agent.access_token.expose();
    let with = async |actor: &str, kind: &str| {
        let more = [("actor_token", actor), ("actor_token_type", kind)];
        exchange(&fixture, &agent, &subject, &more).await
    };
    let response = with(&own, ACCESS).await.unwrap();
    assert_eq!(
        principal(&fixture, &response).actors().collect::<Vec<_>>(),
        [agent.client.client_id.as_str()]
    );
    for (actor, kind) in [
        (other.as_str(), ACCESS),
        (for_agent, ACCESS),
        (subject.as_str(), ACCESS),
        ("rubbish", JWT),
        (own.as_str(), "x"),
        (own.as_str(), ""),
        ("", ACCESS),
    ] {
        assert_eq!(with(actor, kind).await.unwrap_err().error, OAuthErrorCode::InvalidRequest, "{kind}");
    }
}

#[tokio::test]
async fn a_token_for_another_resource_can_be_had_in_exchange_by_resource_or_audience() {
    let fixture = Fixture::new().await;
    let agent = agent(&fixture, "semantic:read").await;
    let ann = ann(&fixture, "semantic:read").await;
    let subject = login(&fixture, &agent.client, &ann);
    for more in [
        vec![("resource", RESOURCE)],
        vec![("audience", RESOURCE)],
        vec![("audience", RESOURCE), ("resource", RESOURCE), ("audience", RESOURCE)],
    ] {
        let response = exchange(&fixture, &agent, &subject, &more).await.unwrap();
        let inspected = fixture.auth.tokens().inspect(response.access_token.expose()).unwrap();
        assert_eq!(inspected.audience, RESOURCE);
        assert!(!holds(&fixture.auth, &response), "it opens nothing here");
        let back = exchange(&fixture, &agent, response.access_token.expose(), &[]).await.unwrap_err();
        assert_eq!(back.error, OAuthErrorCode::InvalidRequest, "nor is it exchanged back");
    }
    for more in [
        vec![("audience", "https://evil.example")],
        vec![("audience", RESOURCE), ("resource", ISSUER)],
        vec![("audience", RESOURCE), ("audience", ISSUER)],
    ] {
        let error = exchange(&fixture, &agent, &subject, &more).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::InvalidTarget, "{more:?}");
    }
}

#[tokio::test]
async fn the_largest_registrations_and_the_longest_chain_still_give_a_token_that_verifies() {
    let fixture = Fixture::new().await;
    let scopes: Vec<String> = (0..42).map(|n| format!("sql:run:{}.{n:02}", "m".repeat(60))).collect();
    let scopes: ScopeSet = scopes.join(" ").parse().unwrap();
    let claims = Claims::from([("x".to_owned(), json!("é".repeat(500)))]);
    let new = NewUser { username: "ann".into(), scopes: scopes.clone(), claims, ..NewUser::default() };
    let ann = fixture.auth.users().create(&new).await.unwrap().user;
    let long = NewClient {
        name: "m".repeat(64),
        scopes,
        grant_types: [GrantType::TokenExchange].into(),
        ..NewClient::default()
    };
    let app = fixture.auth.clients().create(&long).await.unwrap().client;
    let mut current = login(&fixture, &app, &ann);
    for _ in 0..4 {
        let agent = fixture.auth.clients().create(&long).await.unwrap();
        let response = exchange(&fixture, &agent, &current, &[("resource", ISSUER)]).await.unwrap();
        assert_eq!(response.scope.len(), 42);
        assert!(holds(&fixture.auth, &response));
        current = response.access_token.expose().to_owned();
    }
    let oversize = TokenSpec {
        client_id: app.client_id.clone(),
        subject: app.client_id.to_string(),
        scopes: app.scopes.clone(),
        claims: Claims::from([("x".to_owned(), json!("x".repeat(5_000)))]),
        actor: None,
        audience: None,
        exchanged: None,
    };
    let error = OAuthError::from(fixture.auth.tokens().issue(&oversize).unwrap_err());
    assert_eq!(error.error, OAuthErrorCode::InvalidScope, "what nobody could verify is not issued");
    assert!(error.error_description.contains("fewer scopes"));
}
