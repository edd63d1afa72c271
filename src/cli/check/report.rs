//! Findings in the forms that people, scripts and code review tools read. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::semantic::{Diagnostic, Severity, rule};

/// All findings, errors first, then by place.
#[derive(Debug)]
pub struct Report {
    findings: Vec<Diagnostic>,
    files: usize,
}

impl Report {
    pub fn new(mut findings: Vec<Diagnostic>, files: usize) -> Self {
        findings.sort_by(|a, b| {
            (a.severity, &a.file, a.line, a.column).cmp(&(b.severity, &b.file, b.line, b.column))
        });
        Self { findings, files }
    }

    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    pub fn warnings(&self) -> usize {
        self.findings.len() - self.errors()
    }

    /// Each finding as compilers write it, then the sum.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&finding.render());
            text.push('\n');
        }
        let (errors, warnings) = (counted(self.errors(), "error"), counted(self.warnings(), "warning"));
        let _ = writeln!(text, "{errors}, {warnings} in {}", counted(self.files, "file"));
        text
    }

    pub fn json(&self) -> Value {
        json!({
            "errors": self.errors(),
            "warnings": self.warnings(),
            "files": self.files,
            "findings": self.findings,
        })
    }

    /// SARIF 2.1.0 (OASIS): one run, one result a finding.
    pub fn sarif(&self) -> Value {
        let rules: BTreeSet<&str> = self.findings.iter().map(|finding| finding.rule).collect();
        let index = |id: &str| rules.iter().position(|rule| *rule == id);
        let results: Vec<Value> =
            self.findings.iter().map(|finding| sarif_result(finding, index(finding.rule))).collect();
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "steward",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules.iter().map(|id| sarif_rule(id)).collect::<Vec<_>>(),
                }},
                "columnKind": "unicodeCodePoints",
                "results": results,
            }],
        })
    }
}

fn sarif_rule(id: &str) -> Value {
    match rule(id) {
        Some(rule) => json!({
            "id": id,
            "shortDescription": {"text": rule.summary},
            "defaultConfiguration": {"level": rule.severity.as_str()},
        }),
        // Of files that are not semantic.
        None => json!({"id": id}),
    }
}

fn sarif_result(finding: &Diagnostic, rule_index: Option<usize>) -> Value {
    let message = match finding.help.as_str() {
        "" => finding.message.clone(),
        help => format!("{}; {help}", finding.message),
    };
    let mut region = json!({"startLine": finding.line.max(1), "startColumn": finding.column.max(1)});
    if !finding.snippet.is_empty() {
        // Behind the last character, as SARIF counts.
        region["endColumn"] = (finding.column.max(1) + finding.width()).into();
        region["snippet"] = json!({"text": finding.snippet});
    }
    json!({
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": finding.severity.as_str(),
        "message": {"text": message},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(&finding.file)},
            "region": region,
        }}],
    })
}

/// A relative path as a relative reference (RFC 3986): what is no path character is encoded.
fn uri(path: &str) -> String {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const ODD: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'#')
        .add(b'%')
        .add(b'<')
        .add(b'>')
        .add(b'?')
        .add(b'`')
        .add(b'{')
        .add(b'}');
    utf8_percent_encode(&path.replace('\\', "/"), ODD).to_string()
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
