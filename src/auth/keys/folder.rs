//! The folder of key files: made at first start, read by every process, rotated by one at a time.
//!
//! Knows files, PEM and dates; does not know tokens. Blocking, and with RSA for seconds: not for async callers.
//! D1 a key file appears whole or not at all, readable by its owner only; every state that a crash or a concurrent
//!    reader can meet is a complete set of keys in which the key that signs is known to all.
//! D2 processes that start together end up with the same keys; of two that rotate together, one waits.
//! D3 a key signs only after [`PUBLISH_AHEAD_MS`] in the JWKS, unless the caller insists; a key that has signed is
//!    kept until its last token has expired.
//!
//! Files: `active.pem`, `next.pem`, `retired-<since>-<until>.pem` with dates like `20260131T235959.123Z`; a
//! `retired-<anything else>.pem` was put there by hand and is never removed. The modification time of a file is
//! when its key was made.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDateTime};
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use super::pair::{Pair, SigningAlgorithm};
use super::{KeyError, KeySet, KeyState, SigningKey, pem};
use crate::store::create_private_folder;

/// How long a key must have been published before it signs: what verifiers commonly cache a JWKS for.
pub const PUBLISH_AHEAD_MS: i64 = 10 * 60 * 1000;
/// How much longer than a token's lifetime a retired key is kept: replicas sign with it until their next look, and
/// verifiers allow for clocks that differ.
const KEPT_EXTRA_MS: i64 = 60_000;
const DATE: &str = "%Y%m%dT%H%M%S%.3fZ";
const LOCK: &str = "rotate.lock";
/// A rotation changes the folder in under a millisecond; a reader that it disturbs this often has another problem.
const READ_ATTEMPTS: usize = 100;

/// What the folder looked like: name, length, time and inode of each key file. Equal as long as nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint(Vec<(String, u64, Option<SystemTime>, u64)>);

/// A folder of key files.
#[derive(Debug, Clone)]
pub struct KeyFolder {
    path: PathBuf,
    algorithm: SigningAlgorithm,
}

impl KeyFolder {
    /// Touches nothing yet. Keys that are made will be of that algorithm; those that are there keep theirs.
    pub fn new(path: PathBuf, algorithm: SigningAlgorithm) -> Self {
        Self { path, algorithm }
    }

    /// Reads the keys, and first makes an active and a next one if they are missing.
    pub fn open(&self, now_ms: i64) -> Result<KeySet, KeyError> {
        create_private_folder(&self.path)?;
        refuse_open_mode(&self.path, 0o700)?;
        self.make_missing("active.pem", now_ms)?;
        match self.make_missing("next.pem", now_ms) {
            // Mounted read-only: the keys that are there will do, and whoever mounts them rotates them.
            Err(KeyError::Write { source, .. })
                if matches!(
                    source.kind(),
                    IoErrorKind::PermissionDenied | IoErrorKind::ReadOnlyFilesystem
                ) =>
            {
                warn!(path = %self.path.display(), "cannot write to the key folder, so there is no next key");
            }
            made => made?,
        }
        Ok(self.read()?.0)
    }

    /// Reads the keys without making any, and the fingerprint that belongs to them.
    pub fn read(&self) -> Result<(KeySet, Fingerprint), KeyError> {
        let mut before = self.fingerprint()?;
        for _ in 0..READ_ATTEMPTS {
            let keys = self.read_once(&before);
            let after = self.fingerprint()?;
            if before == after {
                return Ok((keys?, after));
            }
            before = after;
        }
        let source = std::io::Error::other("the folder keeps changing");
        Err(KeyError::Read { path: self.path.clone(), source })
    }

    /// What the key files look like now.
    pub fn fingerprint(&self) -> Result<Fingerprint, KeyError> {
        let read_error = |source| KeyError::Read { path: self.path.clone(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(read_error)? {
            let entry = entry.map_err(read_error)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with(".tmp") || name == LOCK {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) => {
                    #[cfg(unix)]
                    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
                    #[cfg(not(unix))]
                    let inode = 0;
                    files.push((name, metadata.len(), metadata.modified().ok(), inode));
                }
                // Gone since it was listed.
                Err(error) if error.kind() == IoErrorKind::NotFound => {}
                Err(error) => return Err(read_error(error)),
            }
        }
        files.sort();
        Ok(Fingerprint(files))
    }

    /// The next key becomes active, the active one retires until every token it signed has expired, and a new next
    /// one is made. Refuses if the next key has not been published for long enough, unless `force`d (D3).
    pub fn rotate(&self, now_ms: i64, token_lifetime_s: u64, force: bool) -> Result<KeySet, KeyError> {
        // Made before anything changes: RSA takes its time.
        let after_next = Pair::generate(self.algorithm)?;
        self.open(now_ms)?;
        let _alone = self.lock()?;
        self.remove_expired(now_ms)?;
        // Read under the lock: another process may have rotated while this one waited.
        let (keys, _) = self.read()?;
        let (active_path, next_path) = (self.path.join("active.pem"), self.path.join("next.pem"));
        let Some(next) = keys.iter().find(|key| key.state() == KeyState::Next) else {
            return Err(KeyError::NoNext { path: next_path });
        };
        let age_ms = next.made_at_ms().map_or(i64::MAX, |made| now_ms.saturating_sub(made));
        if !force && (0..PUBLISH_AHEAD_MS).contains(&age_ms) {
            let wait_s = (PUBLISH_AHEAD_MS - age_ms).div_euclid(1000) + 1;
            return Err(KeyError::TooSoon { wait_s });
        }
        let lifetime_ms = i64::try_from(token_lifetime_s).unwrap_or(i64::MAX).saturating_mul(1000);
        let until_ms = now_ms.saturating_add(lifetime_ms).saturating_add(KEPT_EXTRA_MS);
        let retired_name = |since_ms| format!("retired-{}-{}.pem", date(since_ms), date(until_ms));
        // Two rotations within a millisecond must not overwrite each other's; the lock keeps others out.
        let retired_path = (now_ms..)
            .map(|since_ms| self.path.join(retired_name(since_ms)))
            .find(|path| !path.exists())
            .ok_or_else(|| KeyError::NoNext { path: next_path.clone() })?;
        // A copy first: until the rename, it is the active key's double and counts for nothing.
        let bytes = SecretString::from(
            std::fs::read_to_string(&active_path)
                .map_err(|source| KeyError::Read { path: active_path.clone(), source })?,
        );
        self.write(&retired_path, &bytes, keys.active().made_at_ms())?;
        std::fs::rename(&next_path, &active_path)
            .map_err(|source| KeyError::Write { path: active_path.clone(), source })?;
        self.sync()?;
        self.write_new("next.pem", &after_next, now_ms)?;
        let (keys, _) = self.read()?;
        info!(kid = keys.active().kid(), "rotated the signing keys");
        Ok(keys)
    }

    /// Removes retired keys whose last token has expired; true if there were any.
    pub fn prune(&self, now_ms: i64) -> Result<bool, KeyError> {
        let expired = |name: &str| retired_dates(name).is_some_and(|(_, until_ms)| until_ms < now_ms);
        if !self.fingerprint()?.0.iter().any(|(name, ..)| expired(name)) {
            return Ok(false);
        }
        let _alone = self.lock()?;
        self.remove_expired(now_ms)
    }

    fn remove_expired(&self, now_ms: i64) -> Result<bool, KeyError> {
        let mut removed = false;
        for (name, ..) in self.fingerprint()?.0 {
            if retired_dates(&name).is_none_or(|(_, until_ms)| until_ms >= now_ms) {
                continue;
            }
            let path = self.path.join(name);
            match std::fs::remove_file(&path) {
                Ok(()) => {
                    info!(path = %path.display(), "removed a retired signing key; its tokens have expired")
                }
                Err(error) if error.kind() == IoErrorKind::NotFound => {}
                Err(source) => return Err(KeyError::Write { path, source }),
            }
            removed = true;
        }
        Ok(removed)
    }

    /// Held by whoever changes the folder; ends with the process at the latest.
    fn lock(&self) -> Result<File, KeyError> {
        let path = self.path.join(LOCK);
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let lock = options.open(&path).and_then(|file| file.lock().map(|()| file));
        lock.map_err(|source| KeyError::Write { path, source })
    }

    fn make_missing(&self, name: &str, now_ms: i64) -> Result<(), KeyError> {
        let path = self.path.join(name);
        if path.try_exists().map_err(|source| KeyError::Read { path: path.clone(), source })? {
            return Ok(());
        }
        self.write_new(name, &Pair::generate(self.algorithm)?, now_ms)
    }

    fn write_new(&self, name: &str, pair: &Pair, now_ms: i64) -> Result<(), KeyError> {
        let der = pair.to_pkcs8().ok_or(KeyError::NoRandomness)?;
        self.write(&self.path.join(name), &pem::encode(&der), Some(now_ms))
    }

    /// Publishes a file; where there is one already it stays.
    fn write(&self, path: &Path, text: &SecretString, made_at_ms: Option<i64>) -> Result<(), KeyError> {
        let write_error = |source| KeyError::Write { path: path.to_path_buf(), source };
        // tempfile creates with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(&self.path).map_err(write_error)?;
        file.write_all(text.expose_secret().as_bytes()).map_err(write_error)?;
        if let Some(made) = made_at_ms.and_then(|ms| u64::try_from(ms).ok()) {
            file.as_file().set_modified(UNIX_EPOCH + Duration::from_millis(made)).map_err(write_error)?;
        }
        file.as_file().sync_all().map_err(write_error)?;
        match file.persist_noclobber(path) {
            Ok(_) => info!(path = %path.display(), "wrote a signing key"),
            Err(error) if error.error.kind() == IoErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(write_error(error.error)),
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), KeyError> {
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| KeyError::Write { path: self.path.clone(), source })
    }

    fn read_once(&self, files: &Fingerprint) -> Result<KeySet, KeyError> {
        let active = self.read_key("active.pem", KeyState::Active)?;
        let mut others = Vec::new();
        for (name, ..) in &files.0 {
            let state = match name.as_str() {
                "active.pem" => continue,
                "next.pem" => KeyState::Next,
                _ if name.starts_with("retired-") && name.ends_with(".pem") => KeyState::Retired,
                _ => {
                    warn!(path = %self.path.join(name).display(), "file in the key folder is none of active.pem, next.pem, retired-*.pem");
                    continue;
                }
            };
            others.push(self.read_key(name, state)?);
        }
        // A rotation that was cut short leaves a double of the active key.
        let mut kids = HashSet::from([active.kid().to_owned()]);
        others.retain(|key| kids.insert(key.kid().to_owned()));
        Ok(KeySet { active, others })
    }

    fn read_key(&self, name: &str, state: KeyState) -> Result<SigningKey, KeyError> {
        let path = self.path.join(name);
        refuse_open_mode(&path, 0o600)?;
        let read_error = |source| KeyError::Read { path: path.clone(), source };
        let bytes = std::fs::read(&path).map_err(read_error)?;
        let made = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(read_error)?;
        let origin = path.display().to_string();
        let text = String::from_utf8(bytes).map_err(|_| KeyError::NotPem { origin: origin.clone() })?;
        let mut key = SigningKey::new(pem::parse(&SecretString::from(text), &origin)?, state, &origin)?;
        let since_epoch = made.duration_since(UNIX_EPOCH).ok();
        key.made_at_ms = since_epoch.and_then(|since| i64::try_from(since.as_millis()).ok());
        if state == KeyState::Retired {
            (key.retired_at_ms, key.kept_until_ms) = retired_dates(name).unzip();
        }
        Ok(key)
    }
}

fn date(epoch_ms: i64) -> String {
    DateTime::from_timestamp_millis(epoch_ms)
        .unwrap_or(DateTime::<chrono::Utc>::MAX_UTC)
        .format(DATE)
        .to_string()
}

/// Since when a key is retired, and until when it is kept; `None` if the name says neither.
fn retired_dates(name: &str) -> Option<(i64, i64)> {
    let (since, until) = name.strip_prefix("retired-")?.strip_suffix(".pem")?.split_once('-')?;
    let read = |text| Some(NaiveDateTime::parse_from_str(text, DATE).ok()?.and_utc().timestamp_millis());
    Some((read(since)?, read(until)?))
}

/// Refuses what the group or others can read, change or enter.
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
