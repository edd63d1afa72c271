use std::path::Path;

use super::super::diagnostic::{ActionDiagnostic, Severity};
use super::super::yaml::Findings;
use super::read::normal_host;
use super::*;

fn read(text: &str) -> (Option<ActionFile>, Vec<ActionDiagnostic>) {
    let findings = Findings::new("weather.yaml".to_owned());
    let file = parse_action_file(text, Path::new("actions/weather.yaml"), &findings);
    (file, findings.into_list())
}

const WHOLE: &str = r#"
name: weather
description: Hourly weather
spec: weather.openapi.json
base_url: {env: WEATHER_API_URL, default: "http://127.0.0.1:8090"}
allow_hosts: ["127.0.0.1"]
operations:
  get_daily: {publish: true, rename: daily}
  get_hourly:
credentials:
  ApiKeyAuth: {value: env:WEATHER_API_KEY}
  basic: {username: env:U, password: file:/run/secrets/p}
  bearer: {token: env:T}
  oauth: {client_id: env:I, client_secret: env:S, refresh_token: file:r, token_url: "https://a/t", scopes: [a, b]}
limits: {timeout_seconds: 10, connect_timeout_seconds: 2, max_response_bytes: 1000, requests_per_minute: 60, max_retries: 1}
response: {store_over_tokens: 500, index: api_responses}
"#;

#[test]
fn a_whole_file_is_read() {
    let (file, findings) = read(WHOLE);
    assert_eq!(findings, []);
    let file = file.unwrap();
    assert_eq!(file.spec, SpecSource::File("actions/weather.openapi.json".into()));
    assert_eq!(file.limits.timeout, Duration::from_secs(10));
    assert_eq!(file.limits.idle_timeout, Limits::default().idle_timeout);
    let Publish::Listed(listed) = &file.publish else { panic!("listed") };
    assert_eq!(listed[0].rename.as_ref().unwrap().as_str(), "daily");
    assert!(listed[1].publish);
    let Credential::OAuth(oauth) = &file.credentials["oauth"].credential else { panic!("oauth") };
    assert_eq!(oauth.refresh_token, Some(SecretRef::File("actions/r".into())));
}

#[test]
fn every_mistake_is_found_with_its_line_and_a_suggestion() {
    let (file, findings) = read(
        "name: weather\ndescription: d\nspecs: w.json\noperations: \"*\"\nlimits:\n  timeout_second: 3\n  max_retries: 99\n",
    );
    assert!(file.is_none());
    let found: Vec<_> = findings.iter().map(|f| (f.line, f.rule, f.help.as_str())).collect();
    assert!(found.contains(&(3, "actions/unknown-key", "did you mean `spec`?")), "{found:?}");
    assert!(found.contains(&(6, "actions/unknown-key", "did you mean `timeout_seconds`?")), "{found:?}");
    assert!(found.iter().any(|f| f.0 == 7 && f.1 == "actions/range"), "{found:?}");
    assert!(found.iter().any(|f| f.1 == "actions/missing-key"), "{found:?}");
}

#[test]
fn a_literal_secret_is_refused_and_not_repeated() {
    let (file, findings) = read(
        "name: w\ndescription: d\nspec: w.json\noperations: [a]\ncredentials:\n  K: {value: hunter2hunter2}\n",
    );
    assert!(file.is_none());
    let finding = findings.iter().find(|f| f.rule == "actions/literal-secret").unwrap();
    assert_eq!(finding.line, 6);
    assert!(findings.iter().all(|f| !f.to_string().contains("hunter2")));
}

#[test]
fn keys_of_two_forms_of_credential_do_not_mix() {
    let (file, findings) = read(
        "name: w\ndescription: d\nspec: w.json\noperations: [a]\ncredentials:\n  K:\n    token: env:T\n    prefix: x\n  L: {username: env:U}\n",
    );
    assert!(file.is_none());
    let found: Vec<_> = findings.iter().map(|f| (f.line, f.rule)).collect();
    assert_eq!(found, [(8, "actions/credential"), (9, "actions/credential")]);
}

#[test]
fn a_document_over_plain_http_needs_a_listed_host() {
    let file = |host: &str| {
        read(&format!(
            "name: w\ndescription: d\nspec: http://127.0.0.1/s\noperations: [a]\nallow_hosts: [{host}]\n"
        ))
    };
    assert!(file("localhost").0.is_none());
    assert!(file("127.0.0.1").0.is_some());
}

#[test]
fn hosts_are_written_as_urls_write_them() {
    for (text, with_port, expected) in [
        ("Api.Example.org", false, Some("api.example.org")),
        ("[::1]", false, Some("::1")),
        ("::0001", false, Some("::1")),
        ("[::1]:9000", true, Some("::1:9000")),
        ("cdn.example.org:8443", true, Some("cdn.example.org:8443")),
        ("bücher.example", false, Some("xn--bcher-kva.example")),
        ("api.example.org:80", false, None),
        ("https://api.example.org", true, None),
        ("*.example.org", true, None),
        ("", false, None),
    ] {
        assert_eq!(normal_host(text, with_port).as_deref(), expected, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(at in 0usize..700, length in 0usize..60, put in "[a-z:{}\\[\\], \n*&!\"-]{0,12}") {
        let chars: Vec<char> = WHOLE.chars().collect();
        let (at, end) = (at.min(chars.len()), (at + length).min(chars.len()));
        let text: String =
            chars[..at].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect();
        let (file, findings) = read(&text);
        let failed = findings.iter().any(|finding| finding.severity == Severity::Error);
        proptest::prop_assert_eq!(file.is_none(), failed);
    }
}

#[test]
fn an_absent_description_is_only_a_warning() {
    let (file, findings) = read("name: w\nspec: w.json\noperations: [a]\n");
    assert!(file.is_some());
    assert_eq!(findings[0].severity, Severity::Warning);
}
