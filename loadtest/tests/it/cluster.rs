//! Several nodes, with a real redis-server and a real Cassandra.

use std::net::SocketAddr;

use switchboard_tests::{CassandraServer, RedisServer};
use tokio::task::spawn_blocking;

use crate::support::Harness;

/// Each scenario, small.
const SCENARIOS: &[&str] = &[
    "connect --connections 30 --duration 1",
    "direct --connections 20 --rate 100 --duration 1",
    "fanout --connections 20 --rate 30 --duration 1",
    "group --connections 30 --param members=10 --rate 30 --duration 1",
    "send --connections 4 --param under_way=4 --duration 1",
    "active --connections 4 --rate 50 --duration 0.5",
    "receipts --connections 20 --rate 50 --duration 1",
    "presence --connections 40 --param watchers=10 --rate 40 --duration 1",
    "typing --connections 20 --param members=5 --rate 10 --duration 2",
    "dashboard --connections 20 --rate 40 --param topics=4 --param publishers=2 --param bulk=200 --duration 1",
    "push --connections 10 --rate 50 --param users=40 --param hold_ms=200 --duration 1",
    "storm --connections 30",
    "takeover --connections 30 --param heartbeat_ttl_ms=1000",
    "mixed --connections 40 --rate 30 --param groups=5 --param group_members_max=30 --duration 2",
];

/// One for all tests.
pub(crate) async fn cassandra() -> SocketAddr {
    spawn_blocking(CassandraServer::shared).await.unwrap().unwrap()
}

#[tokio::test]
async fn conversations_of_a_killed_node_are_taken_over() {
    let (redis, cassandra) = (RedisServer::start().unwrap(), cassandra().await);
    let harness = Harness::new("takeover --connections 30 --verify").across(3, &redis.url(), cassandra);
    let ran = harness.run().await.expect_right();
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
    let (redis, cassandra) = (RedisServer::start().unwrap(), cassandra().await);
    for under_way in [1, 20] {
        let line = format!("send --connections 4 --param under_way={under_way} --warm-up 0 --duration 1");
        let harness = Harness::new(&line).across(2, &redis.url(), cassandra).patient();
        let ran = harness.run().await.expect_right();
        let baseline = ran.baseline("durable messages");
        assert_eq!(baseline[0], "bare driver", "{baseline}");
        assert!(baseline[1]["median"].as_f64() > Some(0.0), "{baseline}");
        // Nodes that have just discovered each other may still answer `unavailable`.
        assert_eq!(ran.figure("without an answer"), 0.0);
        assert!(ran.figure("durable messages") > 0.0);
        assert!(ran.figure("store statements per message before `sent`") > 0.0);
    }
}

/// One after the other, on the same Redis.
#[tokio::test]
async fn every_scenario_runs_on_three_nodes() {
    let (redis, cassandra) = (RedisServer::start().unwrap(), cassandra().await);
    let list = Harness::new("list").output().await;
    let listed = list.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(':').next());
    let named = SCENARIOS.iter().filter_map(|line| line.split(' ').next());
    assert!(listed.eq(named), "{list}");
    for line in SCENARIOS {
        let harness = Harness::new(line).across(3, &redis.url(), cassandra);
        // Where a node is killed, the others have to find out.
        let harness = if line.starts_with("takeover") { harness } else { harness.patient() };
        let ran = harness.arg("--verify").arg("--no-baseline").arg("--warm-up").arg("0.2").run().await.expect_right();
        assert_eq!(ran.report["nodes"], 3);
        assert!(ran.verdict()["operations"].as_u64() > Some(0), "{line}");
    }
}
