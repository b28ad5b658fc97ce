//! The servers that tests of any package run against: real ones, on free ports, in temporary folders, gone with the
//! value that started them. The tests across processes are in `it/`.

mod cassandra;
pub mod provider;
mod redis;

pub use cassandra::{CLUSTER_NODES, CassandraOptions, CassandraServer};
pub use redis::RedisServer;

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// A port of 127.0.0.1 on which nobody listens.
///
/// # Errors
/// If there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
