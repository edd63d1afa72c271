//! Login, consent, code and refresh as a browser and a client see them, and the attacks on them.

mod browser;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use steward::auth::{Client, ClientAuthentication, GrantType, NewClient, NewUser, User};

use self::browser::{Browser, Page, query_of};
use crate::harness::{Service, read};

const URI: &str = "https://app.example/cb";
const PASSWORD: &str = "correct horse battery";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

async fn app(service: &Service, name: &str, uris: &[&str]) -> Client {
    let new = NewClient {
        name: name.to_owned(),
        scopes: "semantic:read rag:read:notes".parse().unwrap(),
        authentication: ClientAuthentication::None,
        grant_types: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
        redirect_uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        ..NewClient::default()
    };
    service.engine.auth().unwrap().clients().create(&new).await.unwrap().client
}

async fn user(service: &Service, name: &str) -> User {
    let new = NewUser {
        username: name.to_owned(),
        display_name: "<b>Ann & \"Co\"</b>".to_owned(),
        password: Some(SecretString::from(PASSWORD)),
        scopes: "semantic:read rag:read".parse().unwrap(),
        ..NewUser::default()
    };
    service.engine.auth().unwrap().users().create(&new).await.unwrap().user
}

/// The address of an authorization request; `changes` replace or add parameters, empty ones remove.
fn address(client: &Client, changes: &[(&str, &str)]) -> String {
    let challenge = challenge();
    let mut pairs: Vec<(&str, &str)> = [
        ("response_type", "code"),
        ("client_id", client.client_id.as_str()),
        ("redirect_uri", URI),
        ("state", "a&b=\"c\""),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ]
    .into_iter()
    .filter(|(name, _)| !changes.iter().any(|(other, _)| other == name))
    .collect();
    pairs.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("/oauth/authorize?{query}")
}

async fn redeem(service: &Service, client: &Client, code: &str, uri: &str) -> (u16, Value) {
    token(
        service,
        &[
            ("grant_type", "authorization_code"),
            ("client_id", client.client_id.as_str()),
            ("code", code),
            ("redirect_uri", uri),
            ("code_verifier", VERIFIER),
        ],
    )
    .await
}

async fn refresh(service: &Service, client: &Client, token_text: &str) -> (u16, Value) {
    let id = client.client_id.as_str();
    token(service, &[("grant_type", "refresh_token"), ("client_id", id), ("refresh_token", token_text)]).await
}

async fn token(service: &Service, form: &[(&str, &str)]) -> (u16, Value) {
    read(service.http.post(format!("{}/oauth/token", service.url)).form(form).send().await.unwrap()).await
}

/// Logs in and allows; the page that the browser is sent to.
async fn walk(browser: &mut Browser<'_>, client: &Client, changes: &[(&str, &str)]) -> Page {
    let login = browser.get(&address(client, changes)).await;
    assert_eq!((login.status, login.title().as_str()), (200, "Log in · Steward"));
    let sent = browser.submit(&login, &[("username", "ann"), ("password", PASSWORD)]).await;
    let consent = browser.follow(&sent).await;
    assert_eq!(consent.title(), "Allow access · Steward", "{}", consent.body);
    browser.submit(&consent, &[("decision", "allow")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_allows_and_the_client_acts_for_the_user_until_logout_of_the_family() {
    let service = Service::start().await;
    let (client, user) = (app(&service, "Notebook", &[URI]).await, user(&service, "ann").await);
    let mut browser = Browser::new(&service);
    let back = walk(&mut browser, &client, &[]).await;
    assert_eq!(back.status, 303);
    let location = back.location();
    assert!(location.starts_with(&format!("{URI}?code=stwc_")), "{location}");
    let answer = query_of(&location);
    assert_eq!((answer["state"].as_str(), answer["iss"].as_str()), ("a&b=\"c\"", service.url.as_str()));
    let (status, tokens) = redeem(&service, &client, &answer["code"], URI).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!(tokens["scope"], "rag:read:notes semantic:read");
    let (_, me) = service.get(tokens["access_token"].as_str().unwrap(), "/v1/me").await;
    assert_eq!(
        (&me["subject"], &me["client_id"]),
        (&json!(user.user_id.as_str()), &json!(client.client_id.as_str()))
    );

    let (status, next) = refresh(&service, &client, tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(status, 200, "{next}");
    // Logged in and allowed: the next request goes straight through, also by the short address.
    let straight = browser.get(&address(&client, &[]).replace("/oauth", "")).await;
    assert!(straight.location().contains("code=stwc_"), "{}", straight.body);

    // The rotated token comes back: everything of the login dies, also what is in use.
    let (status, error) = refresh(&service, &client, tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!((status, &error["error"]), (400, &json!("invalid_grant")));
    for dead in [&tokens, &next] {
        let (status, _) = service.get(dead["access_token"].as_str().unwrap(), "/v1/me").await;
        assert_eq!(status, 401);
    }
    let (status, _) = refresh(&service, &client, next["refresh_token"].as_str().unwrap()).await;
    assert_eq!(status, 400);

    service.engine.audit().flush().await.unwrap();
    let admin = service.token("admin:audit").await;
    let (_, events) = service.get(&admin, "/admin/api/audit?limit=100").await;
    let text = events.to_string();
    for operation in ["log_in", "give_consent", "issue_code", "redeem_code", "refresh_token"] {
        assert!(text.contains(&format!("\"{operation}\"")), "{operation}: {events:#}");
    }
    assert!(text.contains("\"reuse\"") && text.contains(user.user_id.as_str()));
    assert!(!text.contains(PASSWORD) && !text.contains("stwc_") && !text.contains("stwr_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_uri_that_is_almost_right_gets_a_page_and_no_redirect() {
    let service = Service::start().await;
    let client = app(&service, "Notebook", &[URI, "http://127.0.0.1/cb"]).await;
    let mut browser = Browser::new(&service);
    for attack in [
        "https://app.example/cb/",
        "https://app.example/cb/../x",
        "https://app.example/cb%2f%2e%2e",
        "https://app.example/CB",
        "https://app.example/cbx",
        "https://app.example/c",
        "http://app.example/cb",
        "https://app.example:8443/cb",
        "https://app.example/cb#f",
        "https://app.example/cb?x=1",
        "https://app.example@evil.example/cb",
        "https://app.example.evil.example/cb",
        "//evil.example/cb",
        "javascript:alert(1)",
        "http://127.0.0.1:3000@evil.example/cb",
        "http://127.0.0.1.evil.example/cb",
        "https://127.0.0.1/cb",
    ] {
        for rest in [("scope", "semantic:read"), ("response_type", "nonsense")] {
            let page = browser.get(&address(&client, &[("redirect_uri", attack), rest])).await;
            assert_eq!((page.status, page.header("location")), (400, None), "{attack}");
            assert!(page.body.contains("redirect_uri is not one"), "{}", page.body);
        }
    }
    let native = browser.get(&address(&client, &[("redirect_uri", "http://127.0.0.1:49152/cb")])).await;
    assert_eq!(native.status, 200, "{}", native.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_forbids_frames_scripts_caching_and_referrers() {
    let service = Service::start().await;
    let client = app(&service, "Notebook", &[URI, "http://127.0.0.1/cb"]).await;
    user(&service, "ann").await;
    let mut browser = Browser::new(&service);
    let login = browser.get(&address(&client, &[])).await;
    let sent = browser.submit(&login, &[("username", "ann"), ("password", PASSWORD)]).await;
    let consent = browser.follow(&sent).await;
    let refused = browser.get("/oauth/authorize?client_id=x").await;
    let out = browser.get("/oauth/logout").await;
    for (page, destination) in [
        (&login, " https://app.example;"),
        (&consent, " https://app.example;"),
        (&refused, ";"),
        (&out, ";"),
        (&sent, ";"),
    ] {
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(policy.contains(&format!("form-action 'self'{destination}")), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"), "{policy}");
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(page.header(name), Some(value), "{name}");
        }
    }
    // The style is the one that the policy names.
    let style = login.body.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(style));
    assert!(login.header("content-security-policy").unwrap().contains(&format!("'sha256-{hash}'")));
    let native = browser.get(&address(&client, &[("redirect_uri", "http://127.0.0.1:5/cb")])).await;
    assert!(native.header("content-security-policy").unwrap().contains("'self' http://127.0.0.1:5;"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_text_whatever_they_hold() {
    let service = Service::start().await;
    let client = app(&service, "<script>alert(1)</script>", &[URI]).await;
    user(&service, "ann").await;
    let mut browser = Browser::new(&service);
    let attack = "\"><script>alert(2)</script>";
    let login = browser.get(&address(&client, &[("state", attack)])).await;
    let wrong = browser.submit(&login, &[("username", attack), ("password", "wrong horse battery")]).await;
    let sent = browser.submit(&login, &[("username", "ann"), ("password", PASSWORD)]).await;
    let consent = browser.follow(&sent).await;
    for page in [&login, &wrong, &consent] {
        assert!(!page.body.contains("<script"), "{}", page.body);
        assert!(page.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }
    assert!(
        consent.body.contains("&lt;b&gt;Ann &amp; &quot;Co&quot;&lt;/b&gt;") && !consent.body.contains("<b>")
    );
    assert!(consent.body.contains("only notes") && consent.body.contains("app.example"));
    let page = browser.get("/oauth/authorize?client_id=%3Cscript%3E&redirect_uri=%3Cscript%3E").await;
    assert!(!page.body.contains("<script"));
    let back = browser.submit(&consent, &[("decision", "allow")]).await;
    assert_eq!(query_of(&back.location())["state"], attack, "the state comes back as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_says_nothing_and_is_slowed_down() {
    let service = Service::start().await;
    let client = app(&service, "Notebook", &[URI]).await;
    user(&service, "ann").await;
    let mut browser = Browser::new(&service);
    let login = browser.get(&address(&client, &[])).await;
    let mut bodies = Vec::new();
    for name in ["ann", "bob"] {
        let page = browser.submit(&login, &[("username", name), ("password", "wrong horse battery")]).await;
        assert_eq!(page.status, 403);
        assert!(page.body.contains("role=\"alert\"") && page.header("set-cookie").is_some());
        assert!(!page.body.contains("wrong horse"));
        bodies.push(page.body.replace(&format!("value=\"{name}\""), ""));
    }
    assert_eq!(bodies[0], bodies[1]);
    let mut last = browser.submit(&login, &[("username", "ann"), ("password", "x")]).await;
    for _ in 0..12 {
        last = browser.submit(&login, &[("username", "ann"), ("password", "wrong horse battery")]).await;
    }
    assert_eq!(last.status, 429);
    assert!(last.header("retry-after").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_form_counts_only_in_the_browser_that_it_was_made_for() {
    let service = Service::start().await;
    let client = app(&service, "Notebook", &[URI]).await;
    user(&service, "ann").await;
    // The attacker's own form, sent by the victim's browser: the victim would work in the attacker's account.
    let mut attacker = Browser::new(&service);
    let form = attacker.get(&address(&client, &[])).await;
    let mut victim = Browser::new(&service);
    let credentials = [("username", "ann"), ("password", PASSWORD)];
    let page = victim.submit(&form, &credentials).await;
    assert_eq!(page.status, 403);
    assert!(!victim.has_cookie("steward_session"));
    // With a page of the victim's own, but from another site.
    let own = victim.get(&address(&client, &[])).await;
    for header in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        let page = victim.submit_with(&own, &credentials, &[header]).await;
        assert_eq!((page.status, page.header("location")), (403, None));
        assert!(!victim.has_cookie("steward_session"));
    }
    // What the form is about cannot be changed either.
    let other = address(&client, &[("scope", "semantic:read")]).split_once('?').unwrap().1.to_owned();
    let page = victim.submit(&own, &[("request", &other), credentials[0], credentials[1]]).await;
    assert_eq!(page.status, 403);
    // Pages of ours send no referrer, and browsers therefore Origin: null.
    let page = victim
        .submit_with(&own, &credentials, &[("origin", "null"), ("sec-fetch-site", "same-origin")])
        .await;
    assert_eq!(page.status, 303);
    // A second tab with the same form ends where the first one is.
    let page = victim.submit(&own, &credentials).await;
    assert_eq!(page.status, 303);
    assert!(page.location().starts_with("/oauth/authorize?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_cannot_be_forged_widened_or_carried_over() {
    let service = Service::start().await;
    let (client, evil) = (app(&service, "Notebook", &[URI]).await, app(&service, "Evil", &[URI]).await);
    user(&service, "ann").await;
    user(&service, "bob").await;
    let mut browser = Browser::new(&service);
    let login = browser.get(&address(&client, &[("scope", "semantic:read")])).await;
    let sent = browser.submit(&login, &[("username", "ann"), ("password", PASSWORD)]).await;
    let consent = browser.follow(&sent).await;
    let query = |changes: &[(&str, &str)]| address(&client, changes).split_once('?').unwrap().1.to_owned();
    let wide = query(&[]);
    let evil_query = address(&evil, &[("scope", "semantic:read")]).split_once('?').unwrap().1.to_owned();
    for change in [
        ("request", wide.as_str()),
        ("request", evil_query.as_str()),
        ("shown", "semantic:read rag:read:notes"),
        ("form_token", ""),
        ("form_token", "AAAA"),
    ] {
        let page = browser.submit(&consent, &[("decision", "allow"), change]).await;
        assert_eq!((page.status, page.header("location")), (403, None), "{change:?}");
    }
    // The token of the form that logs out allows nothing.
    let logout_token = consent.field_of("/oauth/logout", "form_token");
    let page = browser.submit(&consent, &[("decision", "allow"), ("form_token", &logout_token)]).await;
    assert_eq!(page.status, 403);
    // Nor does somebody else's page.
    let mut bob = Browser::new(&service);
    let login = bob.get(&address(&client, &[("scope", "semantic:read")])).await;
    bob.submit(&login, &[("username", "bob"), ("password", PASSWORD)]).await;
    let page = bob.submit(&consent, &[("decision", "allow")]).await;
    assert_eq!(page.status, 403);
    // Without a login there is nothing to allow.
    let page = Browser::new(&service).submit(&consent, &[("decision", "allow")]).await;
    assert!(page.location().starts_with("/oauth/authorize?"), "{}", page.body);
    let page =
        browser.submit_with(&consent, &[("decision", "allow")], &[("sec-fetch-site", "same-site")]).await;
    assert_eq!(page.status, 403);
    // After all that, nothing is allowed yet, and no is no.
    let page = browser.get(&address(&client, &[("scope", "semantic:read")])).await;
    assert_eq!(page.status, 200);
    let denied = browser.submit(&page, &[("decision", "deny")]).await;
    let answer = query_of(&denied.location());
    assert_eq!((answer["error"].as_str(), answer["state"].as_str()), ("access_denied", "a&b=\"c\""));
    assert_eq!(answer["iss"], service.url);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_session_is_never_used_and_logout_ends_the_session() {
    let service = Service::start().await;
    let client = app(&service, "Notebook", &[URI]).await;
    user(&service, "ann").await;
    let mut browser = Browser::new(&service);
    let planted = "A".repeat(43);
    browser.plant("steward_session", &planted);
    let login = browser.get(&address(&client, &[])).await;
    let sent = browser.submit(&login, &[("username", "ann"), ("password", PASSWORD)]).await;
    let cookie = sent.set_cookie("steward_session").unwrap();
    assert!(
        cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Lax") && cookie.contains("; Path=/")
    );
    assert!(!cookie.contains(&planted) && !cookie.contains("Secure"), "http: {cookie}");
    let mut attacker = Browser::new(&service);
    attacker.plant("steward_session", &planted);
    assert_eq!(attacker.get(&address(&client, &[])).await.title(), "Log in · Steward");

    let session = browser.cookie("steward_session").unwrap();
    let out = browser.get("/oauth/logout").await;
    let forged = browser.submit(&out, &[("form_token", "")]).await;
    assert_eq!(forged.status, 403);
    let done = browser.submit(&out, &[]).await;
    assert_eq!((done.status, browser.has_cookie("steward_session")), (200, false));
    attacker.plant("steward_session", &session);
    assert_eq!(attacker.get(&address(&client, &[])).await.title(), "Log in · Steward");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_https_the_cookies_belong_to_this_host_alone() {
    let service =
        Service::start_with(|config| config.server.public_url = "https://steward.example/base".into()).await;
    let client = app(&service, "Notebook", &[URI]).await;
    user(&service, "ann").await;
    let mut browser = Browser::new(&service);
    let login = browser.get(&address(&client, &[])).await;
    assert!(login.body.contains("action=\"/base/oauth/login\""), "{}", login.body);
    let cookie = login.set_cookie("__Host-steward_visit").unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_obeyed_and_another_account_can_be_taken() {
    let service = Service::start().await;
    let client = app(&service, "Notebook", &[URI]).await;
    user(&service, "ann").await;
    user(&service, "bob").await;
    let mut browser = Browser::new(&service);
    let error = |page: &Page| query_of(&page.location())["error"].clone();
    let none = address(&client, &[("prompt", "none")]);
    assert_eq!(error(&browser.get(&none).await), "login_required");
    let login = browser.get(&address(&client, &[("prompt", "login")])).await;
    let sent = browser.submit(&login, &[("username", "ann"), ("password", PASSWORD)]).await;
    let consent = browser.follow(&sent).await;
    assert_eq!(consent.title(), "Allow access · Steward", "not asked for the password for ever");
    assert_eq!(error(&browser.get(&none).await), "consent_required");
    let page = browser.get(&address(&client, &[("prompt", "login")])).await;
    assert_eq!(page.title(), "Log in · Steward");
    // Another account from the consent page.
    let out = browser.submit_to(&consent, "/oauth/logout", &[]).await;
    let login = browser.follow(&out).await;
    assert_eq!(login.title(), "Log in · Steward");
    let sent = browser.submit(&login, &[("username", "bob"), ("password", PASSWORD)]).await;
    assert!(browser.follow(&sent).await.body.contains("(bob)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_and_the_openapi_document_say_how_to_log_in() {
    let service = Service::start().await;
    let (_, metadata) = service.get("", "/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["authorization_endpoint"], format!("{}/oauth/authorize", service.url));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    for grant in ["authorization_code", "refresh_token"] {
        assert!(metadata["grant_types_supported"].as_array().unwrap().contains(&json!(grant)));
    }
    let (_, document) = service.get("", "/openapi.json").await;
    let flow = &document["components"]["securitySchemes"]["OAuth2"]["flows"]["authorizationCode"];
    assert_eq!(flow["authorizationUrl"], format!("{}/oauth/authorize", service.url), "{flow}");
    assert_eq!(flow["tokenUrl"], format!("{}/oauth/token", service.url));
    assert!(flow["scopes"]["semantic:read"].is_string());
}
