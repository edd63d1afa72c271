//! Takes known secrets out of whatever an upstream sends back. R1 every usual spelling of a secret goes.

use bytes::{Bytes, BytesMut};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::bytes::Regex;
use secrecy::{ExposeSecret, SecretString};

/// What stands in place of a secret.
const MARK: &[u8] = b"[redacted]";
/// In messages shorter texts stay: blotting them out would mangle ordinary words.
const MIN_LEN_IN_MESSAGES: usize = 4;
/// In data shorter texts stay: they may well be values of their own, and the data must stay true.
const MIN_LEN_IN_DATA: usize = 8;

/// Finds a set of secrets, as they are and as JSON, URLs and forms spell them.
#[derive(Clone, Default)]
pub struct Redactor {
    pattern: Option<Regex>,
    longest: usize,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("active", &self.pattern.is_some()).finish()
    }
}

impl Redactor {
    /// For messages: secrets under four bytes are left alone.
    pub fn for_messages<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        Self::new(secrets, MIN_LEN_IN_MESSAGES)
    }

    /// For bodies and headers that are passed on: secrets under eight bytes are left alone.
    pub fn for_data<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        Self::new(secrets, MIN_LEN_IN_DATA)
    }

    fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>, min_len: usize) -> Self {
        let mut spellings = std::collections::BTreeSet::new();
        for secret in secrets {
            let plain = secret.expose_secret();
            if plain.len() < min_len {
                continue;
            }
            let json = serde_json::Value::from(plain).to_string();
            let json = json[1..json.len() - 1].to_owned();
            spellings.insert(json.replace('/', "\\/"));
            spellings.insert(json);
            spellings.insert(utf8_percent_encode(plain, NON_ALPHANUMERIC).to_string());
            spellings.insert(utf8_percent_encode(plain, super::super::request::UNRESERVED).to_string());
            spellings.insert(url::form_urlencoded::byte_serialize(plain.as_bytes()).collect());
            spellings.insert(plain.to_owned());
        }
        let longest = spellings.iter().map(String::len).max().unwrap_or(0);
        // Longest first: the regex takes the first alternative that fits.
        let mut spellings: Vec<_> = spellings.into_iter().collect();
        spellings.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
        let pattern = spellings.iter().map(|spelling| regex::escape(spelling)).collect::<Vec<_>>().join("|");
        let pattern = if pattern.is_empty() { None } else { Regex::new(&pattern).ok() };
        Self { pattern, longest }
    }

    /// Whether there is anything to look for.
    pub fn is_active(&self) -> bool {
        self.pattern.is_some()
    }

    /// The text without the secrets.
    pub fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned()
    }

    fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        match &self.pattern {
            Some(pattern) => pattern.replace_all(bytes, MARK).into_owned(),
            None => bytes.to_vec(),
        }
    }
}

/// Redacts a body that arrives piece by piece, also where a secret spans two pieces.
#[derive(Debug)]
pub struct StreamRedactor {
    redactor: Redactor,
    held: BytesMut,
}

impl StreamRedactor {
    pub fn new(redactor: Redactor) -> Self {
        Self { redactor, held: BytesMut::new() }
    }

    /// What may be passed on after this piece; holds back less than the longest secret's length.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        let Some(pattern) = &self.redactor.pattern else { return piece };
        self.held.extend_from_slice(&piece);
        // Every occurrence that starts before `safe` is complete within what is held.
        let safe = (self.held.len() + 1).saturating_sub(self.redactor.longest);
        if safe == 0 {
            return Bytes::new();
        }
        let mut out = BytesMut::with_capacity(safe);
        let mut done = 0;
        for found in pattern.find_iter(&self.held) {
            if found.start() >= safe {
                break;
            }
            out.extend_from_slice(&self.held[done..found.start()]);
            out.extend_from_slice(MARK);
            done = found.end();
        }
        let end = done.max(safe);
        out.extend_from_slice(&self.held[done..end]);
        let _ = self.held.split_to(end);
        out.freeze()
    }

    /// What was held back, at the end of the body.
    pub fn finish(&mut self) -> Bytes {
        let held = std::mem::take(&mut self.held);
        Bytes::from(self.redactor.bytes(&held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let secrets: Vec<_> = secrets.iter().map(|s| SecretString::from(*s)).collect();
        Redactor::for_messages(&secrets)
    }

    #[test]
    fn every_spelling_of_a_secret_goes() {
        let redactor = redactor(&["p/a\"ss word+"]);
        for echo in [
            "p/a\"ss word+",
            r#"p/a\"ss word+"#,
            r#"p\/a\"ss word+"#,
            "p%2Fa%22ss%20word%2B",
            "p%2Fa%22ss+word%2B",
        ] {
            assert_eq!(redactor.text(&format!("you sent <{echo}>")), "you sent <[redacted]>", "{echo}");
        }
        assert!(!format!("{redactor:?}").contains("ss"));
    }

    #[test]
    fn the_longer_of_two_secrets_wins() {
        assert_eq!(redactor(&["abcde", "abcdefgh"]).text("abcdefgh"), "[redacted]");
    }

    #[test]
    fn short_secrets_stay_in_data_alone() {
        let secrets = [SecretString::from("12345")];
        assert_eq!(Redactor::for_data(&secrets).text("12345"), "12345");
        assert_eq!(Redactor::for_messages(&secrets).text("12345"), "[redacted]");
    }

    proptest! {
        #[test]
        fn cutting_a_body_anywhere_changes_nothing(
            text in "[ab]{0,60}(abbab|xyzzy-1)?[ab]{0,60}(abbab|xyzzy-1)?[ab]{0,9}",
            cuts in proptest::collection::vec(1usize..9, 0..40),
        ) {
            let redactor = redactor(&["abbab", "xyzzy-1"]);
            let mut stream = StreamRedactor::new(redactor.clone());
            let mut rest = text.as_bytes();
            let mut out = Vec::new();
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                out.extend_from_slice(&stream.push(Bytes::copy_from_slice(piece)));
                rest = tail;
            }
            out.extend_from_slice(&stream.push(Bytes::copy_from_slice(rest)));
            out.extend_from_slice(&stream.finish());
            prop_assert_eq!(String::from_utf8(out).unwrap(), redactor.text(&text));
        }
    }
}
