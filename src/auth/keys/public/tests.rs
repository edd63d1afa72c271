use aws_lc_rs::hmac;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::SigningAlgorithm;
use crate::auth::testing::ClientKey;

fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

fn refused(jwks: &str) -> String {
    PublicKeys::parse(jwks).err().unwrap_or_else(|| panic!("taken: {jwks}")).to_string()
}

/// Whether a set verifies a JWS by that algorithm and kid.
fn verifies(jwks: &str, alg: &str, kid: Option<&str>, token: &str) -> bool {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let algorithm = ClientAlgorithm::named(alg).unwrap();
    PublicKeys::parse(jwks).unwrap().verify(algorithm, kid, message, signature)
}

#[test]
fn each_type_of_key_verifies_its_own_algorithms_and_no_other() {
    let ec = ClientKey::es256();
    let ed = ClientKey::new(SigningAlgorithm::EdDsa);
    let rsa = ClientKey::new(SigningAlgorithm::Rs256);
    let any_rsa = rsa.jwk_with("alg", Value::Null);
    for (key, jwk, good) in [
        (&ec, ec.jwk_with("alg", Value::Null), vec!["ES256"]),
        (&ed, ed.jwk_with("alg", Value::Null), vec!["EdDSA"]),
        (&rsa, any_rsa, vec!["RS256", "PS256"]),
        (&rsa, rsa.jwk.clone(), vec!["RS256"]),
        (&rsa, rsa.jwk_with("alg", json!("PS256")), vec!["PS256"]),
    ] {
        let jwks = set(&[jwk]);
        for alg in CLIENT_ALGORITHMS {
            let by = match (*alg, key.jwk["kty"].as_str().unwrap()) {
                ("RS256" | "PS256", "RSA") => alg.parse().unwrap(),
                (_, "EC") => Algorithm::ES256,
                (_, "OKP") => Algorithm::EdDSA,
                _ => Algorithm::RS256,
            };
            let token = key.sign_by(by, "{}", "{}");
            assert_eq!(verifies(&jwks, alg, None, &token), good.contains(alg), "{alg} by {jwks}");
            let other = token.replacen("e30", "e3", 1);
            assert!(!verifies(&jwks, alg, None, &other), "another message");
        }
    }
}

#[test]
fn a_kid_selects_and_without_one_every_key_of_the_algorithm_is_tried() {
    let (one, two) = (ClientKey::es256(), ClientKey::es256());
    let jwks = set(&[one.jwk.clone(), two.jwk.clone()]);
    let kid = |key: &ClientKey| key.jwk["kid"].as_str().unwrap().to_owned();
    let token = two.sign_raw("{}", "{}");
    assert!(verifies(&jwks, "ES256", Some(&kid(&two)), &token));
    assert!(verifies(&jwks, "ES256", None, &token));
    assert!(!verifies(&jwks, "ES256", Some(&kid(&one)), &token));
    assert!(!verifies(&jwks, "ES256", Some(""), &token));
    let nameless = set(&[two.jwk_with("kid", Value::Null)]);
    assert!(verifies(&nameless, "ES256", None, &token));
    assert!(!verifies(&nameless, "ES256", Some(&kid(&two)), &token));
}

#[test]
fn names_that_are_no_client_algorithm_are_none() {
    for name in ["none", "None", "", "HS256", "HS512", "ES384", "RS512", "PS384", "es256", "Ed25519"] {
        assert!(ClientAlgorithm::named(name).is_none(), "{name}");
    }
}

#[test]
fn the_public_key_taken_for_a_secret_verifies_nothing() {
    let key = ClientKey::es256();
    for secret in [key.jwks(), key.jwk.to_string()] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), b"e30.e30");
        let token = format!("e30.e30.{}", URL_SAFE_NO_PAD.encode(tag));
        assert!(!verifies(&key.jwks(), "ES256", None, &token));
    }
}

#[test]
fn a_private_or_secret_key_is_refused_before_anything_else_and_must_be_taken_out_of_use() {
    let key = ClientKey::es256();
    for member in PRIVATE_MEMBERS {
        let text = refused(&set(&[key.jwk.clone(), key.jwk_with(member, json!("AQ"))]));
        assert!(text.contains("key 2 is a private") && text.contains("take it out of use"), "{text}");
        assert!(text.contains(&format!("`{member}`")), "{text}");
    }
    let symmetric = refused(&set(&[json!({"kty": "oct", "k": "AAAA"})]));
    assert!(symmetric.contains("take it out of use"), "{symmetric}");
    let odd = refused(&set(&[json!({"kty": "EC", "crv": "P-521", "d": 7})]));
    assert!(odd.contains("take it out of use"), "whatever else is wrong with it: {odd}");
}

#[test]
fn what_could_not_verify_is_refused_by_name() {
    let ec = ClientKey::es256();
    let rsa = ClientKey::new(SigningAlgorithm::Rs256);
    let modulus = |bytes: usize, first: u8, last: u8| {
        let mut n = vec![0x55; bytes];
        (n[0], n[bytes - 1]) = (first, last);
        json!(URL_SAFE_NO_PAD.encode(n))
    };
    let swapped = {
        let mut jwk = ec.jwk.clone();
        (jwk["x"], jwk["y"]) = (ec.jwk["y"].clone(), ec.jwk["x"].clone());
        jwk
    };
    let zero = json!(URL_SAFE_NO_PAD.encode([0; 32]));
    for (jwk, expected) in [
        (json!({}), "kty and crv"),
        (json!({"kty": 7}), "kty and crv"),
        (json!({"kty": "EC", "crv": "P-384", "x": zero, "y": zero}), "kty and crv"),
        (json!({"kty": "OKP", "crv": "X25519", "x": zero}), "kty and crv"),
        (json!({"kty": "EC", "crv": "P-256", "x": zero, "y": zero}), "point on P-256"),
        (swapped, "point on P-256"),
        (ec.jwk_with("x", json!("AQ")), "point on P-256"),
        (ec.jwk_with("y", Value::Null), "point on P-256"),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": "AQ"}), "Ed25519"),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": "not base64!"}), "Ed25519"),
        (rsa.jwk_with("n", modulus(128, 0xff, 1)), "2,048 to 4,096"),
        (rsa.jwk_with("n", modulus(256, 0x7f, 1)), "2,048 to 4,096"),
        (rsa.jwk_with("n", modulus(513, 0x01, 1)), "2,048 to 4,096"),
        (rsa.jwk_with("n", modulus(256, 0xff, 2)), "numbers of an RSA key"),
        (rsa.jwk_with("e", json!("AQ")), "numbers of an RSA key"),
        (rsa.jwk_with("e", json!("AA")), "numbers of an RSA key"),
        (rsa.jwk_with("e", json!("Ag")), "numbers of an RSA key"),
        (rsa.jwk_with("e", json!("AQAAAAE")), "numbers of an RSA key"),
        (ec.jwk_with("use", json!("enc")), "use must be sig"),
        (ec.jwk_with("key_ops", json!(["encrypt"])), "key_ops"),
        (ec.jwk_with("alg", json!("RS256")), "alg must fit"),
        (ec.jwk_with("alg", json!("ES384")), "alg must fit"),
        (rsa.jwk_with("alg", json!("RS512")), "alg must fit"),
        (ec.jwk_with("kid", json!("")), "kid"),
        (ec.jwk_with("kid", json!("k".repeat(257))), "kid"),
        (ec.jwk_with("kid", json!(1)), "kid"),
    ] {
        let text = refused(&set(&[jwk]));
        assert!(text.starts_with("key 1: ") && text.contains(expected), "{text}");
    }
}

#[test]
fn a_set_has_one_to_eight_keys_with_kids_of_their_own_and_a_bounded_size() {
    let key = ClientKey::es256();
    let nameless = key.jwk_with("kid", Value::Null);
    PublicKeys::parse(&set(&vec![nameless.clone(); MAX_JWKS_KEYS])).unwrap();
    assert!(refused(&set(&vec![nameless; MAX_JWKS_KEYS + 1])).contains("9 keys"));
    assert!(refused(&set(&[])).contains("0 keys"));
    assert!(refused(&set(&[key.jwk.clone(), key.jwk.clone()])).contains("key 2 has the kid"));
    let long = key.jwk_with("x5c", json!(["A".repeat(MAX_JWKS_BYTES)]));
    assert!(refused(&set(&[long])).contains("16,384 bytes"));
    for text in
        ["", "[]", "{}", "null", r#"{"keys": {}}"#, r#"{"keys": ["x"]}"#, r#"{"keys": [], "keys": []}"#]
    {
        assert!(refused(text).contains("list `keys`"), "{text}");
    }
    let address = key.jwk_with("x5u", json!("https://evil.example/cert.pem"));
    PublicKeys::parse(&set(&[address])).unwrap();
}

proptest! {
    #[test]
    fn reading_a_key_set_never_panics(
        text in "\\PC{0,80}",
        kty in prop_oneof![Just("EC"), Just("OKP"), Just("RSA")],
        crv in prop_oneof![Just("P-256"), Just("Ed25519")],
        numbers in proptest::collection::vec("[A-Za-z0-9_-]{0,50}", 4),
    ) {
        prop_assert!(PublicKeys::parse(&text).is_err());
        let jwk = json!({"kty": kty, "crv": crv, "x": numbers[0], "y": numbers[1], "n": numbers[2], "e": numbers[3]});
        let _ = PublicKeys::parse(&set(&[jwk]));
    }
}
