//! Credentials on requests: which of the document's alternatives is used, and what it puts where.
//!
//! C1 a secret is a `SecretString`, in a header marked sensitive; it is in no `Debug`, log, URL shown or error.
//! C2 a call is anonymous only where the document allows it and nothing better is configured.
//! C3 what a credential sets wins over whatever the arguments hold.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::catalog::Api;
use super::error::ActionError;
use super::file::{Credential, OAuthCredential};
use super::spec::{KeyPlace, Operation, Requirements, Scheme, SchemeUse};

pub mod redact;
pub mod secret;
pub mod token;

use redact::Redactor;
use token::{TokenContext, TokenHold, Tokens};

/// What one call's credentials add to its request.
#[derive(Default)]
pub struct AppliedCredentials {
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub query: Vec<(String, SecretString)>,
    pub cookies: Vec<(String, SecretString)>,
    /// Cached tokens that were used, to be dropped if the API refuses them.
    pub tokens: Vec<TokenHold>,
    secrets: Vec<SecretString>,
}

impl std::fmt::Debug for AppliedCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppliedCredentials").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

impl AppliedCredentials {
    /// Takes these credentials out of messages.
    pub fn message_redactor(&self) -> Redactor {
        Redactor::for_messages(&self.secrets)
    }

    /// Takes these credentials out of answers.
    pub fn data_redactor(&self) -> Redactor {
        Redactor::for_data(&self.secrets)
    }

    /// Whether nothing is added.
    pub fn is_anonymous(&self) -> bool {
        self.secrets.is_empty()
    }

    fn header(&mut self, api: &Api, scheme: &str, name: HeaderName, text: &str) -> Result<(), ActionError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| ActionError::CredentialMismatch {
            api: api.name().to_string(),
            scheme: scheme.to_owned(),
            reason: "the value holds characters that no header may hold".to_owned(),
        })?;
        if self.headers.iter().any(|(other, _)| *other == name) {
            return Err(ActionError::CredentialMismatch {
                api: api.name().to_string(),
                scheme: scheme.to_owned(),
                reason: format!("the document wants two credentials in the one header {name}"),
            });
        }
        value.set_sensitive(true);
        self.headers.push((name, value));
        Ok(())
    }

    fn authorization(&mut self, api: &Api, scheme: &str, text: &str) -> Result<(), ActionError> {
        self.header(api, scheme, AUTHORIZATION, text)
    }
}

/// The keys that an action file needs for a scheme, for messages.
pub fn keys_for(scheme: &Scheme) -> String {
    match scheme {
        Scheme::ApiKey { .. } => "{value: env:NAME}".to_owned(),
        Scheme::Basic => "{username: env:NAME, password: env:NAME}".to_owned(),
        Scheme::Bearer => "{token: env:NAME} (or token_url, client_id and client_secret)".to_owned(),
        Scheme::OAuth2(_) | Scheme::OpenIdConnect { .. } => {
            "{client_id: env:NAME, client_secret: env:NAME}".to_owned()
        }
        Scheme::Unsupported(reason) => format!("nothing: {reason}"),
    }
}

/// Whether a credential is of the sort that a scheme takes.
pub fn fits(scheme: &Scheme, credential: &Credential) -> bool {
    matches!(
        (scheme, credential),
        (Scheme::ApiKey { .. }, Credential::ApiKey { .. })
            | (Scheme::Basic, Credential::Basic { .. })
            | (Scheme::Bearer, Credential::Bearer { .. })
            // Documents often say `bearer` of tokens that an endpoint gives; which one, the action file says.
            | (Scheme::Bearer, Credential::OAuth(OAuthCredential { token_url: Some(_), .. }))
            | (
                Scheme::OAuth2(_) | Scheme::OpenIdConnect { .. },
                Credential::OAuth(_) | Credential::Bearer { .. } | Credential::Basic { .. }
            )
    )
}

/// The alternatives that are configured whole, in the order of the document; `None`: anonymous.
///
/// An empty alternative (`{}`) is used only when no other is configured, so that optional authentication is used
/// where the administrator provided for it.
fn candidates<'a>(api: &Api, requirements: &'a Requirements) -> Result<Option<Vec<&'a [SchemeUse]>>, String> {
    if requirements.is_empty() {
        return Ok(None);
    }
    let configured = |one: &SchemeUse| api.file().credentials.contains_key(&one.scheme);
    let whole: Vec<&[SchemeUse]> = requirements
        .iter()
        .filter(|set| !set.is_empty() && set.iter().all(configured))
        .map(Vec::as_slice)
        .collect();
    if !whole.is_empty() {
        return Ok(Some(whole));
    }
    if requirements.iter().any(Vec::is_empty) {
        return Ok(None);
    }
    let sets: Vec<String> = requirements
        .iter()
        .map(|set| {
            set.iter()
                .filter(|one| !configured(one))
                .map(|one| match api.spec().schemes().get(&one.scheme) {
                    Some(scheme) => {
                        format!("credentials.{}: {}", one.scheme, keys_for(scheme))
                    }
                    None => format!("`{}`, which the document does not define", one.scheme),
                })
                .collect::<Vec<_>>()
                .join(" and ")
        })
        .collect();
    Err(format!("add to {} {}", api.path(), sets.join(", or ")))
}

/// Whether the operation can be called with what the action file holds; the error says what to add.
pub fn check_configured(api: &Api, requirements: &Requirements) -> Result<(), String> {
    candidates(api, requirements).map(|_| ())
}

/// Reads the credentials of the first usable alternative and says what they add to the request.
pub async fn apply(
    api: &Api,
    operation: &Operation,
    tokens: &Tokens,
    context: &TokenContext<'_>,
) -> Result<AppliedCredentials, ActionError> {
    let sets = candidates(api, &operation.security).map_err(|missing| ActionError::MissingCredentials {
        api: api.name().to_string(),
        operation: api.published_name(&operation.head.name).unwrap_or(&operation.head.name).to_string(),
        missing,
    })?;
    let Some(sets) = sets else { return Ok(AppliedCredentials::default()) };
    let mut first_error = None;
    for set in sets {
        match apply_set(api, set, tokens, context).await {
            Ok(applied) => return Ok(applied),
            // Another alternative may have its secret at hand; a token endpoint that fails is no reason to switch.
            Err(error @ (ActionError::Secret { .. } | ActionError::CredentialMismatch { .. })) => {
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first_error.unwrap_or(ActionError::Internal("no security alternative was tried".to_owned())))
}

async fn apply_set(
    api: &Api,
    set: &[SchemeUse],
    tokens: &Tokens,
    context: &TokenContext<'_>,
) -> Result<AppliedCredentials, ActionError> {
    let mut applied = AppliedCredentials::default();
    for one in set {
        let mismatch = |reason: &str| ActionError::CredentialMismatch {
            api: api.name().to_string(),
            scheme: one.scheme.clone(),
            reason: reason.to_owned(),
        };
        let scheme = api.spec().schemes().get(&one.scheme);
        let scheme = scheme.ok_or_else(|| mismatch("the document does not define it"))?;
        let placed =
            api.file().credentials.get(&one.scheme).ok_or_else(|| mismatch("it is not configured"))?;
        let read = |reference| read_secret(api, &one.scheme, reference);
        match (scheme, &placed.credential) {
            (Scheme::ApiKey { place, name }, Credential::ApiKey { value, prefix }) => {
                let value = read(value).await?;
                let text = SecretString::from(format!("{prefix}{}", value.expose_secret()));
                match place {
                    KeyPlace::Header => {
                        let name: HeaderName =
                            name.parse().map_err(|_| mismatch("the document's header name is not one"))?;
                        applied.header(api, &one.scheme, name, text.expose_secret())?;
                    }
                    KeyPlace::Query => applied.query.push((name.clone(), text)),
                    KeyPlace::Cookie => applied.cookies.push((name.clone(), text)),
                }
                applied.secrets.push(value);
            }
            (Scheme::Basic, Credential::Basic { username, password }) => {
                let (username, password) = (read(username).await?, read(password).await?);
                if username.expose_secret().contains(':') {
                    return Err(mismatch("the user name of HTTP basic must not hold a colon"));
                }
                let pair = format!("{}:{}", username.expose_secret(), password.expose_secret());
                let encoded = BASE64_STANDARD.encode(&pair);
                applied.authorization(api, &one.scheme, &format!("Basic {encoded}"))?;
                applied.secrets.extend([password, SecretString::from(encoded), SecretString::from(pair)]);
            }
            (
                Scheme::Bearer | Scheme::OAuth2(_) | Scheme::OpenIdConnect { .. },
                Credential::Bearer { token },
            ) => {
                let token = read(token).await?;
                applied.authorization(api, &one.scheme, &format!("Bearer {}", token.expose_secret()))?;
                applied.secrets.push(token);
            }
            (
                Scheme::Bearer | Scheme::OAuth2(_) | Scheme::OpenIdConnect { .. },
                credential @ (Credential::OAuth(_) | Credential::Basic { .. }),
            ) => {
                let hold = tokens.token(api, one, scheme, credential, context).await?;
                let text = format!("Bearer {}", hold.token.expose_secret());
                applied.authorization(api, &one.scheme, &text)?;
                applied.secrets.push(hold.token.clone());
                applied.tokens.push(hold);
            }
            (Scheme::Unsupported(reason), _) => return Err(mismatch(reason)),
            (scheme, _) => return Err(mismatch(&format!("it needs {}", keys_for(scheme)))),
        }
    }
    Ok(applied)
}

/// Reads a secret for a scheme of an API.
pub(super) async fn read_secret(
    api: &Api,
    scheme: &str,
    reference: &secret::SecretRef,
) -> Result<SecretString, ActionError> {
    reference.read(api.environment()).await.map_err(|source| ActionError::Secret {
        api: api.name().to_string(),
        scheme: scheme.to_owned(),
        source,
    })
}
