//! Haiku for the example endpoint.
//!
//! Pure. H1 a haiku has lines of 5, 7 and 5 syllables. H2 same message, same haiku; the message itself is not in it.

use sha2::{Digest, Sha256};

/// Lines with a `·` between the syllables of a word, so that a test can count them.
const FIRST: [&str; 8] = [
    "a to·ken ar·rives",
    "the key turns once more",
    "be·hind the closed gate",
    "a mes·sage at dawn",
    "far from the ser·ver",
    "words un·der a seal",
    "snow on the fire·wall",
    "a knock on the door",
];
const SECOND: [&str; 8] = [
    "the sig·na·ture is a match",
    "the scope says what may be read",
    "the stew·ard looks at the seal",
    "si·lent·ly the hash·es match",
    "no·bod·y else hears the words",
    "a cur·i·ous cli·ent waits",
    "three small num·bers cross the wire",
    "the au·dit will re·mem·ber",
];
const THIRD: [&str; 8] = [
    "the door o·pens wide",
    "it ex·pires at noon",
    "spring comes to the logs",
    "two hun·dred, o·kay",
    "then all is qui·et",
    "the moon signs for it",
    "a fresh one is made",
    "the cook·ie stays shut",
];

/// Three lines for a message.
pub(super) fn haiku(message: &str) -> [String; 3] {
    let digest = Sha256::digest(message);
    let pick = |lines: &[&str; 8], byte: u8| lines[usize::from(byte) % lines.len()].replace('·', "");
    [pick(&FIRST, digest[0]), pick(&SECOND, digest[1]), pick(&THIRD, digest[2])]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lines_have_five_seven_and_five_syllables() {
        for (lines, syllables) in [(FIRST, 5), (SECOND, 7), (THIRD, 5)] {
            for line in lines {
                assert_eq!(line.split([' ', '·']).count(), syllables, "{line}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_same_message_gives_the_same_three_lines(message in "\\PC{0,40}") {
            let lines = haiku(&message);
            prop_assert_eq!(&lines, &haiku(&message));
            prop_assert!(lines.iter().all(|line| line.bytes().all(|b| b.is_ascii_lowercase() || b" ,".contains(&b))));
        }
    }
}
