//! Server-sent events as they come in (WHATWG HTML, section 9.2.6): the data of each event. Pure.
//!
//! V1 where the bytes are cut changes nothing.

/// Puts events together from pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Option<String>,
    after_return: bool,
}

impl Events {
    /// The data of every event that this piece completes, in order. Holds back what is not complete; an event that
    /// the end of the stream cuts off never comes, as the standard has it.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<String> {
        let mut complete = Vec::new();
        for &byte in piece {
            let follows_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    complete.extend(self.end_line());
                }
                _ => self.line.push(byte),
            }
        }
        complete
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take();
        }
        let text = String::from_utf8_lossy(&line);
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        if name == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comments_names_and_all_line_ends_are_understood() {
        let text = ": hello\r\nevent: x\rdata: {\"a\":1}\r\n\r\ndata:b\ndata: c\n\nid: 1\n\ndata: cut off\n";
        assert_eq!(Events::default().push(text.as_bytes()), ["{\"a\":1}", "b\nc"]);
    }

    proptest! {
        #[test]
        fn cutting_the_stream_anywhere_changes_nothing(
            text in "(data: ?[a-zé]{0,4}|:|\r\n|\n|\r|x){0,30}",
            cuts in proptest::collection::vec(1usize..5, 0..40),
        ) {
            let whole = Events::default().push(text.as_bytes());
            let (mut events, mut rest, mut pieces) = (Events::default(), text.as_bytes(), Vec::new());
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                pieces.extend(events.push(piece));
                rest = tail;
            }
            pieces.extend(events.push(rest));
            prop_assert_eq!(pieces, whole);
        }
    }
}
