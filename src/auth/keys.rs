//! Signing keys: where they come from, what each is for at present, and the JWKS.
//!
//! Knows what makes a set of keys; `pair` knows algorithms, `pem` texts, `folder` files and rotation, `public` the keys
//! of clients. Does not know claims.
//! K1 exactly one key is active; it signs. Next, active and retired keys verify, and stand in the JWKS.
//! K2 a private key is in no log, no error and no JWKS, and in no file that others can read.
//! K3 a token is verified by the algorithm of its key; what its header says of it must agree, and chooses nothing.
//!
//! Replicas that don't share the folder need the key from the environment, since each would make its own.

mod folder;
mod pair;
mod pem;
mod public;

use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::error::ErrorKind;
use crate::store::StoreError;

pub use folder::{Fingerprint, KeyFolder, PUBLISH_AHEAD_MS};
use pair::Pair;
pub use pair::{PublicJwk, SigningAlgorithm};
pub use public::{CLIENT_ALGORITHMS, JwksError, MAX_JWKS_BYTES, MAX_JWKS_KEYS};
pub(super) use public::{ClientAlgorithm, PublicKeys};

/// RFC 9068 section 2.1.
pub const TOKEN_TYPE: &str = "at+jwt";

/// Why there is no key to sign with, or no other one.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Folder(#[from] StoreError),
    #[error("cannot read the signing key {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write the signing key {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error(
        "others than its owner can reach {path} (mode {mode:03o}); run `chmod {wanted:03o} {path}`, and replace the keys if somebody may have read them"
    )]
    TooOpen { path: PathBuf, mode: u32, wanted: u32 },
    #[error(
        "{origin} holds no PEM block; it must hold `-----BEGIN PRIVATE KEY-----`, base64 and the END line"
    )]
    NotPem { origin: String },
    #[error(
        "{origin} holds a password-protected key; decrypt it with `openssl pkcs8 -in key.pem -out plain.pem`"
    )]
    Encrypted { origin: String },
    #[error("{origin} holds `{label}`, no private key; give the private key's PEM")]
    NotPrivate { origin: String, label: String },
    #[error(
        "{origin} holds {found}; tokens are signed with ES256 (P-256), RS256 (2048 bits or more) or EdDSA (Ed25519), make a key with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
    )]
    WrongKey { origin: String, found: &'static str },
    #[error("the private key in {origin} is damaged; restore it, or remove it to have a new one made")]
    Damaged { origin: String },
    #[error(
        "{origin} holds no public key; it must hold the `-----BEGIN PUBLIC KEY-----` block that `openssl pkey -pubout` writes, or be left out"
    )]
    NotPublic { origin: String },
    #[error(
        "JWT_PUBLIC_KEY is not the public key of JWT_PRIVATE_KEY; leave it out, since it follows from the private key, or write it with `openssl pkey -pubout`"
    )]
    NotAPair,
    #[error(
        "JWT_PUBLIC_KEY is set without JWT_PRIVATE_KEY; this service signs tokens, which takes the private key: set JWT_PRIVATE_KEY, or neither to have keys made in the data folder"
    )]
    PublicKeyAlone,
    #[error("the operating system gave no random numbers for a signing key")]
    NoRandomness,
    #[error(
        "the signing key comes from JWT_PRIVATE_KEY, which only its owner can change; set another one and restart every replica (tokens of the old key end), or remove the variable to have keys in the data folder that rotate without an invalid token"
    )]
    FromEnvironment,
    #[error("there is no next key at {path}; the folder must be writable, so that one can be made")]
    NoNext { path: PathBuf },
    #[error(
        "the next key is too young to sign: verifiers that cached the JWKS do not know it yet; try again in {wait_s} s, or insist with force (--force) if the active key has leaked"
    )]
    TooSoon { wait_s: i64 },
    #[error("work on the signing keys was interrupted")]
    Interrupted,
}

impl KeyError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Read { source, .. } | Self::Write { source, .. } => ErrorKind::of_io(source),
            Self::NoRandomness | Self::Interrupted => ErrorKind::Internal,
            Self::FromEnvironment | Self::NoNext { .. } | Self::TooSoon { .. } => ErrorKind::Conflict,
            _ => ErrorKind::InvalidInput,
        }
    }
}

/// What a key is for at present (K1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Published ahead of its use, so that caches of the JWKS know it by then.
    Next,
    /// Signs.
    Active,
    /// Signs no more; verifies until its last token has expired.
    Retired,
}

impl KeyState {
    /// As lists show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// The document behind `jwks_uri` (RFC 7517 section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jwks {
    keys: Vec<PublicJwk>,
}

/// What may be told about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// RFC 7638 SHA-256 thumbprint: 43 characters of base64url.
    pub kid: String,
    pub algorithm: SigningAlgorithm,
    pub state: KeyState,
    /// Epoch milliseconds, like the other times; unknown for a key from the environment.
    pub made_at_ms: Option<i64>,
    pub retired_at_ms: Option<i64>,
    /// When a retired key goes; unknown for one that was put into the folder by hand, which stays.
    pub kept_until_ms: Option<i64>,
}

/// One key pair with what it is for.
pub struct SigningKey {
    state: KeyState,
    pair: Pair,
    verifying: DecodingKey,
    jwk: PublicJwk,
    /// The base64url header of every token that it signs.
    header: String,
    made_at_ms: Option<i64>,
    retired_at_ms: Option<i64>,
    kept_until_ms: Option<i64>,
}

impl SigningKey {
    fn new(pair: Pair, state: KeyState, origin: &str) -> Result<Self, KeyError> {
        let jwk = pair.jwk().ok_or_else(|| KeyError::Damaged { origin: origin.to_owned() })?;
        let (alg, kid) = (pair.algorithm(), &jwk.kid);
        let header =
            URL_SAFE_NO_PAD.encode(format!(r#"{{"typ":"{TOKEN_TYPE}","alg":"{alg}","kid":"{kid}"}}"#));
        let verifying = pair.verifying_key();
        Ok(Self {
            state,
            pair,
            verifying,
            jwk,
            header,
            made_at_ms: None,
            retired_at_ms: None,
            kept_until_ms: None,
        })
    }

    /// The key's RFC 7638 SHA-256 thumbprint: 43 characters of base64url.
    pub fn kid(&self) -> &str {
        &self.jwk.kid
    }

    /// What the key is for at present.
    pub fn state(&self) -> KeyState {
        self.state
    }

    /// The one algorithm that it signs and verifies with (K3).
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.pair.algorithm()
    }

    fn made_at_ms(&self) -> Option<i64> {
        self.made_at_ms
    }

    /// What may be told about it.
    pub fn info(&self) -> KeyInfo {
        KeyInfo {
            kid: self.kid().to_owned(),
            algorithm: self.algorithm(),
            state: self.state,
            made_at_ms: self.made_at_ms,
            retired_at_ms: self.retired_at_ms,
            kept_until_ms: self.kept_until_ms,
        }
    }

    /// The compact JWS over these claims; `None` if the library fails to sign.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let claims = serde_json::to_vec(claims).ok()?;
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 96);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.pair.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    /// Whether the base64url `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        signature_holds(self.algorithm().for_verifying(), &self.verifying, message, signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?} {} {})", self.state, self.algorithm(), self.kid())
    }
}

/// Whether the base64url `signature` over `message` is by that key and algorithm; a key of another type made none.
fn signature_holds(algorithm: Algorithm, key: &DecodingKey, message: &str, signature: &str) -> bool {
    jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm).unwrap_or(false)
}

/// All keys that verify, with the one that signs.
#[derive(Debug)]
pub struct KeySet {
    active: SigningKey,
    others: Vec<SigningKey>,
}

impl KeySet {
    /// The key that signs.
    pub fn active(&self) -> &SigningKey {
        &self.active
    }

    /// The key of that id, in whatever state.
    pub fn find(&self, kid: &str) -> Option<&SigningKey> {
        self.iter().find(|key| key.kid() == kid)
    }

    /// All keys, the active one first.
    pub fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.active).chain(&self.others)
    }

    /// The public halves, for those who verify offline.
    pub fn jwks(&self) -> Jwks {
        Jwks { keys: self.iter().map(|key| key.jwk.clone()).collect() }
    }

    /// What may be told about each key, the active one first.
    pub fn infos(&self) -> Vec<KeyInfo> {
        self.iter().map(SigningKey::info).collect()
    }
}

/// Where the keys come from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// One pair, given by whoever runs the service.
    Environment {
        private_pem: SecretString,
        public_pem: Option<String>,
    },
    Folder(KeyFolder),
}

impl KeySource {
    /// `JWT_PRIVATE_KEY` if there is one (PKCS#8, SEC 1 or PKCS#1; `\n` may stand for line ends), and with it
    /// `JWT_PUBLIC_KEY`, which must be its public half; else the folder. A blank text is none, as container tools set
    /// variables so. Reads no file yet.
    pub fn choose(
        private_pem: Option<SecretString>,
        public_pem: Option<String>,
        folder: KeyFolder,
    ) -> Result<Self, KeyError> {
        let private_pem = private_pem.filter(|pem| !pem.expose_secret().trim().is_empty());
        let public_pem = public_pem.filter(|pem| !pem.trim().is_empty());
        match (private_pem, public_pem) {
            (Some(private_pem), public_pem) => Ok(Self::Environment { private_pem, public_pem }),
            (None, Some(_)) => Err(KeyError::PublicKeyAlone),
            (None, None) => Ok(Self::Folder(folder)),
        }
    }

    /// Reads the keys; in a folder, makes those that are missing. Blocking.
    pub fn open(&self, now_ms: i64) -> Result<KeySet, KeyError> {
        match self {
            Self::Environment { private_pem, public_pem } => {
                let origin = "JWT_PRIVATE_KEY";
                let pair = pem::parse(&pem::unescape(private_pem.expose_secret()), origin)?;
                if let Some(public_pem) = public_pem {
                    let public_pem = pem::unescape(public_pem);
                    pem::check_public(public_pem.expose_secret(), "JWT_PUBLIC_KEY", &pair)?;
                }
                Ok(KeySet { active: SigningKey::new(pair, KeyState::Active, origin)?, others: vec![] })
            }
            Self::Folder(folder) => folder.open(now_ms),
        }
    }

    /// See [`KeyFolder::rotate`]; the environment's key cannot be rotated from here. Blocking.
    pub fn rotate(&self, now_ms: i64, token_lifetime_s: u64, force: bool) -> Result<KeySet, KeyError> {
        match self {
            Self::Environment { .. } => Err(KeyError::FromEnvironment),
            Self::Folder(folder) => folder.rotate(now_ms, token_lifetime_s, force),
        }
    }
}

#[cfg(test)]
mod tests;
