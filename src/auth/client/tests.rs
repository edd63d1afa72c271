use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::auth::testing::Fixture;

fn new(name: &str, scopes: &str) -> NewClient {
    NewClient { name: name.into(), scopes: scopes.parse().unwrap(), ..NewClient::default() }
}

#[tokio::test]
async fn a_new_client_has_a_readable_id_and_a_secret_that_only_its_hash_remembers() {
    let fixture = Fixture::new().await;
    let made = fixture.auth.clients().create(&new("Demo Agent (é)!", "semantic:read")).await.unwrap();
    let (head, tail) = made.client.client_id.as_str().rsplit_once('-').unwrap();
    assert_eq!((head, tail.len()), ("demo-agent", 8));
    let secret = made.secret.expose_secret();
    let random = URL_SAFE_NO_PAD.decode(secret.strip_prefix(SECRET_PREFIX).unwrap()).unwrap();
    assert_eq!(random.len(), 32);
    let store = fixture.store().await;
    let rows = sqlx::query("SELECT secret_id, client_id, sha256_hex FROM client_secrets")
        .fetch_all(store.pool())
        .await
        .unwrap();
    let stored: Vec<[String; 3]> = rows.iter().map(|row| [row.get(0), row.get(1), row.get(2)]).collect();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0][2], hex::encode(Sha256::digest(secret)));
    assert!(!stored[0].iter().any(|text| text.contains(secret)));
    assert!(!format!("{made:?}").contains(secret));
    assert_eq!(fixture.auth.clients().get(&made.client.client_id).await.unwrap(), made.client);
}

#[tokio::test]
async fn clients_are_listed_oldest_first_with_what_they_were_registered_with() {
    let fixture = Fixture::new().await;
    let claims = Claims::from([("carriers".to_owned(), json!(["UA", "AA"])), ("level".to_owned(), json!(3))]);
    let first = NewClient { claims, ..new("first", "sql:run:flights.* data:protected") };
    let first = fixture.auth.clients().create(&first).await.unwrap().client;
    fixture.clock.advance_ms(1);
    let second = fixture.auth.clients().create(&new("second", "rag:read")).await.unwrap().client;
    fixture.auth.clients().disable(&second.client_id).await.unwrap();
    let listed = fixture.auth.clients().list().await.unwrap();
    assert_eq!(listed[0], first);
    assert_eq!(listed[1].disabled_at_ms, Some(fixture.clock.now_ms()));
    let found = fixture.auth.clients().find_by_name("second").await.unwrap().unwrap();
    assert!(found.disabled_at_ms.is_some());
    let enabled = fixture.auth.clients().create(&new("second", "rag:read")).await.unwrap().client;
    assert_eq!(
        fixture.auth.clients().find_by_name("second").await.unwrap(),
        Some(enabled),
        "enabled ones first"
    );
    assert_eq!(fixture.auth.clients().find_by_name("third").await.unwrap(), None);
    assert_eq!(fixture.auth.clients().find_by_name("first").await.unwrap(), Some(first));
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_with_the_reason() {
    let fixture = Fixture::new().await;
    let claim = |name: &str, value: Value| NewClient {
        claims: Claims::from([(name.to_owned(), value)]),
        ..new("demo", "semantic:read")
    };
    for (bad, expected) in [
        (new("", "semantic:read"), "name"),
        (new("a\nb", "semantic:read"), "name"),
        (new("---", "semantic:read"), "name"),
        (new(&"x".repeat(65), "semantic:read"), "name"),
        (new("demo", ""), "at least one scope"),
        (new("demo", "semantic:raed"), "did you mean `semantic:read`"),
        (claim("sub", json!("root")), "taken"),
        (claim("a.b", json!("x")), "letters"),
        (claim("x", json!({"y": 1})), "list of them"),
        (claim("x", json!([[1]])), "list of them"),
        (claim("x", json!(null)), "list of them"),
        (claim("x", json!("y".repeat(2_000))), "1,024 bytes"),
    ] {
        let error = fixture.auth.clients().create(&bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(fixture.auth.clients().list().await.unwrap().is_empty(), "and nothing is left behind");
}

#[tokio::test]
async fn an_unknown_client_a_wrong_secret_and_a_disabled_client_are_one_error() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let other = fixture.client("semantic:read").await;
    let id = made.client.client_id.as_str();
    let clients = fixture.auth.clients();
    clients.verify(id, &made.secret).await.unwrap();
    let wrong = clients.verify(id, &other.secret).await.unwrap_err();
    let unknown = clients.verify("nobody-12345678", &made.secret).await.unwrap_err();
    let empty = clients.verify(id, &SecretString::from("")).await.unwrap_err();
    clients.disable(&made.client.client_id).await.unwrap();
    let disabled = clients.verify(id, &made.secret).await.unwrap_err();
    for error in [wrong, unknown, empty, disabled] {
        assert!(matches!(error, ClientError::BadCredentials), "{error:?}");
    }
    clients.enable(&made.client.client_id).await.unwrap();
    clients.verify(id, &made.secret).await.unwrap();
}

#[tokio::test]
async fn two_secrets_work_while_one_is_rotated_and_never_three() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let id = &made.client.client_id;
    let clients = fixture.auth.clients();
    let works = async |secret: &SecretString| clients.verify(id.as_str(), secret).await.is_ok();
    let second = clients.rotate_secret(id, 60_000).await.unwrap();
    assert!(works(&made.secret).await && works(&second).await);
    let third = clients.rotate_secret(id, 60_000).await.unwrap();
    assert!(!works(&made.secret).await && works(&second).await && works(&third).await);
    fixture.clock.advance_ms(60_000);
    assert!(!works(&second).await && works(&third).await, "the overlap has passed");
    let fourth = clients.rotate_secret(id, 0).await.unwrap();
    assert!(!works(&third).await && works(&fourth).await);
}

#[tokio::test]
async fn a_client_made_by_another_process_can_authenticate_at_once() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let made = fixture.client("semantic:read").await;
    replica.clients().verify(made.client.client_id.as_str(), &made.secret).await.unwrap();
    let second = fixture.auth.clients().rotate_secret(&made.client.client_id, 0).await.unwrap();
    replica.clients().verify(made.client.client_id.as_str(), &second).await.unwrap();
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let nobody: ClientId = "nobody-12345678".parse().unwrap();
    let clients = fixture.auth.clients();
    for error in [
        clients.get(&nobody).await.unwrap_err(),
        clients.disable(&nobody).await.unwrap_err(),
        clients.enable(&nobody).await.unwrap_err(),
        clients.revoke_tokens(&nobody).await.unwrap_err(),
        clients.rotate_secret(&nobody, 0).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert!(!fixture.auth.refresh().await.unwrap(), "the version did not move");
}

#[tokio::test]
async fn changes_from_many_callers_at_once_all_happen() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..12 {
        let clients = if number % 2 == 0 { fixture.auth.clients() } else { replica.clients() }.clone();
        tasks.spawn(async move { clients.create(&new("demo", "semantic:read")).await.map(|_| ()) });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap().unwrap();
    }
    assert_eq!(fixture.auth.clients().list().await.unwrap().len(), 12);
}

fn change(name: Option<&str>, scopes: Option<&str>) -> ClientChange {
    let scopes = scopes.map(|scopes| scopes.parse().unwrap());
    ClientChange { name: name.map(str::to_owned), scopes, ..ClientChange::default() }
}

#[tokio::test]
async fn taking_scopes_away_ends_the_tokens_and_anything_else_does_not() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let (made, token) = fixture.token("semantic:read sql:run:flights.*").await;
    let id = &made.client.client_id;
    fixture.clock.advance_ms(1);
    let clients = fixture.auth.clients();
    for keeps in [
        change(Some("other name"), None),
        change(None, Some("semantic:read sql:run:flights.* rag:read")),
        change(None, Some("semantic:read sql:run rag:read")),
        change(None, None),
    ] {
        clients.update(id, &keeps).await.unwrap();
        fixture.auth.tokens().verify(&token).unwrap();
    }
    let after =
        clients.update(id, &change(None, Some("semantic:read sql:run:flights.airports"))).await.unwrap();
    assert_eq!(
        (after.name.as_str(), after.scopes.to_string().as_str()),
        ("other name", "semantic:read sql:run:flights.airports")
    );
    assert_eq!(clients.get(id).await.unwrap(), after);
    assert!(fixture.auth.tokens().verify(&token).is_err());
    replica.refresh().await.unwrap();
    assert!(replica.tokens().verify(&token).is_err());
    clients.verify(id.as_str(), &made.secret).await.unwrap();
}

#[tokio::test]
async fn a_deleted_clients_tokens_are_dead_at_once_however_young_and_it_leaves_nothing() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let (made, token) = fixture.token("semantic:read").await;
    let id = &made.client.client_id;
    replica.tokens().verify(&token).unwrap();
    fixture.auth.clients().delete(id).await.unwrap();
    assert!(fixture.auth.tokens().verify(&token).is_err());
    replica.refresh().await.unwrap();
    assert!(replica.tokens().verify(&token).is_err());
    assert!(fixture.auth.clients().verify(id.as_str(), &made.secret).await.is_err());
    assert!(fixture.auth.clients().list().await.unwrap().is_empty());
    assert!(fixture.auth.clients().secrets(id).await.unwrap().is_empty());
    let again = fixture.auth.clients().delete(id).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn nobody_gives_what_it_does_not_hold_and_everybody_may_take_away() {
    let fixture = Fixture::new().await;
    let owner = fixture.auth.clients();
    let admin = owner.limited_to(&"admin:clients semantic:read sql:run:flights.*".parse().unwrap());
    for scopes in ["sql:run", "sql:run:other.x", "admin:keys", "semantic:read rag:write", "data:protected"] {
        let error = admin.create(&new("x", scopes)).await.unwrap_err();
        assert!(matches!(error, ClientError::NotHeld { .. }), "{scopes}: {error}");
        assert_eq!(error.kind(), ErrorKind::InsufficientScope);
    }
    let mine =
        admin.create(&new("x", "semantic:read sql:run:flights.airports")).await.unwrap().client.client_id;
    assert!(admin.update(&mine, &change(None, Some("semantic:read sql:run"))).await.is_err());
    admin.update(&mine, &change(None, Some("semantic:read sql:run:flights.*"))).await.unwrap();

    let greater = owner.create(&new("greater", "rag:write semantic:read")).await.unwrap();
    let id = &greater.client.client_id;
    assert!(admin.rotate_secret(id, 0).await.is_err(), "its secret would be its scopes");
    owner.verify(id.as_str(), &greater.secret).await.expect("and the old secret still works");
    admin.update(id, &change(Some("renamed"), Some("rag:write"))).await.expect("it has rag:write already");
    admin.disable(id).await.unwrap();
    assert!(admin.enable(id).await.is_err());
    owner.enable(id).await.unwrap();
    admin.delete(id).await.unwrap();
}

#[tokio::test]
async fn changes_that_will_not_do_change_nothing() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let (clients, id) = (fixture.auth.clients(), &made.client.client_id);
    for bad in [
        change(Some(""), None),
        change(Some(&"x".repeat(65)), None),
        change(Some("a\u{7}"), None),
        change(None, Some("")),
        change(None, Some("semantic:raed")),
    ] {
        assert_eq!(clients.update(id, &bad).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    for overlap_ms in [-1, MAX_OVERLAP_MS + 1] {
        let error = clients.rotate_secret(id, overlap_ms).await.unwrap_err();
        assert!(error.to_string().contains("30 days"), "{error}");
    }
    assert_eq!(clients.get(id).await.unwrap(), made.client);
    let nobody = "nobody-12345678".parse().unwrap();
    assert_eq!(clients.update(&nobody, &change(None, None)).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!fixture.auth.refresh().await.unwrap(), "the version did not move");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_a_limited_administrator_creates_never_exceeds_it(
            held in proptest::sample::subsequence(SCOPES, 0..SCOPES.len()),
            given in proptest::sample::subsequence(SCOPES, 1..SCOPES.len()),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let held: ScopeSet = held.join(" ").parse().unwrap();
            let outcome = runtime.block_on(async {
                let fixture = Fixture::new().await;
                fixture.auth.clients().limited_to(&held).create(&new("x", &given.join(" "))).await
            });
            let may = given.iter().all(|scope| held.covers(&scope.parse().unwrap()));
            prop_assert_eq!(outcome.is_ok(), may);
        }
    }

    const SCOPES: &[&str] = &[
        "sql:run",
        "sql:run:flights.*",
        "sql:run:flights.airports",
        "rag:read:*",
        "rag:read:notes",
        "admin:keys",
    ];
}

#[tokio::test]
async fn what_a_client_is_registered_for_is_kept_and_can_be_changed() {
    let fixture = Fixture::new().await;
    let clients = fixture.auth.clients();
    let app = NewClient {
        authentication: ClientAuthentication::None,
        grant_types: BTreeSet::from([GrantType::AuthorizationCode, GrantType::RefreshToken]),
        redirect_uris: vec!["https://app.example/cb".into(), "http://127.0.0.1/cb".into()],
        ..new("app", "semantic:read")
    };
    let made = clients.create(&app).await.unwrap().client;
    assert_eq!(clients.get(&made.client_id).await.unwrap(), made);
    assert_eq!(clients.list().await.unwrap(), std::slice::from_ref(&made));
    let change = ClientChange {
        authentication: Some(ClientAuthentication::ClientSecret),
        redirect_uris: Some(vec!["https://app.example/other".into()]),
        audiences: Some(vec!["https://api.example".into()]),
        ..ClientChange::default()
    };
    let changed = clients.update(&made.client_id, &change).await.unwrap();
    assert_eq!(clients.get(&made.client_id).await.unwrap(), changed);
    assert_eq!(changed.redirect_uris, ["https://app.example/other"]);
    assert_eq!(changed.grant_types, made.grant_types);
}

#[tokio::test]
async fn registrations_that_do_not_hold_together_are_refused() {
    let fixture = Fixture::new().await;
    let with = |change: fn(&mut NewClient)| {
        let mut client = new("app", "semantic:read");
        change(&mut client);
        client
    };
    let bad: [(NewClient, &str); 7] = [
        (with(|c| c.grant_types.clear()), "one grant type"),
        (with(|c| c.grant_types = BTreeSet::from([GrantType::AuthorizationCode])), "redirect URI"),
        (with(|c| c.grant_types.extend([GrantType::RefreshToken])), "refresh_token needs"),
        (with(|c| c.authentication = ClientAuthentication::None), "without authentication"),
        (with(|c| c.authentication = ClientAuthentication::PrivateKeyJwt), "public keys"),
        (with(|c| c.redirect_uris = vec!["http://app.example".into()]), "use https"),
        (with(|c| c.audiences = vec!["api".into()]), "absolute URI"),
    ];
    for (client, reason) in bad {
        let error = fixture.auth.clients().create(&client).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert!(fixture.auth.clients().list().await.unwrap().is_empty());
}

#[tokio::test]
async fn another_way_in_to_a_client_needs_all_that_the_client_may_do() {
    let fixture = Fixture::new().await;
    let made = fixture.auth.clients().create(&new("app", "sql:run")).await.unwrap().client;
    let weak = fixture.auth.clients().limited_to(&"semantic:read".parse().unwrap());
    let change = ClientChange {
        grant_types: Some(BTreeSet::from([GrantType::ClientCredentials, GrantType::AuthorizationCode])),
        redirect_uris: Some(vec!["https://attacker.example/cb".into()]),
        ..ClientChange::default()
    };
    let error = weak.update(&made.client_id, &change).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InsufficientScope);
    assert_eq!(fixture.auth.clients().get(&made.client_id).await.unwrap(), made);
}

#[tokio::test]
async fn a_secret_is_of_no_use_to_a_client_that_authenticates_otherwise() {
    let fixture = Fixture::new().await;
    let app = NewClient {
        authentication: ClientAuthentication::None,
        grant_types: BTreeSet::from([GrantType::AuthorizationCode]),
        redirect_uris: vec!["https://app.example/cb".into()],
        ..new("app", "semantic:read")
    };
    let clients = fixture.auth.clients();
    let made = clients.create(&app).await.unwrap();
    let id = made.client.client_id.as_str();
    assert!(matches!(clients.verify(id, &made.secret).await, Err(ClientError::BadCredentials)));
    assert_eq!(clients.public(id).await.unwrap(), made.client);
    clients.disable(&made.client.client_id).await.unwrap();
    assert!(matches!(clients.public(id).await, Err(ClientError::BadCredentials)));
    let confidential = clients.create(&new("other", "semantic:read")).await.unwrap().client;
    let error = clients.public(confidential.client_id.as_str()).await.unwrap_err();
    assert!(matches!(error, ClientError::BadCredentials), "an id alone is no authentication");
}

#[tokio::test]
async fn whatever_is_wrong_with_credentials_the_database_is_asked_and_for_what_is_right_it_is_not() {
    let fixture = Fixture::new().await;
    let (made, disabled) = (fixture.client("semantic:read").await, fixture.client("semantic:read").await);
    let clients = fixture.auth.clients();
    clients.disable(&disabled.client.client_id).await.unwrap();
    // Whoever asks from now on fails by that, so that the same work shows as the same error.
    fixture.auth.state.store().pool().close().await;
    let wrong = SecretString::from("stw_wrong");
    clients.verify(made.client.client_id.as_str(), &made.secret).await.unwrap();
    for (id, secret) in [
        (made.client.client_id.as_str(), &wrong),
        ("nobody-00000000", &wrong),
        ("nobody-00000000", &made.secret),
        (disabled.client.client_id.as_str(), &wrong),
        (disabled.client.client_id.as_str(), &disabled.secret),
    ] {
        let error = clients.verify(id, secret).await.unwrap_err();
        assert!(matches!(error, ClientError::Store(_)), "{id}: {error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{id}");
    }
}

#[tokio::test]
async fn other_claims_need_all_scopes_and_end_the_tokens_that_carry_the_old_ones() {
    let fixture = Fixture::new().await;
    let (made, token) = fixture.token("sql:run").await;
    let id = &made.client.client_id;
    let claims = Claims::from([("carrier".to_owned(), json!("UA"))]);
    let change = ClientChange { claims: Some(claims.clone()), ..ClientChange::default() };
    let weak = fixture.auth.clients().limited_to(&"semantic:read".parse().unwrap());
    assert_eq!(weak.update(id, &change).await.unwrap_err().kind(), ErrorKind::InsufficientScope);
    fixture.auth.tokens().verify(&token).unwrap();
    let changed = fixture.auth.clients().update(id, &change).await.unwrap();
    assert_eq!((changed.claims.clone(), fixture.auth.clients().get(id).await.unwrap()), (claims, changed));
    assert!(fixture.auth.tokens().verify(&token).is_err());
    let bad = ClientChange {
        claims: Some(Claims::from([("sub".to_owned(), json!("root"))])),
        ..ClientChange::default()
    };
    assert_eq!(fixture.auth.clients().update(id, &bad).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn no_secret_is_made_for_a_client_that_authenticates_otherwise() {
    let fixture = Fixture::new().await;
    let app = NewClient {
        authentication: ClientAuthentication::None,
        grant_types: BTreeSet::from([GrantType::Password]),
        ..new("app", "semantic:read")
    };
    let clients = fixture.auth.clients();
    let made = clients.create(&app).await.unwrap();
    assert!(made.usable_secret().is_none());
    let id = &made.client.client_id;
    let error = clients.rotate_secret(id, 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("client_secret first"), "{error}");
    let change =
        ClientChange { authentication: Some(ClientAuthentication::ClientSecret), ..ClientChange::default() };
    clients.update(id, &change).await.unwrap();
    let secret = clients.rotate_secret(id, 0).await.unwrap();
    clients.verify(id.as_str(), &secret).await.unwrap();
}
