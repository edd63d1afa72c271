//! From the batches of a result to the body of an answer.
//!
//! M1 A body is made piece by piece as its reader takes it: in memory are the batch at hand and what the stream holds.
//! M2 A result that is complete before its answer begins is one piece, and what goes wrong with it is a problem.
//! M3 What goes wrong later shows: as a member or line where the form has a place for it, otherwise the connection breaks.

use std::time::Instant;

use bytes::Bytes;
use futures::stream;
use poem::Body;
use poem_openapi::types::ToJSON;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::engine::EngineError;
use crate::query::{Encoder, Format, QueryStream};

/// The body of an answer; its first part is made before this returns.
pub async fn body(stream: QueryStream, format: Format, request_id: &str) -> Result<Body, EngineError> {
    let encoder = Encoder::new(format, stream.schema())?;
    let pieces = Pieces {
        stream,
        format,
        encoder,
        rows: 0,
        started: Instant::now(),
        request_id: request_id.to_owned(),
    };
    let mut first = pieces.head();
    if pieces.stream.end().is_none() {
        let (piece, rest) = pieces.advance().await?;
        first.extend(piece);
        let first = stream::iter([Ok(Bytes::from(first))]);
        return Ok(Body::from_bytes_stream(stream::StreamExt::chain(first, later(rest))));
    }
    let mut rest = Some(pieces);
    while let Some(pieces) = rest {
        let (piece, following) = pieces.advance().await?;
        first.extend(piece);
        rest = following;
    }
    Ok(Body::from_vec(first))
}

fn later(
    pieces: Option<Pieces>,
) -> impl stream::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    stream::unfold(pieces, async |pieces| {
        let mut pieces = pieces?;
        loop {
            let (format, rows, started) = (pieces.format, pieces.rows, pieces.started);
            let request_id = pieces.request_id.clone();
            match pieces.advance().await {
                // Parquet has nothing to show for most batches.
                Ok((piece, Some(rest))) if piece.is_empty() => pieces = rest,
                Ok((piece, rest)) => return Some((Ok(piece.into()), rest)),
                Err(error) => return Some((Ok(broken(format, rows, started, &request_id, &error)), None)),
            }
        }
    })
}

/// An answer under way.
struct Pieces {
    stream: QueryStream,
    format: Format,
    encoder: Encoder,
    /// In what was made so far.
    rows: usize,
    started: Instant,
    request_id: String,
}

impl Pieces {
    fn head(&self) -> Vec<u8> {
        if self.format != Format::Json {
            return Vec::new();
        }
        let columns: Vec<Value> = self
            .stream
            .schema()
            .fields()
            .iter()
            .map(|field| json!({"name": field.name(), "type": field.data_type().to_string()}))
            .collect();
        format!("{{\"columns\":{},\"rows\":", Value::from(columns)).into_bytes()
    }

    /// The next piece, and what is left after it.
    async fn advance(mut self) -> Result<(Vec<u8>, Option<Self>), EngineError> {
        let threads = self.stream.threads().clone();
        match self.stream.next().await {
            Some(batch) => {
                let batch = batch?;
                // Encoding a batch takes some milliseconds.
                let encode = async move {
                    let piece = self.encoder.write(&batch)?;
                    self.rows += batch.num_rows();
                    Ok((piece, Some(self)))
                };
                threads.spawn(encode).await?
            }
            None => threads.spawn(async move { Ok((self.finish()?, None)) }).await?,
        }
    }

    fn finish(self) -> Result<Vec<u8>, EngineError> {
        let Self { stream, format, encoder, .. } = self;
        let end = stream.end().ok_or(EngineError::Interrupted)?;
        let is_small = end.bytes <= crate::query::HELD_BYTES as u64;
        let mut bytes = encoder.finish(end.truncated_at)?;
        let truncated = end.truncated_at.map(|rows| {
            let message =
                format!("there are more than {rows} rows; filter, aggregate, or page with LIMIT and OFFSET");
            json!({"max_rows": rows, "message": message})
        });
        match (format, truncated) {
            (Format::Json, truncated) => {
                let elapsed_ms = u64::try_from(end.elapsed.as_millis()).unwrap_or(u64::MAX);
                let (rows, truncated) = (end.rows, json!(truncated));
                let tail =
                    format!(",\"row_count\":{rows},\"truncated\":{truncated},\"elapsed_ms\":{elapsed_ms}}}");
                bytes.extend(tail.into_bytes());
            }
            // A small one says so in its header.
            (Format::Ndjson, Some(truncated)) if !is_small => {
                bytes.extend(format!("{}\n", json!({"truncated": truncated})).into_bytes());
            }
            _ => {}
        }
        Ok(bytes)
    }
}

/// M3: the last piece of an answer that cannot be completed.
fn broken(format: Format, rows: usize, started: Instant, request_id: &str, error: &EngineError) -> Bytes {
    let problem = Problem::of(request_id, error);
    tracing::info!(request_id, kind = error.kind().as_str(), rows, "a result broke off");
    let problem = problem.to_json().unwrap_or_default();
    match format {
        // The array of rows is open: rows end without a comma.
        Format::Json => {
            let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let counts = format!("\"row_count\":{rows},\"truncated\":null,\"elapsed_ms\":{elapsed_ms}");
            format!("],{counts},\"error\":{problem}}}").into()
        }
        Format::Ndjson => format!("{}\n", json!({"error": problem})).into(),
        // An error of the body would not do: poem polls the connection once more after it, upon which hyper ends the body
        // as if it were whole. Unwinding, which poem expects of every connection, closes it in the midst of the body.
        _ => std::panic::resume_unwind(Box::new("a result broke off")),
    }
}
