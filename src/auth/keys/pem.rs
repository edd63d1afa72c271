//! PEM texts (RFC 7468) to key pairs, and back.
//!
//! Pure. Knows which keys will do and says what is wrong with the others; does not know files.
//! E1 no error quotes any part of a private key.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::KeyError;
use super::pair::Pair;

/// A PKCS#8 private key as PEM.
pub(super) fn encode(der: &SecretSlice<u8>) -> SecretString {
    let body = SecretString::from(STANDARD.encode(der.expose_secret()));
    let body = body.expose_secret();
    let mut pem = String::with_capacity(body.len() + body.len() / 64 + 60);
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for start in (0..body.len()).step_by(64) {
        pem.push_str(&body[start..body.len().min(start + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    SecretString::from(pem)
}

/// Line ends as environment variables often hold them: `\n` for a line end.
pub(super) fn unescape(pem: &str) -> SecretString {
    SecretString::from(pem.replace("\\r", "").replace("\\n", "\n"))
}

/// Reads the first private key of a PEM text; other blocks (`EC PARAMETERS`) are passed over.
pub(super) fn parse(pem: &SecretString, origin: &str) -> Result<Pair, KeyError> {
    let mut rest = pem.expose_secret();
    let mut other_label = None;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, body, after) = block(after).ok_or_else(|| not_pem(origin))?;
        rest = after;
        match label {
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => {
                if body.contains("ENCRYPTED") {
                    return Err(KeyError::Encrypted { origin: origin.to_owned() });
                }
                let body = SecretString::from(body.split_ascii_whitespace().collect::<String>());
                let der = STANDARD.decode(body.expose_secret()).map_err(|_| not_pem(origin))?;
                return parse_der(&SecretSlice::from(der), origin);
            }
            "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted { origin: origin.to_owned() }),
            _ => other_label = Some(label.chars().filter(char::is_ascii).take(40).collect()),
        }
    }
    Err(match other_label {
        Some(label) => KeyError::NotPrivate { origin: origin.to_owned(), label },
        None => not_pem(origin),
    })
}

/// Refuses unless the PEM text's public key is the pair's (`PUBLIC KEY`, or `RSA PUBLIC KEY`).
pub(super) fn check_public(pem: &str, origin: &str, pair: &Pair) -> Result<(), KeyError> {
    let not_public = || KeyError::NotPublic { origin: origin.to_owned() };
    let (_, after) = pem.split_once("-----BEGIN ").ok_or_else(not_public)?;
    let (label, body, _) = block(after).ok_or_else(not_public)?;
    let der = STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).map_err(|_| not_public())?;
    let matches = match label {
        "PUBLIC KEY" => pair.to_spki().is_some_and(|ours| ours == der),
        "RSA PUBLIC KEY" => matches!(pair, Pair::Rs256(_)) && pair.public_bytes() == der,
        _ => return Err(not_public()),
    };
    if matches { Ok(()) } else { Err(KeyError::NotAPair) }
}

/// Label, body, and what follows the END line.
fn block(after_begin: &str) -> Option<(&str, &str, &str)> {
    let (label, after) = after_begin.split_once("-----")?;
    let (body, after) = after.split_once(&format!("-----END {label}-----"))?;
    Some((label, body, after))
}

fn not_pem(origin: &str) -> KeyError {
    KeyError::NotPem { origin: origin.to_owned() }
}

fn parse_der(der: &SecretSlice<u8>, origin: &str) -> Result<Pair, KeyError> {
    let der = der.expose_secret();
    if let Ok(pair) = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
        return Ok(Pair::Es256(pair));
    }
    let rsa = match RsaKeyPair::from_pkcs8(der).or_else(|error| RsaKeyPair::from_der(der).map_err(|_| error))
    {
        Ok(pair) if pair.public_modulus_len() >= MIN_RSA_BYTES => return Ok(Pair::Rs256(pair)),
        Ok(_) => true,
        // aws-lc-rs refuses the short ones itself.
        Err(error) => error.to_string() == "TooSmall",
    };
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(Pair::EdDsa(pair));
    }
    let on = |curve| EcdsaKeyPair::from_private_key_der(curve, der).is_ok();
    let found = if rsa {
        "an RSA key of less than 2048 bits"
    } else if on(&ECDSA_P384_SHA384_FIXED_SIGNING) {
        "a key on the curve P-384"
    } else if on(&ECDSA_P521_SHA512_FIXED_SIGNING) {
        "a key on the curve P-521"
    } else if on(&ECDSA_P256K1_SHA256_ASN1_SIGNING) {
        "a key on the curve secp256k1"
    } else {
        return Err(KeyError::Damaged { origin: origin.to_owned() });
    };
    Err(KeyError::WrongKey { origin: origin.to_owned(), found })
}

/// NIST SP 800-131A rev. 2: 2,048 bits are the least for signing.
const MIN_RSA_BYTES: usize = 2048 / 8;
