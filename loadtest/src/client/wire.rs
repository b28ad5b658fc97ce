//! WebSocket frames on the client's side, read without an allocation or a copy per frame.
//!
//! The read buffer belongs to the thread; a connection stores bytes only while it has a partial frame. Masks are zero:
//! RFC 6455 requires masking against pages that deceive proxies, not for secrecy.

use std::cell::Cell;
use std::io::{self, Cursor};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Maximum bytes of one read.
const READ_BYTES: usize = 64 * 1_024;
/// The largest message: an answer has at most 1 MiB (PROTOCOL §3), plus the frame.
const MESSAGE_BYTES_MAX: usize = 2 * 1_024 * 1_024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// One WebSocket.
pub(crate) struct Wire<S> {
    /// `None` once it is shut.
    socket: Option<S>,
    /// Bytes that came after the answer to the upgrade, not processed yet.
    read_ahead: Vec<u8>,
    /// A partial frame.
    partial: Vec<u8>,
    /// The fragments of a message so far.
    fragments: Vec<u8>,
    /// Bytes that the socket has not accepted yet.
    unsent: Vec<u8>,
    /// The number of reads.
    pub(crate) reads: u64,
    /// The number of bytes read.
    pub(crate) bytes: u64,
}

/// A received frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    Text(&'a [u8]),
    /// The close code; `None` without one.
    Close(Option<u16>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// `read_ahead` is what was read after the upgrade.
    pub(crate) fn new(socket: S, read_ahead: Vec<u8>) -> Self {
        Self {
            socket: Some(socket),
            read_ahead,
            partial: Vec::new(),
            fragments: Vec::new(),
            unsent: Vec::new(),
            reads: 0,
            bytes: 0,
        }
    }

    /// Queues bytes made by [`put_text`].
    pub(crate) fn put_encoded(&mut self, bytes: &mut Vec<u8>) {
        if self.unsent.is_empty() {
            std::mem::swap(&mut self.unsent, bytes);
        } else {
            self.unsent.append(bytes);
        }
    }

    pub(crate) fn put_close(&mut self) {
        put(&mut self.unsent, OpCode::Control(Control::Close), &1_000u16.to_be_bytes());
    }

    /// Closes the socket. What was not written is lost.
    pub(crate) fn shut(&mut self) {
        self.socket = None;
    }

    /// Ready when the socket has accepted everything.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut *socket).poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.drain(..written);
        }
        self.unsent = Vec::new();
        Pin::new(socket).poll_flush(cx)
    }

    /// Reads once and passes complete frames to `on`; pings are answered. Ready with `false` at the end.
    ///
    /// # Errors
    /// The connection is broken, or the data is not WebSocket.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        on: &mut impl FnMut(Received<'_>),
    ) -> Poll<io::Result<bool>> {
        if !self.read_ahead.is_empty() {
            let ahead = std::mem::take(&mut self.read_ahead);
            let used = self.take_frames(&ahead, on)?;
            self.partial = ahead[used..].to_vec();
            return Poll::Ready(Ok(true));
        }
        let mut buffer = BUFFER.take();
        let result = self.read_into(&mut buffer, cx, on);
        BUFFER.set(buffer);
        result
    }

    fn read_into(
        &mut self,
        buffer: &mut Vec<u8>,
        cx: &mut Context<'_>,
        on: &mut impl FnMut(Received<'_>),
    ) -> Poll<io::Result<bool>> {
        let socket = self.socket.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let kept = self.partial.len();
        if buffer.len() < kept + READ_BYTES {
            buffer.resize(kept + READ_BYTES, 0);
        }
        let mut free = ReadBuf::new(&mut buffer[kept..]);
        ready!(Pin::new(socket).poll_read(cx, &mut free))?;
        let read = free.filled().len();
        self.reads += 1;
        self.bytes += read as u64;
        buffer[..kept].copy_from_slice(&self.partial);
        let filled = &buffer[..kept + read];
        let used = self.take_frames(filled, on)?;
        self.partial.clear();
        self.partial.extend_from_slice(&filled[used..]);
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        Poll::Ready(Ok(read > 0))
    }

    /// Passes on the complete frames and returns their size in bytes.
    fn take_frames(&mut self, bytes: &[u8], on: &mut impl FnMut(Received<'_>)) -> io::Result<usize> {
        let mut cursor = Cursor::new(bytes);
        let mut used = 0;
        while let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(invalid)? {
            let length = usize::try_from(length).map_err(invalid)?;
            if length + self.fragments.len() > MESSAGE_BYTES_MAX {
                return Err(invalid("a message of more than 2 MiB"));
            }
            let start = usize::try_from(cursor.position()).map_err(invalid)?;
            let Some(payload) = bytes.get(start..start + length) else { break };
            self.take_frame(&header, payload, on)?;
            used = start + length;
            cursor.set_position(used as u64);
        }
        Ok(used)
    }

    fn take_frame(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        on: &mut impl FnMut(Received<'_>),
    ) -> io::Result<()> {
        match header.opcode {
            OpCode::Data(Data::Text) if header.is_final && self.fragments.is_empty() => on(Received::Text(payload)),
            OpCode::Data(Data::Text | Data::Continue) => {
                self.fragments.extend_from_slice(payload);
                if header.is_final {
                    on(Received::Text(&std::mem::take(&mut self.fragments)));
                }
            }
            OpCode::Control(Control::Ping) => put(&mut self.unsent, OpCode::Control(Control::Pong), payload),
            OpCode::Control(Control::Close) => {
                on(Received::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))));
            }
            OpCode::Control(_) => {}
            OpCode::Data(_) => return Err(invalid("a binary frame, which was not asked for")),
        }
        Ok(())
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Adds a text frame to `bytes`, as [`Wire::put_encoded`] takes it.
pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    put(bytes, OpCode::Data(Data::Text), text);
}

fn put(bytes: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let header = FrameHeader { opcode, mask: Some([0; 4]), ..FrameHeader::default() };
    // Writing to a vector can't fail.
    let _ = header.format(payload.len() as u64, bytes);
    bytes.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    async fn read(wire: &mut Wire<DuplexStream>) -> io::Result<(bool, Vec<String>)> {
        let mut seen = Vec::new();
        let mut on = |received: Received<'_>| {
            seen.push(match received {
                Received::Text(text) => String::from_utf8_lossy(text).into_owned(),
                Received::Close(code) => format!("{code:?}"),
            });
        };
        let more = poll_fn(|cx| wire.poll_read(cx, &mut on)).await?;
        Ok((more, seen))
    }

    #[tokio::test]
    async fn frames_of_one_read_are_handed_out_and_the_rest_waits() {
        let (ours, mut server) = duplex(1_000);
        let mut wire = Wire::new(ours, b"\x81\x01a\x81\x02".to_vec());
        assert_eq!(read(&mut wire).await.unwrap(), (true, vec!["a".to_owned()]));
        server.write_all(b"{}\x81\x03[1]\x81\x04[").await.unwrap();
        assert_eq!(read(&mut wire).await.unwrap(), (true, vec!["{}".to_owned(), "[1]".to_owned()]));
        server.write_all(b"12]").await.unwrap();
        assert_eq!(read(&mut wire).await.unwrap().1, ["[12]"]);
        assert_eq!((wire.partial.capacity(), wire.reads), (0, 2));
        drop(server);
        assert!(!read(&mut wire).await.unwrap().0);
    }

    #[tokio::test]
    async fn fragments_are_joined_and_long_frames_are_read_whole() {
        let (ours, mut server) = duplex(1 << 20);
        let mut wire = Wire::new(ours, Vec::new());
        server.write_all(b"\x01\x01a\x89\x01p\x80\x01b").await.unwrap();
        assert_eq!(read(&mut wire).await.unwrap().1, ["ab"]);
        poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
        let mut pong = [0; 7];
        server.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, *b"\x8a\x81\0\0\0\0p");

        let long = vec![b'x'; 300_000];
        server.write_all(b"\x81\x7f\0\0\0\0\0\x04\x93\xe0").await.unwrap();
        server.write_all(&long).await.unwrap();
        let mut seen = Vec::new();
        while seen.is_empty() {
            seen = read(&mut wire).await.unwrap().1;
        }
        assert_eq!(seen[0].as_bytes(), long);
    }

    #[tokio::test]
    async fn a_close_has_its_code_and_nonsense_is_an_error() {
        let (ours, mut server) = duplex(1_000);
        let mut wire = Wire::new(ours, Vec::new());
        server.write_all(b"\x88\x02\x11\x39").await.unwrap();
        assert_eq!(read(&mut wire).await.unwrap().1, ["Some(4409)"]);
        server.write_all(b"\x82\x01x").await.unwrap();
        assert!(read(&mut wire).await.is_err());
        server.write_all(b"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff").await.unwrap();
        assert!(read(&mut wire).await.is_err());
    }

    #[tokio::test]
    async fn what_is_put_is_masked() {
        let (ours, mut server) = duplex(1_000);
        let mut wire = Wire::new(ours, Vec::new());
        for text in [b"{}", b"[]"] {
            let mut encoded = Vec::new();
            put_text(&mut encoded, text);
            wire.put_encoded(&mut encoded);
        }
        wire.put_close();
        poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
        let mut sent = [0; 24];
        server.read_exact(&mut sent).await.unwrap();
        assert_eq!(sent, *b"\x81\x82\0\0\0\0{}\x81\x82\0\0\0\0[]\x88\x82\0\0\0\0\x03\xe8");
    }
}
