//! What the language model answered, read tolerantly: models wrap JSON in prose, fences and thoughts. Pure.
//!
//! R1 whatever is read here is a proposal: the guard alone decides about the SQL.

use serde_json::Value;

/// Texts of the model that go to the caller are cut, visibly, at these lengths in characters.
const MAX_EXPLANATION: usize = 4_000;
const MAX_MISSING: usize = 500;
const MAX_MISSING_ITEMS: usize = 20;

/// The answer in the form asked for, or near enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Sql {
        sql: String,
        explanation: String,
        /// The verified query that the model says it began from.
        verified_query: Option<String>,
    },
    NotAnswerable {
        missing: Vec<String>,
        explanation: String,
    },
}

/// Finds the JSON object, or the fenced SQL, in what the model said. `None`: neither is there.
pub(super) fn parse(text: &str) -> Option<Reply> {
    // Thoughts come first and may hold drafts.
    let text = text.rsplit_once("</think>").map_or(text, |(_, after)| after).trim();
    let fenced = fenced(text);
    let braces = text.find('{').zip(text.rfind('}')).and_then(|(from, to)| text.get(from..=to));
    [Some(text), fenced, braces]
        .into_iter()
        .flatten()
        .find_map(|candidate| serde_json::from_str(candidate.trim()).ok().and_then(|value| from_json(&value)))
        .or_else(|| fenced.and_then(from_sql))
}

/// The inside of the first fenced block, without its language.
fn fenced(text: &str) -> Option<&str> {
    let (_, after) = text.split_once("```")?;
    let (_, after) = after.split_once('\n')?;
    after.split_once("```").map(|(inside, _)| inside)
}

fn from_json(value: &Value) -> Option<Reply> {
    let object = value.as_object()?;
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::trim).unwrap_or_default();
    let explanation = clip(text("explanation"), MAX_EXPLANATION);
    let sql = text("sql").trim_end_matches([';', ' ', '\n', '\r', '\t']);
    if object.get("answerable").and_then(Value::as_bool) == Some(false) {
        let missing = match object.get("missing") {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(item)) => vec![item.as_str()],
            _ => Vec::new(),
        };
        let missing = missing.into_iter().map(str::trim).filter(|item| !item.is_empty());
        let missing = missing.take(MAX_MISSING_ITEMS).map(|item| clip(item, MAX_MISSING)).collect();
        return Some(Reply::NotAnswerable { missing, explanation });
    }
    if sql.is_empty() {
        return None;
    }
    let verified_query = Some(text("verified_query")).filter(|name| !name.is_empty()).map(str::to_owned);
    Some(Reply::Sql { sql: sql.to_owned(), explanation, verified_query })
}

fn from_sql(text: &str) -> Option<Reply> {
    let sql = text.trim().trim_end_matches(';').trim_end();
    let verb = sql.split(|c: char| !c.is_ascii_alphabetic()).next()?;
    (verb.eq_ignore_ascii_case("select") || verb.eq_ignore_ascii_case("with")).then(|| Reply::Sql {
        sql: sql.to_owned(),
        explanation: String::new(),
        verified_query: None,
    })
}

/// At most `limit` characters; what is cut shows.
pub(super) fn clip(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sql_of(text: &str) -> Option<String> {
        match parse(text)? {
            Reply::Sql { sql, .. } => Some(sql),
            Reply::NotAnswerable { .. } => None,
        }
    }

    #[test]
    fn json_is_found_however_it_is_wrapped() {
        let json = r#"{"answerable": true, "sql": "SELECT 1;\n", "explanation": "One.", "missing": []}"#;
        for text in [
            json.to_owned(),
            format!("```json\n{json}\n```"),
            format!("Here you are:\n```\n{json}\n```\nDone."),
            format!("Sure! {json} I hope {{that}} helps"),
            format!("<think>{{\"sql\": \"SELECT 2\"}}</think>\n{json}"),
            "```sql\nSELECT 1;\n```".to_owned(),
        ] {
            let found = sql_of(&text);
            // Braces after the object spoil it; a fence or the object alone do not.
            if text.starts_with("Sure") {
                assert_eq!(found, None, "{text}");
            } else {
                assert_eq!(found.as_deref(), Some("SELECT 1"), "{text}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_told_as_a_list_or_a_text() {
        for missing in [r#"["weather", " "]"#, r#""weather""#] {
            let text = format!(r#"{{"answerable": false, "sql": "SELECT 1", "missing": {missing}}}"#);
            let expected =
                Reply::NotAnswerable { missing: vec!["weather".to_owned()], explanation: String::new() };
            assert_eq!(parse(&text), Some(expected));
        }
    }

    #[test]
    fn what_holds_no_sql_is_no_answer_and_long_texts_are_cut_visibly() {
        for text in ["", "I cannot.", "{}", "[]", r#"{"sql": ""}"#, r#"{"sql": 1}"#, "```\nDROP TABLE x\n```"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        let long = format!(r#"{{"sql": "SELECT 1", "explanation": "{}"}}"#, "é".repeat(5_000));
        let Some(Reply::Sql { explanation, .. }) = parse(&long) else { panic!("no SQL") };
        assert!(explanation.ends_with('…') && explanation.chars().count() == MAX_EXPLANATION + 1);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(```|\\{|\\}|\"|sql|:|</think>|\\PC|\n){0,40}") {
            let _ = parse(&text);
        }
    }
}
