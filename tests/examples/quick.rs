//! Two quick measurements of one node: what an idle connection costs in resident memory, and what a delivery costs in CPU
//! against a bare `send` of the same bytes in the same run. The load-testing harness will take their place.
//!
//! `cargo build --release && cargo run --release -p switchboard-tests --example quick -- [connections] [fan-out]`

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Messages in the fan-out measurement, 50 a second.
const MESSAGES: u64 = 250;
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some("bare") {
        return bare_sender(args.next().ok_or("receivers")?.parse()?, args.next().ok_or("frame bytes")?.parse()?).await;
    }
    let connections: usize = first.map_or(Ok(5_000), |n| n.parse())?;
    let receivers: usize = args.next().map_or(Ok(1_000), |n| n.parse())?;
    idle(connections).await?;
    let frame_bytes = fan_out(receivers).await?;
    bare(receivers, frame_bytes).await
}

/// Resident memory per idle, authenticated connection.
async fn idle(connections: usize) -> Outcome<()> {
    let node = Node::start()?;
    let warm = Client::connect(&node, "warm-up").await?;
    let before = node.resident_kib()?;
    let mut clients = Vec::with_capacity(connections);
    for n in 0..connections {
        clients.push(Client::connect(&node, &format!("user-{n}")).await?);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = node.resident_kib()?;
    println!(
        "idle: {connections} connections, resident {before} -> {after} KiB, {:.2} KB per connection",
        (after - before) as f64 * 1.024 / connections as f64
    );
    drop((warm, clients));
    Ok(())
}

/// Server CPU per delivery of a group message, one write each. Returns a frame's bytes on the wire.
async fn fan_out(receivers: usize) -> Outcome<usize> {
    let node = Node::start()?;
    let mut sender = Client::connect(&node, "sender").await?;
    let members: Vec<String> = (0..receivers).map(|n| format!("user-{n}")).collect();
    let received = Arc::new(AtomicU64::new(0));
    let bytes = Arc::new(AtomicU64::new(0));
    let mut readers = tokio::task::JoinSet::new();
    for member in &members {
        let client = Client::connect(&node, member).await?;
        readers.spawn(client.count(received.clone(), bytes.clone()));
    }
    let create = serde_json::json!({"type": "conversation_create", "id": "c", "kind": "group", "client_id": "g", "members": members});
    sender.send(&create.to_string()).await?;
    let conversation = sender.until("conversation").await?;
    let conversation = conversation["conversation_id"].as_str().ok_or("no conversation")?.to_owned();
    wait_for(&received, receivers as u64).await;
    let (cpu, counted, sized) = (node.cpu_ms()?, received.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
    for n in 0..MESSAGES {
        let send = serde_json::json!({"type": "send", "conversation_id": conversation, "client_id": format!("m{n}"), "content": {"text": "x".repeat(64)}});
        sender.send(&send.to_string()).await?;
        tokio::time::sleep(PAUSE).await;
    }
    wait_for(&received, counted + MESSAGES * receivers as u64).await;
    let (cpu, deliveries) = (node.cpu_ms()? - cpu, received.load(Ordering::Relaxed) - counted);
    let frame_bytes = (bytes.load(Ordering::Relaxed) - sized) / deliveries;
    println!(
        "fan-out: 1 -> {receivers}, {deliveries} deliveries of {frame_bytes} bytes, {:.2} us of server CPU each",
        cpu as f64 * 1e3 / deliveries as f64
    );
    Ok(usize::try_from(frame_bytes)?)
}

/// The baseline: a process that writes the same bytes to as many sockets, and does nothing else.
async fn bare(receivers: usize, frame_bytes: usize) -> Outcome<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["bare", &receivers.to_string(), &frame_bytes.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
    let address: SocketAddr = lines.next().ok_or("no address")??.parse()?;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..receivers {
        let mut socket = TcpStream::connect(address).await?;
        readers.spawn(async move {
            let mut buffer = [0; 4096];
            while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        });
    }
    let line = tokio::task::spawn_blocking(move || lines.next()).await?.ok_or("no result")??;
    child.wait()?;
    println!("bare send: {line} us of CPU each");
    Ok(())
}

async fn bare_sender(receivers: u64, frame_bytes: usize) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut sockets = Vec::new();
    for _ in 0..receivers {
        sockets.push(listener.accept().await?.0);
    }
    let frame = vec![b'x'; frame_bytes];
    let before = cpu_ms_of(std::process::id())?;
    for _ in 0..MESSAGES {
        for socket in &mut sockets {
            socket.write_all(&frame).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    println!("{:.2}", (cpu_ms_of(std::process::id())? - before) as f64 * 1e3 / (MESSAGES * receivers) as f64);
    Ok(())
}

/// Waits until the counter is there, but not for ever: then the figures show what is missing.
async fn wait_for(counter: &AtomicU64, count: u64) {
    for _ in 0..3_000 {
        if counter.load(Ordering::Relaxed) >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A node of this build, in a folder of its own.
struct Node {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Node {
    fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let binary = std::env::current_exe()?
            .parent()
            .and_then(|examples| examples.parent())
            .ok_or("no folder")?
            .join("switchboard");
        // Free as long as nobody else asks.
        let metrics = StdListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut child = Command::new(binary)
            .args(["--set", "node.listen=127.0.0.1:0", "--set", &format!("metrics.listen={metrics}")])
            .args([
                "--set",
                "fanout.push_members_max=10000",
                "--set",
                "log.level=warn",
                "--set",
                "limits.connections=16000",
            ])
            .args(["--set", &format!("store.path={}", folder.path().display())])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let line = BufReader::new(stdout).lines().next().ok_or("no ready line")??;
        let ready: serde_json::Value = serde_json::from_str(&line)?;
        let address = ready["listen"].as_str().ok_or("no address")?.parse()?;
        Ok(Self { child, address, _folder: folder })
    }

    fn resident_kib(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    }

    fn cpu_ms(&self) -> Outcome<u64> {
        cpu_ms_of(self.child.id())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process; the kernel counts in hundredths of a second.
fn cpu_ms_of(process: u32) -> Outcome<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().ok_or("no fields")?.split(' ').collect();
    Ok((fields[11].parse::<u64>()? + fields[12].parse::<u64>()?) * 10)
}

/// The least that is a client: it upgrades, signs in, and counts frames.
struct Client {
    socket: TcpStream,
    waiting: Vec<u8>,
}

impl Client {
    async fn connect(node: &Node, user: &str) -> Outcome<Self> {
        let token = token(node.address, user).await?;
        let mut socket = TcpStream::connect(node.address).await?;
        let upgrade = format!(
            "GET /v1/ws?token={token} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            node.address
        );
        socket.write_all(upgrade.as_bytes()).await?;
        let mut client = Self { socket, waiting: Vec::new() };
        let head = loop {
            if let Some(end) = client.waiting.windows(4).position(|window| window == b"\r\n\r\n") {
                break client.waiting.drain(..end + 4).collect::<Vec<u8>>();
            }
            client.read().await?;
        };
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&head).into());
        }
        client.until("ready").await?;
        Ok(client)
    }

    async fn read(&mut self) -> Outcome<()> {
        let mut buffer = [0; 4096];
        let read = self.socket.read(&mut buffer).await?;
        self.waiting.extend_from_slice(&buffer[..read]);
        if read == 0 { Err("closed".into()) } else { Ok(()) }
    }

    /// The next frame's payload, and its bytes on the wire.
    fn take_frame(&mut self) -> Option<(Vec<u8>, usize)> {
        let (head, length) = match *self.waiting.get(1)? & 0x7f {
            126 => (4, usize::from(u16::from_be_bytes([*self.waiting.get(2)?, *self.waiting.get(3)?]))),
            127 => return None,
            short => (2, usize::from(short)),
        };
        if self.waiting.len() < head + length {
            return None;
        }
        let frame: Vec<u8> = self.waiting.drain(..head + length).collect();
        Some((frame[head..].to_vec(), head + length))
    }

    async fn until(&mut self, kind: &str) -> Outcome<serde_json::Value> {
        loop {
            while let Some((payload, _)) = self.take_frame() {
                let frame: serde_json::Value = serde_json::from_slice(&payload).unwrap_or_default();
                if frame["type"] == kind {
                    return Ok(frame);
                }
                if frame["type"] == "error" {
                    return Err(frame.to_string().into());
                }
            }
            self.read().await?;
        }
    }

    async fn send(&mut self, text: &str) -> Outcome<()> {
        // Masked with zeros: RFC 6455 §5.3 wants a mask, not a secret.
        let mut frame = vec![0x81];
        match text.len() {
            length @ 0..126 => frame.push(0x80 | u8::try_from(length)?),
            length @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length)?.to_be_bytes());
            }
            _ => return Err("too long".into()),
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        Ok(self.socket.write_all(&frame).await?)
    }

    async fn count(mut self, frames: Arc<AtomicU64>, bytes: Arc<AtomicU64>) {
        loop {
            while let Some((_, length)) = self.take_frame() {
                frames.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(length as u64, Ordering::Relaxed);
            }
            if self.read().await.is_err() {
                return;
            }
        }
    }
}

/// A token from the development door.
async fn token(address: SocketAddr, user: &str) -> Outcome<String> {
    let body = format!("{{\"name\":\"{user}\"}}");
    let mut socket = TcpStream::connect(address).await?;
    let request = format!(
        "POST /v1/dev/token HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let start = answer.find("\r\n\r\n{").ok_or_else(|| answer.clone())? + 4;
    let answer: serde_json::Value = serde_json::from_str(&answer[start..])?;
    Ok(answer["data"]["token"].as_str().ok_or("no token")?.to_owned())
}
