//! Findings about source files: where, which rule, what is wrong, what to do.

use std::fmt::Write as _;

use super::node::Position;

/// How bad a finding is. An error keeps its file from being served; a warning doesn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One finding, with everything that an editor, a CI log or a table row needs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Stable rule id, such as `unknown-key`.
    pub rule: &'static str,
    /// The file as it was named when loading, relative to the semantic folder's parent where possible.
    pub file: String,
    /// One-based.
    pub line: u32,
    /// One-based, in characters.
    pub column: u32,
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
    /// The line of source, without its line break.
    pub snippet: String,
}

impl Diagnostic {
    /// The form that compilers use, with the source line and a caret.
    pub fn render(&self) -> String {
        let mut text = format!("{}[{}]: {}\n", self.severity.as_str(), self.rule, self.message);
        let _ = writeln!(text, "  --> {}:{}:{}", self.file, self.line, self.column);
        if !self.snippet.is_empty() {
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            let indent: String = self
                .snippet
                .chars()
                .take(self.column.saturating_sub(1) as usize)
                .map(|character| if character == '\t' { '\t' } else { ' ' })
                .collect();
            let _ = writeln!(text, " {gutter} |\n {number} | {}\n {gutter} | {indent}^", self.snippet);
        }
        if !self.help.is_empty() {
            let _ = writeln!(text, "  = help: {}", self.help);
        }
        text
    }
}

/// Collects the findings of one file.
pub(super) struct Findings<'a> {
    pub file: &'a str,
    lines: Vec<&'a str>,
    pub list: Vec<Diagnostic>,
}

impl<'a> Findings<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, lines: text.lines().collect(), list: Vec::new() }
    }

    pub fn error(
        &mut self,
        rule: &'static str,
        at: Position,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Error, rule, at, message.into(), help.into());
    }

    pub fn warn(
        &mut self,
        rule: &'static str,
        at: Position,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Warning, rule, at, message.into(), help.into());
    }

    fn push(&mut self, severity: Severity, rule: &'static str, at: Position, message: String, help: String) {
        let snippet = self.lines.get(at.line.saturating_sub(1) as usize).copied().unwrap_or_default();
        let snippet = snippet.chars().take(200).collect();
        self.list.push(Diagnostic {
            severity,
            rule,
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            message,
            help,
            snippet,
        });
    }
}

/// The known name nearest to a mistyped one, if it is near enough to be meant.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 3)
        .min_by_key(|(distance, candidate)| (*distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, or nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    suggest(name, known).map(|candidate| format!("did you mean `{candidate}`?")).unwrap_or_default()
}
