//! The use of a connection to a node: the upgrade to WebSocket (RFC 6455 §4.1), or an HTTP request.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::address::Address;
use super::dial::{CONNECT_TIMEOUT, Socket};
use super::wire::Wire;

const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// Upgrades a socket, with `token` if there is one.
///
/// # Errors
/// It was refused; the error has the status.
pub(crate) async fn upgrade(
    mut socket: Socket,
    address: &Address,
    token: Option<&str>,
    device_id: &str,
) -> Result<Wire<Socket>> {
    let key = generate_key();
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "GET {}/v1/ws?device_id={device_id} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{authorization}\r\n",
        address.prefix,
        address.authority()
    );
    let answer = async {
        socket.write_all(request.as_bytes()).await?;
        let mut read = Vec::with_capacity(512);
        loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok((end + 4, read));
            }
            if read.len() > HEAD_BYTES_MAX || socket.read_buf(&mut read).await? == 0 {
                bail!("the server closed instead of answering");
            }
        }
    };
    let (end, read) = tokio::time::timeout(CONNECT_TIMEOUT, answer).await.context("no answer to the upgrade")??;
    let head = String::from_utf8_lossy(&read[..end]);
    check_answer(&head, &key)?;
    Ok(Wire::new(socket, read[end..].to_vec()))
}

fn check_answer(head: &str, key: &str) -> Result<()> {
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101") {
        bail!("the upgrade was refused: {status}");
    }
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let accept = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-accept"));
    if accept.map(|(_, value)| value.trim()) != Some(derive_accept_key(key.as_bytes()).as_str()) {
        bail!("the upgrade was answered with a wrong Sec-WebSocket-Accept");
    }
    Ok(())
}

/// Sends an HTTP request, on a connection of its own.
///
/// # Errors
/// The server breaks off.
pub(crate) async fn http(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
    };
    let exchange = async {
        tokio::pin!(answer, connection);
        tokio::select! {
            answer = &mut answer => answer,
            closed = &mut connection => {
                closed?;
                // The server may close once it has answered; the answer has arrived then.
                answer.await
            }
        }
    };
    Ok(tokio::time::timeout(CONNECT_TIMEOUT, exchange).await.context("no answer")??)
}

/// The user's home according to the ring (PROTOCOL §1, "Placement"); any node can tell.
///
/// # Errors
/// It was refused; the error has the status.
pub(crate) async fn home(socket: Socket, address: &Address, token: &str) -> Result<Address> {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        url: String,
    }
    let request = Request::get(format!("{}/v1/connect", address.prefix))
        .header("host", address.authority())
        .header("authorization", format!("Bearer {token}"))
        .body(Full::new(Bytes::new()))?;
    let (status, body) = http(socket, request).await?;
    if !status.is_success() {
        bail!("/v1/connect was refused: {status}");
    }
    let answer: Answer = serde_json::from_slice(&body).context("can't parse the answer to /v1/connect")?;
    answer.data.url.parse().map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_right_answer_is_one() {
        // RFC 6455 §1.3.
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let right = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert!(check_answer(right, key).is_ok());
        assert!(check_answer(&right.replace("s3p", "S3p"), key).is_err());
        assert!(check_answer(&right.replace("101", "200"), key).is_err());
        let refused = check_answer("HTTP/1.1 503 Service Unavailable\r\n\r\n", key).unwrap_err();
        assert!(refused.to_string().contains("503"), "{refused}");
        assert!(check_answer("", key).is_err());
    }
}
