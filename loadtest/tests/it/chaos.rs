//! Nodes that are killed, suspended, and restarted while everybody writes: nothing is lost, and all come back. The
//! first fault comes three seconds into the load, the next one three seconds after it is over.

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
