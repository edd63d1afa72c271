//! The commonest expressions, parsed without the detour that the parser makes for all of them: it first tries whether
//! a type begins there (`DATE '2020-05-20'`), and writes an error message each time that none does. That was half of the
//! time that a query took to parse.
//!
//! P1 What is parsed here is what the parser itself would have made of it; what is not sure to be is left to it.

use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectName};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// A column, a number, a text or a call, if nothing but that can stand here.
pub(super) fn parse(parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
    let [first, second, third, fourth] = parser.peek_tokens_ref::<4>();
    match (&first.token, &second.token) {
        (Token::Number(..) | Token::SingleQuotedString(_), end) if is_end(end) => {
            Some(parser.parse_value().map(Expr::Value))
        }
        (Token::Word(word), Token::Period) => {
            let (start, end) = (plain(word, first)?, &fourth.token);
            let Token::Word(word) = &third.token else { return None };
            let name = plain(word, third).filter(|_| is_end(end))?;
            skip(parser, 3);
            Some(Ok(Expr::CompoundIdentifier(vec![start, name])))
        }
        // Not `(+)`, which marks an outer join.
        (Token::Word(word), Token::LParen) if third.token != Token::Plus => {
            let name = plain(word, first).or_else(|| function(word, first))?;
            call(parser, name)
        }
        // Not the typed parameter of a lambda, `a int -> a * 2`, whose type may be any word.
        (Token::Word(word), end) if is_end(end) && third.token != Token::Arrow => {
            let name = plain(word, first)?;
            skip(parser, 1);
            Some(Ok(Expr::Identifier(name)))
        }
        _ => None,
    }
}

/// A word that means nothing to the parser.
fn plain(word: &Word, token: &TokenWithSpan) -> Option<Ident> {
    (word.keyword == Keyword::NoKeyword).then(|| word.to_ident(token.span))
}

/// A keyword that, before a parenthesis, is the name of a function as any other.
fn function(word: &Word, token: &TokenWithSpan) -> Option<Ident> {
    let is_function = matches!(
        word.keyword,
        Keyword::ABS
            | Keyword::AVG
            | Keyword::COALESCE
            | Keyword::COUNT
            | Keyword::DENSE_RANK
            | Keyword::LAG
            | Keyword::LEAD
            | Keyword::MAX
            | Keyword::MIN
            | Keyword::NULLIF
            | Keyword::RANK
            | Keyword::ROW_NUMBER
            | Keyword::SUM
    );
    is_function.then(|| word.to_ident(token.span))
}

fn skip(parser: &mut Parser<'_>, tokens: usize) {
    (0..tokens).for_each(|_| parser.advance_token());
}

fn call(parser: &mut Parser<'_>, name: Ident) -> Option<Result<Expr, ParserError>> {
    let mut deepest = None;
    let called = parser.maybe_parse(|parser| {
        parser.advance_token();
        let called = parser.parse_function(ObjectName::from(vec![name.clone()]));
        match called {
            Ok(called) if is_end(&parser.peek_token_ref().token) => Ok(called),
            Ok(_) => Err(ParserError::ParserError(String::new())),
            Err(error) => {
                // Nested calls that fail are not tried a second time at every level.
                deepest = Some(error.clone());
                Err(error)
            }
        }
    });
    match (called, deepest) {
        (Ok(Some(called)), _) => Some(Ok(called)),
        (Ok(None), None) => None,
        (Ok(None), Some(error)) | (Err(error), _) => Some(Err(error)),
    }
}

/// Whether an expression that comes before this is whole, but for operators and what may follow any expression.
fn is_end(token: &Token) -> bool {
    match token {
        Token::EOF
        | Token::Comma
        | Token::RParen
        | Token::SemiColon
        | Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::StringConcat => true,
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::AS
                | Keyword::ASC
                | Keyword::BETWEEN
                | Keyword::DESC
                | Keyword::ELSE
                | Keyword::END
                | Keyword::FROM
                | Keyword::GROUP
                | Keyword::HAVING
                | Keyword::IN
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::LIMIT
                | Keyword::NOT
                | Keyword::OR
                | Keyword::ORDER
                | Keyword::THEN
                | Keyword::WHEN
                | Keyword::WHERE
        ),
        _ => false,
    }
}
