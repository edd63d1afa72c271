//! The `credentials` of an action file. Pure. R1 a value that is no reference is refused and not repeated.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::security::secret::SecretRef;
use super::super::yaml::{Findings, Node, Section};
use super::{ClientAuthentication, Credential, OAuthCredential, PlacedCredential};

/// Reads `credentials`: by scheme name, each a form of references.
pub fn read_credentials(
    top: &Section<'_>,
    folder: &Path,
    findings: &Findings,
) -> BTreeMap<String, PlacedCredential> {
    let mut credentials = BTreeMap::new();
    let Some(section) = top.section("credentials") else { return credentials };
    for (scheme, node) in section.entries() {
        let Some(inner) = Section::new(node, format!("credentials.{}", scheme.value), findings) else {
            continue;
        };
        let read = CredentialReader { section: &inner, folder, findings };
        if let Some(credential) = read.credential() {
            credentials.insert(scheme.value.clone(), PlacedCredential { credential, at: scheme.referenced });
        }
        inner.finish();
    }
    credentials
}

/// Every key that some form of credential takes.
const CREDENTIAL_KEYS: [&str; 11] = [
    "value",
    "prefix",
    "username",
    "password",
    "token",
    "client_id",
    "client_secret",
    "refresh_token",
    "token_url",
    "scopes",
    "client_authentication",
];

struct CredentialReader<'a> {
    section: &'a Section<'a>,
    folder: &'a Path,
    findings: &'a Findings,
}

impl CredentialReader<'_> {
    /// Asks for every key of every form, so that `finish` knows them, then decides by what is there.
    fn credential(&self) -> Option<Credential> {
        let told = self.findings.count();
        let value = self.secret("value");
        let prefix = self.section.text("prefix").map(|text| text.value.to_owned());
        let username = self.secret("username");
        let password = self.secret("password");
        let token = self.secret("token");
        let client_id = self.secret("client_id");
        let client_secret = self.secret("client_secret");
        let refresh_token = self.secret("refresh_token");
        let token_url = self.section.text("token_url").map(|text| text.value.to_owned());
        let scopes = self
            .section
            .texts("scopes")
            .map(|texts| texts.iter().map(|text| text.value.to_owned()).collect::<Vec<_>>());
        let client_authentication = match self.section.text("client_authentication") {
            None => ClientAuthentication::default(),
            Some(text) => match text.value {
                "basic" => ClientAuthentication::Basic,
                "post" => ClientAuthentication::Post,
                _ => {
                    self.findings.error(
                        text.referenced,
                        "actions/credential",
                        "`client_authentication` must be basic or post".to_owned(),
                        "",
                    );
                    ClientAuthentication::default()
                }
            },
        };
        if let Some(value) = value {
            self.only("value", &["value", "prefix"]);
            return Some(Credential::ApiKey { value, prefix: prefix.unwrap_or_default() });
        }
        if let Some(token) = token {
            self.only("token", &["token"]);
            return Some(Credential::Bearer { token });
        }
        if let Some(client_id) = client_id {
            self.refuse("client_id", &["prefix"]);
            return Some(Credential::OAuth(OAuthCredential {
                client_id,
                client_secret,
                username,
                password,
                refresh_token,
                token_url,
                scopes,
                client_authentication,
            }));
        }
        if let (Some(username), Some(password)) = (username, password) {
            self.only("username", &["username", "password"]);
            return Some(Credential::Basic { username, password });
        }
        // A literal or a wrong type was told already.
        if self.findings.count() == told {
            self.findings.error(
                self.section.at(),
                "actions/credential",
                "this credential is incomplete".to_owned(),
                "give `value` (API key), `username` and `password` (basic), `token` (bearer), or `client_id` with \
                 `client_secret` (OAuth2)",
            );
        }
        None
    }

    /// Every other key than these is a mistake next to `main`.
    fn only(&self, main: &str, allowed: &[&str]) {
        self.refuse_where(main, |key| !allowed.contains(&key));
    }

    fn refuse(&self, main: &str, refused: &[&str]) {
        self.refuse_where(main, |key| refused.contains(&key));
    }

    fn refuse_where(&self, main: &str, refused: impl Fn(&str) -> bool) {
        for (key, _) in self.section.entries() {
            let name = key.value.as_str();
            if CREDENTIAL_KEYS.contains(&name) && refused(name) {
                let message = format!("`{name}` does not go with `{main}`");
                self.findings.error(key.referenced, "actions/credential", message, "remove one of them");
            }
        }
    }

    fn secret(&self, key: &'static str) -> Option<SecretRef> {
        let node = self.section.get(key)?;
        if let Node::Text(text) = &node.value
            && let Some(reference) = SecretRef::parse(text, self.folder)
        {
            return Some(reference);
        }
        // The text itself is not repeated: it may be the secret.
        self.findings.error(
            node.referenced,
            "actions/literal-secret",
            format!(
                "`{key}` holds a literal value; it would end up in version control, backups and editors' histories"
            ),
            "write `env:NAME` or `file:path` and keep the value there; change the secret if this file was committed",
        );
        None
    }
}
