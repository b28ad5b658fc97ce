//! HTTP connections that occupy a slot without asking for much: each wait for a client is limited, and so is the number
//! of connections, in total and per address (`limits.http_…`).

use std::time::Duration;

use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::tokens::token;
use crate::support::{Client, Config, Connect, Server, soon};

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(&server.listen).await.unwrap()
}

/// Everything received until the server closes.
async fn until_closed(mut stream: TcpStream) -> String {
    let mut received = Vec::new();
    // A connection that is closed with unread data is reset.
    let _ = soon("the close", stream.read_to_end(&mut received)).await;
    String::from_utf8_lossy(&received).into_owned()
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_ends_the_connection() {
    let server = Config::new().set("limits.http_head_timeout_ms", 6_000).start().await;
    let mut ends = Vec::new();
    let whole = "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
    for sent in ["", "GET /healthz HTT", "GET /healthz HTTP/1.1\r\nhost: a\r\n", whole] {
        let mut stream = connect(&server).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        ends.push((sent, tokio::spawn(until_closed(stream))));
    }
    // Also for one that has had its answer and asks for nothing more.
    for (sent, end) in ends {
        assert_eq!(end.await.unwrap().starts_with("HTTP/1.1 200 OK"), sent == whole, "{sent}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_a_bad_request() {
    let server = Config::new().set("limits.http_body_timeout_ms", 200).start().await;
    let mut stream = connect(&server).await;
    let head = format!("POST /v1/messages HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n", token("alice"));
    stream.write_all(format!("{head}content-length: 100\r\n\r\n{{").as_bytes()).await.unwrap();
    let answer = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("bad_request"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let server = Config::new().set("limits.http_body_timeout_ms", 200).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut conversation_id = json!(null);
    for n in 0..30 {
        let content = json!({"text": "x".repeat(30_000)});
        let frame = json!({"type": "send", "to": "bob", "client_id": n.to_string(), "content": content});
        conversation_id = alice.ask(frame).await["conversation_id"].clone();
    }
    let path = format!("/v1/conversations/{}/messages?limit=200", conversation_id.as_str().unwrap());
    let ask = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n", token("alice"));
    let mut stream = connect(&server).await;
    // More answers than the kernel buffers for a client that does not read.
    stream.write_all(ask.repeat(10).as_bytes()).await.unwrap();
    server.logged("an HTTP connection broke", 1).await;
    let answer = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.len() < 9_000_000, "{}", answer.len());
}

#[tokio::test]
async fn http_connections_have_a_bound_and_more_wait() {
    let server = Config::new().set("limits.http_connections", 2).start().await;
    let idle = [connect(&server).await, connect(&server).await];
    // Connections are accepted in the order of arrival.
    let asked = tokio::spawn(server.http().get("/healthz").send());
    let mut asked = std::pin::pin!(asked);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut asked).await;
    assert!(early.is_err(), "there was room for a third connection");
    drop(idle);
    assert_eq!(soon("the answer", asked).await.unwrap().status, 200);

    let _sessions = [Connect::to(&server).open().await, Connect::to(&server).open().await];
    assert_eq!(server.http().get("/healthz").send().await.status, 200, "WebSockets are counted apart");
}

#[tokio::test]
async fn one_address_has_a_share_of_the_http_connections() {
    let server = Config::new().set("limits.http_connections_per_ip", 2).start().await;
    let first = connect(&server).await;
    let _second = connect(&server).await;
    assert_eq!(until_closed(connect(&server).await).await, "");
    drop(first);
    let free = async {
        loop {
            let mut stream = connect(&server).await;
            // The write may fail if the connection is closed already.
            let _ = stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await;
            if until_closed(stream).await.starts_with("HTTP/1.0 200 OK") {
                break;
            }
        }
    };
    soon("the place of who left", free).await;
}

#[tokio::test]
async fn behind_a_proxy_it_is_the_requests_of_an_address() {
    let server = Config::new()
        .set("limits.http_connections_per_ip", 1)
        .set("http.trusted_proxies", "[\"127.0.0.0/8\"]")
        .start()
        .await;
    let from = |address: &str| server.http().ask(Method::GET, "/healthz").header("x-forwarded-for", address).send();
    // Connections of the proxy itself have no such limit.
    let _idle = [connect(&server).await, connect(&server).await];
    let mut waiting = connect(&server).await;
    let head = "POST /v1/dev/token HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.1\r\n";
    waiting.write_all(format!("{head}expect: 100-continue\r\ncontent-length: 100\r\n\r\n").as_bytes()).await.unwrap();
    // A request whose body has been requested occupies a slot.
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut received = vec![0; go_on.len()];
    soon("the place", waiting.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, go_on);
    let refused = from("192.0.2.1").await;
    refused.error(503, "overloaded");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(from("192.0.2.2").await.status, 200);
    drop(waiting);
    soon("the place of who left", async { while from("192.0.2.1").await.status != 200 {} }).await;
}
