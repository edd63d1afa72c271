//! The language model that writes SQL: any endpoint that speaks OpenAI's chat completions.
//!
//! L1 a key that stands in the configuration itself is refused, and kept nowhere.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where the language model is and what one question may cost. Without this section nothing is generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LlmConfig {
    /// What stands before `/chat/completions`, such as `https://api.openai.com/v1` or `http://127.0.0.1:11434/v1`.
    pub base_url: String,
    /// `env:NAME` or `file:path`, read at every use; empty where the endpoint takes no key.
    pub api_key: KeyReference,
    /// The model's name, as the endpoint knows it.
    pub model: String,
    /// Wall time of one question at the endpoint, with all tries and repairs.
    pub timeout_seconds: u64,
    /// Tokens of one answer. What comes is cut off in bytes that no such answer has.
    pub max_output_tokens: u32,
    /// Further tries of one request when the endpoint is busy or breaks off.
    pub retries: u32,
    /// How often the model may mend SQL that did not pass.
    pub max_repairs: u32,
    /// Whether to ask for the answer piece by piece, for proxies that end silent connections.
    pub stream: bool,
    /// Questions of one client that are generated at the same time.
    pub max_concurrent_questions: usize,
}

impl Default for LlmConfig {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            api_key: KeyReference::default(),
            model: String::new(),
            timeout_seconds: 120,
            max_output_tokens: 4_096,
            retries: 2,
            max_repairs: 2,
            stream: false,
            max_concurrent_questions: 2,
        }
    }
}

/// Says where a key is kept. Holds no key: one that stands here literally is dropped as it is read (L1).
#[derive(Clone, Default, PartialEq, Eq)]
pub enum KeyReference {
    #[default]
    Absent,
    /// `env:NAME` or `file:path`.
    At(String),
    /// Something else stood there.
    Literal,
}

impl From<&str> for KeyReference {
    fn from(text: &str) -> Self {
        match text.trim() {
            "" => Self::Absent,
            text if text.starts_with("env:") || text.starts_with("file:") => Self::At(text.to_owned()),
            _ => Self::Literal,
        }
    }
}

impl fmt::Debug for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "none",
            Self::At(reference) => reference,
            Self::Literal => "a literal",
        })
    }
}

impl<'de> Deserialize<'de> for KeyReference {
    /// Takes any value, so that no error quotes it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Null => Self::Absent,
            serde_json::Value::String(text) => Self::from(text.as_str()),
            _ => Self::Literal,
        })
    }
}

impl Serialize for KeyReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Absent | Self::Literal => "",
            Self::At(reference) => reference,
        })
    }
}

/// Whether messages may quote this configuration file: not while a key may stand in it (L1).
pub(super) fn may_quote(text: &str) -> bool {
    text.lines().filter_map(|line| line.split_once("api_key")).all(|(_, rest)| {
        let value = rest.trim_start_matches(['"', '\'', ' ', '\t', ':']);
        value.starts_with("env:") || value.starts_with("file:")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_key_is_dropped_whatever_its_type() {
        for json in
            ["\"sk-very-secret\"", "5551234", "[\"sk-very-secret\"]", "{\"value\": \"sk-very-secret\"}"]
        {
            let reference: KeyReference = serde_json::from_str(json).unwrap();
            assert_eq!(reference, KeyReference::Literal);
            let told = format!("{reference:?} {}", serde_json::to_string(&reference).unwrap());
            assert!(!told.contains("secret") && !told.contains("555"), "{told}");
        }
        for json in ["null", "\"\"", "\" \""] {
            assert_eq!(serde_json::from_str::<KeyReference>(json).unwrap(), KeyReference::Absent);
        }
    }
}
