//! Every security scheme in every place, and what must not happen to a credential.

use super::*;

fn schemes() -> Value {
    json!({
        "header": {"type": "apiKey", "in": "header", "name": "X-Key"},
        "query": {"type": "apiKey", "in": "query", "name": "api_key"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"},
        "basic": {"type": "http", "scheme": "basic"},
        "bearer": {"type": "http", "scheme": "bearer"},
    })
}

const ALL: &str = "credentials:\n  header: {value: env:KEY}\n  query: {value: env:KEY}\n  cookie: {value: env:KEY}\n  basic: {username: env:USER, password: env:PASSWORD}\n  bearer: {token: env:TOKEN}\n";

async fn call_with(security: Value, yaml: &str) -> (Result<String, ActionError>, Vec<Seen>) {
    let upstream = Upstream::start(|_, _| ok("{}")).await;
    let api = load(&upstream, &document(schemes(), security), yaml, |_| {}).await;
    (get_text(&Caller::default(), &api).await, upstream.seen())
}

#[tokio::test]
async fn every_scheme_goes_to_its_place() {
    let seen = |security| async move { call_with(security, ALL).await.1.remove(0) };
    assert_eq!(seen(json!([{"header": []}])).await.header("x-key"), Some("key-0123456789"));
    assert_eq!(seen(json!([{"query": []}])).await.target, "/x/1?api_key=key-0123456789");
    assert_eq!(seen(json!([{"cookie": []}])).await.header("cookie"), Some("sid=key-0123456789"));
    assert_eq!(seen(json!([{"bearer": []}])).await.header("authorization"), Some("Bearer token-abcdefgh"));
    let expected = format!("Basic {}", base64_of("ada:p/ss word+é"));
    assert_eq!(seen(json!([{"basic": []}])).await.header("authorization"), Some(expected.as_str()));
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(text)
}

#[tokio::test]
async fn sets_are_sent_whole_and_alternatives_by_what_is_configured() {
    let (_, seen) = call_with(json!([{"header": [], "query": [], "cookie": [], "bearer": []}]), ALL).await;
    assert!(seen[0].header("x-key").is_some() && seen[0].header("cookie").is_some());
    assert!(seen[0].header("authorization").is_some() && seen[0].target.contains("api_key="));

    let only_query = "credentials: {query: {value: env:KEY}}\n";
    let (_, seen) = call_with(json!([{"header": [], "query": []}, {"query": []}]), only_query).await;
    assert_eq!((seen[0].header("x-key"), seen[0].target.as_str()), (None, "/x/1?api_key=key-0123456789"));

    // Optional authentication is used where it is configured, and left out where it is not.
    let (_, seen) = call_with(json!([{}, {"header": []}]), ALL).await;
    assert!(seen[0].header("x-key").is_some());
    let (result, seen) = call_with(json!([{}, {"header": []}]), "").await;
    assert!(result.is_ok() && seen[0].header("x-key").is_none());
}

#[tokio::test]
async fn a_secret_that_is_absent_falls_to_the_next_alternative_but_never_to_anonymous() {
    let yaml = "credentials: {header: {value: env:ABSENT}, query: {value: env:KEY}}\n";
    let (result, seen) = call_with(json!([{"header": []}, {"query": []}]), yaml).await;
    assert!(result.is_ok() && seen[0].target.contains("api_key="));
    let yaml = "credentials: {header: {value: env:ABSENT}}\n";
    let (result, seen) = call_with(json!([{"header": []}, {}]), yaml).await;
    let error = result.unwrap_err();
    assert_eq!((error.kind(), seen.len()), (ErrorKind::NotConfigured, 0));
    assert!(error.to_string().contains("environment variable ABSENT is not set"), "{error}");
}

#[tokio::test]
async fn missing_credentials_name_the_scheme_and_the_key_to_add() {
    let (result, seen) = call_with(json!([{"header": [], "basic": []}, {"bearer": []}]), "").await;
    let error = result.unwrap_err();
    assert_eq!((error.kind(), seen.len()), (ErrorKind::NotConfigured, 0));
    for part in [
        "credentials.header: {value: env:NAME} and credentials.basic: {username",
        "or credentials.bearer: {token",
        "api.yaml",
    ] {
        assert!(error.to_string().contains(part), "{part} not in {error}");
    }
}

#[tokio::test]
async fn a_prefix_stands_before_the_key() {
    let (_, seen) =
        call_with(json!([{"header": []}]), "credentials: {header: {value: env:KEY, prefix: \"Token \"}}\n")
            .await;
    assert_eq!(seen[0].header("x-key"), Some("Token key-0123456789"));
}

#[tokio::test]
async fn arguments_cannot_stand_in_for_a_credential() {
    let upstream = Upstream::start(|_, _| ok("{}")).await;
    let api = load(&upstream, &document(schemes(), json!([{"header": []}])), ALL, |_| {}).await;
    let arguments = json!({"id": "1", "X-Key": "forged"});
    let error = Caller::default().call(&api, "get", &arguments, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_credential_that_the_upstream_echoes_is_redacted_in_errors_and_bodies() {
    for status in [200, 400, 500] {
        let upstream = Upstream::start(move |seen, _| {
            let echo = format!(
                "{} {} {} {}",
                seen.target,
                seen.header("x-key").unwrap_or_default(),
                seen.header("cookie").unwrap_or_default(),
                seen.header("authorization").unwrap_or_default(),
            );
            let headers =
                format!("etag: {}\r\ncontent-type: text/plain\r\n", seen.header("x-key").unwrap_or_default());
            answer(status, &headers, &echo)
        })
        .await;
        let security = json!([{"header": [], "query": [], "cookie": [], "basic": []}]);
        let api = load(&upstream, &document(schemes(), security), ALL, |_| {}).await;
        let shown = match get(&Caller::default(), &api).await {
            Ok(response) => {
                let head = format!("{response:?} {:?} {}", response.headers, response.url);
                head + core::str::from_utf8(&response.bytes().await.unwrap()).unwrap()
            }
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(shown.contains("[redacted]"), "{shown}");
        for secret in ["key-0123456789", "p/ss", &base64_of("ada:p/ss word+é")] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

#[tokio::test]
async fn refusals_are_told_with_advice() {
    for (status, part) in [
        (401, "the configured credential was refused"),
        (403, "the configured credential may not do this"),
        (404, "nothing at this address"),
        (500, "the API failed"),
    ] {
        let upstream = Upstream::start(move |_, _| answer(status, "", "<h1>why</h1>\n\x07not")).await;
        let api = load(&upstream, &document(schemes(), json!([{"header": []}])), ALL, |_| {}).await;
        let error = get(&Caller::default(), &api).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UpstreamFailed);
        let text = error.to_string();
        assert!(text.contains(part) && text.contains("<h1>why</h1> not"), "{text}");
    }
    let upstream = Upstream::start(|_, _| answer(401, "", "")).await;
    let error = get(&Caller::default(), &open_api(&upstream, |_| {}).await).await.unwrap_err();
    assert!(error.to_string().contains("none are configured"), "{error}");
}
