//! Where redirects and host names may lead, and what goes along.

use std::net::IpAddr;

use super::*;

fn secured() -> Value {
    document(
        json!({
            "header": {"type": "apiKey", "in": "header", "name": "X-Key"},
            "query": {"type": "apiKey", "in": "query", "name": "api_key"},
            "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }),
        json!([{"header": [], "query": [], "cookie": [], "bearer": []}]),
    )
}

const ALL: &str = "credentials:\n  header: {value: env:KEY}\n  query: {value: env:KEY}\n  cookie: {value: env:KEY}\n  bearer: {token: env:TOKEN}\n";

fn redirect(status: u16, to: &str) -> Reply {
    answer(status, &format!("location: {to}\r\n"), "")
}

#[tokio::test]
async fn credentials_go_along_on_the_same_origin() {
    let upstream =
        Upstream::start(|_, n| if n == 1 { redirect(302, "/y?a=1&api_key=theirs") } else { ok("{}") }).await;
    let api = load(&upstream, &secured(), ALL, |_| {}).await;
    get_text(&Caller::default(), &api).await.unwrap();
    let last = &upstream.seen()[1];
    assert_eq!(last.target, "/y?a=1&api_key=key-0123456789");
    assert!(
        last.header("x-key").is_some()
            && last.header("cookie").is_some()
            && last.header("authorization").is_some()
    );
}

#[tokio::test]
async fn credentials_stay_behind_when_the_origin_changes_and_do_not_come_back() {
    let home = Arc::new(Mutex::new(String::new()));
    let known = home.clone();
    let other = Upstream::start(move |_, _| redirect(302, &format!("{}/back", known.lock().unwrap()))).await;
    let target = format!("{}/z?a=1&api_key=key-0123456789", other.base);
    let upstream = Upstream::start(move |_, n| if n == 1 { redirect(307, &target) } else { ok("{}") }).await;
    *home.lock().unwrap() = upstream.base.clone();
    let yaml = format!("{ALL}allow_redirect_hosts: [\"{}\", \"{}\"]\n", other.host(), upstream.host());
    let api = load(&upstream, &secured(), &yaml, |_| {}).await;
    get_text(&Caller::default(), &api).await.unwrap();
    assert_eq!(other.seen()[0].target, "/z?a=1");
    assert_eq!(upstream.seen()[1].target, "/back");
    for seen in [&other.seen()[0], &upstream.seen()[1]] {
        for name in ["x-key", "cookie", "authorization"] {
            assert_eq!(seen.header(name), None, "{seen:?}");
        }
    }
}

#[tokio::test]
async fn redirects_elsewhere_are_refused() {
    let other = Upstream::start(|_, _| ok("{}")).await;
    let elsewhere = other.base.clone();
    for target in [
        "http://169.254.169.254/latest/meta-data?key-0123456789".to_owned(),
        "//evil.example/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://[::ffff:127.0.0.1]/".to_owned(),
        elsewhere,
    ] {
        let location = target.clone();
        let upstream = Upstream::start(move |_, _| redirect(302, &location)).await;
        let api = load(&upstream, &secured(), ALL, |_| {}).await;
        let error = get(&Caller::default(), &api).await.unwrap_err();
        assert!(matches!(error, ActionError::RedirectRefused { .. }), "{target}: {error:?}");
        assert!(!error.to_string().contains("key-0123456789"), "{error}");
        assert_eq!(upstream.seen().len(), 1);
    }
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn a_listed_redirect_host_at_an_inner_address_is_still_refused() {
    let upstream = Upstream::start(|_, _| redirect(302, "http://169.254.169.254/")).await;
    let yaml = format!("{ALL}allow_redirect_hosts: [\"169.254.169.254\"]\n");
    let error = get(&Caller::default(), &load(&upstream, &secured(), &yaml, |_| {}).await).await.unwrap_err();
    assert!(matches!(error, ActionError::Egress(EgressError::NotPublic { .. })), "{error:?}");
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let upstream = Upstream::start(|_, _| redirect(302, "/x/1")).await;
    let error = get(&Caller::default(), &open_api(&upstream, |_| {}).await).await.unwrap_err();
    assert!(matches!(error, ActionError::TooManyRedirects { limit: 5, .. }), "{error:?}");
    assert_eq!(upstream.seen().len(), 6);
}

#[tokio::test]
async fn a_post_becomes_a_get_without_its_body_or_stays_whole() {
    for (status, method, body) in
        [(303, "GET", ""), (302, "GET", ""), (307, "POST", "[1]"), (308, "POST", "[1]")]
    {
        let upstream =
            Upstream::start(move |_, n| if n == 1 { redirect(status, "/y") } else { ok("{}") }).await;
        let api = open_api(&upstream, |_| {}).await;
        let arguments = json!({"id": "1", "body": [1]});
        Caller::default().call(&api, "post", &arguments, &CancellationToken::new()).await.unwrap();
        let last = &upstream.seen()[1];
        assert_eq!((last.method.as_str(), last.body.as_str()), (method, body), "{status}");
        assert_eq!(last.header("content-type").is_some(), !body.is_empty(), "{status}");
    }
}

fn caller_with(address: &'static str) -> (Caller, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    let lookup: Lookup = Arc::new(move |host| {
        log.lock().unwrap().push(host);
        let address: IpAddr = address.parse().unwrap();
        Box::pin(async move { Ok(vec![address]) })
    });
    (Caller::new(CallerOptions { lookup, ..CallerOptions::default() }), asked)
}

#[tokio::test]
async fn a_name_is_reached_only_at_the_addresses_that_were_checked() {
    let upstream = Upstream::start(|_, _| ok("{}")).await;
    let port = upstream.host().rsplit_once(':').unwrap().1;
    let api = |allow: &'static str| {
        let yaml = format!("base_url: http://api.test:{port}\nallow_hosts: [{allow}]\n");
        async move { load_plain(&document(json!({}), json!([])), &yaml, |_| {}).await }
    };
    let (caller, asked) = caller_with("127.0.0.1");
    let error = get(&caller, &api("\"127.0.0.1\"").await).await.unwrap_err();
    assert!(matches!(error, ActionError::Egress(EgressError::NotPublic { .. })), "{error:?}");
    assert_eq!((error.kind(), upstream.seen().len()), (ErrorKind::NotConfigured, 0));
    get_text(&caller, &api("api.test").await).await.unwrap();
    assert_eq!(asked.lock().unwrap().as_slice(), ["api.test", "api.test"]);
    assert!(upstream.seen()[0].header("host").unwrap().starts_with("api.test:"));

    for address in ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "0.0.0.0"] {
        let (caller, _) = caller_with(address);
        let error = get(&caller, &api("api.test").await).await.unwrap_err();
        assert!(matches!(error, ActionError::Egress(EgressError::Special { .. })), "{address}: {error:?}");
    }
}

#[tokio::test]
async fn an_address_that_is_not_listed_is_not_connected_to() {
    let upstream = Upstream::start(|_, _| ok("{}")).await;
    let yaml = format!("base_url: {}\n", upstream.base);
    let api = load_plain(&document(json!({}), json!([])), &yaml, |_| {}).await;
    let error = get(&Caller::default(), &api).await.unwrap_err();
    assert!(error.to_string().contains("allow_hosts"), "{error}");
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_document_by_url_is_fetched_by_the_same_rules_and_relative_servers_start_there() {
    let upstream = Upstream::start(|seen, _| match seen.target.as_str() {
        "/docs/openapi.yaml" => answer(
            200,
            "",
            "openapi: 3.1.0\nservers: [{url: ../v2}]\npaths: {/x: {get: {operationId: get}}}\n",
        ),
        "/moved" => redirect(302, "/docs/openapi.yaml"),
        _ => ok("{}"),
    })
    .await;
    let load = |path: &'static str, allow: &'static str| {
        let text = format!(
            "name: api\ndescription: d\nspec: {}{path}\noperations: \"*\"\nallow_hosts: [{allow}]\n",
            upstream.base
        );
        async move {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("api.yaml"), text).unwrap();
            ActionCatalog::load(folder.path()).await
        }
    };
    let (catalog, diagnostics) = load("/docs/openapi.yaml", "\"127.0.0.1\"").await;
    assert_eq!(diagnostics, []);
    let api = catalog.api("api").unwrap();
    Caller::default().call(api, "get", &json!({}), &CancellationToken::new()).await.unwrap();
    assert_eq!(upstream.seen().last().unwrap().target, "/v2/x");
    for (path, allow, part) in [
        ("/moved", "\"127.0.0.1\"", "redirects"),
        ("/docs/openapi.yaml", "", "must be https"),
        ("/absent", "\"127.0.0.1\"", "not an OpenAPI document"),
    ] {
        let (catalog, diagnostics) = load(path, allow).await;
        assert_eq!(catalog.apis().count(), 0);
        assert!(diagnostics[0].message.contains(part), "{part} not in {diagnostics:?}");
    }
}
