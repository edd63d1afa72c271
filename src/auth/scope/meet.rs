//! What two scopes, or two sets of them, allow in common: a token of a client for a user does what both may do.
//!
//! Pure. M1 the meet covers a scope exactly if both sides cover it.

use super::{Scope, ScopeError, ScopeSet};

impl Scope {
    /// What both allow; `None` if that is nothing.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        if !self.same_verb(other) {
            return None;
        }
        let (Some(a), Some(b)) = (self.target(), other.target()) else {
            return Some(if self.target().is_none() { other.clone() } else { self.clone() });
        };
        let target = target_meet(a, b)?;
        // As long as the longer of the two at most, hence a scope.
        Some(Self(format!("{}:{}:{target}", self.area(), self.verb())))
    }
}

/// Segment by segment; a trailing `*` stands for one segment or more, any other for exactly one.
fn target_meet(a: &str, b: &str) -> Option<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('.').collect(), b.split('.').collect());
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let fixed = if short.last() == Some(&"*") { short.len() - 1 } else { short.len() };
    // The longer one says what follows the fixed part; there is nothing after it unless the shorter one is open.
    let open_short = fixed < short.len();
    let open_long = long.last() == Some(&"*");
    if !open_short && (long.len() > short.len() || open_long && long.len() > short.len()) {
        return None;
    }
    let mut met = Vec::with_capacity(long.len());
    for (index, segment) in long.iter().enumerate() {
        met.push(match short.get(index).filter(|_| index < fixed) {
            None | Some(&"*") => *segment,
            Some(other) if *segment == "*" || segment == other => *other,
            Some(_) => return None,
        });
    }
    Some(met.join("."))
}

impl ScopeSet {
    /// What both sets allow (M1), without scopes that another of the result covers.
    pub fn meet(&self, other: &Self) -> Result<Self, ScopeError> {
        let all: Vec<Scope> = self.iter().flat_map(|a| other.iter().filter_map(|b| a.meet(b))).collect();
        let needed: Vec<Scope> = all
            .iter()
            .enumerate()
            .filter(|(index, scope)| {
                // Of equal ones the set keeps one; of others the wider one.
                !all.iter()
                    .enumerate()
                    .any(|(other, wider)| other != *index && wider.covers(scope) && !scope.covers(wider))
            })
            .map(|(_, scope)| scope.clone())
            .collect();
        Self::new(needed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_scope() -> impl Strategy<Value = Scope> {
        let segment = prop_oneof![Just("a"), Just("b"), Just("*")];
        let target = proptest::option::of(proptest::collection::vec(segment, 1..4));
        (prop_oneof![Just("x"), Just("y")], target).prop_map(|(verb, target)| {
            let text = match target {
                Some(target) => format!("area:{verb}:{}", target.join(".")),
                None => format!("area:{verb}"),
            };
            text.parse().unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_meet_covers_what_both_cover_and_nothing_else(a in any_scope(), b in any_scope(), c in any_scope()) {
            let met = a.meet(&b);
            prop_assert_eq!(&met, &b.meet(&a));
            let covered = met.as_ref().is_some_and(|met| met.covers(&c));
            prop_assert_eq!(covered, a.covers(&c) && b.covers(&c), "{} ∧ {} = {:?}, {}", a, b, met, c);
        }

        #[test]
        fn the_meet_of_sets_covers_what_both_cover(
            a in proptest::collection::vec(any_scope(), 0..4),
            b in proptest::collection::vec(any_scope(), 0..4),
            c in any_scope(),
        ) {
            let (a, b) = (ScopeSet::new(a).unwrap(), ScopeSet::new(b).unwrap());
            prop_assert_eq!(a.meet(&b).unwrap().covers(&c), a.covers(&c) && b.covers(&c));
        }
    }

    #[test]
    fn patterns_that_overlap_meet_in_the_middle() {
        let meet = |a: &str, b: &str| {
            let (a, b): (ScopeSet, ScopeSet) = (a.parse().unwrap(), b.parse().unwrap());
            a.meet(&b).unwrap().to_string()
        };
        assert_eq!(meet("actions:call:*.get", "actions:call:weather.*"), "actions:call:weather.get");
        assert_eq!(meet("sql:run semantic:read", "sql:run:flights.* rag:read"), "sql:run:flights.*");
        assert_eq!(meet("sql:run:a.b", "sql:run:a.c"), "");
    }
}
