//! The servers for tests of all packages: real ones, on free ports, in temporary folders, stopped when their value is
//! dropped. The tests across processes are in `it/`.

mod cassandra;
pub mod provider;
mod redis;

pub use cassandra::{CLUSTER_NODES, CassandraOptions, CassandraServer};
pub use redis::RedisServer;

use rustix::process::Pid;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use std::{fs, io, thread};
use tokio::net::TcpSocket;

/// Longest wait for a process to stand still: this many looks, a millisecond apart.
const LOOKS_MAX: u32 = 60_000;

/// A port that nobody else is given while this exists. Servers can listen on it as often as they like: like them, this
/// allows others to use its address (`SO_REUSEADDR`), and it never listens itself.
pub struct ReservedPort {
    number: u16,
    _socket: TcpSocket,
}

impl ReservedPort {
    /// # Errors
    /// If no port is free.
    pub fn new() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        // The servers of a cluster have the same port at several addresses.
        socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        Ok(Self { number: socket.local_addr()?.port(), _socket: socket })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its address at 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Waits until every thread of a process stands still: some run on for a moment after SIGSTOP.
fn until_stopped(process: Pid) -> io::Result<()> {
    for _ in 0..LOOKS_MAX {
        if is_stopped(process)? {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(io::Error::other("the process does not stop"))
}

fn is_stopped(process: Pid) -> io::Result<bool> {
    for thread in fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()))? {
        // A thread that is gone does nothing either.
        let Ok(stat) = fs::read_to_string(thread?.path().join("stat")) else { continue };
        // `<id> (<name>) <state> …`
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        if !state.starts_with(['T', 't', 'Z', 'X']) {
            return Ok(false);
        }
    }
    Ok(true)
}
