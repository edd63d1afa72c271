//! Templates in foreign SQL: dbt's `{{ Dimension('order__status') }}`, Cube's `{CUBE}.x` and `${x}`.
//!
//! Pure text. Every hole of a template is given to its importer, which fills it or says why it cannot.

/// A template cut at its holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'t> {
    Text(&'t str),
    /// What stands between `{{` and `}}`.
    Jinja(&'t str),
    /// What stands between `{` and `}`, or `${` and `}`.
    Brace(&'t str),
    /// `{% … %}`.
    Statement(&'t str),
}

/// Cuts a template. A brace that is not closed is text.
pub fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut start = 0;
    while let Some(at) = rest[start..].find('{').map(|at| at + start) {
        let tail = &rest[at..];
        let (close, open_length) = match tail.as_bytes().get(1) {
            Some(b'{') => ("}}", 2),
            Some(b'%') => ("%}", 2),
            Some(b'#') => ("#}", 2),
            _ => ("}", 1),
        };
        let Some(length) = tail[open_length..].find(close) else {
            start = at + open_length;
            continue;
        };
        let inner = &tail[open_length..open_length + length];
        let before = &rest[..at];
        let before = if open_length == 1 { before.strip_suffix('$').unwrap_or(before) } else { before };
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        match close {
            "}}" => pieces.push(Piece::Jinja(inner.trim().trim_matches('-').trim())),
            "%}" => pieces.push(Piece::Statement(inner.trim().trim_matches('-').trim())),
            // A comment.
            "#}" => {}
            _ => pieces.push(Piece::Brace(inner.trim())),
        }
        rest = &tail[open_length + length + close.len()..];
        start = 0;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// Fills the holes of a template, or gives the first reason why one cannot be filled.
pub fn fill(
    template: &str,
    mut fill: impl FnMut(&Piece<'_>) -> Result<String, String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(template.len());
    for piece in pieces(template) {
        match &piece {
            Piece::Text(text) => out.push_str(text),
            piece => out.push_str(&fill(piece)?),
        }
    }
    Ok(out.trim().to_owned())
}

/// A call in Jinja: `Dimension('a__b', entity_path=['c']).grain('day')`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    pub function: String,
    /// Texts given by position.
    pub arguments: Vec<String>,
    /// Names of other arguments: what they mean is not read.
    pub named: Vec<String>,
    /// The argument of `.grain(…)`.
    pub grain: Option<String>,
    /// Other methods.
    pub methods: Vec<String>,
}

/// Reads a call; `None` for anything else that Jinja may be.
pub fn call(text: &str) -> Option<Call> {
    let (function, rest) = text.trim().split_once('(')?;
    let function = function.trim();
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name(function) {
        return None;
    }
    let (arguments, mut rest) = close(rest)?;
    let mut call = Call { function: function.to_owned(), ..Call::default() };
    for argument in split(arguments) {
        match literal(argument) {
            Some(text) => call.arguments.push(text.to_owned()),
            None => call.named.push(argument.split('=').next().unwrap_or(argument).trim().to_owned()),
        }
    }
    while let Some(method) = rest.trim_start().strip_prefix('.') {
        let (name, tail) = method.split_once('(')?;
        let (arguments, tail) = close(tail)?;
        match (name.trim(), literal(arguments)) {
            ("grain", Some(grain)) => call.grain = Some(grain.to_lowercase()),
            (name, _) => call.methods.push(name.to_owned()),
        }
        rest = tail;
    }
    rest.trim().is_empty().then_some(call)
}

/// What stands before the parenthesis that closes the one that is open, and what behind it.
fn close(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1_usize;
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), character) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some((&text[..at], &text[at + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

/// Arguments at commas outside of quotes and brackets.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut quote, mut start) = (0_usize, None, 0);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), character) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn literal(text: &str) -> Option<&str> {
    let text = text.trim();
    let inner = ['\'', '"']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote).and_then(|text| text.strip_suffix(*quote)))?;
    (!inner.contains(['\'', '"'])).then_some(inner)
}

/// A YAML file that Jinja would have to make first, with statements blanked and holes turned into words, so that it
/// can be read and every finding still stands on its line. Returns the text and the statements with their lines.
pub fn masked(text: &str) -> (String, Vec<(u32, String)>) {
    let mut out = String::with_capacity(text.len());
    let mut statements = Vec::new();
    let mut rest = text;
    let mut line = 1_u32;
    while let Some(at) = rest.find("{%").into_iter().chain(rest.find("{{")).chain(rest.find("{#")).min() {
        let close = match &rest[at..at + 2] {
            "{%" => "%}",
            "{{" => "}}",
            _ => "#}",
        };
        let Some(length) = rest[at + 2..].find(close).map(|length| length + 4) else { break };
        let hole = &rest[at..at + length];
        out.push_str(&rest[..at]);
        line += count_lines(&rest[..at]);
        if close == "%}" {
            statements.push((line, hole[2..hole.len() - 2].trim().trim_matches('-').trim().to_owned()));
        }
        line += count_lines(hole);
        for character in hole.chars() {
            out.push(match (close, character) {
                (_, '\n') => '\n',
                ("}}", character) if character.is_alphanumeric() => character,
                ("}}", _) => '_',
                _ => ' ',
            });
        }
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    (out, statements)
}

fn count_lines(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_template_is_cut_at_its_holes() {
        let expected = vec![
            Piece::Brace("CUBE"),
            Piece::Text(".a = "),
            Piece::Brace("users.id"),
            Piece::Text(" AND "),
            Piece::Jinja("Dimension('x')"),
            Piece::Statement("if x"),
            Piece::Text(" {open"),
        ];
        assert_eq!(pieces("{CUBE}.a = ${users.id} AND {{ Dimension('x') }}{%- if x -%} {open"), expected);
    }

    #[test]
    fn calls_of_dbt_are_read_with_their_arguments_and_methods() {
        let read = call("TimeDimension('order__ordered_at', 'day').grain('WEEK').descending(True)").unwrap();
        assert_eq!(read.arguments, ["order__ordered_at", "day"]);
        assert_eq!(read.grain.as_deref(), Some("week"));
        assert_eq!(read.methods, ["descending"]);
        let read = call("Metric('revenue', group_by=['customer', \"a)b\"])").unwrap();
        assert_eq!((read.arguments, read.named), (vec!["revenue".to_owned()], vec!["group_by".to_owned()]));
        for text in ["x", "var('a') + 1", "f('a'", "(a)"] {
            assert_eq!(call(text), None, "{text}");
        }
    }

    #[test]
    fn masking_keeps_every_line_where_it_is() {
        let text = "{% for x in y %}\na: {{ x\n}}\n{# c #}b: 1\n{% endfor %}\n";
        let (masked, statements) = masked(text);
        assert_eq!(masked.lines().count(), text.lines().count());
        assert_eq!(masked.lines().nth(3).unwrap().trim(), "b: 1");
        assert_eq!(statements, [(1, "for x in y".to_owned()), (5, "endfor".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_of_templates_panic(text in "[{}$%#()\\[\\]'\",. a-c\\n-]{0,60}") {
            let _ = pieces(&text);
            let _ = call(&text);
            let (masked, _) = masked(&text);
            prop_assert_eq!(masked.matches('\n').count(), text.matches('\n').count());
        }

        #[test]
        fn a_text_without_braces_comes_back_as_it_is(text in "[^{}]{0,60}") {
            let filled = fill(&text, |_| Err("a hole".to_owned()));
            prop_assert_eq!(filled.unwrap(), text.trim());
        }
    }
}
