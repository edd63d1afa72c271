//! Counting tokens exactly as the embedding model does, fast enough to size every chunk.
//!
//! Knows the `tokenizers` crate; must not know chunks or media types.
//! T1 for the BERT family (lower-casing BertNormalizer, BertPreTokenizer, WordPiece) ASCII text is counted by our own
//!    walk over the same vocabulary, equal to the tokenizer's count (property test); everything else goes to it.
//! T2 counts of such models add up over whitespace and punctuation, so that lines are counted once and summed.
//! T3 [`TokenCounter::cost`] is what budgets are measured in: the count, but at least one for every
//!    [`BYTES_PER_TOKEN`] bytes. WordPiece calls any word over 100 characters one unknown token, so that a
//!    megabyte of base64 would otherwise "fit".

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::Path;

use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use crate::rag::embed::EmbedError;

/// The longest text that one token of budget may stand for; English prose has about 4.5.
pub const BYTES_PER_TOKEN: usize = 16;

/// Tokens that the model adds round each text: `[CLS]` and `[SEP]`.
pub const SPECIAL_TOKENS: usize = 2;

/// Counts tokens of one model.
pub struct TokenCounter {
    tokenizer: Tokenizer,
    vocabulary: Option<Vocabulary>,
}

impl TokenCounter {
    /// From a model's `tokenizer.json`.
    pub fn from_file(path: &Path) -> Result<Self, EmbedError> {
        let tokenizer = Tokenizer::from_file(path)
            .map_err(|error| EmbedError::Files { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self::new(tokenizer))
    }

    /// From a tokenizer; its truncation and padding are switched off.
    pub fn new(mut tokenizer: Tokenizer) -> Self {
        tokenizer.with_padding(None);
        // Taking truncation away has no parameters that could be wrong.
        let _ = tokenizer.with_truncation(None);
        let vocabulary = Vocabulary::of(&tokenizer);
        Self { tokenizer, vocabulary }
    }

    /// Tokens of `text`, without the model's special tokens.
    pub fn count(&self, text: &str) -> usize {
        if let Some(vocabulary) = &self.vocabulary
            && text.is_ascii()
            && !vocabulary.has_special(text)
        {
            return vocabulary.count_ascii(text);
        }
        // A tokenizer that cannot encode a text has no count for it; a byte a token is the worst case.
        self.tokenizer.encode_fast(text, false).map_or(text.len(), |encoding| encoding.len())
    }

    /// What `text` takes from a budget: its tokens, or one for every [`BYTES_PER_TOKEN`] bytes if that is more.
    pub fn cost(&self, text: &str) -> usize {
        self.count(text).max(text.len().div_ceil(BYTES_PER_TOKEN))
    }

    /// The slow, authoritative count; for tests.
    #[cfg(test)]
    pub fn count_with_tokenizer(&self, text: &str) -> usize {
        self.tokenizer.encode(text, false).unwrap().len()
    }
}

/// Budgets as the text splitters see them.
pub struct CostSizer<'counter> {
    pub counter: &'counter TokenCounter,
    pub budget: usize,
}

impl text_splitter::ChunkSizer for CostSizer<'_> {
    fn size(&self, chunk: &str) -> usize {
        // Far too long already: don't tokenise the rest of the document to learn by how much.
        let by_bytes = chunk.len().div_ceil(BYTES_PER_TOKEN);
        if by_bytes > self.budget { by_bytes } else { self.counter.cost(chunk) }
    }
}

type PieceSet = HashSet<Box<[u8]>, BuildHasherDefault<Fnv>>;

/// WordPiece's vocabulary, split into pieces that start a word and pieces that continue one (without `##`).
struct Vocabulary {
    starts: PieceSet,
    continues: PieceSet,
    longest: usize,
    max_word_chars: usize,
    /// Added tokens such as `[SEP]`: text that contains one goes to the tokenizer.
    special: Vec<String>,
}

impl Vocabulary {
    /// The vocabulary, if the tokenizer is of the one kind whose rules are written out here.
    fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else { return None };
        let Some(NormalizerWrapper::BertNormalizer(normalizer)) = tokenizer.get_normalizer() else {
            return None;
        };
        if !normalizer.lowercase || !normalizer.clean_text {
            return None;
        }
        if !matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_))) {
            return None;
        }
        let prefix = model.continuing_subword_prefix.as_bytes();
        let mut vocabulary = Self {
            starts: PieceSet::default(),
            continues: PieceSet::default(),
            longest: 0,
            max_word_chars: model.max_input_chars_per_word,
            special: tokenizer
                .get_added_tokens_decoder()
                .values()
                .map(|token| token.content.clone())
                .collect(),
        };
        if vocabulary.special.iter().any(|token| !token.is_ascii() || token.is_empty()) {
            return None;
        }
        for piece in tokenizer.get_vocab(false).keys().filter(|piece| piece.is_ascii()) {
            let bytes = piece.as_bytes();
            vocabulary.longest = vocabulary.longest.max(bytes.len());
            if let Some(rest) = bytes.strip_prefix(prefix).filter(|rest| !rest.is_empty()) {
                vocabulary.continues.insert(rest.into());
            }
            vocabulary.starts.insert(bytes.into());
        }
        Some(vocabulary)
    }

    /// Whether an added token occurs; they are matched before any splitting, and case counts.
    fn has_special(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        bytes.iter().enumerate().any(|(at, byte)| {
            matches!(byte, b'[' | b'<')
                && self.special.iter().any(|token| bytes[at..].starts_with(token.as_bytes()))
        }) || self.special.iter().any(|token| !token.starts_with(['[', '<']) && text.contains(token.as_str()))
    }

    fn count_ascii(&self, text: &str) -> usize {
        let mut tokens = 0;
        let mut word: Vec<u8> = Vec::with_capacity(64);
        for &byte in text.as_bytes() {
            if byte.is_ascii_alphanumeric() {
                word.push(byte.to_ascii_lowercase());
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => tokens += self.count_word(&mut word),
                // Other control characters are dropped before words are cut, so they don't end one.
                0..=31 | 127 => {}
                // Each punctuation mark is a word of its own: a piece, or one unknown token.
                _ => tokens += self.count_word(&mut word) + 1,
            }
        }
        tokens + self.count_word(&mut word)
    }

    /// Greedy longest match from the left; a word with an unmatched rest is one unknown token.
    fn count_word(&self, word: &mut Vec<u8>) -> usize {
        if word.is_empty() {
            return 0;
        }
        let mut tokens = 0;
        let mut at = 0;
        if word.len() <= self.max_word_chars {
            while at < word.len() {
                let pieces = if at == 0 { &self.starts } else { &self.continues };
                let longest = word.len().min(at + self.longest);
                match (at + 1..=longest).rev().find(|&end| pieces.contains(&word[at..end])) {
                    Some(end) => at = end,
                    None => break,
                }
                tokens += 1;
            }
        }
        let whole = at == word.len();
        word.clear();
        if whole { tokens } else { 1 }
    }
}

/// FNV-1a: the pieces come from a fixed vocabulary, so nobody can choose them to collide.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length prefix of a slice adds nothing here.
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A small WordPiece tokenizer of the model's kind, so that chunkers are tested without the model's files.
    pub(crate) fn small_counter() -> &'static TokenCounter {
        static COUNTER: std::sync::LazyLock<TokenCounter> = std::sync::LazyLock::new(build_small_counter);
        &COUNTER
    }

    fn build_small_counter() -> TokenCounter {
        let mut pieces: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(String::from).to_vec();
        for byte in (b'!'..=b'/').chain(b':'..=b'@').chain(b'['..=b'`').chain(b'{'..=b'~') {
            pieces.push(char::from(byte).to_string());
        }
        for byte in (b'0'..=b'9').chain(b'a'..=b'y') {
            pieces.push(char::from(byte).to_string());
            pieces.push(format!("##{}", char::from(byte)));
        }
        for word in
            ["the", "wind", "name", "##ing", "##er", "temp", "rain", "delay", "20", "13", "##13", "é", "中"]
        {
            pieces.push(word.to_owned());
        }
        let vocabulary: serde_json::Map<String, serde_json::Value> =
            pieces.into_iter().zip(0u32..).map(|(piece, id)| (piece, id.into())).collect();
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].iter().enumerate().map(|(id, token)| {
            serde_json::json!({
                "id": id, "content": token, "special": true,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        });
        let tokenizer = serde_json::json!({
            "version": "1.0",
            "added_tokens": special.collect::<Vec<_>>(),
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary,
            },
        });
        let tokenizer = Tokenizer::from_bytes(tokenizer.to_string()).unwrap();
        TokenCounter::new(tokenizer)
    }

    #[test]
    fn the_small_tokenizer_takes_the_fast_path() {
        assert!(small_counter().vocabulary.is_some());
    }

    #[test]
    fn a_word_beyond_the_models_limit_is_one_token_but_costs_its_bytes() {
        let counter = small_counter();
        let word = "a".repeat(1600);
        assert_eq!(counter.count(&word), 1);
        assert_eq!(counter.cost(&word), 100);
    }

    #[test]
    fn special_tokens_in_the_text_are_counted_as_the_model_does() {
        let counter = small_counter();
        for text in ["a[SEP]b", "[sep]", "wind[CLS]", "[[SEP]"] {
            assert_eq!(counter.count(text), counter.count_with_tokenizer(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_fast_count_equals_the_tokenizers(text in "[ -~\\t\\n\\r\\x00\\x1f\\x7fé中]{0,80}") {
            let counter = small_counter();
            prop_assert_eq!(counter.count(&text), counter.count_with_tokenizer(&text));
        }

        #[test]
        fn the_fast_count_equals_the_tokenizers_on_any_text(text in ".{0,60}") {
            let counter = small_counter();
            prop_assert_eq!(counter.count(&text), counter.count_with_tokenizer(&text));
        }

        #[test]
        fn counts_add_up_over_whitespace_and_punctuation(
            left in "[ -~é中]{0,40}", right in "[ -~é中]{0,40}", between in "[\\n .,:;/]",
        ) {
            let counter = small_counter();
            prop_assume!(!left.contains('[') && !right.contains('['));
            let mark = usize::from(!between.trim().is_empty());
            let whole = counter.count(&format!("{left}{between}{right}"));
            prop_assert_eq!(whole, counter.count(&left) + counter.count(&right) + mark);
        }
    }
}
