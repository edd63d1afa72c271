//! Any text, in each dialect: the guard never panics, and what it approves keeps its claims (`steward_fuzz::claims`).

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    steward_fuzz::claims::hold(text);
});
