//! A WebSocket over a byte stream: messages in, encoded frames out.
//!
//! `tungstenite` reads, unmasks, joins fragments, checks UTF-8 and answers pings and closes. Outgoing frames bypass its
//! write buffer, which would keep the capacity of the largest frame for the socket's lifetime. They go through
//! [`Wire::unsent`], a buffer that an idle socket does not have. Frames put in one turn leave in one write. Callers
//! check [`Wire::has_room`] before they put a frame, so a client that stops reading costs a bounded buffer.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use socket2::SockRef;
use switchboard_protocol::CloseCode;
use tokio::io::ReadBuf;
use tokio::net::tcp::OwnedWriteHalf;
use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::line::Line;
use crate::metrics::count_write;

/// Permanent read buffer of a socket: most client frames fit. Larger ones get a temporary buffer.
const READ_BUFFER_BYTES: usize = 1_024;
/// From this size on, no more frames are put until the buffer has been written; so this is about the size of a write
/// under load.
const WRITE_BYTES: usize = 16 * 1_024;
/// Maximum capacity of the buffer that a thread keeps for its next write.
const SPARE_BYTES_MAX: usize = 4 * WRITE_BYTES;

thread_local! {
    /// A buffer for the next socket that this thread polls, so that most writes allocate nothing.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The server's side of a WebSocket.
pub(super) struct Wire<S> {
    socket: S,
    context: WebSocketContext,
    /// The bytes to be written. Not allocated while there are none.
    unsent: Vec<u8>,
    /// How many bytes of `unsent` have been written. Never near 4 GiB: see [`Wire::has_room`].
    sent: u32,
    /// The number of frames put since the last flush began.
    frames: u32,
}

impl<S: Line> Wire<S> {
    /// `read_ahead` is what was read from the socket beyond the upgrade; no message is longer than `frame_bytes`.
    pub(super) fn new(socket: S, read_ahead: Bytes, frame_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(frame_bytes))
            .max_frame_size(Some(frame_bytes));
        let context = if read_ahead.is_empty() {
            WebSocketContext::new(Role::Server, Some(config))
        } else {
            WebSocketContext::from_partially_read(read_ahead.into(), Role::Server, Some(config))
        };
        Self { socket, context, unsent: Vec::new(), sent: 0, frames: 0 }
    }

    /// The next message. The answers to pings and closes are put meanwhile.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        self.take_spare();
        let mut stream = Stream { socket: &mut self.socket, unsent: &mut self.unsent, cx };
        match self.context.read(&mut stream) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    /// Whether another frame may be put.
    pub(super) fn has_room(&self) -> bool {
        self.unsent_bytes() < WRITE_BYTES
    }

    /// The number of bytes that the socket has not accepted yet.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent.len() - self.sent as usize
    }

    /// Puts a text frame.
    pub(super) fn put_text(&mut self, text: &[u8]) {
        self.put(OpCode::Data(Data::Text), text);
    }

    /// Puts a ping.
    pub(super) fn put_ping(&mut self) {
        self.put(OpCode::Control(Control::Ping), b"");
    }

    /// Puts a close frame. No frame may be put and no message read after it.
    pub(super) fn put_close(&mut self, code: CloseCode) {
        self.put(OpCode::Control(Control::Close), &code.as_u16().to_be_bytes());
    }

    fn put(&mut self, opcode: OpCode, payload: &[u8]) {
        self.take_spare();
        put_frame(&mut self.unsent, opcode, payload);
        self.frames = self.frames.saturating_add(1);
    }

    /// Ready when the socket has accepted everything that was put.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Counted before the write, so that a client that has received the frames finds them in the metrics.
        count_write(mem::take(&mut self.frames));
        while self.unsent_bytes() > 0 {
            match Pin::new(&mut self.socket).poll_write(cx, &self.unsent[self.sent as usize..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.sent += u32::try_from(n).unwrap_or(u32::MAX),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.keep_unsent();
                    return Poll::Pending;
                }
            }
        }
        self.give_spare();
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Ready when everything has been written and the write side is shut down.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// Like [`Wire::poll_shutdown`], then discards what the client still sends until it has closed too: dropping a socket
    /// with unread data resets it, and the last frames might not arrive.
    pub(super) fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(self.poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        let mut forgotten = [0; 1_024];
        loop {
            let mut forgotten = ReadBuf::new(&mut forgotten);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut forgotten)) {
                Ok(()) if !forgotten.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Lends the socket's write half, for others to write to while the session sleeps; `None` if there is something left
    /// to write.
    pub(super) fn lend(&mut self) -> Option<OwnedWriteHalf> {
        if self.unsent.is_empty() { self.socket.lend() } else { None }
    }

    /// Takes back the write half that was lent, with the bytes that it did not accept from others.
    pub(super) fn take_back(&mut self, lent: OwnedWriteHalf, unsent: Vec<u8>) {
        self.socket.take_back(lent);
        if !unsent.is_empty() {
            self.unsent = unsent;
        }
    }

    fn take_spare(&mut self) {
        if self.unsent.capacity() == 0 {
            self.unsent = SPARE.take();
        }
    }

    fn give_spare(&mut self) {
        self.sent = 0;
        give_spare(mem::take(&mut self.unsent));
    }

    /// Moves the rest to a buffer of its size, and returns a much larger buffer to the thread.
    fn keep_unsent(&mut self) {
        if self.unsent.capacity() > 2 * self.unsent_bytes() {
            let left = self.unsent[self.sent as usize..].to_vec();
            self.give_spare();
            self.unsent = left;
        }
    }
}

fn put_frame(buffer: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    // Writing to a vector does not fail.
    let _ = header.format(payload.len() as u64, buffer);
    buffer.extend_from_slice(payload);
}

fn give_spare(mut buffer: Vec<u8>) {
    if buffer.capacity() <= SPARE_BYTES_MAX {
        buffer.clear();
        SPARE.set(buffer);
    }
}

/// Frames to be written to a write half that a wire has lent.
pub(super) struct Burst {
    buffer: Vec<u8>,
    frames: u32,
}

impl Burst {
    pub(super) fn new() -> Self {
        Self { buffer: SPARE.take(), frames: 0 }
    }

    /// Like [`Wire::put_text`].
    pub(super) fn put_text(&mut self, text: &[u8]) {
        put_frame(&mut self.buffer, OpCode::Data(Data::Text), text);
        self.frames += 1;
    }

    /// Like [`Wire::has_room`].
    pub(super) fn has_room(&self) -> bool {
        self.buffer.len() < WRITE_BYTES
    }

    /// Does one write. Returns the bytes that the socket did not accept; all of them if it is broken, which the session
    /// finds out when it writes them.
    pub(super) fn write(self, socket: &OwnedWriteHalf) -> Vec<u8> {
        // Counted before the write: see [`Wire::poll_flush`].
        count_write(self.frames);
        // Not `try_write`, which first reads the runtime's readiness: that is one more cache miss, and a full socket
        // reports it anyway.
        let sent = SockRef::from(socket.as_ref()).send(&self.buffer).unwrap_or(0);
        let unsent = self.buffer[sent..].to_vec();
        give_spare(self.buffer);
        unsent
    }
}

/// The stream that `tungstenite` gets: reads come from the socket, and its own answers are appended to the other frames.
struct Stream<'a, 'c, S> {
    socket: &'a mut S,
    unsent: &'a mut Vec<u8>,
    cx: &'a mut Context<'c>,
}

impl<S: Line> Read for Stream<'_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer) {
            Poll::Ready(result) => result.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S> Write for Stream<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unsent.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};

    /// Counts the writes.
    struct Counted<S> {
        stream: S,
        writes: usize,
    }

    impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.writes += 1;
            Pin::new(&mut self.stream).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    fn wire(capacity: usize) -> (Wire<Counted<DuplexStream>>, DuplexStream) {
        let (ours, theirs) = duplex(capacity);
        (Wire::new(Counted { stream: ours, writes: 0 }, Bytes::new(), 1_000), theirs)
    }

    impl Line for Counted<DuplexStream> {}

    async fn message<S: Line>(wire: &mut Wire<S>) -> Result<Message, Error> {
        poll_fn(|cx| wire.poll_message(cx)).await
    }

    #[tokio::test]
    async fn frames_that_are_put_together_leave_in_one_write_and_no_buffer_stays() {
        let (mut wire, mut client) = wire(65_536);
        for _ in 0..16 {
            wire.put_text(b"{}");
        }
        wire.put_ping();
        poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
        assert_eq!(wire.socket.writes, 1);
        assert_eq!((wire.unsent.capacity(), wire.unsent_bytes()), (0, 0));
        let mut received = [0; 16 * 4 + 2];
        client.read_exact(&mut received).await.unwrap();
        assert_eq!(received[..8], *b"\x81\x02{}\x81\x02{}");
        assert_eq!(received[64..], *b"\x89\x00");
    }

    #[tokio::test]
    async fn what_a_slow_reader_has_not_taken_is_kept_in_a_buffer_of_its_size() {
        let (mut wire, mut client) = wire(100);
        wire.put_text(&vec![b'x'; 5_000]);
        assert!(wire.has_room());
        wire.put_text(&vec![b'y'; 12_000]);
        assert!(!wire.has_room());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(wire.poll_flush(&mut cx).is_pending());
        let unsent = wire.unsent_bytes();
        assert_eq!(unsent, 5_004 + 12_004 - 100);
        assert!(wire.unsent.capacity() <= 2 * unsent);
        let mut received = vec![0; 17_008];
        let (_, flushed) = tokio::join!(client.read_exact(&mut received), poll_fn(|cx| wire.poll_flush(cx)));
        flushed.unwrap();
        assert_eq!(wire.unsent.capacity(), 0);
        assert!(received[4..5_004].iter().all(|byte| *byte == b'x'));
        assert!(received[5_008..].iter().all(|byte| *byte == b'y'));
    }

    #[tokio::test]
    async fn pings_and_closes_are_answered() {
        let (mut wire, mut client) = wire(1_000);
        // With a masking key of zeros (RFC 6455 §5.3 allows any key).
        client.write_all(b"\x89\x82\0\0\0\0ab\x88\x82\0\0\0\0\x03\xe8").await.unwrap();
        assert!(matches!(message(&mut wire).await, Ok(Message::Ping(_))));
        assert!(matches!(message(&mut wire).await, Ok(Message::Close(Some(_)))));
        assert!(matches!(message(&mut wire).await, Err(Error::ConnectionClosed)));
        poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
        let mut received = [0; 8];
        client.read_exact(&mut received).await.unwrap();
        assert_eq!(received, *b"\x8a\x02ab\x88\x02\x03\xe8");
    }

    #[tokio::test]
    async fn what_came_behind_the_upgrade_is_read_first() {
        let (ours, mut theirs) = duplex(1_000);
        let mut wire = Wire::new(ours, Bytes::from_static(b"\x81\x82\0\0\0\0{}\x81\x82\0\0"), 1_000);
        assert_eq!(message(&mut wire).await.unwrap(), Message::text("{}"));
        theirs.write_all(b"\0\0[]").await.unwrap();
        assert_eq!(message(&mut wire).await.unwrap(), Message::text("[]"));
    }

    #[tokio::test]
    async fn a_goodbye_waits_for_the_other_side() {
        let (mut wire, mut client) = wire(1_000);
        wire.put_close(CloseCode::Replaced);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(wire.poll_goodbye(&mut cx).is_pending());
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, *b"\x88\x02\x11\x39");
        client.write_all(&[0; 700]).await.unwrap();
        assert!(wire.poll_goodbye(&mut cx).is_pending());
        drop(client);
        poll_fn(|cx| wire.poll_goodbye(cx)).await;
    }
}
