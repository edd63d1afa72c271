//! From text to one statement, within bounds. For dialects whose secured query is sent as text, literals are decoded
//! here, by the rules of the dialect, into one kind: what comes after sees `E'…'`, `$$…$$` and `'…'` alike.

use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::Refusal;
use super::budget::Budget;
use super::dialect::Dialect;

/// Longer texts are refused before parsing.
pub const MAX_SQL_BYTES: usize = 128 * 1024;
/// More tokens than this are refused before parsing: the parse tree of a flat chain of operators is as deep as it is long.
pub const MAX_TOKENS: usize = 20_000;
/// Nesting that the parser follows.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(sql: &str, dialect: Dialect) -> Result<Statement, Refusal> {
    if sql.len() > MAX_SQL_BYTES {
        let message = format!("the query has {} bytes, more than the {MAX_SQL_BYTES} allowed", sql.len());
        return Err(Refusal::new(
            "too-long",
            message,
            "shorten it; join long lists of values from a table instead",
        ));
    }
    // Drivers end a text at such a character; what was checked would not be what runs.
    if dialect.is_remote() && sql.contains('\0') {
        return Err(Refusal::new("not-exact", "the query has a character of code zero", "leave it out"));
    }
    let tokens = tokenize(sql, dialect)?;
    let count = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if count > MAX_TOKENS {
        let message = format!("the query has {count} tokens, more than the {MAX_TOKENS} allowed");
        return Err(Refusal::new(
            "too-long",
            message,
            "shorten it; join long lists of values from a table instead",
        ));
    }
    let mut statements = statements(tokens, dialect)?;
    match statements.len() {
        1 => Ok(statements.remove(0)),
        0 => Err(Refusal::new("one-statement", "there is no statement", "send one SELECT")),
        more => Err(Refusal::new(
            "one-statement",
            format!("{more} statements in one request"),
            "send one SELECT at a time",
        )),
    }
}

/// Parses the text of an approved query once more, by the same rules and without their bounds.
pub(super) fn reparse(sql: &str, dialect: Dialect) -> Option<Statement> {
    let mut statements = statements(tokenize(sql, dialect).ok()?, dialect).ok()?;
    (statements.len() == 1).then(|| statements.remove(0))
}

fn syntax(message: String) -> Refusal {
    Refusal::new("syntax", format!("the query does not parse: {message}"), "mend the SQL")
}

pub(super) fn statements(tokens: Vec<TokenWithSpan>, dialect: Dialect) -> Result<Vec<Statement>, Refusal> {
    let budget = Budget::new(dialect.parser(), tokens.len());
    let parsed = Parser::new(&budget)
        .with_recursion_limit(MAX_DEPTH)
        .with_tokens_with_locations(tokens)
        .parse_statements();
    parsed.map_err(|error| match budget.is_used_up() {
        true => Refusal::new(
            "too-deep",
            "the query nests so that it takes too long to parse",
            "nest fewer calls in calls; name parts of it in a WITH",
        ),
        false => syntax(error.to_string()),
    })
}

fn tokenize(sql: &str, dialect: Dialect) -> Result<Vec<TokenWithSpan>, Refusal> {
    let raw = dialect == Dialect::Snowflake;
    let mut tokens = Tokenizer::new(dialect.parser(), sql)
        .with_unescape(!raw)
        .tokenize_with_location()
        .map_err(|error| syntax(error.to_string()))?;
    if dialect.is_remote() {
        for token in &mut tokens {
            let span = token.span;
            normalise(&mut token.token, raw).map_err(|refusal| refusal.at(span))?;
        }
    }
    Ok(tokens)
}

/// Turns every spelling of a text into one; `raw` ones still have their escapes.
fn normalise(token: &mut Token, raw: bool) -> Result<(), Refusal> {
    let text = match token {
        Token::SingleQuotedString(text) if raw => unescaped(text)?,
        Token::DollarQuotedString(quoted) => std::mem::take(&mut quoted.value),
        Token::EscapedStringLiteral(text) | Token::UnicodeStringLiteral(text) => std::mem::take(text),
        Token::Word(word) if word.quote_style.is_some() => {
            if raw {
                word.value = word.value.replace("\"\"", "\"");
            }
            return Ok(());
        }
        // Who folds other letters, and how, depends on the database's encoding.
        Token::Word(word) if !word.value.is_ascii() => {
            let message =
                format!("the name {} has letters other than those of ASCII", word.value.escape_debug());
            return Err(Refusal::new("plain-name", message, "write it in double quotes"));
        }
        _ => return Ok(()),
    };
    if text.contains('\0') {
        return Err(Refusal::new("not-exact", "a text has a character of code zero", "leave it out"));
    }
    *token = Token::SingleQuotedString(text);
    Ok(())
}

/// The text of a Snowflake literal: `''` and the backslash sequences of
/// <https://docs.snowflake.com/en/sql-reference/data-types-text#escape-sequences-in-single-quoted-string-constants>.
fn unescaped(raw: &str) -> Result<String, Refusal> {
    if !raw.contains(['\'', '\\']) {
        return Ok(raw.to_owned());
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw.chars();
    while let Some(char) = rest.next() {
        match char {
            '\'' => {
                // The second of the pair.
                rest.next();
                text.push('\'');
            }
            '\\' => {
                let escape = rest.next().unwrap_or('\\');
                let decoded = match escape {
                    'b' => Some('\u{8}'),
                    'f' => Some('\u{c}'),
                    'n' => Some('\n'),
                    'r' => Some('\r'),
                    't' => Some('\t'),
                    'x' => coded(&mut rest, 2, 2, 16, None),
                    'u' => coded(&mut rest, 4, 4, 16, None),
                    '0'..='7' => coded(&mut rest, 0, 2, 8, Some(escape)),
                    other => Some(other),
                };
                text.push(decoded.ok_or_else(|| {
                    let message = format!("the escape \\{escape} in a text is not complete");
                    Refusal::new("not-exact", message, "write the character itself, or the text in $$")
                })?);
            }
            other => text.push(other),
        }
    }
    Ok(text)
}

/// The character whose code stands in the next `least..=most` digits, after `first` if there is one.
fn coded(
    rest: &mut std::str::Chars<'_>,
    least: usize,
    most: usize,
    radix: u32,
    first: Option<char>,
) -> Option<char> {
    let mut code = first.map_or(Some(0), |digit| digit.to_digit(radix))?;
    let mut read = 0;
    while read < most
        && let Some(digit) = rest.clone().next().and_then(|char| char.to_digit(radix))
    {
        rest.next();
        code = code * radix + digit;
        read += 1;
    }
    (read >= least).then(|| char::from_u32(code)).flatten()
}
