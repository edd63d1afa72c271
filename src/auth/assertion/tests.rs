use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://steward.example";
const TOKEN: &str = "https://steward.example/oauth/token";
const NOW_S: i64 = 1_800_000_000;

fn text(header: &Value, claims: &Value) -> String {
    let b64 = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", b64(header), b64(claims))
}

fn header() -> Value {
    json!({"alg": "ES256", "typ": "JWT", "kid": "k"})
}

fn claims() -> Value {
    json!({"iss": "agent-1", "sub": "agent-1", "aud": ISSUER, "exp": NOW_S + 60, "iat": NOW_S, "jti": "j"})
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    match member {
        Value::Null => drop(value.as_object_mut().unwrap().remove(name)),
        member => value[name] = member,
    }
    value
}

fn read(header: &Value, claims: &Value) -> Result<(), AssertionFault> {
    let text = text(header, claims);
    Assertion::parse(&text)?.check(ISSUER, TOKEN, NOW_S * 1000)
}

fn wrong_audience() -> AssertionFault {
    AssertionFault::WrongAudience { issuer: ISSUER.into() }
}

#[test]
fn the_header_holds_nothing_but_alg_typ_and_kid() {
    for good in [
        header(),
        with(header(), "kid", Value::Null),
        with(header(), "typ", Value::Null),
        with(header(), "typ", json!("client-authentication+jwt")),
    ] {
        read(&good, &claims()).unwrap();
    }
    for (name, member) in [
        ("jwk", json!({"kty": "EC"})),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("cty", json!("JWT")),
        ("kid", json!(7)),
    ] {
        assert_eq!(read(&with(header(), name, member), &claims()), Err(AssertionFault::BadHeader), "{name}");
    }
    for typ in ["at+jwt", "jwt", "", "application/client-authentication+jwt"] {
        assert_eq!(
            read(&with(header(), "typ", json!(typ)), &claims()),
            Err(AssertionFault::WrongType),
            "{typ}: an access token is no assertion"
        );
    }
    for alg in ["none", "None", "HS256", "HS512", "ES384", "RS512", "", "es256"] {
        assert_eq!(
            read(&with(header(), "alg", json!(alg)), &claims()),
            Err(AssertionFault::WrongAlgorithm),
            "{alg}"
        );
    }
}

#[test]
fn doubled_and_null_members_are_refused() {
    let b64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let of =
        |header: &str, claims: &str| Assertion::parse(&format!("{}.{}.c2ln", b64(header), b64(claims))).err();
    let (good_header, good_claims) = (header().to_string(), claims().to_string());
    assert_eq!(of(&good_header, &good_claims), None);
    for bad in [
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":"ES256","kid":"a","kid":"b"}"#,
        r#"{"alg":"ES256","kid":null}"#,
        r#"{"typ":"JWT"}"#,
        "null",
        "",
    ] {
        assert_eq!(of(bad, &good_claims), Some(AssertionFault::BadHeader), "{bad}");
    }
    for (name, value) in
        [("sub", "\"agent-1\""), ("aud", "\"x\""), ("exp", "1"), ("jti", "\"x\""), ("iat", "1")]
    {
        let bad = format!("{{\"{name}\":{value},{}", &good_claims[1..]);
        assert_eq!(of(&good_header, &bad), Some(AssertionFault::BadClaims), "{name} twice");
    }
    for name in ["iat", "nbf"] {
        let bad =
            format!("{{\"{name}\":null,{}", with(claims(), name, Value::Null).to_string().split_at(1).1);
        assert_eq!(of(&good_header, &bad), Some(AssertionFault::BadClaims), "{name} is null");
    }
    for bad in ["", "a", "a.b", "e30.e30.c2ln.x", "e3 0.e30.c2ln", "e30=.e30.c2ln", "e30.e30=.c2ln"] {
        assert_eq!(Assertion::parse(bad).err(), Some(AssertionFault::NotCompact), "{bad}");
    }
}

#[test]
fn issuer_and_subject_are_both_the_client() {
    for (name, member) in [("iss", json!("agent-2")), ("sub", json!("agent-2"))] {
        assert_eq!(read(&header(), &with(claims(), name, member)), Err(AssertionFault::NotItself), "{name}");
    }
    let user = json!("user:0b0e7d3e-4c9c-4b8a-9a44-0d4b7a1f7c11");
    let of_user = with(with(claims(), "iss", user.clone()), "sub", user);
    assert_eq!(read(&header(), &of_user), Err(AssertionFault::NotItself), "no user is a client");
    for name in ["iss", "sub", "aud", "exp", "jti"] {
        assert_eq!(
            read(&header(), &with(claims(), name, Value::Null)),
            Err(AssertionFault::BadClaims),
            "{name} is missing"
        );
    }
    for jti in [String::new(), "j".repeat(257)] {
        assert_eq!(read(&header(), &with(claims(), "jti", json!(jti))), Err(AssertionFault::BadJti));
    }
    read(&header(), &with(claims(), "jti", json!("j".repeat(256)))).unwrap();
}

#[test]
fn the_audience_is_this_service_alone() {
    for good in [json!(ISSUER), json!(TOKEN), json!([ISSUER]), json!([TOKEN])] {
        read(&header(), &with(claims(), "aud", good)).unwrap();
    }
    for bad in [
        json!([ISSUER, "https://evil.example"]),
        json!(["https://evil.example", ISSUER]),
        json!([ISSUER, TOKEN]),
        json!([ISSUER, ISSUER]),
        json!([]),
        json!("https://evil.example"),
        json!(format!("{ISSUER}/")),
        json!(format!("{ISSUER}/oauth/introspect")),
        json!(format!("{ISSUER}.evil.example")),
        json!(format!("{ISSUER} https://evil.example")),
        json!("HTTPS://STEWARD.EXAMPLE"),
        json!(""),
    ] {
        assert_eq!(read(&header(), &with(claims(), "aud", bad.clone())), Err(wrong_audience()), "{bad}");
    }
    let explicit = with(header(), "typ", json!("client-authentication+jwt"));
    assert_eq!(
        read(&explicit, &with(claims(), "aud", json!(TOKEN))),
        Err(wrong_audience()),
        "the new type is for the issuer only"
    );
}

#[test]
fn it_lives_an_hour_at_most_and_not_before_its_time() {
    let exp = |ahead: Value| with(with(claims(), "iat", Value::Null), "exp", ahead);
    for (claims, expected) in [
        (exp(json!(NOW_S + 3_600)), Ok(())),
        (exp(json!(NOW_S + 3_630)), Ok(())),
        (exp(json!(NOW_S as f64 + 0.5)), Ok(())),
        (exp(json!(NOW_S + 3_631)), Err(AssertionFault::TooFarAhead)),
        (exp(json!(NOW_S)), Err(AssertionFault::Expired)),
        (exp(json!(0)), Err(AssertionFault::Expired)),
        (exp(json!(-1)), Err(AssertionFault::BadClaims)),
        (exp(json!(1e300)), Err(AssertionFault::BadClaims)),
        (exp(json!(i64::MAX)), Err(AssertionFault::BadClaims)),
        (exp(json!(u64::MAX)), Err(AssertionFault::BadClaims)),
        (exp(json!((NOW_S + 60).to_string())), Err(AssertionFault::BadClaims)),
        (with(claims(), "iat", json!(NOW_S + 30)), Ok(())),
        (with(claims(), "iat", json!(NOW_S + 31)), Err(AssertionFault::NotYetValid)),
        (with(claims(), "nbf", json!(NOW_S + 31)), Err(AssertionFault::NotYetValid)),
        (with(claims(), "nbf", json!(NOW_S - 31)), Ok(())),
        (
            with(with(claims(), "nbf", json!(NOW_S + 9)), "exp", json!(NOW_S + 9)),
            Err(AssertionFault::NotYetValid),
        ),
    ] {
        assert_eq!(read(&header(), &claims), expected, "{claims}");
    }
}

proptest! {
    #[test]
    fn reading_an_assertion_never_panics(raw in "\\PC{0,80}", head in "\\PC{0,40}", body in "\\PC{0,40}", exp: f64) {
        let b64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
        prop_assert!(Assertion::parse(&raw).is_err());
        let forged = format!("{}.{}.c2ln", b64(&head), b64(&body));
        prop_assert!(Assertion::parse(&forged).is_err());
        let _ = read(&header(), &with(claims(), "exp", json!(exp)));
    }
}
