//! Names that Steward takes, made from names that it does not.

use std::collections::HashSet;

const MAX_LENGTH: usize = 128;

/// The name as Steward takes it: letters, digits, `_`, `-` and spaces, at most 128 bytes. The same for the same name.
pub fn clean(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for character in name.trim().chars() {
        let good = character.is_alphanumeric() || matches!(character, '_' | '-' | ' ');
        let next = if good { character } else { '_' };
        if out.len() + next.len_utf8() > MAX_LENGTH {
            break;
        }
        out.push(next);
    }
    let out = out.trim_end();
    if out.is_empty() { "unnamed".to_owned() } else { out.to_owned() }
}

/// Names given out so far, compared without case.
#[derive(Debug, Default)]
pub struct Unique(HashSet<String>);

impl Unique {
    /// The name, or the first of `name_2`, `name_3`, … that is free.
    pub fn take(&mut self, name: &str) -> String {
        if self.0.insert(name.to_lowercase()) {
            return name.to_owned();
        }
        let short: String = name.chars().take(100).collect();
        let mut number = 2_u32;
        loop {
            let next = format!("{short}_{number}");
            if self.0.insert(next.to_lowercase()) {
                return next;
            }
            number += 1;
        }
    }
}
