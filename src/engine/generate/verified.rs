//! Whether somebody has verified an answer to this very question. Pure.
//!
//! V1 only what cannot change a question's meaning is passed over: case, spaces, sentence marks, articles, "please".
//!    Numbers, signs and every other word count.

use std::sync::Arc;

use crate::semantic::{Model, VerifiedQuery};

/// Words without which a question is the same question.
const EMPTY_WORDS: [&str; 4] = ["a", "an", "the", "please"];

/// The question as it is compared.
fn normal(question: &str) -> Vec<String> {
    let mut words: Vec<String> = question
        .to_lowercase()
        .split_whitespace()
        .map(|word| {
            let word = word.trim_start_matches(['"', '\'', '(', '“', '‘', '¿', '¡']);
            word.trim_end_matches(['?', '!', '.', ',', ';', ':', '"', '\'', ')', '”', '’', '？', '。'])
                .to_owned()
        })
        .filter(|word| !word.is_empty())
        .collect();
    if words.iter().any(|word| !EMPTY_WORDS.contains(&word.as_str())) {
        words.retain(|word| !EMPTY_WORDS.contains(&word.as_str()));
    }
    words
}

/// The one verified query for this question, with its model's name. `None` where there is none, or several with
/// different SQL.
pub(super) fn find<'m>(models: &'m [Arc<Model>], question: &str) -> Option<(&'m str, &'m VerifiedQuery)> {
    let asked = normal(question);
    if asked.is_empty() {
        return None;
    }
    let mut found = models
        .iter()
        .flat_map(|model| model.verified_queries.iter().map(move |query| (model.name.as_str(), query)))
        .filter(|(_, query)| normal(&query.question) == asked);
    let first = found.next()?;
    found.all(|(_, other)| other.sql.trim() == first.1.sql.trim()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_does_not_make_another_question_but_content_does() {
        let verified = normal("Which airline cancelled the largest share of its flights in 2013?");
        for same in [
            "which airline cancelled the largest share of its flights in 2013",
            "  Which airline cancelled  largest share of its flights in 2013 ?!",
            "\"Which airline cancelled the largest share of its flights in 2013?\" please",
        ] {
            assert_eq!(normal(same), verified, "{same}");
        }
        for other in [
            "Which airline cancelled the largest share of its flights in 2014?",
            "Which airline cancelled the smallest share of its flights in 2013?",
            "Which airline cancelled not the largest share of its flights in 2013?",
            "Which airlines cancelled the largest share of its flights in 2013?",
        ] {
            assert_ne!(normal(other), verified, "{other}");
        }
        assert_ne!(normal("delays above 5"), normal("delays above -5"));
        assert_ne!(normal("delays above 1.5"), normal("delays above 15"));
        assert!(normal("?!").is_empty());
    }
}
