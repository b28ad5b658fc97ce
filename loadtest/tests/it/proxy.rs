//! A server that loses, duplicates and reorders frames: a real node behind a proxy that changes what passes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;

/// The fault: gets each frame, and returns what passes instead.
pub(crate) type Fault = Box<dyn FnMut(Passing<'_>) -> Passed + Send>;

/// A frame on its way.
pub(crate) struct Passing<'a> {
    /// Connections are numbered in the order in which they came.
    pub(crate) connection: usize,
    pub(crate) is_from_node: bool,
    pub(crate) frame: &'a Value,
}

/// Frames to the client and to the node.
#[derive(Default)]
pub(crate) struct Passed {
    pub(crate) to_client: Vec<Value>,
    pub(crate) to_node: Vec<Value>,
}

impl Passing<'_> {
    /// Unchanged.
    pub(crate) fn on(&self) -> Passed {
        self.as_these(vec![self.frame.clone()])
    }

    /// Replaced by others.
    pub(crate) fn as_these(&self, frames: Vec<Value>) -> Passed {
        if self.is_from_node {
            Passed { to_client: frames, ..Passed::default() }
        } else {
            Passed { to_node: frames, ..Passed::default() }
        }
    }

    /// Whether it is a frame of this type from the node.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.is_from_node && self.frame["type"] == kind
    }
}

/// Ends when it is dropped.
pub(crate) struct Proxy {
    /// `host:port`
    pub(crate) listen: String,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(node: &str, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap().to_string();
        let (node, fault) = (node.to_owned(), Arc::new(Mutex::new(fault)));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(pass(socket, node.clone(), number, fault.clone()));
            }
        });
        Self { listen, _tasks: tasks }
    }
}

async fn pass(socket: TcpStream, node: String, connection: usize, fault: Arc<Mutex<Fault>>) {
    let mut asked = HashMap::new();
    #[expect(clippy::result_large_err, reason = "as tungstenite has it")]
    let look = |request: &Request, response: Response| {
        asked.insert("path", request.uri().to_string());
        let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        asked.insert("token", token.unwrap_or_default().to_owned());
        Ok(response)
    };
    let Ok(mut client) = accept_hdr_async(socket, look).await else { return };
    let mut request = format!("ws://{node}{}", asked["path"]).into_client_request().unwrap();
    request.headers_mut().insert("authorization", HeaderValue::from_str(&asked["token"]).unwrap());
    let socket = TcpStream::connect(&node).await.unwrap();
    let (mut node, _) = client_async(request, socket).await.unwrap();
    loop {
        let (message, is_from_node) = tokio::select! {
            message = node.next() => (message, true),
            message = client.next() => (message, false),
        };
        let Some(Ok(message)) = message else { return };
        let Message::Text(text) = &message else { continue };
        let frame = serde_json::from_str(text).unwrap();
        let passed = (fault.lock().unwrap())(Passing { connection, is_from_node, frame: &frame });
        if !(put(&mut client, passed.to_client).await && put(&mut node, passed.to_node).await) {
            return;
        }
    }
}

async fn put(socket: &mut WebSocketStream<TcpStream>, frames: Vec<Value>) -> bool {
    for frame in frames {
        if socket.send(Message::text(frame.to_string())).await.is_err() {
            return false;
        }
    }
    true
}
