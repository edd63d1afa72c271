//! Chunking: from the bytes of a body to texts that a model can embed, each traceable to its exact bytes.
//!
//! Pure: no I/O, no clock. Knows media types, tokens and JSON; must not know documents, owners or storage.
//! C1 no chunk costs more than its budget, breadcrumb included.  C2 every scalar of the body stands in some chunk, no
//!    key is dropped.  C3 `byte_start..byte_end` are offsets in the stored body; the pointers name the first and last
//!    value in that range.  C4 time and memory are near linear in the body; nothing panics, whatever the bytes.

mod json;
mod prose;
mod shape;
mod span;
mod table;
mod tokens;

use std::ops::Range;

pub use shape::{Preview, outline, preview, records};
pub use span::{MAX_DEPTH, MAX_VALUES, Tree};
pub use tokens::TokenCounter;

use crate::error::ErrorKind;
use crate::rag::index_file::ChunkSize;

/// The kinds of body that can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    Json,
    JsonLines,
    Markdown,
    Text,
    Csv,
}

impl ChunkKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::JsonLines => "ndjson",
            Self::Markdown => "markdown",
            Self::Text => "text",
            Self::Csv => "csv",
        }
    }

    /// The kind of a media type, parameters ignored; `None` for those that are not taken.
    pub fn of_media_type(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" | "text/json" => Some(Self::Json),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/json-lines"
            | "application/json-seq+lines" => Some(Self::JsonLines),
            "text/markdown" | "text/x-markdown" => Some(Self::Markdown),
            "text/plain" => Some(Self::Text),
            "text/csv" | "application/csv" => Some(Self::Csv),
            other if other.ends_with("+json") => Some(Self::Json),
            _ => None,
        }
    }
}

/// How large chunks may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens of a chunk, the model's special tokens included.
    pub tokens: usize,
    /// Tokens that neighbouring chunks of prose share.
    pub overlap: usize,
}

impl Limits {
    /// Tokens that a chunk's own text may take.
    pub fn budget(self) -> usize {
        self.tokens.saturating_sub(tokens::SPECIAL_TOKENS).max(8)
    }
}

impl From<ChunkSize> for Limits {
    fn from(size: ChunkSize) -> Self {
        Self { tokens: size.tokens as usize, overlap: size.overlap as usize }
    }
}

/// One piece of a body, as it is indexed and returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub kind: ChunkKind,
    /// Breadcrumb, context and content; what is embedded.
    pub text: String,
    /// Exact count for the model, without its special tokens.
    pub tokens: u32,
    /// JSON Pointers (RFC 6901) of the first and the last value; `/rows/3` for CSV; empty for prose and whole bodies.
    pub pointer_first: String,
    pub pointer_last: String,
    /// The bytes of the stored body that the content stands for.
    pub byte_start: u64,
    pub byte_end: u64,
}

impl Chunk {
    fn new(
        counter: &TokenCounter,
        kind: ChunkKind,
        text: String,
        (pointer_first, pointer_last): (String, String),
        bytes: Range<usize>,
    ) -> Self {
        Self {
            kind,
            tokens: counter.count(&text) as u32,
            text,
            pointer_first,
            pointer_last,
            byte_start: bytes.start as u64,
            byte_end: bytes.end as u64,
        }
    }
}

/// A body, cut and described.
#[derive(Debug, Clone)]
pub struct Chunked {
    pub chunks: Vec<Chunk>,
    /// The body's shape with counts, one line a path; at most 60 lines and 4 KB.
    pub outline: Vec<String>,
    pub preview: Preview,
    /// JSON Pointer of the array whose objects are the rows of a table.
    pub records: Option<String>,
}

/// Why a body cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error(
        "the body is not JSON: {reason} at line {line}, column {column}; mend it, or send it as text/plain"
    )]
    NotJson { line: usize, column: usize, reason: String },
    #[error("the body nests deeper than {limit} levels at line {line}, column {column}; flatten it")]
    TooDeep { limit: usize, line: usize, column: usize },
    #[error("the body holds more than {limit} values; ask for less of it at a time")]
    TooManyValues { limit: usize },
    #[error("the body is not UTF-8: an invalid byte at offset {offset}; convert it to UTF-8 first")]
    NotUtf8 { offset: usize },
    #[error("the body is {encoding}; convert it to UTF-8 first")]
    OtherEncoding { encoding: &'static str },
    #[error("the body is not CSV: {reason}; mend it, or send it as text/plain")]
    NotCsv { reason: String },
}

impl ChunkError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooManyValues { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::InvalidInput,
        }
    }
}

/// The text of a body and the offset at which it starts: behind a byte order mark, if there is one.
pub fn text_of(body: &[u8]) -> Result<(&str, usize), ChunkError> {
    let (rest, offset) = match body {
        [0xEF, 0xBB, 0xBF, rest @ ..] => (rest, 3),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => return Err(ChunkError::OtherEncoding { encoding: "UTF-16" }),
        _ => (body, 0),
    };
    match std::str::from_utf8(rest) {
        Ok(text) => Ok((text, offset)),
        Err(error) => Err(ChunkError::NotUtf8 { offset: offset + error.valid_up_to() }),
    }
}

/// Cuts a body into chunks, in document order, and describes it.
pub fn chunk(
    counter: &TokenCounter,
    kind: ChunkKind,
    body: &[u8],
    limits: Limits,
) -> Result<Chunked, ChunkError> {
    let (text, offset) = text_of(body)?;
    let mut chunked = match kind {
        ChunkKind::Json | ChunkKind::JsonLines => {
            let tree = if kind == ChunkKind::Json { Tree::parse(text)? } else { Tree::parse_lines(text)? };
            let records = records(&tree);
            Chunked {
                chunks: json::chunk_tree(counter, &tree, kind, limits),
                outline: outline(&tree),
                preview: preview(text, Some((&tree, records.as_deref()))),
                records,
            }
        }
        ChunkKind::Csv => {
            let (chunks, outline, rows) = table::chunk_csv(counter, text, limits)?;
            Chunked { chunks, outline, preview: preview(text, None), records: (rows > 0).then(String::new) }
        }
        ChunkKind::Markdown | ChunkKind::Text => {
            let chunks = if kind == ChunkKind::Markdown {
                prose::chunk_markdown(counter, text, limits)
            } else {
                prose::chunk_text(counter, text, limits)
            };
            let outline =
                vec![format!("{}: {} lines, {} bytes", kind.as_str(), text.lines().count(), text.len())];
            Chunked { chunks, outline, preview: preview(text, None), records: None }
        }
    };
    for chunk in &mut chunked.chunks {
        chunk.byte_start += offset as u64;
        chunk.byte_end += offset as u64;
    }
    Ok(chunked)
}

/// The bytes of a body that a pointer leads to: JSON Pointer for JSON and NDJSON, `/rows/3` or `/rows/3-17` for CSV.
///
/// The error says which segment leads nowhere.
pub fn locate(kind: ChunkKind, body: &[u8], pointer: &str) -> Result<Range<u64>, String> {
    let (text, offset) = text_of(body).map_err(|error| error.to_string())?;
    let span = match kind {
        ChunkKind::Json | ChunkKind::JsonLines => {
            let tree = if kind == ChunkKind::Json { Tree::parse(text) } else { Tree::parse_lines(text) };
            let tree = tree.map_err(|error| error.to_string())?;
            tree.at_pointer(pointer).map(|node| tree.value_span(node))
        }
        ChunkKind::Csv => table::locate_rows(text, pointer),
        ChunkKind::Markdown | ChunkKind::Text => Err(format!(
            "'{}' leads nowhere: prose has no pointers; page it by offset",
            span::cut(pointer, 80)
        )),
    };
    span.map(|(start, end)| (start + offset) as u64..(end + offset) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rag::chunk::tokens::tests::small_counter;

    const LIMITS: Limits = Limits { tokens: 64, overlap: 0 };

    #[test]
    fn media_types_are_recognised_with_parameters_and_suffixes() {
        for (content_type, kind) in [
            ("application/json; charset=utf-8", Some(ChunkKind::Json)),
            ("Application/Problem+JSON", Some(ChunkKind::Json)),
            ("application/x-ndjson", Some(ChunkKind::JsonLines)),
            ("text/markdown", Some(ChunkKind::Markdown)),
            ("text/plain;charset=us-ascii", Some(ChunkKind::Text)),
            ("text/csv; header=present", Some(ChunkKind::Csv)),
            ("application/octet-stream", None),
            ("image/png", None),
            ("", None),
        ] {
            assert_eq!(ChunkKind::of_media_type(content_type), kind, "{content_type}");
        }
    }

    #[test]
    fn a_byte_order_mark_shifts_the_ranges_and_is_not_content() {
        let body = "\u{feff}{\"a\": 12}".as_bytes();
        let chunked = chunk(small_counter(), ChunkKind::Json, body, LIMITS).unwrap();
        assert_eq!(chunked.chunks[0].text, "a: 12");
        let range = chunked.chunks[0].byte_start as usize..chunked.chunks[0].byte_end as usize;
        assert_eq!(&body[range], b"{\"a\": 12}");
        assert_eq!(locate(ChunkKind::Json, body, "/a").unwrap(), 9..11);
    }

    #[test]
    fn other_encodings_say_so() {
        let counter = small_counter();
        let error = chunk(counter, ChunkKind::Text, &[b'a', 0xFF, b'b'], LIMITS).unwrap_err();
        assert_eq!(error, ChunkError::NotUtf8 { offset: 1 });
        let error = chunk(counter, ChunkKind::Text, &[0xFF, 0xFE, b'a', 0], LIMITS).unwrap_err();
        assert!(error.to_string().contains("UTF-16"), "{error}");
    }

    #[test]
    fn empty_bodies_have_no_chunks_where_the_format_allows_them() {
        let counter = small_counter();
        for kind in [ChunkKind::Text, ChunkKind::Markdown, ChunkKind::JsonLines, ChunkKind::Csv] {
            assert_eq!(chunk(counter, kind, b"", LIMITS).unwrap().chunks, [], "{kind:?}");
        }
        assert!(matches!(chunk(counter, ChunkKind::Json, b"", LIMITS), Err(ChunkError::NotJson { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let counter = small_counter();
            for kind in [
                ChunkKind::Json, ChunkKind::JsonLines, ChunkKind::Markdown, ChunkKind::Text, ChunkKind::Csv,
            ] {
                if let Ok(chunked) = chunk(counter, kind, &body, LIMITS) {
                    for chunk in chunked.chunks {
                        prop_assert!(chunk.tokens as usize <= LIMITS.budget());
                        prop_assert!(chunk.byte_start <= chunk.byte_end && chunk.byte_end <= body.len() as u64);
                    }
                }
                let _ = locate(kind, &body, "/rows/1");
            }
        }
    }
}
