//! Scopes: what a token may do, as `area:verb` or `area:verb:target`; and two bare words, for the example endpoints.
//!
//! Pure: no I/O, no clock. Knows which areas and verbs exist; does not know which operation needs which of them
//! (that is `operations`).
//! S1 a comparison is by whole segments, never by prefix or substring of one.
//! S2 covering is set inclusion of the targets that a scope names, hence reflexive and transitive.
//! S3 an unknown scope can be parsed (tokens of an older release must still be readable) but never granted.
//!
//! What `*` means: in the last place of a target it stands for one or more segments (`flights.*` covers
//! `flights.airports` and `flights.a.b`, not `flights`); anywhere else for exactly one (`*.get_daily` covers
//! `weather.get_daily` alone among one-dot names). Without a target a scope covers every target of its area and verb.
//!
//! A bare word ([`BARE_SCOPES`]) is a scope without verb and target that covers itself alone.

mod known;
mod meet;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;

pub use known::{BARE_SCOPES, KNOWN_SCOPES, KnownScope, TargetShape};

/// Longest single scope, in bytes.
pub const MAX_SCOPE_BYTES: usize = 256;
/// Longest list of scopes, in bytes: with it, a token stays below the 8 KB that `token` accepts.
pub const MAX_SCOPE_SET_BYTES: usize = 3072;

/// Why a text is no scope, or none that can be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    #[error("a scope is empty; write area:verb, such as semantic:read")]
    Empty,
    #[error("a scope of {length} bytes is too long; at most {MAX_SCOPE_BYTES} are allowed")]
    TooLong { length: usize },
    #[error("scope `{scope}` has no verb; write area:verb, such as semantic:read")]
    NoVerb { scope: String },
    #[error(
        "scope `{scope}` has too many parts; write area:verb:target, and join the parts of a target with dots"
    )]
    TooManyParts { scope: String },
    #[error("scope `{scope}` has an empty {part}; remove the stray separator or fill it in")]
    EmptyPart { scope: String, part: &'static str },
    #[error("the {part} of scope `{scope}` may hold only a-z, 0-9, _ and -")]
    BadName { scope: String, part: &'static str },
    #[error("the target of scope `{scope}` may hold only letters, digits, _ and - between its dots")]
    BadTarget { scope: String },
    #[error("`*` in scope `{scope}` must stand alone between dots; it never completes part of a name")]
    PartialStar { scope: String },
    #[error("`*` may appear only in a target, not in the {part} of scope `{scope}`")]
    StarOutsideTarget { scope: String, part: &'static str },
    #[error("there is no scope `{scope}`{}", did_you_mean(.suggestion))]
    Unknown { scope: String, suggestion: Option<String> },
    #[error("scope `{scope}` takes no target; grant `{without}`")]
    TakesNoTarget { scope: String, without: String },
    #[error("the target of scope `{scope}` must be {shape}{}", did_you_mean(.suggestion))]
    WrongTarget { scope: String, shape: &'static str, suggestion: Option<String> },
    #[error(
        "the list of scopes is {length} bytes long; at most {MAX_SCOPE_SET_BYTES} are allowed, use `*` in targets"
    )]
    SetTooLong { length: usize },
    #[error("not granted: {}", join(.scopes))]
    NotGranted { scopes: Vec<Scope> },
}

impl ScopeError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotGranted { .. } => ErrorKind::InsufficientScope,
            _ => ErrorKind::InvalidInput,
        }
    }
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|scope| format!("; did you mean `{scope}`?")).unwrap_or_default()
}

fn join(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(", ")
}

/// One scope. Area and verb: one or more of `a-z 0-9 _ -`; target: segments of `A-Z a-z 0-9 _ -` or a lone `*`,
/// joined by dots; at most 256 bytes in all. Or one of [`BARE_SCOPES`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(String);

impl Scope {
    /// `area:verb`, `area:verb:target`, or a bare word.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first part, such as `sql`.
    pub fn area(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The second part, such as `run`; empty for a bare word.
    pub fn verb(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// The third part, such as `flights.*`, if there is one.
    pub fn target(&self) -> Option<&str> {
        self.0.split(':').nth(2)
    }

    /// `area:verb` without the target.
    pub fn untargeted(&self) -> Self {
        match self.verb() {
            "" => self.clone(),
            verb => Self(format!("{}:{verb}", self.area())),
        }
    }

    /// The same area and verb with this target; an error for a bare word, which takes none.
    pub fn with_target(&self, target: &str) -> Result<Self, ScopeError> {
        format!("{}:{}:{target}", self.area(), self.verb()).parse()
    }

    /// Whether holding `self` allows whatever `required` allows (S2). See the head of this file for `*`.
    pub fn covers(&self, required: &Self) -> bool {
        if !self.same_verb(required) {
            return false;
        }
        match (self.target(), required.target()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(granted), Some(required)) => target_covers(granted, required),
        }
    }

    /// Whether both have the same area and verb, whatever their targets.
    pub fn same_verb(&self, other: &Self) -> bool {
        self.area() == other.area() && self.verb() == other.verb()
    }

    /// The scopes of which any one would satisfy a requirement for `self`, narrowest first.
    pub fn would_do(&self) -> Vec<Self> {
        let mut scopes = vec![self.clone()];
        if let Some(target) = self.target() {
            if let Some((head, _)) = target.rsplit_once('.') {
                scopes.extend(self.with_target(&format!("{head}.*")).ok());
            }
            scopes.push(self.untargeted());
        }
        scopes.dedup();
        scopes
    }
}

/// Segment by segment; true if every target that `required` names is one that `granted` names.
fn target_covers(granted: &str, required: &str) -> bool {
    let mut granted = granted.split('.').peekable();
    let mut required = required.split('.');
    loop {
        match (granted.next(), required.next()) {
            (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some("*"), Some(_)) if granted.peek().is_none() => return true,
            // An inner `*` takes one segment; a trailing `*` of `required` then meets (Some, None) and is refused.
            (Some("*"), Some(_)) => {}
            (Some(left), Some(right)) if left == right => {}
            _ => return false,
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        if text.is_empty() {
            return Err(ScopeError::Empty);
        }
        if text.len() > MAX_SCOPE_BYTES {
            return Err(ScopeError::TooLong { length: text.len() });
        }
        let scope = || text.escape_debug().to_string();
        let parts: Vec<&str> = text.split(':').collect();
        let (area, verb, target) = match parts[..] {
            [word] if BARE_SCOPES.contains(&word) => return Ok(Self(text.to_owned())),
            [_] => return Err(ScopeError::NoVerb { scope: scope() }),
            [area, verb] => (area, verb, None),
            [area, verb, target] => (area, verb, Some(target)),
            _ => return Err(ScopeError::TooManyParts { scope: scope() }),
        };
        for (part, name) in [("area", area), ("verb", verb)] {
            if name.is_empty() {
                return Err(ScopeError::EmptyPart { scope: scope(), part });
            }
            if name.contains('*') {
                return Err(ScopeError::StarOutsideTarget { scope: scope(), part });
            }
            if !name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')) {
                return Err(ScopeError::BadName { scope: scope(), part });
            }
        }
        for segment in target.into_iter().flat_map(|target| target.split('.')) {
            match segment {
                "" => return Err(ScopeError::EmptyPart { scope: scope(), part: "target" }),
                "*" => {}
                _ if segment.contains('*') => return Err(ScopeError::PartialStar { scope: scope() }),
                _ if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') => {
                    return Err(ScopeError::BadTarget { scope: scope() });
                }
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Several scopes, each once, in byte order. Its text is space-separated, as in RFC 6749 section 3.3, and at most
/// 3,072 bytes long.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// Collects scopes; fails only if their text would be too long for a token.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, ScopeError> {
        let set = Self(scopes.into_iter().collect());
        match set.0.iter().map(|scope| scope.0.len() + 1).sum::<usize>().saturating_sub(1) {
            length if length > MAX_SCOPE_SET_BYTES => Err(ScopeError::SetTooLong { length }),
            _ => Ok(set),
        }
    }

    /// Every scope of the closed table without a target: all that can be done.
    pub fn everything() -> Self {
        Self(KNOWN_SCOPES.iter().map(|known| Scope(known.name.to_owned())).collect())
    }

    /// Whether any one scope of the set covers `required`.
    pub fn covers(&self, required: &Scope) -> bool {
        self.0.iter().any(|granted| granted.covers(required))
    }

    /// Whether the set holds any scope of the area and verb of `required`, for whatever target.
    pub fn covers_some_target(&self, required: &Scope) -> bool {
        self.0.iter().any(|granted| granted.same_verb(required))
    }

    /// The requested scopes, if every one of them is covered; otherwise an error that names those that are not.
    pub fn narrow(&self, requested: &Self) -> Result<Self, ScopeError> {
        let scopes: Vec<Scope> = requested.0.iter().filter(|scope| !self.covers(scope)).cloned().collect();
        if scopes.is_empty() { Ok(requested.clone()) } else { Err(ScopeError::NotGranted { scopes }) }
    }

    /// Refuses a set with any scope that cannot be granted; see [`Scope::check_grantable`].
    pub fn check_grantable(&self) -> Result<(), ScopeError> {
        self.0.iter().try_for_each(Scope::check_grantable)
    }

    /// The scopes, in byte order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for ScopeSet {
    type Err = ScopeError;

    /// Reads a space-separated list; the empty text is the empty set, and extra spaces are ignored.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        if text.len() > MAX_SCOPE_SET_BYTES {
            return Err(ScopeError::SetTooLong { length: text.len() });
        }
        Self::new(
            text.split(' ')
                .filter(|scope| !scope.is_empty())
                .map(str::parse)
                .collect::<Result<Vec<_>, _>>()?,
        )
    }
}

impl TryFrom<String> for ScopeSet {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<ScopeSet> for String {
    fn from(set: ScopeSet) -> Self {
        set.to_string()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&scope.0)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    fn covers(granted: &str, required: &str) -> bool {
        scope(granted).covers(&scope(required))
    }

    #[test]
    fn a_scope_without_target_covers_every_target_of_its_verb_and_no_other_verb() {
        assert!(covers("sql:run", "sql:run:flights.airports"));
        assert!(covers("sql:run", "sql:run:*"));
        assert!(!covers("sql:run:flights.airports", "sql:run"));
        assert!(!covers("sql:run", "sql:generate"));
        assert!(!covers("rag:read", "rag:write"));
        assert!(!covers("rag:read", "semantic:read"));
    }

    #[test]
    fn a_last_star_stands_for_one_or_more_segments_and_an_inner_one_for_exactly_one() {
        for (granted, required, expected) in [
            ("sql:run:flights.*", "sql:run:flights.airports", true),
            ("sql:run:flights.*", "sql:run:flights.a.b", true),
            ("sql:run:flights.*", "sql:run:flights", false),
            ("sql:run:flights.*", "sql:run:flights2.airports", false),
            ("sql:run:flights.*", "sql:run:*", false),
            ("sql:run:*", "sql:run:flights.*", true),
            ("sql:run:*", "sql:run", false),
            ("sql:run:flights.air", "sql:run:flights.airports", false),
            ("sql:run:flights.airports", "sql:run:flights.air", false),
            ("actions:call:*.get", "actions:call:weather.get", true),
            ("actions:call:*.get", "actions:call:weather.v1.get", false),
            ("actions:call:*.get", "actions:call:weather.post", false),
            ("actions:call:*.*", "actions:call:weather", false),
            ("actions:call:*.*", "actions:call:*", false),
            ("actions:call:weather.get", "actions:call:weather.*", false),
        ] {
            assert_eq!(covers(granted, required), expected, "{granted} covers {required}");
        }
    }

    #[test]
    fn parse_errors_say_what_is_wrong() {
        for (text, expected) in [
            ("", "is empty"),
            ("sql", "has no verb"),
            ("sql:", "empty verb"),
            (":run", "empty area"),
            ("sql:run:", "empty target"),
            ("sql:run:a..b", "empty target"),
            ("sql:run:.a", "empty target"),
            ("sql:run:a:b", "too many parts"),
            ("SQL:run", "area of scope `SQL:run` may hold only"),
            ("sql:rün", "verb of scope"),
            ("sql:*", "not in the verb"),
            ("*:run", "not in the area"),
            ("sql:run:fli*", "stand alone"),
            ("sql:run:**", "stand alone"),
            ("sql:run:a b", "may hold only letters"),
            ("sql:run:a/b", "may hold only letters"),
            ("sql:run:a\n", "`sql:run:a\\n`"),
        ] {
            let message = text.parse::<Scope>().unwrap_err().to_string();
            assert!(message.contains(expected), "{text:?}: {message}");
        }
        assert!(matches!("a".repeat(257).parse::<Scope>(), Err(ScopeError::TooLong { length: 257 })));
    }

    #[test]
    fn the_bare_words_of_the_example_cover_themselves_and_no_data() {
        for word in BARE_SCOPES {
            let bare = scope(word);
            assert_eq!((bare.area(), bare.verb(), bare.target()), (*word, "", None));
            assert_eq!((bare.untargeted(), bare.would_do()), (bare.clone(), vec![bare.clone()]));
            bare.check_grantable().unwrap();
            assert!(bare.with_target("x").is_err());
            let everything = ScopeSet::everything();
            let others = everything.iter().filter(|other| **other != bare).cloned();
            for other in others.chain(["protected:read", "protected:x:y"].map(scope)) {
                assert!(!bare.covers(&other) && !other.covers(&bare), "{bare} and {other}");
            }
        }
        for text in
            ["Protected", "protected:", ":protected", "protecte", "protected2", "public", "*", "protected:*"]
        {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
        assert!(scope("protected:read").check_grantable().is_err());
    }

    #[test]
    fn a_set_that_would_not_fit_into_a_token_is_refused() {
        let long: Vec<Scope> = (0..100).map(|n| scope(&format!("sql:run:{}.d{n}", "m".repeat(60)))).collect();
        assert!(matches!(ScopeSet::new(long), Err(ScopeError::SetTooLong { .. })));
    }

    #[test]
    fn what_nothing_would_honour_cannot_be_granted_and_the_error_suggests() {
        for (text, expected) in [
            ("semantic:raed", "did you mean `semantic:read`"),
            ("action:call:weather.get", "did you mean `actions:call:weather.get`"),
            ("semantics:read:x", "did you mean `semantic:read`?"),
            ("semantic:read:flights", "takes no target; grant `semantic:read`"),
            ("sql:run:flights", "must be model.dataset; did you mean `sql:run:flights.*`"),
            ("sql:run:a.b.c", "must be model.dataset"),
            ("rag:read:a.b", "must be index"),
            ("actions:call:weather", "did you mean `actions:call:weather.*`"),
        ] {
            let message = scope(text).check_grantable().unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let message = scope("zzz:qqq").check_grantable().unwrap_err().to_string();
        assert_eq!(message, "there is no scope `zzz:qqq`");
        for text in ["sql:run:*", "sql:run:flights.*", "actions:call:*", "actions:call:a.b.c", "rag:write:*"]
        {
            scope(text).check_grantable().unwrap();
        }
        ScopeSet::everything().check_grantable().unwrap();
    }

    #[test]
    fn sets_drop_repeats_keep_one_order_and_narrow_by_name() {
        let set: ScopeSet = " sql:run:flights.*  semantic:read sql:run:flights.* ".parse().unwrap();
        assert_eq!(set.to_string(), "semantic:read sql:run:flights.*");
        let narrowed = set.narrow(&"sql:run:flights.airports".parse().unwrap()).unwrap();
        assert_eq!(narrowed.to_string(), "sql:run:flights.airports");
        let error = set.narrow(&"semantic:read sql:run rag:read".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "not granted: `rag:read`, `sql:run`");
        assert!("semantic:read\tsql:run".parse::<ScopeSet>().is_err());
        assert!("".parse::<ScopeSet>().unwrap().is_empty());
    }

    #[test]
    fn would_do_lists_scopes_that_each_cover_the_requirement() {
        let required = scope("sql:run:flights.airports");
        let texts: Vec<_> = required.would_do().iter().map(Scope::to_string).collect();
        assert_eq!(texts, ["sql:run:flights.airports", "sql:run:flights.*", "sql:run"]);
        assert!(required.would_do().iter().all(|granted| granted.covers(&required)));
        assert_eq!(scope("semantic:read").would_do(), [scope("semantic:read")]);
    }

    /// Few names, so that random scopes meet often enough to say something.
    fn any_scope() -> impl Strategy<Value = Scope> {
        prop_oneof![6 => targeted_scope(), 1 => prop::sample::select(BARE_SCOPES).prop_map(scope)]
    }

    fn targeted_scope() -> impl Strategy<Value = Scope> {
        let segment = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("*")];
        let target = proptest::option::of(proptest::collection::vec(segment, 1..4));
        (prop_oneof![Just("x"), Just("xy")], target).prop_map(|(verb, target)| match target {
            Some(target) => scope(&format!("area:{verb}:{}", target.join("."))),
            None => scope(&format!("area:{verb}")),
        })
    }

    /// The targets over a small alphabet up to four segments that a scope names; `None` is "all of them".
    fn names(scope: &Scope, target: &[&str]) -> bool {
        let Some(pattern) = scope.target() else { return true };
        let pattern: Vec<&str> = pattern.split('.').collect();
        let last = pattern.len() - 1;
        let long_enough =
            if pattern[last] == "*" { target.len() >= pattern.len() } else { target.len() == pattern.len() };
        long_enough && pattern.iter().zip(target).all(|(p, t)| *p == "*" || p == t)
    }

    fn all_targets() -> Vec<Vec<&'static str>> {
        let mut all: Vec<Vec<&str>> = vec![vec![]];
        let mut level = all.clone();
        for _ in 0..4 {
            level = level
                .iter()
                .flat_map(|head| {
                    ["a", "b", "ab", "c"].map(|segment| head.iter().copied().chain([segment]).collect())
                })
                .collect();
            all.extend(level.clone());
        }
        all.retain(|target| !target.is_empty());
        all
    }

    proptest! {
        #[test]
        fn covering_is_reflexive_and_transitive(a in any_scope(), b in any_scope(), c in any_scope()) {
            prop_assert!(a.covers(&a));
            if a.covers(&b) && b.covers(&c) {
                prop_assert!(a.covers(&c));
            }
        }

        #[test]
        fn covering_is_inclusion_of_the_targets_named(a in any_scope(), b in any_scope()) {
            let included = a.area() == b.area()
                && a.verb() == b.verb()
                && (a.target().is_none() || b.target().is_some())
                && all_targets().iter().all(|target| !names(&b, target) || names(&a, target));
            prop_assert_eq!(a.covers(&b), included);
        }

        #[test]
        fn widening_a_grant_never_loses_anything(a in any_scope(), required in any_scope()) {
            if a.covers(&required) {
                for wider in a.would_do() {
                    prop_assert!(wider.covers(&required), "{} lost {}", wider, required);
                }
            }
        }

        #[test]
        fn names_that_only_share_characters_never_match(head in "[a-z]{1,6}", tail in "[a-z]{1,6}") {
            let short = scope(&format!("sql:run:{head}"));
            let long = scope(&format!("sql:run:{head}{tail}"));
            prop_assert!(!short.covers(&long) && !long.covers(&short));
            let star = scope(&format!("sql:run:{head}.*"));
            let below_long = scope(&format!("sql:run:{head}{tail}.x"));
            prop_assert!(!star.covers(&below_long));
        }

        #[test]
        fn what_parses_displays_as_it_was_written(text in "[a-z*:._-]{0,12}|[a-z]{1,3}:[a-z]{1,3}(:[A-Za-z*]{1,2}(\\.[a-z]{1,2})?)?|protected:?|highly_sensitive") {
            if let Ok(scope) = text.parse::<Scope>() {
                prop_assert_eq!(scope.to_string(), text);
            }
        }

        #[test]
        fn sets_survive_display_and_parse(scopes in proptest::collection::vec(any_scope(), 0..6)) {
            let set = ScopeSet::new(scopes).unwrap();
            prop_assert_eq!(set.to_string().parse::<ScopeSet>().unwrap(), set);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Scope>();
            let _ = text.parse::<ScopeSet>();
        }
    }
}
