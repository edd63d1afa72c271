//! Tokens that this service has signed and that say what it would not say.

use serde_json::{Value, json};

use super::Forge;

#[tokio::test(flavor = "multi_thread")]
async fn every_claim_must_be_there_once_with_its_type() {
    let forge = Forge::new().await;
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope"] {
        let mut claims = forge.claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        forge.refused(&format!("no {name}"), &forge.signed(&forge.header, &claims)).await;
        for value in [Value::Null, json!({}), json!(true), json!([[]])] {
            forge.refused(&format!("{name} {value}"), &forge.with_claim(name, value.clone())).await;
        }
        for twice in [
            forge.claims.to_string().replacen('{', &format!("{{\"{name}\":{},", forge.claims[name]), 1),
            forge.claims.to_string().replacen('{', &format!("{{\"{name}\":null,"), 1),
        ] {
            let token = forge.signer.sign(&forge.header.to_string(), &twice);
            forge.refused(&format!("{name} twice"), &token).await;
        }
    }
    for claims in ["", "null", "[]", "{", "{}", "\"x\"", "[{}]", "\u{feff}{}"] {
        forge.refused(claims, &forge.signer.sign(&forge.header.to_string(), claims)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_whole_numbers_within_reason() {
    let forge = Forge::new().await;
    let exp = forge.claims["exp"].as_i64().unwrap();
    for (name, value) in [
        ("exp", json!(exp.to_string())),
        ("exp", json!("4102444800")),
        ("exp", json!("never")),
        ("exp", json!(exp as f64 + 0.5)),
        ("exp", json!(1e300)),
        ("exp", json!(u64::MAX)),
        ("exp", forge.claims["iat"].clone()),
        ("nbf", json!("0")),
        ("nbf", json!(exp.to_string())),
        ("nbf", json!(0.5)),
        ("nbf", Value::Null),
        ("nbf", json!(exp)),
        ("nbf", json!(i64::MAX)),
        ("iat", json!("0")),
        ("iat", json!(exp - 1)),
        ("iat", json!(i64::MAX)),
    ] {
        forge.refused(&format!("{name} {value}"), &forge.with_claim(name, value.clone())).await;
    }
    // An honest past: expired, and told so.
    let mut claims = forge.claims.clone();
    claims["iat"] = json!(exp - 7_200);
    claims["exp"] = json!(exp - 3_600 - 1);
    let (status, problem) = forge.service.get(&forge.signed(&forge.header, &claims), "/v1/me").await;
    assert_eq!(status, 401);
    assert!(problem["detail"].as_str().unwrap().contains("expired"), "{problem:#}");
    // The control: a beginning in the past is fine.
    assert_eq!(forge.status(&forge.with_claim("nbf", json!(0))).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_and_audience_are_this_service_alone() {
    let forge = Forge::new().await;
    let ours = forge.service.url.clone();
    let port = ours.rsplit_once(':').unwrap().1;
    for issuer in [
        String::new(),
        "https://evil.example".to_owned(),
        format!("{ours}/"),
        format!("{ours}.evil.example"),
        format!("{ours}@evil.example"),
        ours.replace("http:", "https:"),
        ours.to_uppercase(),
        format!("http://localhost:{port}"),
    ] {
        forge.refused(&format!("iss {issuer}"), &forge.with_claim("iss", json!(issuer))).await;
    }
    for audience in [
        json!(""),
        json!("https://other.example"),
        json!(format!("{ours}/")),
        json!(format!("{ours} https://other.example")),
        json!([]),
        json!(["https://other.example"]),
        json!([ours, "https://other.example"]),
        json!(["https://other.example", ours]),
        json!([ours, ours]),
        json!([ours, null]),
        json!([[ours]]),
        json!("*"),
    ] {
        forge.refused(&format!("aud {audience}"), &forge.with_claim("aud", audience.clone())).await;
    }
    // The control: a list of our name alone is the same audience.
    assert_eq!(forge.status(&forge.with_claim("aud", json!([ours]))).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_token_it_is_and_what_it_holds_cannot_be_made_up() {
    let forge = Forge::new().await;
    for (name, value) in [
        ("sub", json!("")),
        ("client_id", json!("local:root")),
        ("client_id", json!("a b")),
        ("client_id", json!("' OR 1=1 --")),
        ("client_id", json!(["x"])),
        ("scope", json!("everything")),
        ("scope", json!("*")),
        ("scope", json!("*:*")),
        ("scope", json!(["semantic:read"])),
        // Well formed, and more than the client is registered for.
        ("scope", json!("admin:clients")),
        ("scope", json!("semantic:read protected")),
        ("scope", json!("data:highly_sensitive")),
        ("jti", json!("")),
        ("jti", json!("1")),
        ("jti", json!("00000000-0000-0000-0000-000000000000")),
        ("jti", json!(forge.claims["jti"].as_str().unwrap().to_uppercase())),
        ("jti", json!(format!("{{{}}}", forge.claims["jti"].as_str().unwrap()))),
        ("act", json!("agent")),
        ("claims", json!([])),
    ] {
        forge.refused(&format!("{name} {value}"), &forge.with_claim(name, value.clone())).await;
    }
    // A client that is not registered: another replica may have registered it just now, hence an older token.
    let mut claims = forge.claims.clone();
    let minute_ago_s = claims["iat"].as_i64().unwrap() - 60;
    let time = uuid::Timestamp::from_unix(uuid::NoContext, u64::try_from(minute_ago_s).unwrap(), 0);
    claims["iat"] = json!(minute_ago_s);
    claims["jti"] = json!(uuid::Uuid::new_v7(time).to_string());
    assert_eq!(forge.status(&forge.signed(&forge.header, &claims)).await, 200, "the control");
    claims["client_id"] = json!("nobody-00000000");
    forge.refused("an unregistered client", &forge.signed(&forge.header, &claims)).await;
    // The control: less than the client holds is fine, and is all that it opens.
    let less = forge.with_claim("scope", json!("semantic:read"));
    assert_eq!(forge.service.get(&less, "/v1/semantic/models").await.0, 200);
    assert_eq!(forge.service.sql(&less, "SELECT 1").await.0, 403);
}
