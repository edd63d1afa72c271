//! What is wrong with an action file, where, and what to do about it. Pure.

use std::fmt;

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The API (or the operation named) is not served until this is mended.
    Error,
    /// The API is served; some calls will fail or are less safe than they could be.
    Warning,
}

/// One finding in one action file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ActionDiagnostic {
    /// Path of the file as it was opened.
    pub file: String,
    /// 1-based; 0 where the finding is about the whole file.
    pub line: u32,
    /// 1-based, in characters; 0 where the finding is about the whole file.
    pub column: u32,
    pub severity: Severity,
    /// Stable id, such as `actions/unknown-key`.
    pub rule: &'static str,
    pub message: String,
    /// What to do, one sentence.
    pub help: String,
}

impl fmt::Display for ActionDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(
            f,
            "{}:{}:{}: {severity}[{}]: {}",
            self.file, self.line, self.column, self.rule, self.message
        )?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "; {}", self.help) }
    }
}
