//! Public keys of others: reading and checking a client's JWKS (RFC 7517), and verifying by it.
//!
//! Pure. Knows key types and sizes; does not know who the client is, or claims.
//! J1 only public keys get in: a set that holds a private or a symmetric key is refused whole.
//! J2 a key serves the algorithms of its type alone, or the one that it names; nothing else in a signature chooses one.
//! J3 nothing is fetched: members that name an address or a certificate are passed over.

use std::collections::HashSet;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::signature_holds;

/// Longest JWKS: eight RSA keys with a certificate each fit.
pub const MAX_JWKS_BYTES: usize = 16 * 1024;
/// Most keys of a JWKS: enough for a rotation, few enough to try them all.
pub const MAX_JWKS_KEYS: usize = 8;
/// Longest key id.
const MAX_KID_BYTES: usize = 256;
/// Bits of an RSA modulus: below is weak, above costs more than it gives.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// Members of private (RFC 7518 sections 6.2.2 and 6.3.2, RFC 8037) and symmetric keys (RFC 7518 section 6.4).
const PRIVATE_MEMBERS: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Algorithms that clients may sign with, as headers and metadata spell them.
pub const CLIENT_ALGORITHMS: &[&str] = &["ES256", "EdDSA", "RS256", "PS256"];

/// What is wrong with a client's JWKS. Keys count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    #[error("it takes more than 16,384 bytes; leave out certificates and keys that are not in use")]
    TooLong,
    #[error("it is not a JSON object with the list `keys` (RFC 7517 section 5)")]
    NotJwks,
    #[error("it holds {given} keys; 1 to {MAX_JWKS_KEYS} are allowed")]
    Count { given: usize },
    #[error(
        "key {number} is a private or secret key (it has the member `{member}`), and has left the client by now: take it out of use, make a new pair, and register the public half alone"
    )]
    Private { number: usize, member: &'static str },
    #[error("key {number}: {reason}")]
    Key { number: usize, reason: &'static str },
    #[error("key {number} has the kid of another one; each needs its own")]
    SameKid { number: usize },
}

/// What a key is, and hence what it can verify.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyType {
    P256,
    Ed25519,
    Rsa,
}

impl KeyType {
    fn serves(self, algorithm: Algorithm) -> bool {
        match self {
            Self::P256 => algorithm == Algorithm::ES256,
            Self::Ed25519 => algorithm == Algorithm::EdDSA,
            Self::Rsa => matches!(algorithm, Algorithm::RS256 | Algorithm::PS256),
        }
    }
}

/// An algorithm of [`CLIENT_ALGORITHMS`]; `none`, HMAC and all others are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::auth) struct ClientAlgorithm(Algorithm);

impl ClientAlgorithm {
    pub(in crate::auth) fn named(name: &str) -> Option<Self> {
        let known = CLIENT_ALGORITHMS.contains(&name);
        name.parse().ok().filter(|_| known).map(Self)
    }
}

struct PublicKey {
    kid: Option<String>,
    key_type: KeyType,
    /// The one algorithm, if the key names it.
    only: Option<Algorithm>,
    decoding: DecodingKey,
}

/// A client's keys, all of which can verify.
pub(in crate::auth) struct PublicKeys(Vec<PublicKey>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Map<String, Value>>,
}

impl PublicKeys {
    /// Reads a JWKS; any key that could not be used makes it an error.
    pub(in crate::auth) fn parse(jwks: &str) -> Result<Self, JwksError> {
        if jwks.len() > MAX_JWKS_BYTES {
            return Err(JwksError::TooLong);
        }
        let document: Document = serde_json::from_str(jwks).map_err(|_| JwksError::NotJwks)?;
        let given = document.keys.len();
        if !(1..=MAX_JWKS_KEYS).contains(&given) {
            return Err(JwksError::Count { given });
        }
        // First of all: whoever sends a private key must hear of that, whatever else is wrong (J1).
        for (index, key) in document.keys.iter().enumerate() {
            if let Some(member) = PRIVATE_MEMBERS.iter().find(|member| key.contains_key(**member)) {
                return Err(JwksError::Private { number: index + 1, member });
            }
        }
        let mut kids = HashSet::new();
        let mut keys = Vec::with_capacity(given);
        for (index, members) in document.keys.iter().enumerate() {
            let number = index + 1;
            let key = PublicKey::parse(members).map_err(|reason| JwksError::Key { number, reason })?;
            if key.kid.clone().is_some_and(|kid| !kids.insert(kid)) {
                return Err(JwksError::SameKid { number });
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// Whether one of the keys made that base64url `signature` over `message`: the one of that kid, or any that serves
    /// the algorithm where no kid is named.
    pub(in crate::auth) fn verify(
        &self,
        algorithm: ClientAlgorithm,
        kid: Option<&str>,
        message: &str,
        signature: &str,
    ) -> bool {
        let ClientAlgorithm(algorithm) = algorithm;
        self.0
            .iter()
            .filter(|key| key.serves(algorithm) && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid)))
            .any(|key| signature_holds(algorithm, &key.decoding, message, signature))
    }
}

impl PublicKey {
    fn serves(&self, algorithm: Algorithm) -> bool {
        self.key_type.serves(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    fn parse(members: &Map<String, Value>) -> Result<Self, &'static str> {
        let text = |name: &str, reason| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(reason),
        };
        let bytes = |name: &str, reason| {
            let text = text(name, reason)?.ok_or(reason)?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| reason)
        };
        const KIND: &str = "its kty and crv must be EC and P-256, OKP and Ed25519, or RSA";
        let (key_type, decoding) = match (text("kty", KIND)?.ok_or(KIND)?, text("crv", KIND)?) {
            ("EC", Some("P-256")) => {
                const POINT: &str = "its x and y must be 32 bytes each, in base64url, of a point on P-256";
                let (x, y) = (bytes("x", POINT)?, bytes("y", POINT)?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(POINT);
                }
                // SEC 1 section 2.3.3: an uncompressed point.
                let point = [&[4][..], &x, &y].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).map_err(|_| POINT)?;
                (KeyType::P256, DecodingKey::from_ec_der(&point))
            }
            ("OKP", Some("Ed25519")) => {
                const X: &str = "its x must be the 32 bytes of an Ed25519 key in base64url";
                let x = bytes("x", X)?;
                ParsedPublicKey::new(&ED25519, &x).map_err(|_| X)?;
                (KeyType::Ed25519, DecodingKey::from_ed_der(&x))
            }
            ("RSA", _) => {
                const NUMBERS: &str = "its n and e must be the numbers of an RSA key in base64url";
                const SIZE: &str = "its RSA modulus must have 2,048 to 4,096 bits";
                let (n, e) = (bytes("n", NUMBERS)?, bytes("e", NUMBERS)?);
                let (n, e) = (without_leading_zeros(&n), without_leading_zeros(&e));
                let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
                if !RSA_BITS.contains(&bits) {
                    return Err(SIZE);
                }
                // Whatever the signature: the numbers are looked at before it is.
                let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
                if !odd(n) || !odd(e) || e.len() > 4 || e == [1] {
                    return Err(NUMBERS);
                }
                let components = RsaPublicKeyComponents { n, e };
                components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).map_err(|_| NUMBERS)?;
                (KeyType::Rsa, DecodingKey::from_rsa_raw_components(n, e))
            }
            _ => return Err(KIND),
        };
        const USE: &str = "its use must be sig, or absent; keys for encryption have no place here";
        if !matches!(text("use", USE)?, None | Some("sig")) {
            return Err(USE);
        }
        const OPERATIONS: &str = "its key_ops must hold verify, or be absent";
        match members.get("key_ops") {
            None => {}
            Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => {}
            Some(_) => return Err(OPERATIONS),
        }
        const ALGORITHM: &str =
            "its alg must fit its type: ES256 for P-256, EdDSA for Ed25519, RS256 or PS256 for RSA";
        let only = match text("alg", ALGORITHM)? {
            None => None,
            Some(name) => match ClientAlgorithm::named(name) {
                Some(ClientAlgorithm(algorithm)) if key_type.serves(algorithm) => Some(algorithm),
                _ => return Err(ALGORITHM),
            },
        };
        const KID: &str = "its kid must be a text of 1 to 256 bytes, or be absent";
        let kid = text("kid", KID)?.map(str::to_owned);
        if kid.as_ref().is_some_and(|kid| !(1..=MAX_KID_BYTES).contains(&kid.len())) {
            return Err(KID);
        }
        Ok(Self { kid, key_type, only, decoding })
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[start..]
}

#[cfg(test)]
mod tests;
