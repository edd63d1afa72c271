//! The body of an answer, piece by piece: bounded, timed, whole or an error, and without the call's own credentials.
//!
//! B1 a body that ended early ends with an error, never with silence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::super::clock::Clock;
use super::super::error::ActionError;
use super::super::net::root_cause;
use super::super::security::redact::{Redactor, StreamRedactor};
use super::limit::Permit;

/// Pieces of a body; after an error nothing follows.
pub type UpstreamBody = BoxStream<'static, Result<Bytes, ActionError>>;

/// What bounds a body.
pub struct BodyRules {
    pub host: String,
    pub max_bytes: u64,
    pub idle_timeout: Duration,
    pub timeout: Duration,
    pub deadline: Instant,
    pub clock: Arc<dyn Clock>,
    pub cancel: CancellationToken,
    /// Content-Length, where it counts the bytes that come out.
    pub expected: Option<u64>,
}

struct Reader<S> {
    pieces: S,
    rules: BodyRules,
    redactor: StreamRedactor,
    permit: Option<Permit>,
    received: u64,
    done: bool,
}

/// Wraps the pieces of an answer; `permit` learns how it ended.
pub fn bounded_body(
    pieces: impl Stream<Item = reqwest::Result<Bytes>> + Send + Unpin + 'static,
    redactor: Redactor,
    permit: Permit,
    rules: BodyRules,
) -> UpstreamBody {
    let redactor = StreamRedactor::new(redactor);
    let reader = Reader { pieces, rules, redactor, permit: Some(permit), received: 0, done: false };
    stream::unfold(reader, |mut reader| async move {
        if reader.done {
            return None;
        }
        match reader.next().await {
            Ok(Some(piece)) => Some((Ok(piece), reader)),
            Ok(None) => {
                reader.done = true;
                if let Some(permit) = reader.permit.take() {
                    permit.succeed();
                }
                let rest = reader.redactor.finish();
                if rest.is_empty() { None } else { Some((Ok(rest), reader)) }
            }
            Err(error) => {
                reader.done = true;
                if let Some(permit) = reader.permit.take()
                    && !matches!(error, ActionError::Cancelled | ActionError::ResponseTooLarge { .. })
                {
                    permit.fail();
                }
                Some((Err(error), reader))
            }
        }
    })
    .boxed()
}

impl<S: Stream<Item = reqwest::Result<Bytes>> + Send + Unpin> Reader<S> {
    /// The next piece that is not empty; `None` at the proper end.
    async fn next(&mut self) -> Result<Option<Bytes>, ActionError> {
        loop {
            let Some(piece) = self.raw_piece().await? else {
                return match self.rules.expected {
                    Some(expected) if self.received < expected => Err(self.closed()),
                    _ => Ok(None),
                };
            };
            self.received += piece.len() as u64;
            if self.received > self.rules.max_bytes {
                return Err(ActionError::ResponseTooLarge {
                    host: self.rules.host.clone(),
                    limit: self.rules.max_bytes,
                });
            }
            let piece = self.redactor.push(piece);
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    async fn raw_piece(&mut self) -> Result<Option<Bytes>, ActionError> {
        let left = self.rules.deadline.saturating_duration_since(self.rules.clock.now());
        let patience = left.min(self.rules.idle_timeout);
        let piece = tokio::select! {
            biased;
            () = self.rules.cancel.cancelled() => return Err(ActionError::Cancelled),
            piece = tokio::time::timeout(patience, self.pieces.next()) => piece,
        };
        match piece {
            Err(_) if left <= self.rules.idle_timeout => Err(ActionError::UpstreamTimeout {
                host: self.rules.host.clone(),
                what: "finish its answer",
                after: self.rules.timeout,
                limit: "timeout_seconds",
            }),
            Err(_) => Err(ActionError::UpstreamTimeout {
                host: self.rules.host.clone(),
                what: "go on with its answer",
                after: self.rules.idle_timeout,
                limit: "idle_timeout_seconds",
            }),
            Ok(None) => Ok(None),
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(Some(Err(error))) => Err(self.broken(&error)),
        }
    }

    fn closed(&self) -> ActionError {
        ActionError::UpstreamClosed {
            host: self.rules.host.clone(),
            received: self.received,
            expected: self.rules.expected,
        }
    }

    fn broken(&self, error: &reqwest::Error) -> ActionError {
        if is_bad_data(error) {
            let reason = format!("its compressed answer is damaged ({})", root_cause(error));
            return ActionError::UpstreamProtocol { host: self.rules.host.clone(), reason };
        }
        self.closed()
    }
}

/// Whether a decoder, not the connection, gave up.
fn is_bad_data(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind;
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput)
        {
            return true;
        }
        source = error.source();
    }
    false
}
