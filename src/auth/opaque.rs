//! Random values that are handed out once and mean something only to us: codes, refresh tokens, cookies.
//!
//! Knows randomness and hashes; does not know what a value stands for.
//! O1 a value has 256 random bits or more; what is kept is its SHA-256, which needs no salt and no slow hash.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::auth::client::{ClientError, fill_random};

/// Random bytes of a value.
const VALUE_BYTES: usize = 32;
/// The same as base64url.
pub(super) const VALUE_CHARACTERS: usize = 43;

/// A new value with that prefix.
pub(super) fn new_value(prefix: &str) -> Result<SecretString, ClientError> {
    let mut bytes = [0; VALUE_BYTES];
    fill_random(&mut bytes)?;
    Ok(SecretString::from(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

/// Whether `text` has the form of a value with that prefix; what has not is not looked for.
pub(super) fn is_value(prefix: &str, text: &str) -> bool {
    let rest = text.strip_prefix(prefix).unwrap_or_default();
    rest.len() == VALUE_CHARACTERS
        && rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The SHA-256 in hex, as the database holds it.
pub(super) fn sha256_hex(text: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(text))
}

/// A value for a form, which only whoever has the cookie with `secret` in it can have got (a double submit that is bound
/// to what the form says). `parts` are kept apart, so that nothing moves from one to the next.
pub(super) fn form_token(secret: &SecretString, parts: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(sign(secret, parts).as_ref())
}

/// Whether `token` is the [`form_token`] of these, in constant time.
pub(super) fn is_form_token(secret: &SecretString, parts: &[&str], token: &str) -> bool {
    use subtle::ConstantTimeEq;
    form_token(secret, parts).as_bytes().ct_eq(token.as_bytes()).into()
}

fn sign(secret: &SecretString, parts: &[&str]) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_token_fits_its_cookie_and_its_form_alone() {
        let (ours, other) = (new_value("").unwrap(), new_value("").unwrap());
        let token = form_token(&ours, &["consent", "a=b"]);
        assert!(is_form_token(&ours, &["consent", "a=b"], &token));
        assert!(!is_form_token(&other, &["consent", "a=b"], &token));
        for parts in [&["login", "a=b"][..], &["consent", "a=c"], &["consenta", "=b"], &["consent"]] {
            assert!(!is_form_token(&ours, parts, &token), "{parts:?}");
        }
        assert!(!is_form_token(&ours, &["consent", "a=b"], ""));
    }

    #[test]
    fn values_are_recognised_by_their_form() {
        let value = new_value("stwx_").unwrap();
        assert!(is_value("stwx_", value.expose_secret()));
        assert_ne!(new_value("stwx_").unwrap().expose_secret(), value.expose_secret());
        for bad in ["", "stwx_", &value.expose_secret()[1..], &format!("{}a", value.expose_secret())] {
            assert!(!is_value("stwx_", bad), "{bad}");
        }
    }
}
