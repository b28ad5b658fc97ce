//! Nodes that are killed, suspended, and restarted while everybody writes: nothing is lost, and all come back. The
//! first fault comes three seconds into the load, the next one three seconds after it is over.

use switchboard_tests::RedisServer;

use crate::cluster::cassandra;
use crate::support::{Harness, Ran};

/// The clients' complaint about it. Clients that are asked to move may still be cut off when the load is over.
const LOST: &str = "a session was lost";

async fn ran(blow: &str) -> Ran {
    let line = "mixed --connections 40 --rate 50 --param group_members_max=30 --warm-up 0 --duration 4.5 --verify \
                --no-baseline --set drain.spread_ms=200";
    let ran = Harness::new(line).spawning().arg("--chaos").arg(blow).run().await.expect_right();
    assert!(ran.stderr.contains(&format!("chaos: {blow} n1")), "{}", ran.stderr);
    assert_eq!(ran.figure("deliveries missing when all are home"), 0.0);
    ran
}

#[tokio::test]
async fn kill() {
    let ran = ran("kill").await;
    assert!(ran.stdout.contains(LOST), "{}", ran.stdout);
}

/// Messages that were held, queued or with a worker are notified when the node is back.
#[tokio::test]
async fn kill_with_notifications_under_way() {
    let line =
        "push --connections 10 --rate 50 --param users=40 --param hold_ms=200 --warm-up 0 --duration 4.5 --verify";
    let ran = Harness::new(line).spawning().arg("--chaos").arg("kill").run().await.expect_right();
    assert!(ran.stderr.contains("chaos: kill n1") && ran.stdout.contains(LOST), "{}\n{}", ran.stderr, ran.stdout);
    assert_eq!((ran.figure("messages that nobody was told of"), ran.figure("doubled notifications")), (0.0, 0.0));
}

#[tokio::test]
async fn stop() {
    ran("stop").await;
}

#[tokio::test]
async fn restart() {
    let ran = ran("restart").await;
    assert!(ran.stdout.contains(LOST), "{}", ran.stdout);
}

/// Runs three nodes with faults for so many seconds.
async fn ran_on_three(blow: &str, seconds: u32) -> Ran {
    let (redis, cassandra) = (RedisServer::start().unwrap(), cassandra().await);
    let line = format!(
        "mixed --connections 40 --rate 30 --param groups=5 --param group_members_max=30 --param night_percent=100 \
         --warm-up 0 --duration {seconds} --verify --no-baseline \
         --set cluster.heartbeat_ttl_ms=1000 --set drain.spread_ms=200"
    );
    let harness = Harness::new(&line).across(3, &redis.url(), cassandra).arg("--chaos").arg(blow);
    let ran = harness.run().await.expect_right();
    // Below 0: a sender whose session was lost before the answer may be shown the message too.
    assert!(ran.figure("deliveries missing when all are home") <= 0.0, "{}", ran.stdout);
    ran
}

/// The faults that were reported, in order.
fn faults(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter_map(|line| line.strip_prefix("chaos: ")).collect()
}

/// The others took over from the node that was stopped for long, and it found out.
#[track_caller]
fn assert_taken_over(ran: &Ran) {
    let phases = ran.report["repeats"][0]["round"]["phases"].as_array().unwrap();
    let load = phases.iter().find(|phase| phase["name"] == "load").unwrap();
    let taken_over = &load["server_counters"][r#"switchboard_terms_total{reason="takeover"}"#];
    assert!(taken_over.as_f64() > Some(0.0), "{}", load["server_counters"]);
    // Whether Redis or the store shows it first.
    let found_out = ["the other nodes have taken it for dead", "this node has been fenced"];
    assert!(found_out.iter().any(|said| ran.stderr.contains(said)), "{}", ran.stderr);
}

#[tokio::test]
async fn stop_until_others_have_taken_over() {
    let ran = ran_on_three("stop", 8).await;
    assert!(faults(&ran).starts_with(&["stop n1 for 500 ms", "stop n2 for 3000 ms"]), "{}", ran.stderr);
    assert_taken_over(&ran);
}

#[tokio::test]
async fn all_faults_in_turn() {
    let ran = ran_on_three("all", 25).await;
    let first = ["kill n1", "stop n2 for 500 ms", "stop n3 for 3000 ms", "restart n1"];
    assert!(faults(&ran).starts_with(&first), "{}", ran.stderr);
    assert_taken_over(&ran);
}
