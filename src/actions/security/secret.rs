//! References to secrets, and how they are read. S1 a secret's value appears in no `Debug`, log or error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

/// Looks an environment variable up; a function, so that tests and embedding programs can give their own.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The environment of this process.
pub fn process_environment() -> Environment {
    Arc::new(|name| std::env::var(name).ok())
}

/// Where a secret is kept. Displays as it is written in the action file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file, read at every use, so that a rotated secret is seen; line ends at its end are dropped.
    File(PathBuf),
}

/// Why a secret cannot be read; names the reference, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("environment variable {0} is not set; set it where the service runs")]
    Unset(String),
    #[error("{0} is empty; put the secret there")]
    Empty(SecretRef),
    #[error("cannot read {path} ({reason}); check the path and its permissions")]
    Unreadable { path: String, reason: String },
    #[error("{path} is not a small text file; it must hold the secret alone")]
    NotText { path: String },
}

/// The longest secret in bytes; a longer file is some other file.
const MAX_SECRET_BYTES: u64 = 64 << 10;

impl SecretRef {
    /// `env:NAME` or `file:path`, relative paths from `folder`; anything else is no reference.
    pub fn parse(text: &str, folder: &Path) -> Option<Self> {
        if let Some(name) = text.strip_prefix("env:") {
            let name = name.trim();
            let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            return valid.then(|| Self::Env(name.to_owned()));
        }
        let path = text.strip_prefix("file:")?.trim();
        (!path.is_empty()).then(|| Self::File(folder.join(path)))
    }

    /// Whether the reference leads somewhere now, without keeping the value.
    pub fn check(&self, environment: &Environment) -> Result<(), SecretError> {
        match self {
            Self::Env(name) => match environment(name) {
                None => Err(SecretError::Unset(name.clone())),
                Some(value) if value.is_empty() => Err(SecretError::Empty(self.clone())),
                Some(_) => Ok(()),
            },
            Self::File(path) => match std::fs::metadata(path) {
                Ok(meta) if meta.len() == 0 => Err(SecretError::Empty(self.clone())),
                Ok(_) => Ok(()),
                Err(error) => Err(unreadable(path, &error)),
            },
        }
    }

    /// The value.
    pub async fn read(&self, environment: &Environment) -> Result<SecretString, SecretError> {
        let value = match self {
            Self::Env(name) => environment(name).ok_or_else(|| SecretError::Unset(name.clone()))?,
            Self::File(path) => {
                let meta = tokio::fs::metadata(path).await.map_err(|error| unreadable(path, &error))?;
                if !meta.is_file() || meta.len() > MAX_SECRET_BYTES {
                    return Err(SecretError::NotText { path: path.display().to_string() });
                }
                let bytes = tokio::fs::read(path).await.map_err(|error| unreadable(path, &error))?;
                let mut text = String::from_utf8(bytes)
                    .map_err(|_| SecretError::NotText { path: path.display().to_string() })?;
                text.truncate(text.trim_end_matches(['\r', '\n']).len());
                text
            }
        };
        if value.is_empty() {
            return Err(SecretError::Empty(self.clone()));
        }
        Ok(SecretString::from(value))
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> SecretError {
    SecretError::Unreadable { path: path.display().to_string(), reason: error.kind().to_string() }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn only_references_are_read_as_references() {
        let folder = Path::new("/a");
        assert_eq!(SecretRef::parse("env:KEY_1", folder), Some(SecretRef::Env("KEY_1".into())));
        assert_eq!(SecretRef::parse("file:k", folder), Some(SecretRef::File("/a/k".into())));
        for literal in ["abc", "env:", "env:a b", "file:", "https://x"] {
            assert_eq!(SecretRef::parse(literal, folder), None, "{literal}");
        }
    }

    #[tokio::test]
    async fn a_secret_file_loses_its_line_end_and_is_read_anew_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let environment: Environment = Arc::new(|_| None);
        let reference = SecretRef::File(path.clone());
        assert!(matches!(reference.read(&environment).await, Err(SecretError::Unreadable { .. })));
        for value in ["first", "second"] {
            std::fs::write(&path, format!("{value}\r\n")).unwrap();
            assert_eq!(reference.read(&environment).await.unwrap().expose_secret(), value);
        }
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(reference.read(&environment).await, Err(SecretError::Empty(_))));
    }
}
