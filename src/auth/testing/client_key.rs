//! A client's key pair and what it signs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::{KeyFolder, START_MS, SigningAlgorithm};

pub(crate) struct ClientKey {
    /// The public half, with `use`, `alg` and `kid`.
    pub jwk: Value,
    algorithm: Algorithm,
    encoding: EncodingKey,
}

impl ClientKey {
    pub(crate) fn new(algorithm: SigningAlgorithm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        let set = KeyFolder::new(keys.clone(), algorithm).open(START_MS).unwrap();
        let jwk = serde_json::to_value(set.jwks()).unwrap()["keys"][0].clone();
        let pem = std::fs::read(keys.join("active.pem")).unwrap();
        let (algorithm, encoding) = match algorithm {
            SigningAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_pem(&pem)),
            SigningAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_pem(&pem)),
            SigningAlgorithm::EdDsa => (Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem)),
        };
        Self { jwk, algorithm, encoding: encoding.unwrap() }
    }

    pub(crate) fn es256() -> Self {
        Self::new(SigningAlgorithm::Es256)
    }

    /// A JWKS of this key alone.
    pub(crate) fn jwks(&self) -> String {
        json!({"keys": [self.jwk]}).to_string()
    }

    /// The JWK with a member set, or taken away by null.
    pub(crate) fn jwk_with(&self, name: &str, value: Value) -> Value {
        let mut jwk = self.jwk.clone();
        match value {
            Value::Null => drop(jwk.as_object_mut().unwrap().remove(name)),
            value => jwk[name] = value,
        }
        jwk
    }

    /// A compact JWS over whatever texts, by the key's own algorithm whatever the header says.
    pub(crate) fn sign_raw(&self, header: &str, claims: &str) -> String {
        self.sign_by(self.algorithm, header, claims)
    }

    pub(crate) fn sign_by(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.encoding, algorithm).unwrap();
        format!("{message}.{signature}")
    }

    /// The header of a proper assertion.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.jwk["alg"], "typ": "JWT", "kid": self.jwk["kid"]})
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_raw(&self.header().to_string(), &claims.to_string())
    }
}
