//! Several nodes, with a real redis-server and a real Cassandra.

use std::net::SocketAddr;

use switchboard_tests::{CassandraServer, RedisServer};
use tokio::task::spawn_blocking;

use crate::support::{Harness, Ran};

/// One for all tests.
async fn cassandra() -> SocketAddr {
    spawn_blocking(CassandraServer::shared).await.unwrap().unwrap()
}

async fn ran(line: &str, nodes: usize) -> Ran {
    let (redis, cassandra) = (RedisServer::start().unwrap(), cassandra().await);
    Harness::new(line).across(nodes, &redis.url(), cassandra).run().await.expect_right()
}

#[tokio::test]
async fn conversations_of_a_killed_node_are_taken_over() {
    let ran = ran("takeover --connections 30 --verify", 3).await;
    assert!(ran.figure("conversations taken over") > 0.0);
    assert_eq!(ran.figure("conversations that accepted none"), 0.0);
}

#[tokio::test]
async fn where_no_other_node_is_nothing_is_taken_over() {
    let ran = Harness::new("takeover --connections 2").spawning().run().await;
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("takeover requires several nodes"), "{}", ran.stderr);
}

/// With single sends in a conversation, and with batches.
#[tokio::test]
async fn durable_sends_are_held_against_the_bare_driver() {
    for under_way in [1, 20] {
        let line = format!("send --connections 4 --param under_way={under_way} --warm-up 0 --duration 1");
        let ran = ran(&line, 2).await;
        let baseline = ran.baseline("durable messages");
        assert_eq!(baseline[0], "bare driver", "{baseline}");
        assert!(baseline[1]["median"].as_f64() > Some(0.0), "{baseline}");
        // Nodes that have just discovered each other may still answer `unavailable`.
        assert_eq!(ran.figure("without an answer"), 0.0);
        assert!(ran.figure("durable messages") > 0.0);
        assert!(ran.figure("store statements per message before `sent`") > 0.0);
    }
}
