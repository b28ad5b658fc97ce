//! Tests of sleeping sessions over a real socket, and of the writes that others do for them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use socket2::SockRef;
use switchboard_protocol::CloseCode;
use switchboard_router::Socket;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::Tcp;
use super::outbox::tests::{Wakes, undroppable};
use super::requests::{Encoded, Requests};
use super::session::Session;
use super::tests::{node, session_over};

/// Small, so that the socket's buffers are soon full.
const KERNEL_BYTES: usize = 4_096;

/// A session that has signed in and sent `ready`, and its client.
async fn asleep() -> (Session<Tcp>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpSocket::new_v4().unwrap();
    client.set_recv_buffer_size(KERNEL_BYTES as u32).unwrap();
    let (accepted, client) = tokio::join!(listener.accept(), client.connect(listener.local_addr().unwrap()));
    let (ours, mut client) = (accepted.unwrap().0, client.unwrap());
    SockRef::from(&ours).set_send_buffer_size(KERNEL_BYTES).unwrap();
    let mut session = session_over(&node().0, Tcp::new(ours));
    let ready = said(&mut session, &mut client, 1).await;
    assert!(ready[0].contains(r#""type":"ready""#), "{ready:?}");
    (session, client)
}

/// Polls the session once, with a waker that counts.
fn turn(session: &mut Session<Tcp>) -> Arc<Wakes> {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    assert!(Pin::new(session).poll(&mut Context::from_waker(&waker)).is_pending());
    wakes
}

/// The next frames that reach the client while the session runs.
async fn said(session: &mut Session<Tcp>, client: &mut TcpStream, frames: usize) -> Vec<String> {
    let reading = async {
        let mut said = Vec::new();
        for _ in 0..frames {
            said.push(frame(client).await);
        }
        said
    };
    let mut reading = pin!(reading);
    let mut is_over = false;
    poll_fn(|cx| {
        is_over = is_over || Pin::new(&mut *session).poll(cx).is_ready();
        reading.as_mut().poll(cx)
    })
    .await
}

/// The text of a text frame, or the code of a close frame.
async fn frame(client: &mut TcpStream) -> String {
    let (opcode, length) = (client.read_u8().await.unwrap(), client.read_u8().await.unwrap());
    let length = match length {
        126 => u64::from(client.read_u16().await.unwrap()),
        127 => client.read_u64().await.unwrap(),
        length => u64::from(length),
    };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    client.read_exact(&mut payload).await.unwrap();
    match opcode {
        0x81 => String::from_utf8(payload).unwrap(),
        0x88 => u16::from_be_bytes([payload[0], payload[1]]).to_string(),
        _ => panic!("a frame of another kind: {opcode:#x}"),
    }
}

fn count(wakes: &Wakes) -> usize {
    wakes.0.load(Ordering::Relaxed)
}

#[tokio::test]
async fn what_is_queued_is_written_by_who_flushes() {
    let (mut session, mut client) = asleep().await;
    let wakes = turn(&mut session);
    assert!(session.outbox.queue(&undroppable("1")), "a flush is owed");
    assert!(!session.outbox.queue(&undroppable("2")), "once");
    session.outbox.flush();
    assert_eq!([frame(&mut client).await, frame(&mut client).await], ["1", "2"]);
    assert_eq!((count(&wakes), session.outbox.bytes()), (0, 0));
    assert!(session.outbox.queue(&undroppable("3")), "and again");
    session.outbox.flush();
    session.outbox.deliver(&undroppable("4"));
    assert_eq!(count(&wakes), 1);
    assert_eq!(said(&mut session, &mut client, 2).await, ["3", "4"]);
}

#[tokio::test]
async fn what_the_socket_does_not_take_leaves_first_and_whole() {
    let (mut session, mut client) = asleep().await;
    let wakes = turn(&mut session);
    let text = |number: usize| format!("{number:0>5000}");
    let mut queued = 0;
    let mut queue = |session: &Session<Tcp>| {
        queued += 1;
        session.outbox.queue(&undroppable(text(queued)))
    };
    while count(&wakes) == 0 {
        assert!(queue(&session));
        session.outbox.flush();
    }
    assert!(!queue(&session), "it has been woken");
    session.outbox.flush();
    turn(&mut session);
    assert!(!queue(&session), "it still has something to write");
    session.outbox.flush();
    let expected: Vec<_> = (1..=queued).map(text).collect();
    assert_eq!(said(&mut session, &mut client, queued).await, expected);
    turn(&mut session);
    assert!(session.outbox.queue(&undroppable("last")));
}

#[tokio::test]
async fn who_waits_for_an_answer_does_not_sleep() {
    let (mut session, mut client) = asleep().await;
    let (answer, answered) = oneshot::channel();
    let mut requests = Requests::default();
    requests.push(None, false, Box::pin(async { answered.await.ok() }));
    session.requests = Some(Box::new(requests));
    let wakes = turn(&mut session);
    drop(answer.send(Encoded { kind: "ok", json: "answer".to_owned(), position: None }));
    assert!(!session.outbox.queue(&undroppable("behind the answer")));
    assert!(count(&wakes) > 0);
    session.outbox.flush();
    assert_eq!(said(&mut session, &mut client, 2).await, ["answer", "behind the answer"]);
    turn(&mut session);
    assert!(session.outbox.queue(&undroppable("later")));
}

#[tokio::test]
async fn who_is_told_to_close_says_first_what_was_queued() {
    let (mut session, mut client) = asleep().await;
    let wakes = turn(&mut session);
    assert!(session.outbox.queue(&undroppable("1")));
    session.outbox.close(CloseCode::Replaced);
    session.outbox.flush();
    assert_eq!((count(&wakes), session.outbox.bytes()), (1, 1), "who has been woken writes himself");
    let said = said(&mut session, &mut client, 3).await;
    assert!(said[1].contains(r#""code":"replaced""#), "{said:?}");
    assert_eq!([&*said[0], &*said[2]], ["1", "4409"]);
    assert!(!session.outbox.queue(&undroppable("2")));
    session.outbox.flush();
}
