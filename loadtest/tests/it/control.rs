//! Where the harness connects, and when it ends.

use switchboard_tests::ReservedPort;

use crate::support::{Harness, Node};

/// A node in development mode gives anyone a token.
#[tokio::test]
async fn running_nodes_are_measured_with_their_own_tokens_and_metrics() {
    let node = Node::start(&[]).await;
    let line = format!(
        "direct --url ws://{} --metrics http://{} --connections 6 --rate 60 --warm-up 0 --duration 1 --verify",
        node.listen, node.metrics
    );
    let ran = Harness::new(&line).arg("--no-baseline").run().await.expect_right();
    assert_eq!((ran.counted("sends"), ran.counted("deliveries")), (60, 60));
    let phases = ran.report["repeats"][0]["round"]["phases"].as_array().unwrap();
    let load = phases.iter().find(|phase| phase["name"] == "load").unwrap();
    assert_eq!(load["server_counters"][r#"switchboard_sends_total{result="ok"}"#], 60.0, "{}", load["server_counters"]);
    // A process that runs elsewhere can't be sampled.
    assert_eq!(load["servers"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_node_that_signs_its_own_tokens_asks_for_its_secret() {
    let node = Node::with_secret().await;
    let ran = Harness::new(&format!("direct --url ws://{} --connections 2 --duration 1", node.listen)).run().await;
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("--secret-file"), "{}", ran.stderr);
}

#[tokio::test]
async fn nobody_there_is_said() {
    let nobody = ReservedPort::new().unwrap();
    let ran = Harness::new(&format!("direct --url ws://{} --connections 2 --duration 1", nobody.address())).run().await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(&nobody.address().to_string()), "{}", ran.stderr);
}

#[tokio::test]
async fn what_goes_beyond_the_bounds_is_refused() {
    for beyond in ["--duration 3601", "--connections 1152001", "--rate 10000001", "--processes 65", "--spawn 33"] {
        let ran = Harness::new(&format!("direct {beyond}")).run().await;
        assert_eq!(ran.code, Some(2), "{beyond}");
        assert!(ran.stderr.contains(beyond.split(' ').next().unwrap()), "{}", ran.stderr);
    }
}

/// Whether this progress line is of the load, of its second 2 or later, and shows sends.
fn is_under_way(line: &str) -> bool {
    let at_s = line.split_once("] load ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    let sends = line.split_once(" sends ").and_then(|(_, rest)| rest.split_once("/s")?.0.parse().ok());
    at_s >= Some(2) && sends > Some(0)
}

/// Ctrl-C during the load: it ends in order, and shows what was measured so far.
#[tokio::test]
async fn ctrl_c_ends_with_what_was_measured_so_far() {
    let line = "direct --connections 6 --rate 60 --warm-up 0 --duration 600 --repeat 3 --verify";
    let ran = Harness::new(line).spawning().run_until(is_under_way).await.expect_right();
    let is_said = ran.stderr.contains("ending early") && ran.stdout.contains("ended early");
    assert!(is_said, "{}\n{}", ran.stderr, ran.stdout);
    assert_eq!(ran.report["is_interrupted"], true);
    assert_eq!(ran.report["repeats"].as_array().unwrap().len(), 1);
    let sends = ran.counted("sends");
    // However late the clients began to write; of the whole load there would be 36,000.
    assert!((1..36_000).contains(&sends) && ran.counted("deliveries") == sends, "{sends}");
}

const CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/keys/tls-a.cert.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/keys/tls-a.key.pem");
const OTHER_CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/keys/tls-b.cert.pem");

#[tokio::test]
async fn nodes_may_be_measured_over_tls() {
    let line = "direct --connections 6 --rate 60 --warm-up 0 --duration 0.5 --verify --no-baseline";
    let tls = |ca: &str| {
        let harness = Harness::new(line).spawning().arg("--ca").arg(ca);
        harness.arg("--set").arg(format!("node.tls.cert={CERT}")).arg("--set").arg(format!("node.tls.key={KEY}"))
    };
    let ran = tls(CERT).run().await.expect_right();
    assert_eq!((ran.counted("deliveries"), &ran.report["load"]["is_tls"]), (30, &true.into()));
    let refused = tls(OTHER_CERT).run().await;
    assert!(refused.code == Some(1) && refused.stderr.contains("TLS handshake failed"), "{}", refused.stderr);
}
