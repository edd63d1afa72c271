//! Paging the stored body: exact bytes, all of it or the value that a pointer leads to.

use std::ops::Range;

use crate::rag::Rag;
use crate::rag::chunk::{self, ChunkKind};
use crate::rag::documents::{DocumentId, Viewer};
use crate::rag::error::RagError;

/// Most bytes of one page.
pub const MAX_PAGE_BYTES: u64 = 1 << 20;

/// Fewest: a page must be able to hold one character.
const MIN_PAGE_BYTES: u64 = 4;

/// Which part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRequest {
    /// JSON Pointer (RFC 6901) for JSON and NDJSON, `/rows/3` or `/rows/3-17` for CSV; absent or empty: everything.
    pub pointer: Option<String>,
    /// Bytes to skip, counted from the start of the part.
    pub offset: u64,
    /// Most bytes to return, 4 to 1,048,576.
    pub max_bytes: u64,
}

/// A page of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentPage {
    /// Exactly as stored; ends at a character, so each page is valid UTF-8.
    pub bytes: Vec<u8>,
    /// The body's media type; of a part it says how the part is written.
    pub content_type: String,
    /// Where the page starts in the part.
    pub offset: u64,
    /// Bytes of the part in all.
    pub total_bytes: u64,
    /// Offset of the next page; absent on the last.
    pub next_offset: Option<u64>,
    /// Where the part stands in the stored body.
    pub byte_start: u64,
    pub byte_end: u64,
}

impl Rag {
    /// A page of a document's body.
    ///
    /// Errors: the document isn't there for this viewer; the pointer leads nowhere (says at which segment); the offset
    /// is past the end or inside a character; `max_bytes` is out of range.
    pub async fn content(
        &self,
        viewer: &Viewer,
        id: &DocumentId,
        request: &ContentRequest,
    ) -> Result<ContentPage, RagError> {
        let ContentRequest { pointer, offset, max_bytes } = request;
        if !(MIN_PAGE_BYTES..=MAX_PAGE_BYTES).contains(max_bytes) {
            return Err(RagError::InvalidRequest(format!(
                "max_bytes is {max_bytes}; use {MIN_PAGE_BYTES} to {MAX_PAGE_BYTES}"
            )));
        }
        let (document, _) = self.inner.visible(viewer, id).await?;
        let bodies = &self.inner.bodies;
        let part: Range<u64> = match pointer.as_deref() {
            None | Some("") => 0..document.size_bytes,
            Some(pointer) => {
                let kind = ChunkKind::of_media_type(&document.content_type)
                    .ok_or_else(|| RagError::UnsupportedMediaType(document.content_type.clone()))?;
                let (body, pointer) = (bodies.read(&document.body).await?, pointer.to_owned());
                tokio::task::spawn_blocking(move || chunk::locate(kind, &body, &pointer))
                    .await?
                    .map_err(RagError::Pointer)?
            }
        };
        let total_bytes = part.end - part.start;
        if *offset > total_bytes {
            return Err(RagError::InvalidRequest(format!(
                "offset {offset} is past the end; the part has {total_bytes} bytes"
            )));
        }
        let wanted = (*max_bytes).min(total_bytes - offset);
        let mut bytes = bodies.read_range(&document.body, part.start + offset, wanted).await?;
        if offset + wanted < total_bytes {
            bytes.truncate(whole_characters(&bytes));
        }
        if bytes.first().is_some_and(|byte| is_continuation(*byte)) {
            return Err(RagError::InvalidRequest(format!(
                "offset {offset} is inside a character; use the next_offset of the page before"
            )));
        }
        let end = offset + bytes.len() as u64;
        Ok(ContentPage {
            bytes,
            content_type: document.content_type,
            offset: *offset,
            total_bytes,
            next_offset: (end < total_bytes).then_some(end),
            byte_start: part.start,
            byte_end: part.end,
        })
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// The length of the longest prefix that does not end inside a UTF-8 character.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.iter().rev().take(4).take_while(|byte| is_continuation(**byte)).count();
    let Some(lead) = bytes.len().checked_sub(tail + 1) else { return bytes.len() };
    let width = match bytes[lead] {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    };
    if tail + 1 < width { lead } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cut_page_is_the_longest_valid_prefix(text in "(\\PC|é|中|🙂){1,20}", at in 0usize..80) {
            let bytes = &text.as_bytes()[..at.min(text.len())];
            prop_assert_eq!(whole_characters(bytes), text.floor_char_boundary(bytes.len()));
        }
    }
}
