//! The closed table of scopes that can be granted, and what may follow each as target.

use crate::auth::scope::{Scope, ScopeError};

/// How the target of a known scope is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetShape {
    /// The scope takes no target.
    None,
    /// Exactly this many segments, called so in messages and documents.
    Exactly(usize, &'static str),
    /// At least this many segments.
    AtLeast(usize, &'static str),
}

/// One row of the closed table of scopes that can be granted.
#[derive(Debug, Clone, Copy)]
pub struct KnownScope {
    /// `area:verb`, or a bare word.
    pub name: &'static str,
    /// What may follow as target.
    pub target: TargetShape,
    /// What holding it allows, for people.
    pub description: &'static str,
}

/// The scopes without a verb: those of the example endpoints `/v1/auth-test/*`, under the names that deployments of
/// the kind already grant. They open nothing else, no column of any sensitivity in particular.
pub const BARE_SCOPES: &[&str] = &["protected", "highly_sensitive"];

/// Every scope that can be granted, in the order of the documents.
pub const KNOWN_SCOPES: &[KnownScope] = &[
    known("semantic:read", TargetShape::None, "read the semantic layer and link questions to it"),
    known("sql:generate", TargetShape::None, "compile metric queries, generate SQL and have SQL checked"),
    known("sql:run", TargetShape::Exactly(2, "model.dataset"), "run guarded SQL over datasets"),
    known("actions:read", TargetShape::None, "list the external APIs and their operations"),
    known("actions:call", TargetShape::AtLeast(2, "api.operation"), "call operations of external APIs"),
    known("rag:read", TargetShape::Exactly(1, "index"), "search, page and read stored documents"),
    known("rag:write", TargetShape::Exactly(1, "index"), "ingest and delete documents"),
    known("jobs:run", TargetShape::None, "run long work in the background"),
    known("admin:clients", TargetShape::None, "administer clients"),
    known("admin:users", TargetShape::None, "administer users"),
    known("admin:keys", TargetShape::None, "administer signing keys"),
    known("admin:audit", TargetShape::None, "read the audit log"),
    known("admin:stats", TargetShape::None, "read usage statistics"),
    known("data:protected", TargetShape::None, "see columns marked protected"),
    known(
        "data:highly_sensitive",
        TargetShape::None,
        "see columns marked highly_sensitive, and protected ones",
    ),
    known(
        "protected",
        TargetShape::None,
        "call the protected endpoints of the example /v1/auth-test; no data",
    ),
    known(
        "highly_sensitive",
        TargetShape::None,
        "call the highly confidential endpoint of the example /v1/auth-test; no data",
    ),
];

const fn known(name: &'static str, target: TargetShape, description: &'static str) -> KnownScope {
    KnownScope { name, target, description }
}

impl Scope {
    /// Refuses what no operation would ever honour (S3): unknown areas and verbs, and targets of the wrong shape.
    pub fn check_grantable(&self) -> Result<(), ScopeError> {
        let name = self.untargeted().0;
        let Some(known) = KNOWN_SCOPES.iter().find(|known| known.name == name) else {
            return Err(ScopeError::Unknown {
                scope: self.0.clone(),
                suggestion: nearest(&name, self.target()),
            });
        };
        let Some(target) = self.target() else { return Ok(()) };
        let segments = target.split('.').count();
        let open_ended = target.ends_with('*');
        let (shape, wanted, fits) = match known.target {
            TargetShape::None => {
                return Err(ScopeError::TakesNoTarget { scope: self.0.clone(), without: name });
            }
            TargetShape::Exactly(wanted, shape) => {
                (shape, wanted, segments == wanted || (open_ended && segments < wanted))
            }
            TargetShape::AtLeast(wanted, shape) => (shape, wanted, segments >= wanted || open_ended),
        };
        if fits {
            return Ok(());
        }
        let suggestion = (segments < wanted).then(|| format!("{}.*", self.0));
        Err(ScopeError::WrongTarget { scope: self.0.clone(), shape, suggestion })
    }
}

fn nearest(name: &str, target: Option<&str>) -> Option<String> {
    let best = KNOWN_SCOPES
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known.name), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    // Below this the two share little more than their length.
    if best.0 < 0.6 {
        return None;
    }
    match target {
        Some(target) if best.1.target != TargetShape::None => Some(format!("{}:{target}", best.1.name)),
        _ => Some(best.1.name.to_owned()),
    }
}
