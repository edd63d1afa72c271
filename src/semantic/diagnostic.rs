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

/// Lines longer than this are shown in part.
const MAX_SNIPPET: usize = 200;
/// Characters shown before the column where only part of a line is shown.
const LEAD: u32 = 80;

impl Diagnostic {
    /// A finding about a whole file or folder.
    pub fn of_file(
        severity: Severity,
        rule: &'static str,
        file: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let (file, message, help) = (file.into(), message.into(), help.into());
        Self { severity, rule, file, line: 1, column: 1, message, help, snippet: String::new() }
    }

    /// The form that compilers use, with the source line and carets under what is meant.
    pub fn render(&self) -> String {
        let mut text = format!("{}[{}]: {}\n", self.severity.as_str(), self.rule, self.message);
        let _ = writeln!(text, "  --> {}:{}:{}", self.file, self.line, self.column);
        if !self.snippet.is_empty() {
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            let indent: String = self
                .snippet
                .chars()
                .take(self.offset())
                .map(|character| if character == '\t' { '\t' } else { ' ' })
                .collect();
            let carets = "^".repeat(self.width() as usize);
            let _ = writeln!(text, " {gutter} |\n {number} | {}\n {gutter} | {indent}{carets}", self.snippet);
        }
        if !self.help.is_empty() {
            let _ = writeln!(text, "  = help: {}", self.help);
        }
        text
    }

    /// How many characters of the line are meant, at least one: the word, or the quoted text, at the column.
    pub fn width(&self) -> u32 {
        let mut rest = self.snippet.chars().skip(self.offset());
        let count = match rest.next() {
            Some(quote @ ('"' | '\'')) => {
                let inner = rest.take_while(|character| *character != quote).count() + 2;
                // An unclosed quote is where the trouble is, not the rest of the line.
                if self.offset() + inner > self.snippet.chars().count() { 1 } else { inner }
            }
            Some(first) if is_word(first) => 1 + rest.take_while(|character| is_word(*character)).count(),
            _ => 1,
        };
        u32::try_from(count).unwrap_or(1)
    }

    /// Characters of the snippet before the column.
    fn offset(&self) -> usize {
        let before = if self.snippet.starts_with('…') && self.column > LEAD {
            LEAD
        } else {
            self.column.saturating_sub(1)
        };
        before as usize
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '.')
}

/// The part of a line that is shown for a finding at `column`.
fn snippet(line: &str, column: u32) -> String {
    let line = line.trim_end();
    if line.chars().nth(MAX_SNIPPET).is_none() {
        return line.to_owned();
    }
    if column <= MAX_SNIPPET as u32 / 2 {
        return line.chars().take(MAX_SNIPPET).chain(['…']).collect();
    }
    // The ellipsis takes the place of the first of the leading characters.
    let start = (column - LEAD) as usize;
    std::iter::once('…').chain(line.chars().skip(start).take(MAX_SNIPPET)).collect()
}

/// More findings of one severity in one file than this are counted, not listed.
const MAX_FINDINGS: usize = 1_000;

/// Collects the findings of one file.
pub(super) struct Findings<'a> {
    pub file: &'a str,
    text: &'a str,
    /// Where each line begins; made for the first finding.
    lines: Option<Vec<u32>>,
    list: Vec<Diagnostic>,
    /// Errors, then warnings, those not listed included.
    counts: [usize; 2],
}

impl<'a> Findings<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, lines: None, list: Vec::new(), counts: [0; 2] }
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

    pub fn has_errors(&self) -> bool {
        self.counts[0] > 0
    }

    /// All findings; where there are too many, the last says how many are not listed.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        for (severity, count) in [(Severity::Error, self.counts[0]), (Severity::Warning, self.counts[1])] {
            if count > MAX_FINDINGS {
                let message = format!("{} more {}s are not listed", count - MAX_FINDINGS, severity.as_str());
                let help = "mend those listed first";
                self.list.push(Diagnostic::of_file(severity, "too-many-findings", self.file, message, help));
            }
        }
        self.list
    }

    fn push(&mut self, severity: Severity, rule: &'static str, at: Position, message: String, help: String) {
        let count = &mut self.counts[severity as usize];
        *count += 1;
        if *count > MAX_FINDINGS {
            return;
        }
        let snippet = snippet(self.line(at.line), at.column);
        self.list.push(Diagnostic {
            severity,
            rule,
            file: self.file.to_owned(),
            line: at.line.max(1),
            column: at.column.max(1),
            message,
            help,
            snippet,
        });
    }

    fn line(&mut self, number: u32) -> &'a str {
        let text = self.text;
        let starts = self.lines.get_or_insert_with(|| {
            let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(breaks.map(|(at, _)| at as u32 + 1)).collect()
        });
        let Some(start) = starts.get(number.saturating_sub(1) as usize) else { return "" };
        let end = starts.get(number.max(1) as usize).map_or(text.len(), |next| *next as usize - 1);
        text.get(*start as usize..end).unwrap_or_default()
    }
}

/// Longer names get no suggestions: they are no slips of the finger.
const MAX_NAME: usize = 128;

/// The known name nearest to a mistyped one, if it is near enough to be meant; ties go to the shorter, then the first.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let lower = name.to_lowercase();
    known
        .into_iter()
        .filter_map(|candidate| {
            let allowed = 1 + candidate.len().min(name.len()) / 3;
            // Bytes differ by at most four for each character that is added or left out.
            if candidate.len() > MAX_NAME || candidate.len().abs_diff(name.len()) > 4 * allowed {
                return None;
            }
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (distance <= allowed).then_some((distance, candidate))
        })
        .min_by_key(|(distance, candidate)| (*distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, or nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    suggest(name, known).map(|candidate| format!("did you mean `{candidate}`?")).unwrap_or_default()
}
