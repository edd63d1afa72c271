//! Key pairs of the algorithms on offer: making, signing, the public half as a JWK.
//!
//! Pure but for random numbers. Knows aws-lc-rs and RFC 7517; does not know files, states or claims.
//! P1 a pair has one algorithm, chosen when it was made: P-256 is ES256, RSA is RS256, Ed25519 is EdDSA.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::SecretSlice;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::KeyError;

/// The JWS algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1) of keys that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256: short tokens, understood everywhere.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 3,072 bits when made here: for verifiers that know nothing newer.
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl SigningAlgorithm {
    /// As headers, JWKS and configuration spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) fn for_verifying(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Rs256 => Algorithm::RS256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The public half of a key, as RFC 7517 and RFC 8037 write it; members that its type lacks are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicJwk {
    kty: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    pub(super) kid: String,
}

/// A private key with its public half.
pub(super) enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Pair {
    /// Makes a pair; RSA takes up to some seconds, the others well under a millisecond.
    pub(super) fn generate(algorithm: SigningAlgorithm) -> Result<Self, KeyError> {
        let pair = match algorithm {
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self::Es256)
            }
            SigningAlgorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa3072).map(Self::Rs256),
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate().map(Self::EdDsa),
        };
        pair.map_err(|_| KeyError::NoRandomness)
    }

    pub(super) fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::Es256(_) => SigningAlgorithm::Es256,
            Self::Rs256(_) => SigningAlgorithm::Rs256,
            Self::EdDsa(_) => SigningAlgorithm::EdDsa,
        }
    }

    /// The private key as PKCS#8 (RFC 5208).
    pub(super) fn to_pkcs8(&self) -> Option<SecretSlice<u8>> {
        let der = match self {
            Self::Es256(pair) => pair.to_pkcs8v1().ok()?.as_ref().to_vec(),
            Self::Rs256(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).ok()?.as_ref().to_vec(),
            Self::EdDsa(pair) => pair.to_pkcs8v1().ok()?.as_ref().to_vec(),
        };
        Some(SecretSlice::from(der))
    }

    /// The public key as SubjectPublicKeyInfo (RFC 5280), the content of a `PUBLIC KEY` block.
    pub(super) fn to_spki(&self) -> Option<Vec<u8>> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Es256(pair) => pair.public_key().as_der(),
            Self::Rs256(pair) => pair.public_key().as_der(),
            Self::EdDsa(pair) => pair.public_key().as_der(),
        }
        .ok()?;
        Some(der.as_ref().to_vec())
    }

    /// The public key in its own form: an uncompressed point (SEC 1), an RSAPublicKey (RFC 8017), or 32 bytes.
    pub(super) fn public_bytes(&self) -> &[u8] {
        match self {
            Self::Es256(pair) => pair.public_key().as_ref(),
            Self::Rs256(pair) => pair.public_key().as_ref(),
            Self::EdDsa(pair) => pair.public_key().as_ref(),
        }
    }

    /// The signature over `message`; `None` if the library fails.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Es256(pair) => {
                pair.sign(&SystemRandom::new(), message).ok().map(|signature| signature.as_ref().to_vec())
            }
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).ok()?;
                Some(signature)
            }
            Self::EdDsa(pair) => pair.try_sign(message).ok().map(|signature| signature.as_ref().to_vec()),
        }
    }

    pub(super) fn verifying_key(&self) -> DecodingKey {
        let public = self.public_bytes();
        match self {
            Self::Es256(_) => DecodingKey::from_ec_der(public),
            Self::Rs256(_) => DecodingKey::from_rsa_der(public),
            Self::EdDsa(_) => DecodingKey::from_ed_der(public),
        }
    }

    /// The JWK, its kid being the RFC 7638 SHA-256 thumbprint.
    pub(super) fn jwk(&self) -> Option<PublicJwk> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let public = self.public_bytes();
        let alg = self.algorithm().as_str();
        let mut jwk = PublicJwk {
            kty: "",
            crv: None,
            x: None,
            y: None,
            n: None,
            e: None,
            usage: "sig",
            alg,
            kid: String::new(),
        };
        // RFC 7638 section 3.2 and RFC 8037 section 2: the required members in this order, without white space.
        let canonical = match self {
            Self::Es256(_) => {
                // SEC 1 section 2.3.3: 0x04, 32 bytes of x, 32 bytes of y.
                let (x, y) = public.get(1..)?.split_at_checked(32)?;
                let (x, y) = (encode(x), encode(y));
                let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
                (jwk.kty, jwk.crv, jwk.x, jwk.y) = ("EC", Some("P-256"), Some(x), Some(y));
                canonical
            }
            Self::Rs256(_) => {
                let (n, e) = rsa_numbers(public)?;
                let (n, e) = (encode(n), encode(e));
                let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
                (jwk.kty, jwk.n, jwk.e) = ("RSA", Some(n), Some(e));
                canonical
            }
            Self::EdDsa(_) => {
                let x = encode(public);
                let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
                (jwk.kty, jwk.crv, jwk.x) = ("OKP", Some("Ed25519"), Some(x));
                canonical
            }
        };
        jwk.kid = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        Some(jwk)
    }
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017 appendix A.1.1), big-endian without leading zeros.
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    let (body, rest) = der_value(der, SEQUENCE)?;
    let (modulus, more) = der_value(body, INTEGER)?;
    let (exponent, end) = der_value(more, INTEGER)?;
    let positive = |number: &'_ [u8]| number.iter().position(|byte| *byte != 0);
    (rest.is_empty() && end.is_empty()).then_some(())?;
    Some((&modulus[positive(modulus)?..], &exponent[positive(exponent)?..]))
}

/// The content of a DER value with that tag (X.690 section 8.1), and what follows it.
fn der_value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    (*found == tag).then_some(())?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (bytes.len() <= 4).then_some(())?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reading_der_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = rsa_numbers(&bytes);
            let _ = rsa_numbers(&[&[0x30, 0x82][..], &bytes].concat());
        }
    }
}
