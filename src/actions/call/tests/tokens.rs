//! OAuth2 and OpenID Connect against a token endpoint on loopback.

use futures::future::join_all;

use super::*;

/// Token endpoint and API in one; tokens are `t1`, `t2`… by the number of token requests.
async fn upstream(expires_in: u64, api: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Upstream {
    let issued = Arc::new(Mutex::new(0));
    Upstream::start(move |seen, _| {
        if seen.target == "/token" {
            let mut issued = issued.lock().unwrap();
            *issued += 1;
            return ok(&json!({"access_token": format!("t{issued}-abcdef"), "token_type": "Bearer", "expires_in": expires_in, "refresh_token": format!("r{issued}-abcdef")}).to_string());
        }
        api(seen).unwrap_or_else(|| ok("{}"))
    })
    .await
}

fn oauth(upstream: &Upstream) -> Value {
    let token = format!("{}/token", upstream.base);
    json!({"o": {"type": "oauth2", "flows": {
        "clientCredentials": {"tokenUrl": token, "scopes": {}},
        "password": {"tokenUrl": token, "scopes": {}},
        "authorizationCode": {"tokenUrl": token, "authorizationUrl": "https://a/", "scopes": {}},
    }}})
}

const CLIENT: &str = "credentials: {o: {client_id: env:CLIENT, client_secret: env:SECRET}}\n";

async fn api_of(upstream: &Upstream, yaml: &str) -> Arc<Api> {
    load(upstream, &document(oauth(upstream), json!([{"o": ["read", "write"]}])), yaml, |_| {}).await
}

fn tokens_asked(upstream: &Upstream) -> Vec<Seen> {
    upstream.seen().into_iter().filter(|seen| seen.target == "/token").collect()
}

fn tokens_used(upstream: &Upstream) -> Vec<String> {
    upstream
        .seen()
        .iter()
        .filter_map(|seen| seen.header("authorization")?.strip_prefix("Bearer ").map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn client_credentials_are_sent_both_ways_and_the_token_is_kept() {
    for (yaml, basic) in [
        (CLIENT.to_owned(), true),
        (CLIENT.replace("env:SECRET", "env:SECRET, client_authentication: post"), false),
    ] {
        let upstream = upstream(3600, |_| None).await;
        let api = api_of(&upstream, &yaml).await;
        let caller = Caller::default();
        get_text(&caller, &api).await.unwrap();
        get_text(&caller, &api).await.unwrap();
        let asked = tokens_asked(&upstream);
        assert_eq!(asked.len(), 1);
        assert!(
            asked[0].body.starts_with("grant_type=client_credentials&scope=read+write"),
            "{}",
            asked[0].body
        );
        assert_eq!(asked[0].header("authorization").is_some(), basic);
        assert_eq!(asked[0].body.contains("client_secret=client-secret-xyz"), !basic);
        assert_eq!(tokens_used(&upstream), ["t1-abcdef", "t1-abcdef"]);
    }
}

#[tokio::test]
async fn a_token_is_renewed_sixty_seconds_before_it_expires() {
    let upstream = upstream(600, |_| None).await;
    let api = api_of(&upstream, CLIENT).await;
    let (caller, clock) = manual_caller();
    for (advance, asked) in [(0, 1), (539, 1), (2, 2), (100, 2)] {
        clock.advance(Duration::from_secs(advance));
        get_text(&caller, &api).await.unwrap();
        assert_eq!(tokens_asked(&upstream).len(), asked, "after {advance}");
    }
}

#[tokio::test]
async fn many_calls_at_once_fetch_one_token() {
    let upstream = upstream(3600, |_| None).await;
    let api = api_of(&upstream, CLIENT).await;
    let caller = Caller::default();
    let results = join_all((0..20).map(|_| get_text(&caller, &api))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(tokens_asked(&upstream).len(), 1);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let upstream = upstream(3600, |seen| {
        (seen.header("authorization") == Some("Bearer t1-abcdef")).then(|| answer(401, "", "expired"))
    })
    .await;
    let api = api_of(&upstream, CLIENT).await;
    let response = Caller::default()
        .call(&api, "post", &json!({"id": "1", "body": 1}), &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(response.attempts, 2);
    assert_eq!(tokens_used(&upstream), ["t1-abcdef", "t2-abcdef"]);

    let upstream = self::upstream(3600, |_| Some(answer(401, "", "no t2-abcdef"))).await;
    let error = get(&Caller::default(), &api_of(&upstream, CLIENT).await).await.unwrap_err();
    assert_eq!(tokens_used(&upstream), ["t1-abcdef", "t2-abcdef"]);
    let text = error.to_string();
    assert!(text.contains("credential was refused") && text.contains("no [redacted]"), "{text}");
}

#[tokio::test]
async fn the_password_grant_sends_user_and_client() {
    let upstream = upstream(3600, |_| None).await;
    let yaml = "credentials: {o: {client_id: env:CLIENT, client_secret: env:SECRET, username: env:USER, password: env:PASSWORD, scopes: [own]}}\n";
    get_text(&Caller::default(), &api_of(&upstream, yaml).await).await.unwrap();
    let asked = &tokens_asked(&upstream)[0];
    assert_eq!(asked.body, "grant_type=password&username=ada&password=p%2Fss+word%2B%C3%A9&scope=own");

    let upstream = self::upstream(3600, |_| None).await;
    let yaml = "credentials: {o: {username: env:USER, password: env:PASSWORD}}\n";
    get_text(&Caller::default(), &api_of(&upstream, yaml).await).await.unwrap();
    let asked = &tokens_asked(&upstream)[0];
    assert!(
        asked.body.starts_with("grant_type=password&username=ada") && asked.header("authorization").is_none()
    );
}

#[tokio::test]
async fn a_rotated_refresh_token_is_used_next_until_a_new_one_is_configured() {
    let upstream = upstream(600, |_| None).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("refresh");
    std::fs::write(&path, "r0-abcdef\n").unwrap();
    let yaml = format!(
        "credentials: {{o: {{client_id: env:CLIENT, client_secret: env:SECRET, refresh_token: \"file:{}\"}}}}\n",
        path.display()
    );
    let api = api_of(&upstream, &yaml).await;
    let (caller, clock) = manual_caller();
    for token in ["r0-abcdef", "r1-abcdef", "new-abcdef"] {
        if token == "new-abcdef" {
            std::fs::write(&path, token).unwrap();
        }
        get_text(&caller, &api).await.unwrap();
        let asked = tokens_asked(&upstream);
        assert_eq!(asked.last().unwrap().body, format!("grant_type=refresh_token&refresh_token={token}"));
        clock.advance(Duration::from_secs(600));
    }
}

#[tokio::test]
async fn openid_connect_finds_its_token_endpoint_once() {
    let base = Arc::new(Mutex::new(String::new()));
    let known = base.clone();
    let upstream = Upstream::start(move |seen, _| match seen.target.as_str() {
        "/.well-known/openid-configuration" => {
            ok(&json!({"token_endpoint": format!("{}/t", known.lock().unwrap())}).to_string())
        }
        "/t" => ok(r#"{"access_token": "oidc-token", "expires_in": 61}"#),
        _ => ok("{}"),
    })
    .await;
    *base.lock().unwrap() = upstream.base.clone();
    let schemes = json!({"o": {"type": "openIdConnect", "openIdConnectUrl": format!("{}/.well-known/openid-configuration", upstream.base)}});
    let api = load(&upstream, &document(schemes, json!([{"o": []}])), CLIENT, |_| {}).await;
    let (caller, clock) = manual_caller();
    get_text(&caller, &api).await.unwrap();
    clock.advance(Duration::from_secs(60));
    get_text(&caller, &api).await.unwrap();
    let targets: Vec<_> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/.well-known/openid-configuration", "/t", "/x/1", "/t", "/x/1"]);
}

#[tokio::test]
async fn a_failing_token_endpoint_is_told_without_the_secret() {
    for (reply, part) in [
        (
            answer(400, "", r#"{"error": "invalid_client", "error_description": "bad client-secret-xyz"}"#),
            "answered 400 invalid_client bad [redacted]",
        ),
        (answer(200, "", "<html>"), "not a JSON object"),
        (answer(200, "", "{}"), "no access_token"),
        (answer(200, "", r#"{"access_token": "a", "token_type": "mac"}"#), "type `mac`"),
        (answer(302, "location: https://elsewhere.example/\r\n", ""), "redirects"),
    ] {
        let Reply::Send(bytes) = reply else { unreachable!() };
        let upstream = Upstream::start(move |_, _| Reply::Send(bytes.clone())).await;
        let error = get(&Caller::default(), &api_of(&upstream, CLIENT).await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UpstreamFailed);
        assert!(error.to_string().contains(part), "{part} not in {error}");
        assert!(!format!("{error:?}").contains("client-secret-xyz"));
        assert_eq!(upstream.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_token_endpoint_over_http_gets_no_secret_unless_its_host_is_listed() {
    let upstream = upstream(3600, |_| None).await;
    for (url, kind) in [
        ("http://tokens.example.org/t", ErrorKind::NotConfigured),
        ("http://10.0.0.1/t", ErrorKind::NotConfigured),
    ] {
        let yaml = CLIENT.replace("env:SECRET", &format!("env:SECRET, token_url: \"{url}\""));
        let error = get(&Caller::default(), &api_of(&upstream, &yaml).await).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(upstream.seen().len(), 0);
}
