//! The parameters and the client authentication of an OAuth request, read strictly (RFC 6749 sections 2.3 and 3.2).
//!
//! Pure. Knows the form fields and the Authorization header's value; does not know grants, clients or HTTP.
//! P1 a parameter appears once; one that appears twice is an error, so that no two readers can differ about it.
//! P2 a client authenticates in exactly one way.
//! P3 the caller passes body fields only: what stands in a URL never gets here. The one exception is the authorization
//!    request, which is a URL and authenticates nobody.

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;

use crate::auth::assertion::{ASSERTION_TYPE, Assertion};
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode};

/// Most parameters of one request.
const MAX_PARAMETERS: usize = 32;
/// Longest parameter value. The longest that makes sense is a token (8 KB).
const MAX_VALUE_BYTES: usize = 8 * 1024;
/// Longest client id and secret.
const MAX_CREDENTIAL_BYTES: usize = 256;

/// The parameters that have a value; one without counts as absent (RFC 6749 section 3.2).
pub(super) struct Form<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Form<'a> {
    /// Checks P1, sizes and characters. Only `resource` and `audience` may be repeated (RFC 8707 section 2, RFC 8693
    /// section 2.1).
    pub(super) fn parse(fields: &'a [(String, String)]) -> Result<Self, OAuthError> {
        if fields.len() > MAX_PARAMETERS {
            return Err(invalid(format!("more than {MAX_PARAMETERS} parameters")));
        }
        for (index, (name, value)) in fields.iter().enumerate() {
            let shown: String =
                name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
            if name.len() > 128 || value.len() > MAX_VALUE_BYTES {
                return Err(invalid(format!("parameter {shown} is too long")));
            }
            if name.chars().chain(value.chars()).any(char::is_control) {
                return Err(invalid(format!("parameter {shown} holds a control character")));
            }
            let repeatable = matches!(name.as_str(), "resource" | "audience");
            if !repeatable && fields[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(invalid(format!("parameter {shown} appears more than once")));
            }
        }
        Ok(Self(
            fields
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
        ))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| *other == name).map(|(_, value)| *value)
    }

    pub(super) fn require(&self, name: &str) -> Result<&'a str, OAuthError> {
        self.get(name).ok_or_else(|| invalid(format!("parameter {name} is missing")))
    }
}

/// Who a client says that it is, and how it proves it.
pub(super) struct ClientCredentials<'a> {
    pub client_id: String,
    pub proof: ClientProof<'a>,
}

/// What a client shows for itself.
pub(super) enum ClientProof<'a> {
    /// `client_secret_basic` or `client_secret_post`.
    Secret(SecretString),
    /// `private_key_jwt`: read, but neither checked nor verified.
    Assertion(Box<Assertion<'a>>),
    /// Nothing but its id: a public client.
    None,
}

impl<'a> ClientCredentials<'a> {
    /// Reads client_secret_basic, client_secret_post, private_key_jwt, or the bare id of a public client; two ways at
    /// once are an error (P2).
    pub(super) fn read(form: &Form<'a>, authorization: Option<&str>) -> Result<Self, OAuthError> {
        let (form_id, form_secret) = (form.get("client_id"), form.get("client_secret"));
        let (assertion, assertion_type) = (form.get("client_assertion"), form.get("client_assertion_type"));
        let asserted = assertion.is_some() || assertion_type.is_some();
        let ways = [authorization.is_some(), form_secret.is_some(), asserted];
        if ways.iter().filter(|used| **used).count() > 1 {
            return Err(invalid("the client authenticates in more than one way; use one of them".into()));
        }
        if asserted {
            return Self::from_assertion(assertion, assertion_type, form_id);
        }
        let credentials = match (authorization, form_id, form_secret) {
            (Some(header), form_id, _) => {
                let basic = Self::from_basic(header)?;
                if form_id.is_some_and(|form_id| form_id != basic.client_id) {
                    return Err(invalid("client_id differs from the one in the Authorization header".into()));
                }
                basic
            }
            (None, Some(id), Some(secret)) => {
                Self { client_id: id.to_owned(), proof: ClientProof::Secret(SecretString::from(secret)) }
            }
            (None, Some(id), None) => Self { client_id: id.to_owned(), proof: ClientProof::None },
            (None, None, Some(_)) => return Err(invalid("client_secret comes without client_id".into())),
            (None, None, None) => {
                return Err(invalid_client(
                    "the client must authenticate, with HTTP Basic, with client_id and client_secret in the body, or with client_assertion",
                ));
            }
        };
        let secret_length = match &credentials.proof {
            ClientProof::Secret(secret) => secrecy::ExposeSecret::expose_secret(secret).len(),
            ClientProof::Assertion(_) | ClientProof::None => 0,
        };
        if credentials.client_id.len() > MAX_CREDENTIAL_BYTES || secret_length > MAX_CREDENTIAL_BYTES {
            return Err(invalid("client_id or client_secret is too long".into()));
        }
        Ok(credentials)
    }

    /// RFC 7521 section 4.2: `client_id` may be left out, and else must be the assertion's.
    fn from_assertion(
        assertion: Option<&'a str>,
        assertion_type: Option<&'a str>,
        form_id: Option<&'a str>,
    ) -> Result<Self, OAuthError> {
        let (Some(assertion), Some(assertion_type)) = (assertion, assertion_type) else {
            return Err(invalid("client_assertion and client_assertion_type come together".into()));
        };
        if assertion_type != ASSERTION_TYPE {
            return Err(invalid(format!("client_assertion_type must be {ASSERTION_TYPE}")));
        }
        let assertion = Assertion::parse(assertion)?;
        if form_id.is_some_and(|form_id| form_id != assertion.client_id.as_str()) {
            return Err(invalid("client_id differs from the one in client_assertion".into()));
        }
        let client_id = assertion.client_id.to_string();
        Ok(Self { client_id, proof: ClientProof::Assertion(Box::new(assertion)) })
    }

    /// RFC 6749 section 2.3.1: id and secret are form-urlencoded, joined by a colon, then base64.
    fn from_basic(header: &str) -> Result<Self, OAuthError> {
        let malformed =
            |what: &str| invalid_client(&format!("the Authorization header is not HTTP Basic: {what}"));
        if header.len() > 4 * MAX_CREDENTIAL_BYTES + 64 {
            return Err(invalid("the Authorization header is too long".into()));
        }
        let encoded = match header.split_once(' ') {
            Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => encoded.trim_matches(' '),
            _ => return Err(malformed("it must read `Basic`, a space, and base64")),
        };
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let decoded = GeneralPurpose::new(&ALPHABET, config)
            .decode(encoded)
            .map_err(|_| malformed("what follows is not base64"))?;
        let decoded = String::from_utf8(decoded).map_err(|_| malformed("its content is not UTF-8"))?;
        let (id, secret) = decoded
            .split_once(':')
            .ok_or_else(|| malformed("its content has no colon between id and secret"))?;
        let decode = |text| form_decode(text).ok_or_else(|| malformed("its content is not form-urlencoded"));
        let (client_id, secret) = (decode(id)?, decode(secret)?);
        if client_id.is_empty() {
            return Err(malformed("the client id is empty"));
        }
        if client_id.chars().chain(secret.chars()).any(char::is_control) {
            return Err(invalid("the client id or secret holds a control character".into()));
        }
        Ok(Self { client_id, proof: ClientProof::Secret(SecretString::from(secret)) })
    }
}

/// `application/x-www-form-urlencoded`, refusing broken escapes and what is not UTF-8.
fn form_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn invalid(description: String) -> OAuthError {
    OAuthError::new(OAuthErrorCode::InvalidRequest, description)
}

fn invalid_client(description: &str) -> OAuthError {
    OAuthError::new(OAuthErrorCode::InvalidClient, description)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn read(pairs: &[(&str, &str)], authorization: Option<&str>) -> Result<(String, String), OAuthError> {
        let fields = fields(pairs);
        let credentials = ClientCredentials::read(&Form::parse(&fields)?, authorization)?;
        let secret = match credentials.proof {
            ClientProof::Secret(secret) => secret.expose_secret().to_owned(),
            ClientProof::Assertion(_) => "(assertion)".to_owned(),
            ClientProof::None => "(none)".to_owned(),
        };
        Ok((credentials.client_id, secret))
    }

    fn basic(content: impl AsRef<[u8]>) -> String {
        format!("Basic {}", STANDARD.encode(content))
    }

    #[test]
    fn basic_credentials_are_form_decoded_after_the_first_colon_splits_them() {
        let expected = ("a:b c".to_owned(), "p%:q".to_owned());
        assert_eq!(read(&[], Some(&basic("a%3Ab+c:p%25:q"))).unwrap(), expected);
        assert_eq!(
            read(&[], Some(&basic("a%3ab%20c:p%25%3aq").replace("Basic", "bAsIc"))).unwrap(),
            expected
        );
        assert_eq!(read(&[], Some(basic("ab:c").trim_end_matches('='))).unwrap(), ("ab".into(), "c".into()));
        assert_eq!(
            read(&[], Some(&basic("ab:"))).unwrap(),
            ("ab".into(), String::new()),
            "an empty secret is wrong, not malformed"
        );
    }

    #[test]
    fn malformed_basic_headers_are_refused_by_name() {
        for (header, expected) in [
            ("Basic".to_owned(), "must read 'Basic'"),
            ("Bearer abc".to_owned(), "must read 'Basic'"),
            ("Basic ***".to_owned(), "not base64"),
            (basic("nocolon"), "no colon"),
            (basic([0xff, b':', b'a']), "not UTF-8"),
            (basic("a%zz:b"), "not form-urlencoded"),
            (basic("a%4:b"), "not form-urlencoded"),
            (basic("a:%ff"), "not form-urlencoded"),
            (basic(":b"), "id is empty"),
        ] {
            let error = read(&[], Some(&header)).unwrap_err();
            assert_eq!(error.error, OAuthErrorCode::InvalidClient, "{header}");
            assert!(error.error_description.contains(expected), "{header}: {}", error.error_description);
        }
        for header in [basic("a%00:b"), basic(format!("a:{}", "x".repeat(300))), basic("x".repeat(2000))] {
            assert_eq!(read(&[], Some(&header)).unwrap_err().error, OAuthErrorCode::InvalidRequest);
        }
    }

    #[test]
    fn a_client_authenticates_in_exactly_one_way() {
        let header = basic("a:b");
        let both = read(&[("client_id", "a"), ("client_secret", "b")], Some(&header)).unwrap_err();
        assert_eq!(both.error, OAuthErrorCode::InvalidRequest);
        let also = read(&[("client_assertion", "x"), ("client_secret", "b")], None).unwrap_err();
        assert_eq!(also.error, OAuthErrorCode::InvalidRequest);
        assert!(read(&[("client_id", "a")], Some(&header)).is_ok(), "the same id again is no second way");
        assert_eq!(
            read(&[("client_id", "z")], Some(&header)).unwrap_err().error,
            OAuthErrorCode::InvalidRequest
        );
        assert_eq!(read(&[], None).unwrap_err().error, OAuthErrorCode::InvalidClient);
        let public = read(&[("client_id", "a")], None).unwrap();
        assert_eq!(public, ("a".into(), "(none)".into()), "which only a public client may do");
        assert_eq!(read(&[("client_secret", "a")], None).unwrap_err().error, OAuthErrorCode::InvalidRequest);
    }

    #[test]
    fn repeated_oversized_and_control_character_parameters_are_refused() {
        for pairs in [
            fields(&[("scope", "a"), ("scope", "a")]),
            fields(&[("scope", ""), ("scope", "a")]),
            fields(&[("scope", "a\0b")]),
            fields(&[("sc\nope", "a")]),
            fields(&[("scope", &"a".repeat(MAX_VALUE_BYTES + 1))]),
            vec![("x".to_owned(), "y".to_owned()); 40],
        ] {
            assert_eq!(Form::parse(&pairs).err().unwrap().error, OAuthErrorCode::InvalidRequest);
        }
        let twice = fields(&[("resource", "a"), ("resource", "b")]);
        assert_eq!(Form::parse(&twice).ok().unwrap().all("resource").count(), 2);
        assert_eq!(Form::parse(&fields(&[("scope", "")])).ok().unwrap().get("scope"), None);
    }

    proptest! {
        #[test]
        fn reading_credentials_never_panics(header in "\\PC{0,60}", value in "\\PC{0,20}") {
            let _ = read(&[("client_id", &value)], Some(&header));
            let _ = read(&[("client_id", &value)], Some(&basic(&header)));
        }

        #[test]
        fn every_id_and_secret_survives_the_encoding(id in "[ -~]{1,20}", secret in "[ -~é]{0,20}") {
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let header = basic(format!("{}:{}", encode(&id), encode(&secret)));
            prop_assert_eq!(read(&[], Some(&header)).unwrap(), (id, secret));
        }
    }
}
