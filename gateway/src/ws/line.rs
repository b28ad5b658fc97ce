//! The byte stream under a session. A sleeping session lends its write half, so that a fan-out can write its frames to
//! many sessions, one after the other, without waking them.
//!
//! Only the current holder of the write half can write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

/// A byte stream that can carry a session.
pub(crate) trait Line: AsyncRead + AsyncWrite + Unpin + Send {
    /// Lends the write half, for others to write to while the session sleeps; writes here fail until it is taken back.
    /// `None` if only the session itself can write.
    fn lend(&mut self) -> Option<OwnedWriteHalf> {
        None
    }

    /// Takes back the write half that was lent.
    fn take_back(&mut self, _lent: OwnedWriteHalf) {}
}

/// TLS never lends: reading and writing share the connection's encryption state.
impl Line for TlsStream<TcpStream> {}

#[cfg(test)]
impl Line for tokio::io::DuplexStream {}

/// A connection without TLS.
pub(crate) struct Tcp {
    reading: OwnedReadHalf,
    /// `None` while lent.
    writing: Option<OwnedWriteHalf>,
}

impl Tcp {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (reading, writing) = stream.into_split();
        Self { reading, writing: Some(writing) }
    }

    fn writing(self: Pin<&mut Self>) -> io::Result<Pin<&mut OwnedWriteHalf>> {
        self.get_mut().writing.as_mut().map(Pin::new).ok_or_else(|| io::Error::other("the write half is lent"))
    }
}

impl Line for Tcp {
    fn lend(&mut self) -> Option<OwnedWriteHalf> {
        self.writing.take()
    }

    fn take_back(&mut self, lent: OwnedWriteHalf) {
        self.writing = Some(lent);
    }
}

impl AsyncRead for Tcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().reading).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writing()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writing()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing()?.poll_shutdown(cx)
    }
}
