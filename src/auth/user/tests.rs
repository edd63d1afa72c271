use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::auth::principal::ClientId;
use crate::auth::testing::Fixture;
use crate::auth::token::TokenSpec;

fn new(username: &str, scopes: &str) -> NewUser {
    NewUser { username: username.into(), scopes: scopes.parse().unwrap(), ..NewUser::default() }
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

#[tokio::test]
async fn a_user_logs_in_with_the_password_that_was_made_and_only_its_hash_is_kept() {
    let fixture = Fixture::new().await;
    let users = fixture.auth.users();
    let made = users.create(&new("Ann@Example.org", "semantic:read")).await.unwrap();
    let password = made.password.clone().unwrap();
    assert_eq!(made.user.username, "ann@example.org");
    assert_eq!(users.verify("ANN@example.org", &password).await.unwrap(), made.user);
    let row =
        sqlx::query("SELECT password_hash FROM users").fetch_one(fixture.store().await.pool()).await.unwrap();
    let kept: String = row.get(0);
    assert!(kept.starts_with("$argon2id$") && !kept.contains(password.expose_secret()));
    assert!(!format!("{made:?}").contains(password.expose_secret()));
}

#[tokio::test]
async fn unknown_wrong_and_disabled_are_one_error() {
    let fixture = Fixture::new().await;
    let users = fixture.auth.users();
    let ann = NewUser { password: Some(secret("correct horse battery")), ..new("ann", "semantic:read") };
    let ann = users.create(&ann).await.unwrap().user;
    let texts = |error: UserError| error.to_string();
    let wrong = texts(users.verify("ann", &secret("wrong horse battery")).await.unwrap_err());
    let unknown = texts(users.verify("bob", &secret("correct horse battery")).await.unwrap_err());
    let no_name = texts(users.verify("a b", &secret("correct horse battery")).await.unwrap_err());
    users.disable(&ann.user_id).await.unwrap();
    let disabled = texts(users.verify("ann", &secret("correct horse battery")).await.unwrap_err());
    assert_eq!([&wrong, &wrong, &wrong], [&unknown, &no_name, &disabled]);
    users.enable(&ann.user_id).await.unwrap();
    users.verify("ann", &secret("correct horse battery")).await.unwrap();
}

#[tokio::test]
async fn a_username_is_taken_once_however_it_is_written() {
    let fixture = Fixture::new().await;
    let users = fixture.auth.users();
    users.create(&new("ann", "semantic:read")).await.unwrap();
    let error = users.create(&new("ANN", "semantic:read")).await.unwrap_err();
    assert_eq!((error.kind(), users.list().await.unwrap().len()), (ErrorKind::Conflict, 1));
    for bad in ["", "a b", "-ann", "ann.", "\u{430}nn", "a\0b", &"a".repeat(65)] {
        let error = users.create(&new(bad, "semantic:read")).await.unwrap_err();
        assert!(matches!(error, UserError::BadUsername), "{bad:?}");
    }
}

#[tokio::test]
async fn tokens_of_a_user_die_with_whatever_ends_the_users_logins() {
    let fixture = Fixture::new().await;
    let users = fixture.auth.users();
    let client = fixture.client("semantic:read sql:run").await.client;
    let ann = users.create(&new("ann", "semantic:read sql:run")).await.unwrap().user;
    let issue = || {
        let spec = TokenSpec {
            client_id: client.client_id.clone(),
            subject: ann.user_id.to_string(),
            scopes: ann.scopes.clone(),
            claims: ann.claims.clone(),
            actor: None,
            audience: None,
            exchanged: None,
        };
        fixture.auth.tokens().issue(&spec).unwrap().token.expose().to_owned()
    };
    let holds = |token: &str| fixture.auth.tokens().verify(token).is_ok();
    let replica = fixture.replica().await;

    let token = issue();
    assert!(holds(&token));
    users.set_password(&ann.user_id, None).await.unwrap();
    assert!(!holds(&token), "a new password ends what the old one began");
    replica.refresh().await.unwrap();
    assert!(replica.tokens().verify(&token).is_err(), "on every replica");

    fixture.clock.advance_ms(1);
    let token = issue();
    let wider = UserChange {
        scopes: Some("semantic:read sql:run rag:read".parse().unwrap()),
        ..UserChange::default()
    };
    users.update(&ann.user_id, &wider).await.unwrap();
    assert!(holds(&token), "more scopes end nothing");
    let fewer = UserChange { scopes: Some("semantic:read".parse().unwrap()), ..UserChange::default() };
    users.update(&ann.user_id, &fewer).await.unwrap();
    assert!(!holds(&token));

    fixture.clock.advance_ms(1);
    assert!(!holds(&issue()), "a token that a replica issued by the old scopes");
    users.update(&ann.user_id, &wider).await.unwrap();
    let token = issue();
    assert!(holds(&token));
    users.disable(&ann.user_id).await.unwrap();
    assert!(!holds(&token));
    users.enable(&ann.user_id).await.unwrap();
    assert!(!holds(&token), "dead stays dead");

    fixture.clock.advance_ms(1);
    let token = issue();
    assert!(holds(&token));
    users.delete(&ann.user_id).await.unwrap();
    assert!(!holds(&token));
    replica.refresh().await.unwrap();
    assert!(replica.tokens().verify(&token).is_err());
}

#[tokio::test]
async fn other_claims_end_tokens_that_carry_the_old_ones() {
    let fixture = Fixture::new().await;
    let users = fixture.auth.users();
    let ann = users.create(&new("ann", "semantic:read")).await.unwrap().user;
    assert!(users.still_good(&ann.user_id, fixture.clock.now_ms()).is_some());
    let change =
        UserChange { claims: Some(Claims::from([("carrier".into(), json!("UA"))])), ..UserChange::default() };
    assert_eq!(users.update(&ann.user_id, &change).await.unwrap().claims["carrier"], "UA");
    assert!(users.still_good(&ann.user_id, fixture.clock.now_ms()).is_none());
    fixture.clock.advance_ms(1);
    assert_eq!(users.still_good(&ann.user_id, fixture.clock.now_ms()).unwrap().claims["carrier"], "UA");
}

#[tokio::test]
async fn nobody_gives_a_user_more_than_it_holds() {
    let fixture = Fixture::new().await;
    let users = fixture.auth.users();
    let ann = users.create(&new("ann", "sql:run")).await.unwrap().user;
    users.disable(&ann.user_id).await.unwrap();
    let weak = users.limited_to(&"semantic:read admin:users".parse().unwrap());
    let refused = |error: UserError| assert_eq!(error.kind(), ErrorKind::InsufficientScope, "{error}");
    refused(weak.create(&new("bob", "sql:run")).await.unwrap_err());
    refused(weak.set_password(&ann.user_id, None).await.unwrap_err());
    refused(weak.enable(&ann.user_id).await.unwrap_err());
    let claims = UserChange { claims: Some(Claims::from([("x".into(), json!(1))])), ..UserChange::default() };
    refused(weak.update(&ann.user_id, &claims).await.unwrap_err());
    weak.create(&new("bob", "semantic:read")).await.unwrap();
    weak.disable(&ann.user_id).await.unwrap();
}

#[test]
fn no_client_can_pass_for_a_user() {
    let id = UserId::random();
    assert!(id.as_str().parse::<ClientId>().is_err());
    assert_eq!(id.as_str().parse::<UserId>().unwrap(), id);
    for bad in ["", "user:", "user:x", "client", &id.as_str().to_uppercase(), &id.as_str().replace('-', "")] {
        assert!(bad.parse::<UserId>().is_err(), "{bad}");
    }
}
