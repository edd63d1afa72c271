//! The request: chat completions with an answer of a fixed form, as far as the endpoint takes it. Pure.

use serde_json::{Value, json};

use super::Message;
use crate::config::LlmConfig;

/// The form of the answer that is asked for.
#[derive(Debug, Clone)]
pub struct AnswerForm {
    /// Letters and underscores.
    pub name: &'static str,
    /// JSON Schema of an object, in the strict subset: every member required, no others.
    pub schema: Value,
}

/// How the endpoint can be told the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Format {
    #[default]
    Schema,
    Object,
    /// Only by the words of the prompt.
    Words,
}

/// What the endpoint takes, as far as is known: everything, until it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Takes {
    format: Format,
    /// Newer models take `max_completion_tokens` alone.
    wants_completion_tokens: bool,
    no_temperature: bool,
    no_stream_options: bool,
}

impl Takes {
    /// What to leave out after an endpoint refused a request with these words; `None` if they are about something else.
    pub(super) fn simpler(self, said: &str) -> Option<Self> {
        let said = said.to_lowercase();
        let about = |names: &[&str]| names.iter().any(|name| said.contains(name));
        if !self.wants_completion_tokens && about(&["max_tokens", "max_completion_tokens"]) {
            return Some(Self { wants_completion_tokens: true, ..self });
        }
        if !self.no_temperature && about(&["temperature"]) {
            return Some(Self { no_temperature: true, ..self });
        }
        if !self.no_stream_options && about(&["stream_options", "include_usage"]) {
            return Some(Self { no_stream_options: true, ..self });
        }
        if about(&["response_format", "json_schema", "json_object", "structured output", "guided"]) {
            let format = match self.format {
                Format::Schema => Format::Object,
                Format::Object => Format::Words,
                Format::Words => return None,
            };
            return Some(Self { format, ..self });
        }
        None
    }
}

/// The body of a request.
pub(super) fn request(config: &LlmConfig, takes: Takes, messages: &[Message], form: &AnswerForm) -> Value {
    let messages: Vec<Value> = messages
        .iter()
        .map(|message| json!({"role": message.role.as_str(), "content": message.content}))
        .collect();
    let mut body = json!({"model": config.model.trim(), "messages": messages});
    let limit = match takes.wants_completion_tokens {
        true => "max_completion_tokens",
        false => "max_tokens",
    };
    body[limit] = config.max_output_tokens.into();
    if !takes.no_temperature {
        body["temperature"] = 0.into();
    }
    match takes.format {
        Format::Schema => {
            let schema = json!({"name": form.name, "strict": true, "schema": form.schema});
            body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
        }
        Format::Object => body["response_format"] = json!({"type": "json_object"}),
        Format::Words => {}
    }
    if config.stream {
        body["stream"] = true.into();
        if !takes.no_stream_options {
            body["stream_options"] = json!({"include_usage": true});
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_an_endpoint_complains_of_the_request_becomes_plainer_and_that_ends() {
        let said = "max_tokens temperature stream_options response_format json_schema";
        let mut takes = Takes::default();
        let mut steps = 0;
        while let Some(simpler) = takes.simpler(said) {
            assert_ne!(simpler, takes);
            takes = simpler;
            steps += 1;
        }
        assert_eq!(steps, 5);
        assert_eq!(Takes::default().simpler("the model is not loaded"), None);
        let config = LlmConfig { model: "m".to_owned(), stream: true, ..LlmConfig::default() };
        let form = AnswerForm { name: "answer", schema: json!({"type": "object"}) };
        let plain = request(&config, takes, &[], &form);
        let members: Vec<&String> = plain.as_object().unwrap().keys().collect();
        assert_eq!(members, ["model", "messages", "max_completion_tokens", "stream"]);
    }
}
