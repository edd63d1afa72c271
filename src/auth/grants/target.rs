//! RFC 8707: which resource a token is asked for.

use super::{Form, Grants};
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode};

impl Grants {
    /// The one resource that `resource` names, for [`crate::auth::TokenSpec::audience`]; `None` if none is named, which
    /// means this service. Several are refused: a token for two resources could be replayed by one at the other.
    pub(in crate::auth) fn check_resource(&self, form: &Form<'_>) -> Result<Option<String>, OAuthError> {
        self.one_target(form.all("resource"))
    }

    /// The same where `audience` may name it as well (RFC 8693 section 2.1).
    pub(super) fn check_target(&self, form: &Form<'_>) -> Result<Option<String>, OAuthError> {
        self.one_target(form.all("resource").chain(form.all("audience")))
    }

    /// The resource of a token that comes from a login: that of the login (`""` is this service), which the request may name
    /// again and may not change.
    pub(super) fn login_target(&self, form: &Form<'_>, of_login: &str) -> Result<Option<String>, OAuthError> {
        let of_login = if of_login.is_empty() { self.tokens.audience() } else { of_login };
        match self.check_resource(form)? {
            Some(asked) if asked != of_login => {
                let description = "the login was for another resource; let the user log in for this one";
                Err(OAuthError::new(OAuthErrorCode::InvalidTarget, description))
            }
            _ => Ok(Some(of_login.to_owned())),
        }
    }

    fn one_target<'a>(&self, mut given: impl Iterator<Item = &'a str>) -> Result<Option<String>, OAuthError> {
        let refuse = |description: String| OAuthError::new(OAuthErrorCode::InvalidTarget, description);
        given.try_fold(None, |chosen: Option<String>, name| {
            let known = self.tokens.resource(name).ok_or_else(|| {
                let ours = self.tokens.audience();
                refuse(format!(
                    "this service issues no tokens for that resource; leave it out to get one for {ours}, or have it \
                     configured (auth.resources)"
                ))
            })?;
            match chosen {
                Some(chosen) if chosen != known => {
                    Err(refuse("a token is for one resource; ask for each in a request of its own".into()))
                }
                _ => Ok(Some(known.to_owned())),
            }
        })
    }
}
