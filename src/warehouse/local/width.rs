//! Whether the rows of an unpacked file fit in memory. A reader of rows holds a batch of them, each as wide as it may be:
//! a small compressed file can ask for all the memory there is.

/// Rows that the engine reads at once.
const BATCH_ROWS: usize = 8_192;
/// Widest row.
const MAX_ROW_BYTES: usize = 16 << 20;
/// Rows of a batch together.
const MAX_BATCH_BYTES: usize = 256 << 20;

/// Watches a stream of rows go by.
#[derive(Debug)]
pub(super) struct Width {
    /// Whether a line break between double quotes belongs to a value.
    has_quotes: bool,
    is_quoted: bool,
    row_bytes: usize,
    rows: usize,
    batch_bytes: usize,
}

impl Width {
    pub fn new(has_quotes: bool) -> Self {
        Self { has_quotes, is_quoted: false, row_bytes: 0, rows: 0, batch_bytes: 0 }
    }

    /// Whether all rows so far fit, this piece of the file included.
    pub fn fits(&mut self, piece: &[u8]) -> bool {
        for byte in piece {
            self.row_bytes += 1;
            let is_wide = self.row_bytes > MAX_ROW_BYTES;
            match byte {
                b'"' if self.has_quotes => self.is_quoted = !self.is_quoted,
                b'\n' if !self.is_quoted => {
                    self.batch_bytes += self.row_bytes;
                    self.row_bytes = 0;
                    self.rows += 1;
                    if self.rows == BATCH_ROWS {
                        (self.rows, self.batch_bytes) = (0, 0);
                    }
                }
                _ => {}
            }
            if is_wide || self.batch_bytes > MAX_BATCH_BYTES {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_or_a_batch_that_is_too_wide_is_seen_in_pieces_of_any_size() {
        let line = |bytes: usize| [vec![b'x'; bytes - 1], vec![b'\n']].concat();
        assert!(Width::new(true).fits(&line(MAX_ROW_BYTES)));
        assert!(!Width::new(true).fits(&line(MAX_ROW_BYTES + 1)));
        let mut narrow = Width::new(true);
        assert!((0..100_000).all(|_| narrow.fits(&line(2_000))));
        let mut wide = Width::new(true);
        let fitting = (0..BATCH_ROWS).take_while(|_| wide.fits(&line(1 << 20))).count();
        assert_eq!(fitting, MAX_BATCH_BYTES >> 20);
        // Lines between quotes are one row.
        let mut quoted = Width::new(true);
        assert!(quoted.fits(b"\""));
        assert!(!(0..MAX_ROW_BYTES).all(|_| quoted.fits(b"x\n")));
        let mut plain = Width::new(false);
        assert!(plain.fits(b"\"") && (0..MAX_ROW_BYTES).all(|_| plain.fits(b"x\n")));
    }
}
