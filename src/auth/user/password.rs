//! Passwords of people: Argon2id (RFC 9106) with the parameters that OWASP recommends, off the async runtime.
//!
//! H1 verifying takes the same work whether or not there is such a user.
//! H2 at most [`MAX_AT_ONCE`] hashes are computed at once, each in 19 MiB: a flood of logins queues, and cannot take the
//!    memory or the cores of everything else.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use super::UserError;

/// Shortest password (NIST SP 800-63B revision 4 section 3.1.1.2 wants 15 where it is the only factor and 8 else).
pub const MIN_PASSWORD_CHARACTERS: usize = 12;
/// Longest password; a longer one is refused, never cut.
pub const MAX_PASSWORD_BYTES: usize = 1024;
/// Hashes computed at once.
const MAX_AT_ONCE: usize = 2;
/// OWASP's password storage cheat sheet, Argon2id: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Of a password that nobody knows, with the parameters above: what an unknown user's password is compared with (H1).
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c3Rld2FyZC1ub2JvZHkhIQ$E9JfVxkRAuVh7qkFbTLPVNnQZ7rTRKkrmFUTWMEuxv0";

static HASHING: Semaphore = Semaphore::const_new(MAX_AT_ONCE);

fn argon2() -> Argon2<'static> {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants are within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Refuses what is too short, too long, or the username itself.
pub(super) fn check(username: &str, password: &SecretString) -> Result<(), UserError> {
    let text = password.expose_secret();
    if text.chars().count() < MIN_PASSWORD_CHARACTERS {
        return Err(UserError::BadPassword { reason: "it must have 12 characters or more" });
    }
    if text.len() > MAX_PASSWORD_BYTES {
        return Err(UserError::BadPassword { reason: "it may take 1,024 bytes at most" });
    }
    if text.chars().any(char::is_control) {
        return Err(UserError::BadPassword { reason: "it may hold no control characters" });
    }
    if text.to_lowercase().contains(username) && text.len() < username.len() + MIN_PASSWORD_CHARACTERS {
        return Err(UserError::BadPassword { reason: "it must be more than the username" });
    }
    Ok(())
}

/// A password that nobody chose: 144 random bits.
pub(super) fn random() -> Result<SecretString, UserError> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).map_err(|_| UserError::NoRandomness)?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes)))
}

/// The PHC string to keep. About 30 ms of a core.
pub(super) async fn hash(password: SecretString) -> Result<String, UserError> {
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| UserError::NoRandomness)?;
    off_runtime(move || {
        let salt = SaltString::encode_b64(&salt).expect("16 bytes make a salt");
        argon2()
            .hash_password(password.expose_secret().as_bytes(), &salt)
            .map(|hash| hash.to_string())
            .map_err(|_| UserError::Hashing)
    })
    .await?
}

/// Whether that password has that hash; with no hash, false after the same work (H1). A hash that was made with other
/// parameters is verified with those.
pub(super) async fn verify(password: SecretString, hash: Option<String>) -> Result<bool, UserError> {
    off_runtime(move || {
        let known = hash.is_some();
        let text = hash.as_deref().unwrap_or(NOBODY);
        let parsed = PasswordHash::new(text).map_err(|_| UserError::Hashing)?;
        // Longer ones were never registered.
        let long = password.expose_secret().len() > MAX_PASSWORD_BYTES;
        let password = if long { "" } else { password.expose_secret() };
        let matches = argon2().verify_password(password.as_bytes(), &parsed).is_ok();
        Ok(matches && known && !long)
    })
    .await?
}

async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, UserError> {
    let _permit = HASHING.acquire().await.map_err(|_| UserError::Hashing)?;
    tokio::task::spawn_blocking(work).await.map_err(|_| UserError::Hashing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_says_its_parameters_and_fits_its_password_alone() {
        let password = SecretString::from("correct horse battery");
        let kept = hash(password.clone()).await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(hash(password.clone()).await.unwrap(), kept, "every hash has its own salt");
        assert!(verify(password, Some(kept.clone())).await.unwrap());
        assert!(!verify(SecretString::from("correct horse batterY"), Some(kept)).await.unwrap());
        assert!(!verify(SecretString::from(""), None).await.unwrap());
    }

    #[test]
    fn what_an_unknown_user_is_compared_with_costs_what_a_known_one_costs() {
        let parsed = PasswordHash::new(NOBODY).unwrap();
        let params = Params::try_from(&parsed).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (MEMORY_KIB, PASSES, LANES));
        assert_eq!(parsed.hash.unwrap().len(), 32);
    }

    #[test]
    fn passwords_are_long_and_are_not_the_username() {
        let check = |text: &str| super::check("ann.example", &SecretString::from(text));
        check("correct horse").unwrap();
        check("пароль-двенадцать").unwrap();
        for bad in ["", "short", "elevenchars", "Ann.Example12", "with\u{0}nul and more", &"x".repeat(1025)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
