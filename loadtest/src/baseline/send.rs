//! A bare `send` of the same bytes to as many sockets, and nothing else: the floor of any fan-out.
//!
//! What comes from the writer's socket is written to each reader's, `write_bytes` at a time.

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;

use super::listen;
use crate::client::crowd::Crowd;
use crate::client::dial;
use crate::client::session::Who;
use crate::control::Load;
use crate::meter::recorder::Counter;
use crate::worker::{PhaseWork, Worker};

pub(super) async fn serve(readers: usize, write_bytes: usize) -> Result<()> {
    let listener = listen().await?;
    let mut sockets = Vec::new();
    for _ in 0..readers {
        sockets.push(blocking(listener.accept().await?.0)?);
    }
    // It connects when all readers are there.
    let writer = blocking(listener.accept().await?.0)?;
    tokio::task::spawn_blocking(move || copy(writer, &mut sockets, write_bytes)).await?
}

fn blocking(socket: tokio::net::TcpStream) -> Result<StdStream> {
    let socket = socket.into_std()?;
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn copy(mut writer: StdStream, readers: &mut [StdStream], write_bytes: usize) -> Result<()> {
    let mut frames = vec![0; write_bytes];
    while writer.read_exact(&mut frames).is_ok() {
        for reader in &mut *readers {
            reader.write_all(&frames)?;
        }
    }
    Ok(())
}

pub(super) async fn load(worker: &mut Worker) -> Result<()> {
    let (load, workers) = (worker.plan.load.clone(), worker.plan.workers);
    let readers = worker
        .plan
        .share(load.connections)
        .map(|number| (Who { user: String::new(), number: (number / workers) as u64, node: 0 }, None));
    let mut crowd = Crowd::new(worker.network.clone());
    let readers = crowd.connect(readers, 32).await?.len() as u64;
    worker.meet("readers are there", serde_json::Value::Null).await?;
    let address = worker.network.addresses.first().context("no address")?;
    let writer = if worker.plan.worker == 0 { Some(dial::tcp(address, None).await?) } else { None };
    let mut play = Play { writer, run: worker.plan.run.clone(), readers, said: 0 };
    worker.phase("warm-up", async |phase| play.run(phase, &load, load.warm_up_s).await).await?;
    worker.phase("load", async |phase| play.run(phase, &load, load.duration_s).await).await?;
    crowd.close().await;
    Ok(())
}

struct Play {
    writer: Option<tokio::net::TcpStream>,
    run: String,
    readers: u64,
    /// Frames in all phases.
    said: u64,
}

impl Play {
    async fn run(&mut self, phase: &mut PhaseWork<'_>, load: &Load, duration_s: f64) -> Result<()> {
        let own = match &mut self.writer {
            Some(writer) => {
                let seen =
                    Seen { deliveries: phase.meters().deliveries.clone(), readers: self.readers, said: self.said };
                write(writer, phase, load, &self.run, duration_s, &seen).await?
            }
            None => 0,
        };
        phase.heard(&mut self.said, own, self.readers).await
    }
}

/// The progress of this worker's readers.
struct Seen {
    deliveries: Counter,
    readers: u64,
    /// Before this phase.
    said: u64,
}

impl Seen {
    /// Frames that not all readers have received yet; `said` of them in this phase.
    fn under_way(&self, said: u64) -> u64 {
        (self.said + said).saturating_sub(self.deliveries.total() / self.readers.max(1))
    }
}

/// Writes at the rate of the real load, or as fast as possible; returns the number of frames.
async fn write(
    writer: &mut tokio::net::TcpStream,
    phase: &mut PhaseWork<'_>,
    load: &Load,
    run: &str,
    duration_s: f64,
    seen: &Seen,
) -> Result<u64> {
    let (frame_bytes, frames) = (load.count("frame_bytes"), load.count("frames_per_write"));
    let mut said = 0;
    let mut turns = phase.turns(load.rate / frames as f64, duration_s);
    while let Some(intended_ns) = turns.next().await? {
        // What the buffers of a thousand sockets hold would take half a minute to drain.
        if load.rate <= 0.0 && seen.under_way(said) > load.count("under_way") as u64 {
            continue;
        }
        let mut bytes = Vec::with_capacity(frame_bytes * frames);
        (0..frames).for_each(|_| put_frame(&mut bytes, run, intended_ns, frame_bytes));
        writer.write_all(&bytes).await?;
        said += frames as u64;
    }
    Ok(said)
}

/// A frame as the server sends it, with this many bytes on the wire.
fn put_frame(bytes: &mut Vec<u8>, run: &str, intended_ns: u64, frame_bytes: usize) {
    let payload_bytes = match frame_bytes {
        0..=127 => frame_bytes.saturating_sub(2),
        _ => frame_bytes - 4,
    };
    let head = format!(r#"{{"type":"message","client_id":"{run}.0.{intended_ns:x}","content":""#);
    let filling = payload_bytes.saturating_sub(head.len() + 2);
    bytes.push(0x81);
    match u8::try_from(payload_bytes) {
        Ok(length @ 0..=125) => bytes.push(length),
        _ => {
            bytes.push(126);
            bytes.extend(u16::try_from(payload_bytes).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend(std::iter::repeat_n(b'x', filling));
    bytes.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::network::intended_ns;
    use crate::client::scan;
    use crate::client::wire::{Received, Wire};
    use std::future::poll_fn;

    #[tokio::test]
    async fn frames_have_the_size_that_is_asked_for_and_their_moment() {
        for frame_bytes in [100, 127, 130, 300, 5_000] {
            let mut bytes = Vec::new();
            put_frame(&mut bytes, "run", 0xabc, frame_bytes);
            assert_eq!(bytes.len(), frame_bytes);
            let mut wire = Wire::new(tokio::io::empty(), bytes);
            let mut seen = None;
            let mut on = |received: Received<'_>| {
                let Received::Text(json) = received else { panic!("{received:?}") };
                assert!(serde_json::from_slice::<serde_json::Value>(json).is_ok());
                seen = scan::text(json, "client_id").and_then(|client_id| intended_ns(client_id, "run"));
            };
            poll_fn(|cx| wire.poll_read(cx, &mut on)).await.unwrap();
            assert_eq!(seen, Some(0xabc), "{frame_bytes}");
        }
    }
}
