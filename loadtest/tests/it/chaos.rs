//! Nodes that are killed, stand still, and are restarted while everybody writes: nothing is lost, and all come back. The
//! blow comes three seconds into the load.

use crate::support::{Harness, Ran};

async fn ran(blow: &str) -> Ran {
    let line = "mixed --connections 40 --rate 50 --param group_members_max=30 --warm-up 0 --duration 4.5 --verify \
                --set drain.spread_ms=200";
    let ran = Harness::new(line).spawning().arg("--chaos").arg(blow).run().await.expect_right();
    assert!(ran.stderr.contains(&format!("chaos: {blow} n1")), "{}", ran.stderr);
    assert_eq!(ran.figure("deliveries missing when all are home"), 0.0);
    ran
}

#[tokio::test]
async fn kill() {
    assert!(ran("kill").await.counted("sessions_lost") > 0);
}

#[tokio::test]
async fn stop() {
    ran("stop").await;
}

#[tokio::test]
async fn restart() {
    assert!(ran("restart").await.counted("sessions_lost") > 0);
}
