//! CSV as chunks: the header line, then as many rows as fit; a row that is too large becomes `column: value` lines.
//!
//! Knows the `csv` crate's records and positions. Rows count from 0 and do not include the header.

use std::ops::Range;

use csv::{ByteRecord, ReaderBuilder};

use crate::rag::chunk::tokens::TokenCounter;
use crate::rag::chunk::{Chunk, ChunkError, ChunkKind, Limits, prose, span};

/// One parsed row and where it stands.
struct Row {
    fields: Vec<String>,
    bytes: Range<usize>,
}

/// Cuts a CSV text; also returns its outline and the number of its rows.
pub fn chunk_csv(
    counter: &TokenCounter,
    text: &str,
    limits: Limits,
) -> Result<(Vec<Chunk>, Vec<String>, usize), ChunkError> {
    let mut header: Option<Row> = None;
    let mut packer = Packer::new(counter, text, limits.budget());
    let mut rows = 0usize;
    each_row(text, |row| {
        match &header {
            None => {
                packer.set_header(&row);
                header = Some(row);
            }
            Some(header) => {
                packer.add(rows, &row, header);
                rows += 1;
            }
        }
        Ok(())
    })?;
    packer.flush();
    let mut outline = vec![format!("csv: {rows} rows")];
    if let Some(header) = header {
        if rows == 0 {
            let bytes = header.bytes.clone();
            packer.push(text[bytes.clone()].to_owned(), 0..0, bytes);
        }
        let shown = header.fields.iter().take(58).map(|name| format!("column {}", span::cut(name, 60)));
        outline.extend(shown);
        if header.fields.len() > 58 {
            outline.push(format!("… {} more columns", header.fields.len() - 58));
        }
    }
    Ok((packer.chunks, outline, rows))
}

/// The bytes of `/rows/3` or `/rows/3-17`.
pub fn locate_rows(text: &str, pointer: &str) -> Result<(usize, usize), String> {
    if pointer.is_empty() {
        return Ok((0, text.len()));
    }
    let shown = span::cut(pointer, 80);
    let Some(range) = pointer.strip_prefix("/rows/") else {
        let segment = shown.trim_start_matches('/').split('/').next().unwrap_or_default();
        return Err(format!("segment '{segment}' leads nowhere: rows of CSV are /rows/3 or /rows/3-17"));
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let lost = |_| {
        format!("segment '{}' leads nowhere: use a row's number, or two as in 3-17", span::cut(range, 80))
    };
    let (first, last): (usize, usize) = (first.parse().map_err(lost)?, last.parse().map_err(lost)?);
    let mut number = 0usize;
    let mut found: Option<(usize, usize)> = None;
    let walked = each_row(text, |row| {
        // The first record is the header.
        if number > 0 && (first..=last).contains(&(number - 1)) {
            let start = found.map_or(row.bytes.start, |(start, _)| start);
            found = Some((start, row.bytes.end));
        }
        number += 1;
        Ok(())
    });
    walked.map_err(|error| error.to_string())?;
    let rows = number.saturating_sub(1);
    match found {
        Some(found) if last < rows && first <= last => Ok(found),
        _ => Err(format!(
            "segment '{}' leads nowhere: there are {rows} rows, counted from 0",
            span::cut(range, 80)
        )),
    }
}

fn each_row(text: &str, mut take: impl FnMut(Row) -> Result<(), ChunkError>) -> Result<(), ChunkError> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut record = ByteRecord::new();
    loop {
        let more = reader
            .read_byte_record(&mut record)
            .map_err(|error| ChunkError::NotCsv { reason: error.to_string() })?;
        if !more {
            return Ok(());
        }
        let start = record.position().map_or(0, |position| position.byte() as usize);
        let end = reader.position().byte() as usize;
        // The reader's positions may include line ends before and behind the record.
        let raw = &text[start..end];
        let from = start + (raw.len() - raw.trim_start_matches(['\r', '\n']).len());
        let to = from.max(start + raw.trim_end_matches(['\r', '\n']).len());
        // The fields are slices of valid UTF-8 between ASCII marks.
        let fields = record.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
        take(Row { fields, bytes: from..to })?;
    }
}

struct Packer<'a> {
    counter: &'a TokenCounter,
    text: &'a str,
    budget: usize,
    header: String,
    header_cost: usize,
    rows: Option<(Range<usize>, Range<usize>, usize)>,
    chunks: Vec<Chunk>,
}

impl<'a> Packer<'a> {
    fn new(counter: &'a TokenCounter, text: &'a str, budget: usize) -> Self {
        Self { counter, text, budget, header: String::new(), header_cost: 0, rows: None, chunks: Vec::new() }
    }

    /// A header over half the budget is left to the `column: value` form.
    fn set_header(&mut self, row: &Row) {
        let line = &self.text[row.bytes.clone()];
        self.header_cost = self.counter.cost(line);
        self.header = line.to_owned();
    }

    fn add(&mut self, number: usize, row: &Row, header: &Row) {
        let cost = self.counter.cost(&self.text[row.bytes.clone()]);
        if self.header_cost > self.budget / 2 || self.header_cost + cost > self.budget {
            self.flush();
            self.add_as_lines(number, row, header);
            return;
        }
        match &mut self.rows {
            Some((numbers, bytes, used)) if *used + cost <= self.budget => {
                numbers.end = number + 1;
                bytes.end = row.bytes.end;
                *used += cost;
            }
            _ => {
                self.flush();
                self.rows = Some((number..number + 1, row.bytes.clone(), self.header_cost + cost));
            }
        }
    }

    fn flush(&mut self) {
        if let Some((numbers, bytes, _)) = self.rows.take() {
            let text = format!("{}\n{}", self.header, &self.text[bytes.clone()]);
            self.push(text, numbers, bytes);
        }
    }

    fn push(&mut self, text: String, numbers: Range<usize>, bytes: Range<usize>) {
        let pointers = if numbers.is_empty() {
            (String::new(), String::new())
        } else {
            (format!("/rows/{}", numbers.start), format!("/rows/{}", numbers.end - 1))
        };
        // A header line alone, or one that holds a huge field, must keep to the budget as well.
        if self.counter.cost(&text) <= self.budget {
            self.chunks.push(Chunk::new(self.counter, ChunkKind::Csv, text, pointers, bytes));
            return;
        }
        for range in prose::split(self.counter, &text, self.budget, 0) {
            let piece = text[range].to_owned();
            self.chunks.push(Chunk::new(
                self.counter,
                ChunkKind::Csv,
                piece,
                pointers.clone(),
                bytes.clone(),
            ));
        }
    }

    /// `column: value` lines, packed; a value that is too large in pieces. All of them stand for the whole row.
    fn add_as_lines(&mut self, number: usize, row: &Row, header: &Row) {
        let mut lines: Vec<String> = Vec::new();
        for (position, field) in row.fields.iter().enumerate() {
            let name = header.fields.get(position).map_or_else(|| format!("column {position}"), Clone::clone);
            let label_cost = self.counter.cost(&name) + 2;
            if label_cost + self.counter.cost(field) <= self.budget {
                lines.push(format!("{name}: {field}"));
                continue;
            }
            let label = if label_cost > self.budget / 2 {
                lines.extend(
                    prose::split(self.counter, &name, self.budget - 2, 0)
                        .into_iter()
                        .map(|range| name[range].to_owned()),
                );
                format!("column {position}")
            } else {
                name
            };
            let room = self.budget.saturating_sub(self.counter.cost(&label) + 2);
            let pieces = prose::split(self.counter, field, room, 0);
            lines.extend(pieces.into_iter().map(|range| format!("{label}: {}", &field[range])));
        }
        let (mut text, mut used) = (String::new(), 0);
        for line in lines {
            let cost = self.counter.cost(&line) + 1;
            if used > 0 && used + cost > self.budget {
                self.push(std::mem::take(&mut text), number..number + 1, row.bytes.clone());
                used = 0;
            }
            if used > 0 {
                text.push('\n');
            }
            text.push_str(&line);
            used += cost;
        }
        if !text.is_empty() {
            self.push(text, number..number + 1, row.bytes.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rag::chunk::tokens::tests::small_counter;

    const LIMITS: Limits = Limits { tokens: 64, overlap: 0 };

    #[test]
    fn rows_are_packed_under_their_header_with_exact_bytes() {
        let mut text = String::from("name,temp\r\n");
        for row in 0..60 {
            text.push_str(&format!("\"wind, {row}\",{row}\r\n"));
        }
        let (chunks, outline, _) = chunk_csv(small_counter(), &text, LIMITS).unwrap();
        assert_eq!(outline, ["csv: 60 rows", "column name", "column temp"]);
        assert!(chunks.len() > 3 && chunks.len() < 60);
        let mut next = 0;
        for chunk in &chunks {
            let bytes = &text[chunk.byte_start as usize..chunk.byte_end as usize];
            assert_eq!(chunk.text, format!("name,temp\n{bytes}"));
            assert_eq!(chunk.pointer_first, format!("/rows/{next}"));
            next += bytes.lines().count();
            assert_eq!(chunk.pointer_last, format!("/rows/{}", next - 1));
            let numbers = chunk.pointer_first.trim_start_matches("/rows/").to_owned();
            let last = chunk.pointer_last.trim_start_matches("/rows/");
            let (start, end) = locate_rows(&text, &format!("/rows/{numbers}-{last}")).unwrap();
            assert_eq!(&text[start..end], bytes);
        }
        assert_eq!(next, 60);
    }

    #[test]
    fn a_row_that_is_too_large_keeps_its_column_names() {
        let text = format!("name,notes\nwind,{}\nrain,short\n", "the rain. ".repeat(100));
        let (chunks, ..) = chunk_csv(small_counter(), &text, LIMITS).unwrap();
        assert!(chunks.iter().any(|chunk| chunk.text.contains("notes: the rain.")));
        assert!(chunks.iter().all(|chunk| chunk.tokens as usize <= LIMITS.budget()));
        assert!(chunks.last().unwrap().text.contains("rain,short"));
    }

    #[test]
    fn a_pointer_that_leads_nowhere_says_so() {
        for (pointer, words) in
            [("/rows/2", "there are 2 rows"), ("/rows/x", "row's number"), ("/a", "segment 'a'")]
        {
            let error = locate_rows("a,b\n1,2\n3,4\n", pointer).unwrap_err();
            assert!(error.contains(words), "{pointer}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_field_stands_in_some_chunk(rows in prop::collection::vec(("[a-y ,\"\\n]{0,20}", "[0-9]{1,6}"), 1..30)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["name", "temp"]).unwrap();
            for (name, temp) in &rows {
                writer.write_record([name, temp]).unwrap();
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let (chunks, ..) = chunk_csv(small_counter(), &text, LIMITS).unwrap();
            for (_, temp) in &rows {
                prop_assert!(chunks.iter().any(|chunk| chunk.text.contains(temp.as_str())));
            }
            for chunk in &chunks {
                prop_assert!(chunk.tokens as usize <= LIMITS.budget());
            }
        }
    }
}
