//! The servers for tests of all packages: real ones, on free ports, in temporary folders, stopped when their value is
//! dropped. The tests across processes are in `it/`.

mod cassandra;
pub mod provider;
mod redis;

pub use cassandra::{CLUSTER_NODES, CassandraOptions, CassandraServer};
pub use redis::RedisServer;

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// A free port of 127.0.0.1.
///
/// # Errors
/// If there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
