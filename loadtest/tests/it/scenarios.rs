//! Every scenario against a real node, briefly, with `--verify`. The tests check whether everything happened that
//! should, and no violation was found; never how long it took.

use crate::support::{Harness, Node, Ran};

/// Runs a scenario against a node of its own.
async fn verified(line: &str) -> Ran {
    let ran =
        Harness::new(line).spawning().arg("--verify").arg("--no-baseline").arg("--warm-up").arg("0.2").run().await;
    let ran = ran.expect_right();
    assert!(ran.verdict()["operations"].as_u64() > Some(0), "{line}");
    ran
}

#[tokio::test]
async fn connect() {
    let report = verified("connect --connections 30 --duration 1").await;
    assert_eq!(report.counted_in("accept", "connects"), 30);
}

#[tokio::test]
async fn direct() {
    let report = verified("direct --connections 20 --rate 100 --duration 1").await;
    assert_eq!((report.counted("sends"), report.counted("deliveries")), (100, 100));
}

#[tokio::test]
async fn direct_at_half_of_the_saturating_rate() {
    let report = verified("direct --connections 4 --param share=0.5 --param under_way=1 --duration 1").await;
    assert!(report.figure("saturating rate") > 0.0);
    assert_eq!((report.figure("sends without an answer"), report.figure("sends without a delivery")), (0.0, 0.0));
}

#[tokio::test]
async fn fanout() {
    let report = verified("fanout --connections 20 --rate 50 --duration 1").await;
    assert_eq!((report.counted("sends"), report.counted("deliveries")), (50, 1_000));
}

#[tokio::test]
async fn group_that_is_delivered_to_all() {
    let report = verified("group --connections 30 --param members=10 --rate 50 --duration 1").await;
    assert_eq!((report.counted("sends"), report.counted("deliveries")), (50, 450));
}

/// Members that do not have it open ask for what they were not sent.
#[tokio::test]
async fn group_that_is_delivered_to_those_who_have_it_open() {
    let line = "group --connections 30 --param members=30 --param push_members_max=5 --rate 20 --duration 1";
    let report = verified(line).await;
    assert_eq!((report.counted("sends"), report.counted("deliveries")), (20, 580));
    assert!(report.figure("activity frames per message") > 0.0);
}

#[tokio::test]
async fn group_with_everyone_at_his_home() {
    let report = verified("group --homes --connections 20 --param members=10 --rate 20 --duration 1").await;
    assert_eq!((report.counted("sends"), report.counted("deliveries")), (20, 180));
}

#[tokio::test]
async fn group_over_two_processes() {
    let report = verified("group --processes 2 --connections 30 --param members=10 --rate 50 --duration 1").await;
    assert_eq!(report.figure("deliveries missing"), 0.0);
}

#[tokio::test]
async fn send() {
    let report = verified("send --connections 4 --param under_way=4 --duration 1").await;
    assert!(report.counted("sent") > 0);
    assert_eq!(report.counted("send_errors"), 0);
}

#[tokio::test]
async fn active() {
    let report = verified("active --connections 4 --rate 100 --duration 0.5").await;
    assert_eq!((report.counted("sent"), report.figure("conversations made")), (50, 50.0));
}

#[tokio::test]
async fn receipts() {
    let report = verified("receipts --connections 20 --rate 100 --duration 1").await;
    assert_eq!((report.counted("sends"), report.counted("receipts")), (100, 100));
}

#[tokio::test]
async fn receipts_of_groups() {
    let report = verified("receipts --connections 20 --param members=5 --rate 100 --duration 1").await;
    assert_eq!((report.counted("sends"), report.counted("receipts")), (100, 100));
}

#[tokio::test]
async fn presence() {
    let report = verified("presence --connections 40 --param watchers=10 --rate 40 --duration 2").await;
    assert!(report.counted("changes") > 0);
    assert_eq!(report.figure("users shown wrongly at the end"), 0.0);
}

#[tokio::test]
async fn typing() {
    let report = verified("typing --connections 20 --param members=5 --rate 10 --duration 2").await;
    assert_eq!((report.counted("sends"), report.counted("typing_frames")), (20, 80));
}

#[tokio::test]
async fn dashboard() {
    let line =
        "dashboard --connections 20 --rate 40 --param topics=4 --param publishers=2 --param bulk=200 --duration 1";
    let report = verified(line).await;
    // In each topic the fifth and the ninth batch have a late event; two of them are in the warm-up.
    assert_eq!((report.counted("events"), report.counted("late")), (40 * 20 - 8, 8));
    assert_eq!((report.counted("expected"), report.counted("seen")), (200, 200));
    assert!(report.figure("events per CPU second") > 0.0 && report.counted_in("ingest", "events") > 0);
}

#[tokio::test]
async fn dashboard_over_two_processes() {
    let line = "dashboard --processes 2 --connections 10 --rate 20 --param topics=3 --param bulk=50 --duration 1";
    let report = verified(line).await;
    assert_eq!((report.figure("batches not seen"), report.figure("events refused")), (0.0, 0.0));
}

/// In the warm-up each conversation of everyone gets one message; then comes the burst.
#[tokio::test]
async fn push() {
    let line = "push --connections 10 --rate 100 --param users=40 --param hold_ms=200 --duration 1";
    let report = verified(line).await;
    assert_eq!((report.counted("sends"), report.counted("notifications")), (100, 100));
    assert_eq!(report.counted_in("burst", "notifications"), 120);
    assert_eq!((report.figure("messages that nobody was told of"), report.figure("doubled notifications")), (0.0, 0.0));
}

#[tokio::test]
async fn push_over_two_processes() {
    let line = "push --processes 2 --connections 10 --rate 100 --param users=40 --param hold_ms=200 --duration 1";
    let report = verified(line).await;
    assert_eq!((report.counted("notifications"), report.counted_in("burst", "notifications")), (100, 120));
}

#[tokio::test]
async fn push_needs_nodes_of_its_own() {
    let node = Node::with_secret().await;
    let line = format!("push --url ws://{} --connections 2 --duration 1", node.listen);
    let ran = Harness::new(&line).signing().run().await;
    assert!(ran.code == Some(1) && ran.stderr.contains("--spawn"), "{}", ran.stderr);
}

#[tokio::test]
async fn storm() {
    let report = verified("storm --connections 30").await;
    assert_eq!((report.figure("not back"), report.figure("messages missing")), (0.0, 0.0));
}

#[tokio::test]
async fn storm_on_a_node_that_was_killed() {
    let report = verified("storm --connections 30 --param restart=1").await;
    assert_eq!((report.figure("not back"), report.figure("messages missing")), (0.0, 0.0));
}

#[tokio::test]
async fn mixed() {
    let report = verified("mixed --connections 40 --rate 50 --param group_members_max=30 --duration 2").await;
    assert!(report.counted("sends") > 0 && report.counted("comings") > 0);
    assert_eq!(report.figure("deliveries missing when all are home"), 0.0);
}

#[tokio::test]
async fn presence_and_a_day_are_held_against_bare_programs() {
    let presence = "presence --connections 40 --param watchers=10 --rate 40 --warm-up 0.2 --duration 1";
    let day = "mixed --connections 40 --rate 50 --param group_members_max=30 --warm-up 0.2 --duration 1";
    for (line, figure, bare) in [(presence, "CPU per frame", "bare send"), (day, "send to `sent`, p50", "bare echo")] {
        let ran = Harness::new(line).spawning().run().await.expect_right();
        let baseline = ran.baseline(figure);
        assert_eq!(baseline[0], bare, "{baseline}");
        assert!(baseline[1]["median"].as_f64().is_some(), "{baseline}");
    }
}
