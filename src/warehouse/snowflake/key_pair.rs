//! The token by which a key pair logs in (Snowflake, "Key-pair authentication"): an RS256 JWT whose issuer carries the
//! public key's fingerprint.
//!
//! The crate snowflake-jwt makes the same, but signs with code that is not constant in time, and takes the region of an
//! account for a part of its name.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Seconds; Snowflake takes an hour at most.
const LIFETIME_SECONDS: i64 = 300;

/// A key that cannot be used; says nothing of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadKey;

/// The token for a login now, as `now` seconds after 1970.
pub(super) fn token(pem: &SecretString, account: &str, user: &str, now: i64) -> Result<SecretString, BadKey> {
    let der = SecretString::from(body(pem.expose_secret()).ok_or(BadKey)?);
    let der = STANDARD.decode(der.expose_secret()).map_err(|_| BadKey)?;
    let pair = RsaKeyPair::from_pkcs8(&der).map_err(|_| BadKey)?;
    let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).map_err(|_| BadKey)?;
    let fingerprint = STANDARD.encode(Sha256::digest(public.as_ref()));
    // Without the region that an account locator may have.
    let account = account.split('.').next().unwrap_or(account).to_uppercase();
    let subject = format!("{account}.{}", user.to_uppercase());
    let claims = json!({
        "iss": format!("{subject}.SHA256:{fingerprint}"),
        "sub": subject,
        "iat": now,
        "exp": now + LIFETIME_SECONDS,
    });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "RS256", "typ": "JWT"})), part(&claims));
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| BadKey)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
}

/// The Base64 of a PEM block; environment variables often hold `\n` for a line end.
fn body(pem: &str) -> Option<String> {
    let text = pem.replace("\\r", "").replace("\\n", "\n");
    let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    Some(body.split_ascii_whitespace().collect())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::Pkcs8V1Der;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    #[test]
    fn the_token_names_account_user_and_key_and_is_signed_by_it() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----",
            STANDARD.encode(der.as_ref())
        );
        let made = token(&pem.into(), "xy12345.eu-central-1", "reader", 1_000).unwrap();
        let parts: Vec<&str> = made.expose_secret().split('.').collect();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!(claims["sub"], "XY12345.READER");
        assert!(claims["iss"].as_str().unwrap().starts_with("XY12345.READER.SHA256:"));
        assert_eq!(claims["exp"], 1_000 + LIFETIME_SECONDS);
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        let signed = format!("{}.{}", parts[0], parts[1]);
        key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
    }

    #[test]
    fn what_is_no_private_key_is_refused_without_a_word_of_it() {
        for bad in [
            "",
            "hunter2",
            "-----BEGIN PRIVATE KEY-----hunter2-----END PRIVATE KEY-----",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----",
        ] {
            assert_eq!(token(&bad.to_owned().into(), "a", "u", 0).unwrap_err(), BadKey);
        }
    }
}
