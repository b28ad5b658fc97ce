//! The backend in ScyllaDB, on a real Apache Cassandra that all these tests share; who hurts a server has his own.

mod contract;
mod faults;
mod push;
mod retention;
mod setup;
mod support;
mod three_servers;
mod two_homes;
mod two_nodes;
