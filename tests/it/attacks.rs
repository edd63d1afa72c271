//! Attacks on the running server that must fail, each beside the honest request from which it differs in one thing.

mod claims;
mod forged;
mod requests;
mod strangers;

use std::path::Path;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use steward::auth::SigningAlgorithm;

use crate::harness::{AGENT_SCOPES, Service, read};

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One of a token's parts, as JSON.
fn part(token: &str, at: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
}

/// A private key of whoever signs: the service's own, or an attacker's.
struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    /// SubjectPublicKeyInfo of the public half.
    public_der: Vec<u8>,
}

impl Signer {
    /// The key in a PKCS#8 PEM text.
    fn of_pem(pem: &str, algorithm: SigningAlgorithm) -> Self {
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(body).unwrap();
        let (key, algorithm, public_der) = match algorithm {
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).unwrap();
                let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
                (EncodingKey::from_ec_pem(pem.as_bytes()), Algorithm::ES256, public.as_ref().to_vec())
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(&der).unwrap();
                let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
                (EncodingKey::from_rsa_pem(pem.as_bytes()), Algorithm::RS256, public.as_ref().to_vec())
            }
            SigningAlgorithm::EdDsa => unreachable!("no attack here needs it"),
        };
        Self { key: key.unwrap(), algorithm, public_der }
    }

    /// The service's own active key.
    fn of_service(data_dir: &Path, algorithm: SigningAlgorithm) -> Self {
        let pem = std::fs::read_to_string(data_dir.join("data/keys/active.pem")).unwrap();
        Self::of_pem(&pem, algorithm)
    }

    /// A key that the service has never seen, and its public JWK.
    fn of_attacker() -> (Self, Value) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        let point = pair.public_key().as_ref();
        let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
            "x": b64(&point[1..33]), "y": b64(&point[33..])});
        (Self::of_pem(&pem, SigningAlgorithm::Es256), jwk)
    }

    fn public_pem(&self) -> String {
        let base64 = STANDARD.encode(&self.public_der);
        let lines: Vec<&str> =
            base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    fn signature(&self, message: &str) -> String {
        jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap()
    }

    /// A compact JWS over these texts, whatever they say.
    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        format!("{message}.{}", self.signature(&message))
    }
}

/// A running service, its private key, and an honest token to change.
struct Forge {
    service: Service,
    signer: Signer,
    token: String,
    header: Value,
    claims: Value,
}

impl Forge {
    async fn new() -> Self {
        Self::with(SigningAlgorithm::Es256).await
    }

    async fn with(algorithm: SigningAlgorithm) -> Self {
        let service = Service::start_with(|config| config.auth.signing_algorithm = algorithm).await;
        let token = service.token(AGENT_SCOPES).await;
        let signer = Signer::of_service(service.data_dir(), algorithm);
        let (header, claims) = (part(&token, 0), part(&token, 1));
        let forge = Self { service, signer, token, header, claims };
        // The control: what is signed in this way passes, so that what fails below fails for what was changed.
        assert_eq!(forge.status(&forge.signed(&forge.header, &forge.claims)).await, 200);
        forge
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        self.signer.sign(&header.to_string(), &claims.to_string())
    }

    /// The honest token with one member of its header changed.
    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        self.signed(&header, &self.claims)
    }

    /// The honest token with one claim changed.
    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.signed(&self.header, &claims)
    }

    async fn status(&self, token: &str) -> u16 {
        self.service.get(token, "/v1/me").await.0
    }

    /// The token is refused at a resource, at introspection and at revocation, and nothing says why.
    async fn refused(&self, name: &str, token: &str) {
        let request = self.service.http.get(format!("{}/v1/me", self.service.url)).bearer_auth(token);
        let answer = request.send().await.unwrap();
        let challenge = answer.headers().get("www-authenticate").cloned();
        let (status, mut problem) = read(answer).await;
        assert_eq!(status, 401, "{name}: {problem:#}");
        let challenge = challenge.unwrap_or_else(|| panic!("{name}: a 401 without challenge"));
        assert!(challenge.to_str().unwrap().contains("error=\"invalid_token\""), "{name}: {challenge:?}");
        problem.as_object_mut().unwrap().remove("request_id");
        let told = json!({
            "type": "urn:steward:problem:unauthenticated", "title": "No valid access token", "status": 401,
            "detail": "the access token is not valid here; get a new one from the token endpoint",
        });
        assert_eq!(problem, told, "{name}");
    }

    /// What introspection says of the token to a client of its own.
    async fn introspected(&self, token: &str) -> Value {
        let (id, secret) = self.service.client("semantic:read").await;
        let (status, answer) =
            form(&self.service, "/oauth/introspect", &id, &secret, &[("token", token)]).await;
        assert_eq!(status, 200, "{answer:#}");
        answer
    }
}

/// A form with the client's credentials in HTTP Basic.
async fn form(
    service: &Service,
    path: &str,
    id: &str,
    secret: &str,
    fields: &[(&str, &str)],
) -> (u16, Value) {
    let request =
        service.http.post(format!("{}{path}", service.url)).basic_auth(id, Some(secret)).form(fields);
    read(request.send().await.unwrap()).await
}
