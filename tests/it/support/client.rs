//! A WebSocket client with expectations.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::tokens::token;
use super::{Server, soon};

/// A builder of a connection.
pub(crate) struct Connect {
    address: String,
    query: Vec<String>,
    headers: Vec<(&'static str, String)>,
}

/// A rejected upgrade.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Value,
}

/// An open socket.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    pub(crate) response: Response,
    next_id: u64,
}

impl Connect {
    pub(crate) fn to(server: &Server) -> Self {
        Self { address: server.listen.clone(), query: Vec::new(), headers: Vec::new() }
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push(format!("{name}={value}"));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) async fn open(self) -> Client {
        self.attempt().await.unwrap_or_else(|refused| panic!("refused: {refused:?}"))
    }

    /// Connects and expects a rejection.
    pub(crate) async fn refused(self) -> Refused {
        match self.attempt().await {
            Ok(_) => panic!("the upgrade was not refused"),
            Err(refused) => refused,
        }
    }

    pub(crate) async fn attempt(self) -> Result<Client, Refused> {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query.join("&")) };
        let mut request = format!("ws://{}/v1/ws{query}", self.address).into_client_request().expect("a URL");
        for (name, value) in self.headers {
            let value = HeaderValue::from_str(&value).expect("a header");
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        let stream = TcpStream::connect(&self.address).await.expect("the server listens");
        match soon("the upgrade", client_async(request, stream)).await {
            Ok((socket, response)) => Ok(Client { socket, response, next_id: 1 }),
            Err(Error::Http(response)) => {
                let (head, body) = response.into_parts();
                let body = body.and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
                Err(Refused { status: head.status.as_u16(), headers: head.headers, body })
            }
            Err(error) => panic!("the upgrade failed: {error}"),
        }
    }
}

impl Client {
    /// Signs in, and reads `ready`.
    pub(crate) async fn sign_in(server: &Server, user: &str) -> Self {
        let (client, _) = Self::sign_in_as(server, user, &format!("{user}-device")).await;
        client
    }

    /// As [`Client::sign_in`], from this device; returns the `ready` frame too.
    pub(crate) async fn sign_in_as(server: &Server, user: &str, device: &str) -> (Self, Value) {
        let mut client = Connect::to(server).token(&token(user)).query("device_id", device).open().await;
        let ready = client.expect("ready").await;
        (client, ready)
    }

    /// Alice and Bob, and their conversation.
    pub(crate) async fn pair(server: &Server) -> (Self, Self, Value) {
        let mut alice = Self::sign_in(server, "alice").await;
        let mut bob = Self::sign_in(server, "bob").await;
        let sent = alice.ask(json!({"type": "send", "to": "bob", "client_id": "c", "content": {"text": "x"}})).await;
        bob.expect("message").await;
        (alice, bob, sent["conversation_id"].clone())
    }

    pub(crate) async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        soon("room to send", self.socket.send(message)).await.expect("the socket is open");
    }

    /// Sends a frame if the socket is still open.
    ///
    /// # Errors
    /// It is closed; there is no close code.
    pub(crate) async fn try_send(&mut self, frame: &Value) -> Result<(), Option<u16>> {
        soon("room to send", self.socket.send(Message::text(frame.to_string()))).await.map_err(|_| None)
    }

    /// Adds a frame to the buffer; [`Client::flush`] sends it.
    pub(crate) async fn feed(&mut self, frame: &Value) {
        self.socket.feed(Message::text(frame.to_string())).await.expect("the socket is open");
    }

    pub(crate) async fn flush(&mut self) {
        soon("room to send", self.socket.flush()).await.expect("the socket is open");
    }

    /// The next frame; pings are answered meanwhile.
    pub(crate) async fn recv(&mut self) -> Value {
        match self.next().await {
            Next::Frame(frame) => frame,
            Next::Closed(code) => panic!("closed with {code:?} where a frame was expected"),
        }
    }

    /// The next frame, which must have this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.recv().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// The next frame of this type; others are skipped.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.recv().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The next frame, which must be this error; returns the field that it names.
    pub(crate) async fn expect_error(&mut self, code: &str) -> Option<String> {
        let frame = self.expect("error").await;
        assert_eq!(frame["code"], code, "{frame}");
        frame["details"][0]["field"].as_str().map(str::to_owned)
    }

    /// The close code, with no frames before it.
    pub(crate) async fn expect_close(&mut self) -> Option<u16> {
        match self.next().await {
            Next::Frame(frame) => panic!("{frame} where a close was expected"),
            Next::Closed(code) => code,
        }
    }

    /// Expects the error with the reason, and returns the close code.
    pub(crate) async fn expect_farewell(&mut self, code: &str) -> Option<u16> {
        self.expect_error(code).await;
        self.expect_close().await
    }

    /// All frames up to the close, and its code.
    pub(crate) async fn drain(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Next::Frame(frame) => frames.push(frame),
                Next::Closed(code) => return (frames, code),
            }
        }
    }

    /// Sends a frame with a new `id` and returns its answer, the next frame with that `id`.
    pub(crate) async fn ask(&mut self, mut frame: Value) -> Value {
        let id = format!("ask-{}", self.next_id);
        self.next_id += 1;
        frame["id"] = json!(id);
        self.send(&frame).await;
        loop {
            let answer = self.recv().await;
            if answer["id"] == id {
                return answer;
            }
        }
    }

    /// As [`Client::ask`], for an error; returns its code and the field that it names.
    pub(crate) async fn ask_in_vain(&mut self, frame: Value) -> (String, Option<String>) {
        let answer = self.ask(frame).await;
        assert_eq!(answer["type"], "error", "{answer}");
        let code = answer["code"].as_str().expect("a code").to_owned();
        (code, answer["details"][0]["field"].as_str().map(str::to_owned))
    }

    /// Creates a group with these other members; returns its id.
    pub(crate) async fn make_group(&mut self, members: &[&str]) -> Value {
        let client_id = format!("group-{}", self.next_id);
        let create =
            json!({"type": "conversation_create", "kind": "group", "client_id": client_id, "members": members});
        let made = self.ask(create).await;
        assert_eq!(made["type"], "conversation", "{made}");
        made["conversation_id"].clone()
    }

    /// Sends a message with a new `client_id`; returns its `sent`.
    pub(crate) async fn say(&mut self, conversation: &Value, content: Value) -> Value {
        let client_id = format!("message-{}", self.next_id);
        let send = json!({"type": "send", "conversation_id": conversation, "client_id": client_id, "content": content});
        let sent = self.ask(send).await;
        assert_eq!(sent["type"], "sent", "{sent}");
        sent
    }

    /// Checks that the session works, and that no frames came before.
    pub(crate) async fn expect_quiet(&mut self) {
        self.send(&json!({"type": "ping", "id": "quiet"})).await;
        let frame = self.recv().await;
        assert_eq!(frame, json!({"type": "pong", "id": "quiet"}));
    }

    pub(crate) async fn close(mut self) {
        // In the same write as what was fed before.
        self.socket.close(None).await.expect("the socket is open");
        while !matches!(self.next().await, Next::Closed(_)) {}
    }

    /// The socket under the framing.
    pub(crate) fn stream_mut(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// The next frame if it comes within this time.
    ///
    /// # Errors
    /// The close code.
    pub(crate) async fn try_recv(&mut self, time: Duration) -> Result<Option<Value>, Option<u16>> {
        match tokio::time::timeout(time, self.next()).await {
            Ok(Next::Frame(frame)) => Ok(Some(frame)),
            Ok(Next::Closed(code)) => Err(code),
            Err(_) => Ok(None),
        }
    }

    async fn next(&mut self) -> Next {
        loop {
            match soon("a frame", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    return Next::Frame(serde_json::from_str(&text).expect("frames are JSON"));
                }
                Some(Ok(Message::Close(frame))) => return Next::Closed(frame.map(|frame| code_of(frame.code))),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Next::Closed(None),
            }
        }
    }

    /// The next message of any kind, pings included; `None` at the end.
    pub(crate) async fn next_message(&mut self) -> Option<Message> {
        soon("a message", self.socket.next()).await.and_then(Result::ok)
    }
}

enum Next {
    Frame(Value),
    /// `None`: without a close frame.
    Closed(Option<u16>),
}

fn code_of(code: CloseCode) -> u16 {
    code.into()
}
