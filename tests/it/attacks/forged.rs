//! Tokens whose header, key or signature is not what this service makes.

use std::net::TcpListener;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use steward::auth::SigningAlgorithm;

use super::{Forge, Signer, b64};
use crate::harness::read;

#[tokio::test(flavor = "multi_thread")]
async fn alg_none_is_refused_in_every_case_and_with_every_signature() {
    let forge = Forge::new().await;
    for alg in ["none", "None", "NONE", "nOnE"] {
        let mut header = forge.header.clone();
        header["alg"] = json!(alg);
        let message = format!("{}.{}", b64(header.to_string()), b64(forge.claims.to_string()));
        let honest = forge.token.rsplit('.').next().unwrap();
        for signature in ["", honest, &forge.signer.signature(&message), &b64("x")] {
            forge.refused(alg, &format!("{message}.{signature}")).await;
        }
        forge.refused(alg, &message).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_form_of_the_public_key_is_taken_for_an_hmac_secret() {
    for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::Rs256] {
        let forge = Forge::with(algorithm).await;
        let request = forge.service.http.get(format!("{}/oauth/jwks", forge.service.url));
        let jwks = request.send().await.unwrap().text().await.unwrap();
        let set: Value = serde_json::from_str(&jwks).unwrap();
        let jwk =
            set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == forge.header["kid"]).unwrap();
        let mut secrets = vec![
            ("PEM", forge.signer.public_pem().into_bytes()),
            ("PEM without its last line feed", forge.signer.public_pem().trim_end().as_bytes().to_vec()),
            ("DER", forge.signer.public_der.clone()),
            ("JWK as text", jwk.to_string().into_bytes()),
            ("JWKS as served", jwks.clone().into_bytes()),
            ("kid", jwk["kid"].as_str().unwrap().as_bytes().to_vec()),
            ("nothing", Vec::new()),
        ];
        for name in ["x", "y", "n", "e"] {
            let Some(text) = jwk[name].as_str() else { continue };
            secrets.push(("a member as text", text.as_bytes().to_vec()));
            secrets.push(("a member as bytes", URL_SAFE_NO_PAD.decode(text).unwrap()));
        }
        if algorithm == SigningAlgorithm::Es256 {
            let point = &forge.signer.public_der[26..];
            assert_eq!((point[0], point.len()), (4, 65), "an uncompressed point ends the key");
            secrets.push(("uncompressed point", point.to_vec()));
            secrets.push(("both coordinates", point[1..].to_vec()));
            secrets.push(("compressed point", [&[2 + (point[64] & 1)], &point[1..33]].concat()));
        }
        for (alg, hash) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            for (name, secret) in &secrets {
                let mut header = forge.header.clone();
                header["alg"] = json!(alg);
                let message = format!("{}.{}", b64(header.to_string()), b64(forge.claims.to_string()));
                let tag = hmac::sign(&hmac::Key::new(hash, secret), message.as_bytes());
                forge.refused(&format!("{alg} by {name}"), &format!("{message}.{}", b64(tag))).await;
                // The header of the honest algorithm over the same tag.
                let message = format!("{}.{}", b64(forge.header.to_string()), b64(forge.claims.to_string()));
                let tag = hmac::sign(&hmac::Key::new(hash, secret), message.as_bytes());
                forge.refused(&format!("tag by {name}"), &format!("{message}.{}", b64(tag))).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kid_that_is_unknown_missing_doubled_a_path_sql_or_very_long_is_refused() {
    let forge = Forge::new().await;
    let kid = forge.header["kid"].as_str().unwrap().to_owned();
    let long = "k".repeat(5_000);
    for bad in [
        "",
        "unknown",
        "active",
        "active.pem",
        "../keys/active.pem",
        "/dev/null",
        "file:///dev/null",
        "x' OR '1'='1",
        "' UNION SELECT 'secret' --",
        "k\0",
        "| id",
        &long,
        &"A".repeat(43),
        &kid.to_lowercase(),
        &kid[..42],
        &format!("{kid}A"),
        &format!(" {kid}"),
    ] {
        forge.refused(&format!("kid {bad:.40}"), &forge.with_header("kid", json!(bad))).await;
    }
    for bad in [Value::Null, json!(0), json!([kid]), json!({"kid": kid})] {
        forge.refused(&format!("kid {bad}"), &forge.with_header("kid", bad)).await;
    }
    let claims = forge.claims.to_string();
    for header in [
        r#"{"alg":"ES256","typ":"at+jwt"}"#.to_owned(),
        format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"x","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{kid}","kid":"x"}}"#),
        format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{kid}","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","typ":"at+jwt","KID":"{kid}"}}"#),
    ] {
        forge.refused(&header, &forge.signer.sign(&header, &claims)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_token_brings_or_points_to_is_neither_used_nor_fetched() {
    let forge = Forge::new().await;
    let (attacker, jwk) = Signer::of_attacker();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let certificate = b64(&attacker.public_der);
    for (name, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("x5c", json!([certificate])),
        ("x5t", json!("x")),
        ("x5t#S256", json!("x")),
        ("iss", json!(url)),
        ("jwks_uri", json!(url)),
    ] {
        let mut header = forge.header.clone();
        header[name] = value;
        let (text, claims) = (header.to_string(), forge.claims.to_string());
        forge.refused(&format!("{name}, signed by us"), &forge.signer.sign(&text, &claims)).await;
        forge.refused(&format!("{name}, signed by its key"), &attacker.sign(&text, &claims)).await;
        // The address as kid, beside or instead of the key.
        header["kid"] = json!(url);
        forge.refused(&format!("{name}, kid an address"), &attacker.sign(&header.to_string(), &claims)).await;
    }
    let honest = forge.header.to_string();
    let mut claims = forge.claims.clone();
    forge.refused("another's key under our kid", &attacker.sign(&honest, &claims.to_string())).await;
    claims["iss"] = json!(url);
    forge.refused("an issuer that points to keys", &attacker.sign(&honest, &claims.to_string())).await;
    // A connection would wait in the listener's queue.
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "the service asked for a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn critical_extensions_unencoded_payloads_and_any_other_header_are_refused() {
    let forge = Forge::new().await;
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("crit", json!("exp")),
        ("crit", Value::Null),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("enc", json!("A128GCM")),
    ] {
        forge.refused(&format!("{name} {value}"), &forge.with_header(name, value.clone())).await;
    }
    // RFC 7797: signed over the bare payload.
    let mut header = forge.header.clone();
    header["b64"] = json!(false);
    header["crit"] = json!(["b64"]);
    let (header, claims) = (b64(header.to_string()), forge.claims.to_string());
    let signature = forge.signer.signature(&format!("{header}.{claims}"));
    forge.refused("unencoded", &format!("{header}.{}.{signature}", b64(&claims))).await;
    forge.refused("detached", &format!("{header}..{signature}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_type_of_access_tokens_is_taken() {
    let forge = Forge::new().await;
    for typ in [
        "JWT",
        "jwt",
        "at+JWT",
        "AT+JWT",
        "application/at+jwt",
        "at+jwt ",
        "id_token+jwt",
        "logout+jwt",
        "dpop+jwt",
        "rt+jwt",
        "",
    ] {
        forge.refused(&format!("typ {typ}"), &forge.with_header("typ", json!(typ))).await;
    }
    let mut header = forge.header.clone();
    header.as_object_mut().unwrap().remove("typ");
    forge.refused("no typ", &forge.signed(&header, &forge.claims)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_serialisations_and_spellings_of_a_good_token_are_refused() {
    let forge = Forge::new().await;
    let parts: Vec<&str> = forge.token.split('.').collect();
    let [header, claims, signature] = [parts[0], parts[1], parts[2]];
    let flattened = json!({"protected": header, "payload": claims, "signature": signature}).to_string();
    let general =
        json!({"payload": claims, "signatures": [{"protected": header, "signature": signature}]}).to_string();
    for (name, token) in [
        ("flattened JSON", flattened.clone()),
        ("general JSON", general.clone()),
        ("flattened JSON in base64", b64(&flattened)),
        ("general JSON as a part", format!("{}.{claims}.{signature}", b64(&general))),
        ("padding", format!("{header}=.{claims}.{signature}")),
        ("padded signature", format!("{}==", forge.token)),
        ("a dot more", format!("{}.", forge.token)),
        ("a part more", format!("{}.{signature}", forge.token)),
        ("five parts, as JWE", format!("{}.{claims}.{signature}", forge.token)),
        ("a dot before", format!(".{}", forge.token)),
        ("a part less", format!("{header}.{claims}")),
        ("dots", "..".to_owned()),
        ("too long", "A".repeat(9_000)),
    ] {
        forge.refused(name, &token).await;
    }
    for (name, value) in [
        ("twice in one header", format!("Bearer {0}, Bearer {0}", forge.token)),
        ("a space behind", format!("Bearer {} x", forge.token)),
        ("quotes", format!("Bearer \"{}\"", forge.token)),
        ("a tab", format!("Bearer\t{}", forge.token)),
        ("a parameter", format!("Bearer token={}", forge.token)),
        ("no space", format!("Bearer{}", forge.token)),
        ("Basic", format!("Basic {}", forge.token)),
        ("DPoP", format!("DPoP {}", forge.token)),
    ] {
        let request = forge.service.http.get(format!("{}/v1/me", forge.service.url));
        let answer = request.header("authorization", value).send().await.unwrap();
        assert_eq!(read(answer).await.0, 401, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn degenerate_signatures_are_refused() {
    let forge = Forge::new().await;
    let (message, signature) = forge.token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let zero = [0u8; 32];
    // The order of P-256 (FIPS 186): r and s must be below it.
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    let der = [&[0x30, 0x44, 2, 32], r, &[2, 32], s].concat();
    for (name, bytes) in [
        ("r zero", [&zero, s].concat()),
        ("s zero", [r, &zero].concat()),
        ("both zero (CVE-2022-21449)", [zero, zero].concat()),
        ("r the order", [&order, s].concat()),
        ("s the order", [r, &order].concat()),
        ("swapped", [s, r].concat()),
        ("a byte short", signature[..63].to_vec()),
        ("a byte long", [&signature[..], &[0]].concat()),
        ("DER", der),
        ("nothing", Vec::new()),
    ] {
        forge.refused(name, &format!("{message}.{}", b64(bytes))).await;
    }
    let mut raised = forge.claims.clone();
    raised["scope"] = json!("admin:clients");
    let raised = b64(raised.to_string());
    let parts: Vec<&str> = forge.token.split('.').collect();
    forge
        .refused("more scopes under the old signature", &format!("{}.{raised}.{}", parts[0], parts[2]))
        .await;
}

/// Every single character counts: whatever one of them is changed to, the token dies, and the service does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_any_one_character_changed_is_refused_and_never_breaks_the_service() {
    let forge = Forge::new().await;
    let length = forge.token.len();
    let url = format!("{}/v1/me", forge.service.url);
    let runtime = tokio::runtime::Handle::current();
    let status_of = |changed: String| {
        runtime.block_on(async {
            forge.service.http.get(&url).bearer_auth(changed).send().await.unwrap().status().as_u16()
        })
    };
    tokio::task::block_in_place(|| {
        let mut runner = TestRunner::new(Config { cases: 512, ..Config::default() });
        let change = (0..length, 0x21_u8..0x7f);
        let outcome = runner.run(&change, |(at, with)| {
            prop_assume!(forge.token.as_bytes()[at] != with);
            let mut bytes = forge.token.clone().into_bytes();
            bytes[at] = with;
            prop_assert_eq!(status_of(String::from_utf8(bytes).unwrap()), 401);
            Ok(())
        });
        outcome.unwrap();
        // The last character has bits that no signature byte needs: none of its spellings may pass but the one.
        let spellings = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut passed = 0;
        for last in spellings.chars() {
            let changed = format!("{}{last}", &forge.token[..length - 1]);
            let expected = if changed == forge.token { 200 } else { 401 };
            assert_eq!(status_of(changed), expected, "{last}");
            passed += i32::from(expected == 200);
        }
        assert_eq!(passed, 1);
    });
}
