//! What a chat completion says, whole or in pieces. Pure. Anything may stand in it: unknown members are passed over,
//! missing ones are errors that say which.

use serde::Deserialize;

use super::{Completion, LlmError, Usage};

#[derive(Debug, Default, Deserialize)]
struct Body {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Counts>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default, alias = "delta")]
    message: Option<Said>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Counts {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

/// The answer as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    text: String,
    refusal: String,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    has_choice: bool,
}

impl Gathered {
    /// Takes one JSON text: the whole completion, or one piece of a stream.
    pub(super) fn take(&mut self, json: &[u8]) -> Result<(), LlmError> {
        let body: Body = serde_json::from_slice(json)
            .map_err(|_| LlmError::Garbage { what: "it is not JSON of that form" })?;
        if body.error.is_some_and(|error| !error.is_null()) {
            return Err(LlmError::Failed);
        }
        if let Some(counts) = body.usage
            && (counts.prompt_tokens.is_some() || counts.completion_tokens.is_some())
        {
            // Some endpoints count up with every piece: the last count holds.
            self.usage = Some(Usage {
                prompt_tokens: counts.prompt_tokens.unwrap_or_default(),
                completion_tokens: counts.completion_tokens.unwrap_or_default(),
            });
        }
        // One choice is asked for; of several the first counts.
        for choice in body.choices.into_iter().filter(|choice| choice.index == 0) {
            self.has_choice = true;
            let said = choice.message.unwrap_or_default();
            self.text.push_str(said.content.as_deref().unwrap_or_default());
            self.refusal.push_str(said.refusal.as_deref().unwrap_or_default());
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        }
        Ok(())
    }

    /// Whether the model said that it was done.
    pub(super) fn is_finished(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// The answer, once everything is in.
    pub(super) fn finish(self) -> Result<Completion, LlmError> {
        if !self.has_choice {
            return Err(LlmError::Garbage { what: "it holds no choice" });
        }
        let reason = self.finish_reason.as_deref().unwrap_or_default();
        if !self.refusal.trim().is_empty() || reason == "content_filter" {
            return Err(LlmError::Declined);
        }
        let is_cut = reason == "length";
        if self.text.trim().is_empty() && !is_cut {
            return Err(LlmError::Garbage { what: "its message is empty" });
        }
        Ok(Completion { text: self.text, usage: self.usage, is_cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Completion, LlmError> {
        let mut gathered = Gathered::default();
        gathered.take(json.as_bytes())?;
        gathered.finish()
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        let garbage = |json: &str| matches!(read(json), Err(LlmError::Garbage { .. }));
        for json in [
            "<html>",
            "",
            "[]x",
            "{}",
            r#"{"choices":[]}"#,
            r#"{"choices":[{}]}"#,
            r#"{"choices":[{"message":{"content":null}}]}"#,
            r#"{"choices":[{"message":{"content":{"a":1}}}]}"#,
            r#"{"choices":"none"}"#,
        ] {
            assert!(garbage(json), "{json}");
        }
        let declined = |json: &str| matches!(read(json), Err(LlmError::Declined));
        assert!(declined(r#"{"choices":[{"message":{"content":null,"refusal":"I can't."}}]}"#));
        assert!(declined(r#"{"choices":[{"message":{"content":"x"},"finish_reason":"content_filter"}]}"#));
        assert!(matches!(read(r#"{"error":{"message":"overloaded"}}"#), Err(LlmError::Failed)));
    }

    #[test]
    fn counts_are_taken_where_they_are_given_and_the_first_choice_counts() {
        let told = read(
            r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"length"},
                {"index":1,"message":{"content":"b"}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#,
        );
        let usage = Some(Usage { prompt_tokens: 7, completion_tokens: 2 });
        assert_eq!(told.unwrap(), Completion { text: "a".to_owned(), usage, is_cut: true });
        assert_eq!(read(r#"{"choices":[{"message":{"content":"a"}}],"usage":null}"#).unwrap().usage, None);
    }
}
