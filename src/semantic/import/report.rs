//! What an import could not carry over, one line a thing.

use std::sync::Arc;

use crate::semantic::Position;

/// One thing that did not come over as it was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Remark {
    /// Whether something of the input is missing from the result; otherwise it was only changed on the way.
    pub lost: bool,
    pub file: Arc<str>,
    /// One-based.
    pub line: u32,
    pub column: u32,
    /// The thing, such as ``metric `churn` ``.
    pub what: String,
    pub why: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

impl Remark {
    /// One line: `file:line: …`.
    pub fn line(&self) -> String {
        let kind = if self.lost { "not carried over" } else { "changed" };
        let mut text = format!("{}:{}: {kind}: {}: {}", self.file, self.line, self.what, self.why);
        if !self.remedy.is_empty() {
            text.push_str("; ");
            text.push_str(&self.remedy);
        }
        text.replace(['\n', '\r'], " ")
    }
}

/// Collects remarks while files are read.
#[derive(Debug, Default)]
pub struct Report {
    pub remarks: Vec<Remark>,
    /// The file that is being read.
    pub file: Arc<str>,
}

impl Report {
    pub fn lost(
        &mut self,
        at: Position,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(true, at, what.into(), why.into(), remedy.into());
    }

    pub fn changed(
        &mut self,
        at: Position,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(false, at, what.into(), why.into(), remedy.into());
    }

    fn push(&mut self, lost: bool, at: Position, what: String, why: String, remedy: String) {
        let file = self.file.clone();
        self.remarks.push(Remark { lost, file, line: at.line, column: at.column, what, why, remedy });
    }
}
