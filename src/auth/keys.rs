//! Signing keys: ES256 pairs in `<data_dir>/keys/`, or one from the environment; their ids, and the JWKS.
//!
//! Knows PEM, files and P-256; does not know claims. Blocking: a few small files, read once at start.
//! K1 exactly one key is active; it signs. Next, active and retired keys verify, and stand in the JWKS.
//! K2 a private key is in no log, no error and no JWKS, and in no file that others can read.
//! K3 a key file appears whole or not at all, and processes that start together end up with the same key.
//!
//! Files: `active.pem`, `next.pem`, `retired-<anything>.pem`. Replicas that don't share this folder need the key
//! from the environment, since each would make its own.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::error::ErrorKind;
use crate::store::{StoreError, create_private_folder};

/// The JWS algorithm of every key that is made or taken now.
pub const ALGORITHM: &str = "ES256";
/// RFC 9068 section 2.1.
pub const TOKEN_TYPE: &str = "at+jwt";

/// Why there is no key to sign with.
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
        "{origin} holds {found}; tokens are signed with ES256, make a key with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
    )]
    WrongKey { origin: String, found: &'static str },
    #[error("the private key in {origin} is damaged; restore it, or remove it to have a new one made")]
    Damaged { origin: String },
    #[error("the operating system gave no random numbers for a signing key")]
    NoRandomness,
}

impl KeyError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Read { source, .. } | Self::Write { source, .. } => ErrorKind::of_io(source),
            Self::NoRandomness => ErrorKind::Internal,
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

/// The public half of a key, as RFC 7517 writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicJwk {
    kty: &'static str,
    crv: &'static str,
    x: String,
    y: String,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    kid: String,
}

/// The document behind `jwks_uri` (RFC 7517 section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jwks {
    keys: Vec<PublicJwk>,
}

/// One ES256 pair.
pub struct SigningKey {
    state: KeyState,
    pair: EcdsaKeyPair,
    verifying: DecodingKey,
    jwk: PublicJwk,
    /// The base64url header of every token that it signs.
    header: String,
}

impl SigningKey {
    fn new(pair: EcdsaKeyPair, state: KeyState) -> Self {
        // SEC 1 section 2.3.3: 0x04, 32 bytes of x, 32 bytes of y.
        let point = pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638 section 3.2: the required members in this order, without white space.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        let header =
            URL_SAFE_NO_PAD.encode(format!(r#"{{"typ":"{TOKEN_TYPE}","alg":"{ALGORITHM}","kid":"{kid}"}}"#));
        let verifying = DecodingKey::from_ec_der(point);
        let jwk = PublicJwk { kty: "EC", crv: "P-256", x, y, usage: "sig", alg: ALGORITHM, kid };
        Self { state, pair, verifying, jwk, header }
    }

    /// The key's RFC 7638 SHA-256 thumbprint: 43 characters of base64url.
    pub fn kid(&self) -> &str {
        &self.jwk.kid
    }

    /// What the key is for at present.
    pub fn state(&self) -> KeyState {
        self.state
    }

    /// The compact JWS over these claims; `None` if the library fails to sign.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let claims = serde_json::to_vec(claims).ok()?;
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 96);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Some(token)
    }

    /// Whether the base64url `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.verifying, Algorithm::ES256)
            .unwrap_or(false)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?} {})", self.state, self.kid())
    }
}

/// All keys that verify, with the one that signs.
#[derive(Debug)]
pub struct KeySet {
    active: SigningKey,
    others: Vec<SigningKey>,
}

impl KeySet {
    /// The key in `private_key_pem` if there is one (PKCS#8 or SEC 1; `\n` may stand for line ends; a blank text is
    /// none, as container tools set variables so), else those in `folder`, where an active one is made if need be.
    pub fn load(folder: &Path, private_key_pem: Option<&SecretString>) -> Result<Self, KeyError> {
        match private_key_pem {
            Some(pem) if !pem.expose_secret().trim().is_empty() => Self::from_pem(pem),
            _ => Self::open(folder),
        }
    }

    fn from_pem(pem: &SecretString) -> Result<Self, KeyError> {
        let text = SecretString::from(pem.expose_secret().replace("\\r", "").replace("\\n", "\n"));
        Ok(Self {
            active: SigningKey::new(parse_pem(&text, "JWT_PRIVATE_KEY")?, KeyState::Active),
            others: vec![],
        })
    }

    fn open(folder: &Path) -> Result<Self, KeyError> {
        create_private_folder(folder)?;
        refuse_open_mode(folder, 0o700)?;
        let path = folder.join("active.pem");
        if !path.try_exists().map_err(|source| KeyError::Read { path: path.clone(), source })? {
            make_key_file(folder, &path)?;
        }
        let active = SigningKey::new(read_key_file(&path)?, KeyState::Active);
        let mut others = Vec::new();
        let read_error = |source| KeyError::Read { path: folder.to_path_buf(), source };
        for entry in std::fs::read_dir(folder).map_err(read_error)? {
            let path = entry.map_err(read_error)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let state = match name {
                "active.pem" => continue,
                "next.pem" => KeyState::Next,
                _ if name.starts_with("retired-") && name.ends_with(".pem") => KeyState::Retired,
                // Another process may be writing its temporary file just now.
                _ if name.starts_with(".tmp") => continue,
                _ => {
                    warn!(path = %path.display(), "file in the key folder is none of active.pem, next.pem, retired-*.pem");
                    continue;
                }
            };
            others.push(SigningKey::new(read_key_file(&path)?, state));
        }
        others.retain(|key| key.kid() != active.kid());
        Ok(Self { active, others })
    }

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
}

/// Makes a key and publishes it under `path` unless another process was quicker (K3).
fn make_key_file(folder: &Path, path: &Path) -> Result<(), KeyError> {
    let write_error = |source| KeyError::Write { path: path.to_path_buf(), source };
    let pair =
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::NoRandomness)?;
    let document = pair.to_pkcs8v1().map_err(|_| KeyError::NoRandomness)?;
    let pem = encode_pem(document.as_ref());
    // tempfile creates with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(write_error)?;
    file.write_all(pem.expose_secret().as_bytes()).map_err(write_error)?;
    file.as_file().sync_all().map_err(write_error)?;
    match file.persist_noclobber(path) {
        Ok(_) => info!(path = %path.display(), "made a signing key"),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(write_error(error.error)),
    }
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(write_error)
}

fn read_key_file(path: &Path) -> Result<EcdsaKeyPair, KeyError> {
    refuse_open_mode(path, 0o600)?;
    let bytes = std::fs::read(path).map_err(|source| KeyError::Read { path: path.to_path_buf(), source })?;
    let origin = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|_| KeyError::NotPem { origin: origin.clone() })?;
    parse_pem(&SecretString::from(text), &origin)
}

/// Refuses what the group or others can read, change or enter (K2).
fn refuse_open_mode(path: &Path, wanted: u32) -> Result<(), KeyError> {
    let metadata =
        std::fs::metadata(path).map_err(|source| KeyError::Read { path: path.to_path_buf(), source })?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::TooOpen { path: path.to_path_buf(), mode, wanted });
        }
    }
    #[cfg(not(unix))]
    let _ = (metadata, wanted);
    Ok(())
}

fn encode_pem(der: &[u8]) -> SecretString {
    let body = STANDARD.encode(der);
    let mut pem = String::with_capacity(body.len() + body.len() / 64 + 60);
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for start in (0..body.len()).step_by(64) {
        pem.push_str(&body[start..body.len().min(start + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    SecretString::from(pem)
}

/// Reads the first private key of a PEM text; other blocks (`EC PARAMETERS`) are passed over.
fn parse_pem(pem: &SecretString, origin: &str) -> Result<EcdsaKeyPair, KeyError> {
    let mut rest = pem.expose_secret();
    let mut other_label = None;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let not_pem = || KeyError::NotPem { origin: origin.to_owned() };
        let (label, after) = after.split_once("-----").ok_or_else(not_pem)?;
        let (body, after) = after.split_once(&format!("-----END {label}-----")).ok_or_else(not_pem)?;
        rest = after;
        match label {
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => {
                if body.contains("ENCRYPTED") {
                    return Err(KeyError::Encrypted { origin: origin.to_owned() });
                }
                let body = SecretString::from(body.split_ascii_whitespace().collect::<String>());
                let der = STANDARD.decode(body.expose_secret()).map_err(|_| not_pem())?;
                return parse_der(&SecretSlice::from(der), origin);
            }
            "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted { origin: origin.to_owned() }),
            _ => other_label = Some(label.chars().filter(char::is_ascii).take(40).collect()),
        }
    }
    Err(match other_label {
        Some(label) => KeyError::NotPrivate { origin: origin.to_owned(), label },
        None => KeyError::NotPem { origin: origin.to_owned() },
    })
}

fn parse_der(der: &SecretSlice<u8>, origin: &str) -> Result<EcdsaKeyPair, KeyError> {
    let der = der.expose_secret();
    if let Ok(pair) = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
        return Ok(pair);
    }
    let on = |curve| EcdsaKeyPair::from_private_key_der(curve, der).is_ok();
    let found = if on(&ECDSA_P384_SHA384_FIXED_SIGNING) {
        "a key on the curve P-384"
    } else if on(&ECDSA_P521_SHA512_FIXED_SIGNING) {
        "a key on the curve P-521"
    } else if on(&ECDSA_P256K1_SHA256_ASN1_SIGNING) {
        "a key on the curve secp256k1"
    } else if RsaKeyPair::from_pkcs8(der).is_ok() || RsaKeyPair::from_der(der).is_ok() {
        "an RSA key"
    } else if Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).is_ok() {
        "an Ed25519 key"
    } else {
        return Err(KeyError::Damaged { origin: origin.to_owned() });
    };
    Err(KeyError::WrongKey { origin: origin.to_owned(), found })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use aws_lc_rs::encoding::AsDer;
    use jsonwebtoken::jwk::{Jwk, ThumbprintHash};

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    fn write(folder: &Path, name: &str, text: &str, mode: u32) {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn new_pem() -> String {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        encode_pem(pair.to_pkcs8v1().unwrap().as_ref()).expose_secret().to_owned()
    }

    fn labelled(label: &str, der: &[u8]) -> String {
        encode_pem(der).expose_secret().replace("PRIVATE KEY", label)
    }

    #[test]
    fn the_first_start_makes_a_private_key_file_and_the_second_reads_it() {
        let root = folder();
        let keys = root.path().join("data/keys");
        let first = KeySet::load(&keys, None).unwrap();
        let second = KeySet::load(&keys, None).unwrap();
        assert_eq!(first.active().kid(), second.active().kid());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&keys), mode(&keys.join("active.pem"))), (0o700, 0o600));
        assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn processes_that_start_together_agree_on_one_key() {
        let root = folder();
        let keys = root.path().join("keys");
        let kids: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| KeySet::load(&keys, None).unwrap().active().kid().to_owned()))
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(kids.iter().all(|kid| *kid == kids[0]), "{kids:?}");
    }

    #[test]
    fn the_kid_is_the_rfc_7638_thumbprint_and_the_jwks_holds_no_private_part() {
        let set = KeySet::from_pem(&new_pem().into()).unwrap();
        let json = serde_json::to_value(set.jwks()).unwrap();
        let jwk: Jwk = serde_json::from_value(json["keys"][0].clone()).unwrap();
        assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), set.active().kid());
        let members: Vec<_> = json["keys"][0].as_object().unwrap().keys().collect();
        assert_eq!(members, ["kty", "crv", "x", "y", "use", "alg", "kid"], "and above all no d");
    }

    #[test]
    fn the_environments_key_may_have_escaped_line_ends_or_be_sec1() {
        let pem = new_pem();
        let plain = KeySet::from_pem(&pem.clone().into()).unwrap();
        let escaped = KeySet::from_pem(&pem.replace('\n', "\\n").into()).unwrap();
        assert_eq!(plain.active().kid(), escaped.active().kid());
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let sec1 = labelled("EC PRIVATE KEY", pair.private_key().as_der().unwrap().as_ref());
        let with_parameters =
            format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{sec1}");
        KeySet::from_pem(&with_parameters.into()).unwrap();
    }

    #[test]
    fn keys_in_every_state_verify_and_only_the_active_one_signs() {
        let root = folder();
        write(root.path(), "active.pem", &new_pem(), 0o600);
        write(root.path(), "next.pem", &new_pem(), 0o600);
        write(root.path(), "retired-2026.pem", &new_pem(), 0o600);
        let set = KeySet::load(root.path(), None).unwrap();
        let mut states: Vec<_> = set.iter().map(SigningKey::state).collect();
        states[1..].sort_by_key(|state| *state == KeyState::Retired);
        assert_eq!(states, [KeyState::Active, KeyState::Next, KeyState::Retired]);
        assert_eq!(set.iter().filter(|key| set.find(key.kid()).is_some()).count(), 3);
    }

    #[test]
    fn a_key_file_that_will_not_do_is_refused_with_what_to_do() {
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let p384 = encode_pem(p384.to_pkcs8v1().unwrap().as_ref()).expose_secret().to_owned();
        let ed = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let ed = encode_pem(ed.as_ref()).expose_secret().to_owned();
        let whole = new_pem();
        let cut = whole.lines().take(2).collect::<Vec<_>>().join("\n") + "\n-----END PRIVATE KEY-----\n";
        for (text, mode, expected) in [
            (whole.as_str(), 0o640, "chmod 600"),
            (whole.as_str(), 0o604, "chmod 600"),
            ("", 0o600, "no PEM block"),
            ("hello", 0o600, "no PEM block"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n", 0o600, "no PEM block"),
            ("-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n", 0o600, "no PEM block"),
            (p384.as_str(), 0o600, "curve P-384"),
            (ed.as_str(), 0o600, "an Ed25519 key"),
            (cut.as_str(), 0o600, "damaged"),
            (&whole.replace("PRIVATE", "PUBLIC"), 0o600, "no private key"),
            (&whole.replace("PRIVATE", "ENCRYPTED PRIVATE"), 0o600, "password-protected"),
        ] {
            let root = folder();
            write(root.path(), "active.pem", text, mode);
            let error = KeySet::load(root.path(), None).unwrap_err();
            assert!(error.to_string().contains(expected), "expected {expected}: {error}");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(whole.lines().nth(1).is_none_or(|secret| !format!("{error:?}").contains(secret)));
        }
        let root = folder();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(KeySet::load(root.path(), None).unwrap_err().to_string().contains("chmod 700"));
        let root = folder();
        std::fs::create_dir(root.path().join("active.pem")).unwrap();
        std::fs::set_permissions(root.path().join("active.pem"), std::fs::Permissions::from_mode(0o700))
            .unwrap();
        assert!(matches!(KeySet::load(root.path(), None), Err(KeyError::Read { .. })));
    }
}
