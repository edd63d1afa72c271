//! Errors of a statement, shown with the place in the text that it came from. Pure.

use super::split::Statement;
use crate::engine::EngineError;

/// The statement with blanks before it, so that lines and columns in messages are those of the whole text. A long
/// script is not padded: the guard limits the length of a statement.
pub fn padded(text: &str, statement: Statement<'_>) -> String {
    let before = &text[..statement.start];
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    let lines = before.bytes().filter(|byte| *byte == b'\n').count();
    let columns = last_line.chars().count();
    if lines + columns + statement.text.len() > crate::guard::MAX_SQL_BYTES {
        return statement.text.to_owned();
    }
    format!("{}{}{}", "\n".repeat(lines), " ".repeat(columns), statement.text)
}

/// What to tell about an error in `sql`, which is part of the text called `name`.
pub fn render(error: &EngineError, name: &str, sql: &str) -> String {
    let (head, help, position) = match error {
        EngineError::Refused(refusal) => {
            let position = refusal.position.or_else(|| position_in(&refusal.message));
            (
                format!("error[{}]: {}", refusal.rule, without_position(&refusal.message)),
                refusal.help.as_str(),
                position,
            )
        }
        other => {
            let text = other.to_string();
            return match text.split_once("; ") {
                Some((head, help)) => format!("error: {head}\n  = help: {help}"),
                None => format!("error: {text}"),
            };
        }
    };
    let mut text = head;
    if let Some((line, column)) = position {
        text += &format!("\n  --> {name}:{line}:{column}");
        text += &snippet(sql, line, column);
    }
    if !help.is_empty() {
        text += &format!("\n  = help: {help}");
    }
    text
}

fn snippet(sql: &str, line: u64, column: u64) -> String {
    let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(source) = sql.lines().nth(index(line)) else { return String::new() };
    // Long lines are cut round the place.
    let from = index(column).saturating_sub(80);
    let shown: String = source.chars().skip(from).take(120).collect();
    let caret: String = source
        .chars()
        .skip(from)
        .take(index(column) - from)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let gutter = " ".repeat(line.to_string().len());
    format!("\n {gutter} |\n {line} | {shown}\n {gutter} | {caret}^")
}

/// sqlparser's own ` at Line: 1, Column: 8`.
fn position_in(message: &str) -> Option<(u64, u64)> {
    let (_, tail) = message.rsplit_once(" at Line: ")?;
    let (line, column) = tail.split_once(", Column: ")?;
    let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, digits.parse().ok()?))
}

fn without_position(message: &str) -> &str {
    match (position_in(message), message.rsplit_once(" at Line: ")) {
        (Some(_), Some((head, _))) => head,
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::super::split::split;
    use super::*;
    use crate::guard::{Dialect, Namespace, approve};

    /// The first refused statement of a script, as it is told.
    fn told(script: &str) -> String {
        for statement in split(script) {
            let sql = padded(script, statement);
            if let Err(refusal) = approve(&sql, &Namespace::default(), Dialect::DataFusion, 10) {
                return render(&refusal.into(), "x.sql", script);
            }
        }
        String::new()
    }

    #[test]
    fn an_error_in_a_later_statement_stands_at_its_own_line_and_column() {
        let text = told("SELECT 1;\nSELECT 2; SELECT FROM FROM y");
        assert!(text.contains("x.sql:2:23") || text.contains("x.sql:2:"), "{text}");
        assert!(text.contains("2 | SELECT 2; SELECT FROM FROM y"), "{text}");
        assert!(!text.contains("at Line"), "{text}");
    }

    #[test]
    fn the_caret_is_below_the_offending_word() {
        let text = told("SELECT *\n  FROM nowhere.nothing");
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.starts_with(" 2 | ")).unwrap_or_else(|| panic!("{text}"));
        let caret = lines[at + 1].find('^').unwrap();
        assert!(lines[at][caret..].starts_with("nowhere"), "{text}");
        assert!(text.contains("= help:") || text.contains("error["), "{text}");
    }

    #[test]
    fn long_scripts_are_not_padded_over_the_guards_limit() {
        let script = format!("{};SELECT 1", "-- x\n".repeat(crate::guard::MAX_SQL_BYTES));
        let last = *split(&script).last().unwrap();
        assert_eq!(padded(&script, last).len(), last.text.len());
    }
}
