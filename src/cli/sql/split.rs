//! Cuts a text into statements at its top-level `;`: one in a string, a comment or a quoted name does not count. Pure.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// One statement of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Without its `;`.
    pub text: &'a str,
    /// Byte where it begins in the whole text.
    pub start: usize,
}

/// The statements of a text; parts that hold only blanks and comments are left out. From where the text cannot be
/// read as tokens, such as at a quote that nobody closes, the rest is one statement: the parser then says why.
pub fn split(text: &str) -> Vec<Statement<'_>> {
    let (tokens, _) = tokens(text);
    let offsets = Offsets::new(text);
    let mut statements = Vec::new();
    let (mut start, mut is_empty) = (0, true);
    for token in &tokens {
        match token.token {
            Token::SemiColon => {
                let end = offsets.byte(token.span.start.line, token.span.start.column);
                if !is_empty {
                    statements.push(Statement { text: &text[start..end], start });
                }
                (start, is_empty) = (end + 1, true);
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => is_empty = false,
        }
    }
    let rest = &text[start..];
    let read_until = tokens.last().map_or(0, |last| offsets.byte(last.span.end.line, last.span.end.column));
    if !is_empty || !text[read_until.max(start)..].trim().is_empty() {
        statements.push(Statement { text: rest, start });
    }
    statements
}

/// Whether somebody who types has come to the end: of a statement, with `;`, or of nothing at all.
pub fn is_finished(text: &str) -> bool {
    let (tokens, problem) = tokens(text);
    match problem {
        None => {
            let last =
                tokens.iter().rev().find(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
            last.is_none_or(|last| last.token == Token::SemiColon)
        }
        // An open quote or comment goes on in the next line. Anything else no line will mend.
        Some(message) => {
            let is_open = ["nterminated", "EOF", "lose"].iter().any(|word| message.contains(word));
            !is_open && text.trim_end().ends_with(';')
        }
    }
}

/// As many tokens as can be read, and why not more.
pub fn tokens(text: &str) -> (Vec<TokenWithSpan>, Option<String>) {
    let mut tokens = Vec::new();
    let outcome = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location_into_buf(&mut tokens);
    (tokens, outcome.err().map(|error| error.message))
}

/// Turns lines and columns, one-based and in characters, into bytes.
struct Offsets<'a> {
    text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, lines: std::iter::once(0).chain(breaks).collect() }
    }

    fn byte(&self, line: u64, column: u64) -> usize {
        let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(start) = self.lines.get(index(line)) else { return self.text.len() };
        let rest = &self.text[*start..];
        start + rest.char_indices().nth(index(column)).map_or(rest.len(), |(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        split(text).into_iter().map(|statement| statement.text.trim()).collect()
    }

    #[test]
    fn semicolons_in_strings_comments_and_names_do_not_split() {
        let text = "SELECT ';' AS \"a;b\" -- no; split\n; /* ; */ SELECT 'it''s;';\nSELECT 3";
        assert_eq!(
            texts(text),
            ["SELECT ';' AS \"a;b\" -- no; split", "/* ; */ SELECT 'it''s;'", "SELECT 3"]
        );
    }

    #[test]
    fn blanks_and_comments_are_no_statements() {
        assert_eq!(texts(";; -- done\n ; /* nothing */ "), [] as [&str; 0]);
        assert_eq!(texts(""), [] as [&str; 0]);
    }

    #[test]
    fn letters_of_several_bytes_do_not_shift_the_cut() {
        assert_eq!(
            texts("SELECT 'Zürich ✈';\r\nSELECT 'ÿ' ; SELECT 1"),
            ["SELECT 'Zürich ✈'", "SELECT 'ÿ'", "SELECT 1"]
        );
    }

    #[test]
    fn an_open_quote_leaves_the_statements_before_it_and_itself() {
        assert_eq!(texts("SELECT 1; SELECT 'open; SELECT 2;"), ["SELECT 1", "SELECT 'open; SELECT 2;"]);
        assert_eq!(texts("'open"), ["'open"]);
    }

    #[test]
    fn a_typed_text_is_finished_by_its_semicolon() {
        for text in ["SELECT 1;", "SELECT 1; -- why", "SELECT\n1\n;", "", "  \n", "-- note"] {
            assert!(is_finished(text), "{text:?}");
        }
        for text in
            ["SELECT 1", "SELECT 'a;", "SELECT 1 -- ;", "SELECT /* ;", "SELECT \"a;", "SELECT 1; SELECT 2"]
        {
            assert!(!is_finished(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn statements_lie_in_order_within_the_text_and_nothing_else_is_dropped(
            text in "[a'\";/*\\-\n $é1✈]{0,40}"
        ) {
            let mut end = 0;
            for statement in split(&text) {
                prop_assert!(statement.start >= end);
                prop_assert_eq!(&text[statement.start..statement.start + statement.text.len()], statement.text);
                end = statement.start + statement.text.len();
            }
            let _ = is_finished(&text);
        }
    }
}
