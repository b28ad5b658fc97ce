//! The ScyllaDB backend, on a real Apache Cassandra that all these tests share; tests that disrupt a server have their
//! own.

mod contract;
mod faults;
mod push;
mod retention;
mod setup;
mod support;
mod three_servers;
mod two_homes;
mod two_nodes;
