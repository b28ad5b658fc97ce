//! The stream of a session's bytes. A sleeping session lends out its write end, so that the frames of a fan-out can be
//! written to many sessions one after the other without waking them.
//!
//! Only the holder of the write end can write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

/// A byte stream that a session can be held over.
pub(crate) trait Line: AsyncRead + AsyncWrite + Unpin + Send {
    /// The end to which others may write while the session sleeps; nothing can be written here until it is back. `None`
    /// where what is written needs the session itself.
    fn lend(&mut self) -> Option<OwnedWriteHalf> {
        None
    }

    /// The end that was lent is back.
    fn take_back(&mut self, _lent: OwnedWriteHalf) {}
}

/// What is written is encrypted by who reads, too.
impl Line for TlsStream<TcpStream> {}

#[cfg(test)]
impl Line for tokio::io::DuplexStream {}

/// A connection without TLS.
pub(crate) struct Tcp {
    reading: OwnedReadHalf,
    /// `None` while it is lent.
    writing: Option<OwnedWriteHalf>,
}

impl Tcp {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (reading, writing) = stream.into_split();
        Self { reading, writing: Some(writing) }
    }

    fn writing(self: Pin<&mut Self>) -> io::Result<Pin<&mut OwnedWriteHalf>> {
        self.get_mut().writing.as_mut().map(Pin::new).ok_or_else(|| io::Error::other("lent to others"))
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
