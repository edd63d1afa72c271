//! Prose: plain text, Markdown, and the long strings of JSON, split at paragraphs, sentences and words.
//!
//! Knows text-splitter and token counts; must not know documents.
//! P1 pieces are ranges of the text, in order; together with the whitespace between them they cover it.
//! P2 no piece costs more than its budget.  P3 near linear: the splitter sees windows of bounded size, so that
//!    a megabyte without a single break costs no more than any other megabyte.

use std::ops::Range;

use text_splitter::{ChunkConfig, MarkdownSplitter, TextSplitter};

use crate::rag::chunk::tokens::{CostSizer, TokenCounter};
use crate::rag::chunk::{Chunk, ChunkKind, Limits, span};

/// Most bytes that the splitter is given at once.
const WINDOW_BYTES: usize = 32 << 10;

/// Ranges of `text` that cost at most `budget` each, broken at the best place that text-splitter finds.
pub fn split(counter: &TokenCounter, text: &str, budget: usize, overlap: usize) -> Vec<Range<usize>> {
    let budget = budget.max(1);
    let config = ChunkConfig::new(budget).with_sizer(CostSizer { counter, budget }).with_trim(true);
    // An overlap must be smaller than the budget; a budget that small has room for none.
    let config = match config.with_overlap(overlap.min(budget / 2)) {
        Ok(config) => config,
        Err(_) => ChunkConfig::new(budget).with_sizer(CostSizer { counter, budget }),
    };
    let splitter = TextSplitter::new(config);
    let mut ranges = Vec::new();
    for window in windows(text) {
        let offset = window.start;
        for (start, piece) in splitter.chunk_indices(&text[window]) {
            push_within(counter, text, offset + start..offset + start + piece.len(), budget, &mut ranges);
        }
    }
    ranges
}

fn split_markdown(counter: &TokenCounter, text: &str, budget: usize, overlap: usize) -> Vec<Range<usize>> {
    let config = ChunkConfig::new(budget).with_sizer(CostSizer { counter, budget }).with_trim(true);
    let config = match config.with_overlap(overlap.min(budget / 2)) {
        Ok(config) => config,
        Err(_) => ChunkConfig::new(budget).with_sizer(CostSizer { counter, budget }),
    };
    let splitter = MarkdownSplitter::new(config);
    let mut ranges = Vec::new();
    for window in windows(text) {
        let offset = window.start;
        for (start, piece) in splitter.chunk_indices(&text[window]) {
            push_within(counter, text, offset + start..offset + start + piece.len(), budget, &mut ranges);
        }
    }
    ranges
}

/// Keeps a piece, or halves it until it is within the budget; a single character is never cut.
fn push_within(
    counter: &TokenCounter,
    text: &str,
    range: Range<usize>,
    budget: usize,
    ranges: &mut Vec<Range<usize>>,
) {
    let piece = &text[range.clone()];
    let middle = range.start + piece.floor_char_boundary(piece.len() / 2);
    if middle == range.start || counter.cost(piece) <= budget {
        ranges.push(range);
    } else {
        push_within(counter, text, range.start..middle, budget, ranges);
        push_within(counter, text, middle..range.end, budget, ranges);
    }
}

/// Cuts a text into windows, at the last blank line, line end, sentence end or space of each, in that order.
fn windows(text: &str) -> Vec<Range<usize>> {
    let mut windows = Vec::new();
    let mut start = 0;
    while text.len() - start > WINDOW_BYTES {
        let limit = start + text[start..].floor_char_boundary(WINDOW_BYTES);
        let window = &text[start..limit];
        let least = WINDOW_BYTES / 4;
        let end = ["\n\n", "\n", ". ", " "]
            .iter()
            .find_map(|mark| window.rfind(mark).map(|at| at + mark.len()).filter(|end| *end > least))
            .map_or(limit, |length| start + length);
        windows.push(start..end);
        start = end;
    }
    if start < text.len() {
        windows.push(start..text.len());
    }
    windows
}

/// Chunks of a plain text.
pub fn chunk_text(counter: &TokenCounter, text: &str, limits: Limits) -> Vec<Chunk> {
    split(counter, text, limits.budget(), limits.overlap)
        .into_iter()
        .map(|range| {
            let piece = &text[range.clone()];
            Chunk::new(counter, ChunkKind::Text, piece.to_owned(), (String::new(), String::new()), range)
        })
        .collect()
}

/// Chunks of a Markdown text; each that does not start with a heading is led by the headings that it stands under.
pub fn chunk_markdown(counter: &TokenCounter, text: &str, limits: Limits) -> Vec<Chunk> {
    let headings = headings(text);
    let for_headings = limits.budget() / 5;
    let mut path: Vec<&Heading> = Vec::new();
    let mut upcoming = headings.iter().peekable();
    let mut chunks = Vec::new();
    for range in split_markdown(counter, text, limits.budget() - for_headings, limits.overlap) {
        while let Some(heading) = upcoming.next_if(|heading| heading.at < range.start) {
            path.retain(|above| above.level < heading.level);
            path.push(heading);
        }
        let piece = &text[range.clone()];
        // A chunk that opens with a heading of its own stands under the higher ones only.
        let own_level =
            upcoming.peek().filter(|heading| heading.at == range.start).map(|heading| heading.level);
        let above: Vec<&str> = path
            .iter()
            .filter(|heading| own_level.is_none_or(|own| heading.level < own))
            .map(|heading| heading.title)
            .collect();
        let lead = lead_within(counter, &above, for_headings);
        let chunk_text = if lead.is_empty() { piece.to_owned() } else { format!("{lead}\n{piece}") };
        chunks.push(Chunk::new(
            counter,
            ChunkKind::Markdown,
            chunk_text,
            (String::new(), String::new()),
            range,
        ));
    }
    chunks
}

/// `Title > Section`, without its first parts where it would cost too much.
fn lead_within(counter: &TokenCounter, titles: &[&str], budget: usize) -> String {
    (0..titles.len())
        .map(|from| titles[from..].join(" > "))
        .find(|lead| counter.cost(lead) < budget)
        .unwrap_or_default()
}

struct Heading<'text> {
    at: usize,
    level: usize,
    title: &'text str,
}

/// The `#` headings outside code fences, with their offsets.
fn headings(text: &str) -> Vec<Heading<'_>> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => {
                let level = trimmed.bytes().take_while(|byte| *byte == b'#').count();
                if (1..=6).contains(&level) && trimmed[level..].starts_with(' ') {
                    let indent = line.len() - line.trim_start().len();
                    let title = span::cut(trimmed[level..].trim().trim_end_matches('#').trim_end(), 200);
                    found.push(Heading { at: at + indent, level, title });
                }
            }
            _ => {}
        }
        at += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rag::chunk::tokens::tests::small_counter;

    fn squeezed(text: &str) -> String {
        text.chars().filter(|character| !character.is_whitespace()).collect()
    }

    #[test]
    fn a_megabyte_without_a_break_is_split_in_linear_time() {
        let counter = small_counter();
        let text = "a".repeat(1 << 20);
        let started = std::time::Instant::now();
        let ranges = split(counter, &text, 100, 0);
        assert!(started.elapsed().as_secs() < 60);
        assert_eq!(ranges.iter().map(|range| range.len()).sum::<usize>(), text.len());
        assert!(ranges.iter().all(|range| counter.cost(&text[range.clone()]) <= 100));
    }

    #[test]
    fn markdown_chunks_carry_the_headings_above_them() {
        let counter = small_counter();
        let section = "wind rain delay. ".repeat(20);
        let text = format!(
            "# Manual\n\n## Weather\n\n{section}\n\n{section}\n\n```\n# no heading\n```\n\n## Delays\n\n{section}"
        );
        let limits = Limits { tokens: 100, overlap: 0 };
        let chunks = chunk_markdown(counter, &text, limits);
        assert!(chunks.len() > 3);
        let weather = chunks.iter().filter(|chunk| chunk.text.starts_with("Manual > Weather\n")).count();
        assert!(weather >= 1, "{chunks:#?}");
        assert!(chunks.last().unwrap().text.contains("Delays"));
        for chunk in &chunks {
            let bytes = &text[chunk.byte_start as usize..chunk.byte_end as usize];
            assert!(chunk.text.ends_with(bytes));
            assert!(chunk.tokens as usize <= limits.budget());
        }
    }

    #[test]
    fn neighbours_overlap_when_asked_to() {
        let counter = small_counter();
        let text = (0..200).map(|number| format!("the wind {number}. ")).collect::<String>();
        let plain = split(counter, &text, 40, 0);
        let shared = split(counter, &text, 40, 15);
        assert!(plain.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(shared.windows(2).any(|pair| pair[0].end > pair[1].start));
    }

    proptest! {
        #[test]
        fn pieces_cover_the_text_within_the_budget(text in "(\\PC|[ \\n.]){0,400}", budget in 4usize..60) {
            let counter = small_counter();
            let ranges = split(counter, &text, budget, 0);
            let joined: String = ranges.iter().map(|range| &text[range.clone()]).collect();
            prop_assert_eq!(squeezed(&joined), squeezed(&text));
            for range in &ranges {
                let piece = &text[range.clone()];
                prop_assert!(counter.cost(piece) <= budget || piece.chars().count() == 1, "{piece:?}");
            }
        }

        #[test]
        fn markdown_pieces_cover_the_text_within_the_budget(text in "([a-e #*`>\\n|-]|wind ){0,300}") {
            let counter = small_counter();
            let limits = Limits { tokens: 40, overlap: 0 };
            let chunks = chunk_markdown(counter, &text, limits);
            let joined: String =
                chunks.iter().map(|chunk| &text[chunk.byte_start as usize..chunk.byte_end as usize]).collect();
            prop_assert_eq!(squeezed(&joined), squeezed(&text));
            for chunk in &chunks {
                prop_assert!(chunk.tokens as usize <= limits.budget(), "{chunk:?}");
            }
        }
    }
}
