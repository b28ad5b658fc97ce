//! Nodes that are killed, suspended, and restarted while everybody writes: nothing is lost, and all come back. Each run
//! goes on until the faults have happened and everybody has written for a while after them, and ends early then.

use switchboard_tests::RedisServer;

use crate::cluster::cassandra;
use crate::support::{Harness, Ran};

/// The clients' complaint about it. Clients that are asked to move may still be cut off when the load is over.
const LOST: &str = "a session was lost";

/// What a node says that the others took for dead, whether Redis or the store shows it first.
const FOUND_OUT: [&str; 2] = ["the other nodes have taken it for dead", "this node has been fenced"];

/// Lines of progress after the faults: so many seconds, about.
const LINES_AFTER: usize = 2;

/// Runs the harness until it has reported these faults first, a node has said one of `then` (if there are any), and the
/// load has gone on for a while after that.
async fn struck(harness: Harness, faults: &[&str], then: &[&str]) -> Ran {
    let (mut has_said, mut number, mut lines) = (then.is_empty(), 0, 0);
    let is_enough = |line: &str| {
        number += usize::from(line.starts_with("chaos: "));
        has_said |= then.iter().any(|said| line.contains(said));
        lines += usize::from(has_said && number >= faults.len() && line.contains("] load "));
        lines == LINES_AFTER
    };
    let ran = harness.run_until(is_enough).await.expect_right();
    let reported: Vec<&str> = ran.stderr.lines().filter_map(|line| line.strip_prefix("chaos: ")).collect();
    assert!(reported.starts_with(faults), "{}", ran.stderr);
    ran
}

/// Runs one node with a fault.
async fn ran(blow: &str, fault: &str) -> Ran {
    let line = "mixed --connections 40 --rate 50 --param group_members_max=30 --param night_percent=80 --warm-up 0 \
                --duration 600 --verify --no-baseline --set drain.spread_ms=200";
    let ran = struck(Harness::new(line).spawning().arg("--chaos").arg(blow), &[fault], &[]).await;
    assert_eq!(ran.figure("deliveries missing when all are home"), 0.0);
    ran
}

#[tokio::test]
async fn kill() {
    let ran = ran("kill", "kill n1").await;
    assert!(ran.stdout.contains(LOST), "{}", ran.stdout);
}

/// Messages that were held, queued or with a worker are notified when the node is back.
#[tokio::test]
async fn kill_with_notifications_under_way() {
    let line =
        "push --connections 10 --rate 50 --param users=40 --param hold_ms=200 --warm-up 0 --duration 600 --verify";
    let ran = struck(Harness::new(line).spawning().arg("--chaos").arg("kill"), &["kill n1"], &[]).await;
    assert!(ran.stdout.contains(LOST), "{}", ran.stdout);
    assert_eq!((ran.figure("messages that nobody was told of"), ran.figure("doubled notifications")), (0.0, 0.0));
}

#[tokio::test]
async fn stop() {
    ran("stop", "stop n1 for 1500 ms").await;
}

#[tokio::test]
async fn restart() {
    let ran = ran("restart", "restart n1").await;
    assert!(ran.stdout.contains(LOST), "{}", ran.stdout);
}

/// Runs three nodes with faults, until one of them was taken for dead too.
async fn ran_on_three(blow: &str, faults: &[&str]) {
    let (redis, cassandra) = (RedisServer::start().unwrap(), cassandra().await);
    let line = "mixed --connections 40 --rate 30 --param groups=5 --param group_members_max=30 \
                --param night_percent=100 --warm-up 0 --duration 600 --verify --no-baseline \
                --set cluster.heartbeat_ttl_ms=1000 --set drain.spread_ms=200";
    let harness = Harness::new(line).across(3, &redis.url(), cassandra).arg("--chaos").arg(blow);
    let ran = struck(harness, faults, &FOUND_OUT).await;
    // Below 0: a sender whose session was lost before the answer may be shown the message too.
    assert!(ran.figure("deliveries missing when all are home") <= 0.0, "{}", ran.stdout);
    let phases = ran.report["repeats"][0]["round"]["phases"].as_array().unwrap();
    let load = phases.iter().find(|phase| phase["name"] == "load").unwrap();
    let taken_over = &load["server_counters"][r#"switchboard_terms_total{reason="takeover"}"#];
    assert!(taken_over.as_f64() > Some(0.0), "{}", load["server_counters"]);
}

#[tokio::test]
async fn stop_until_others_have_taken_over() {
    ran_on_three("stop", &["stop n1 for 500 ms", "stop n2 for 3000 ms"]).await;
}

#[tokio::test]
async fn all_faults_in_turn() {
    let faults = ["kill n1", "stop n2 for 500 ms", "stop n3 for 3000 ms", "restart n1"];
    ran_on_three("all", &faults).await;
}
