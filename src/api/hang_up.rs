//! Callers who hang up before their answer begins: the work for them ends.
//!
//! poem goes on with a handler after its connection has ended, because it awaits the connection once more to shut it
//! down. So the acceptor notes when a connection ends, and a middleware drops the handler then. Dropping an operation is
//! safe: it is audited as `hung_up`, and what has begun to be stored runs to its end or is taken back.
//! H1 only the handlers of the connection that ended are dropped. H2 a connection leaves nothing behind.

use std::collections::HashMap;
use std::io::Result as IoResult;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use poem::http::StatusCode;
use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, IntoResponse, Request, Response, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Connections that are open, by the peer's address, which names one connection of a listener at a time.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<HashMap<String, CancellationToken>>>);

impl Connections {
    fn open(&self, peer: String) -> CancellationToken {
        let token = CancellationToken::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, token.clone());
        token
    }

    fn of(&self, request: &Request) -> Option<CancellationToken> {
        let peer = request.remote_addr().to_string();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }
}

/// Serves `request` until its caller is gone.
pub async fn until_hung_up<E: Endpoint>(
    endpoint: Arc<E>,
    request: Request,
    connections: Connections,
) -> Result<Response> {
    let Some(ended) = connections.of(&request) else {
        return endpoint.call(request).await.map(IntoResponse::into_response);
    };
    tokio::select! {
        biased;
        served = endpoint.call(request) => served.map(IntoResponse::into_response),
        // Nobody reads it.
        () = ended.cancelled() => Ok(StatusCode::SERVICE_UNAVAILABLE.into_response()),
    }
}

/// Accepts connections and keeps note of them.
pub struct NotingAcceptor {
    pub inner: TcpAcceptor,
    pub connections: Connections,
}

impl Acceptor for NotingAcceptor {
    type Io = NotedStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.inner.local_addr()
    }

    async fn accept(&mut self) -> IoResult<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        let (stream, local, remote, scheme) = self.inner.accept().await?;
        let peer = remote.to_string();
        let ended = self.connections.open(peer.clone());
        let noted = NotedStream { stream, peer, ended, connections: self.connections.clone() };
        Ok((noted, local, remote, scheme))
    }
}

/// A connection that tells when its peer has left.
pub struct NotedStream {
    stream: TcpStream,
    peer: String,
    ended: CancellationToken,
    connections: Connections,
}

impl Drop for NotedStream {
    fn drop(&mut self) {
        self.ended.cancel();
        let mut open = self.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The address may be another connection's by now; that one has another token, not cancelled.
        if open.get(&self.peer).is_some_and(CancellationToken::is_cancelled) {
            open.remove(&self.peer);
        }
    }
}

impl AsyncRead for NotedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<IoResult<()>> {
        let (before, had_room) = (buffer.filled().len(), buffer.remaining() > 0);
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let is_end = match &polled {
            Poll::Ready(Ok(())) => had_room && buffer.filled().len() == before,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if is_end {
            self.ended.cancel();
        }
        polled
    }
}

impl AsyncWrite for NotedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<IoResult<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<IoResult<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
