//! Every scenario against a real node, for a moment, with `--verify`. What is looked at is whether everything that was to
//! happen did, and nothing was found wrong; never how long it took.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// Runs a scenario against a node of its own and gives its report.
fn verified(line: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard-loadtest"));
    command.args(line.split_whitespace()).args(["--spawn", "1", "--verify", "--no-baseline"]);
    command.args(["--warm-up", "0.5", "--json"]).arg(&json).arg("--binary").arg(node_binary());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}\n{}", text(&output.stderr), text(&output.stdout));
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report["repeats"][0]["verdict"]["violations"], 0, "{line}: {}", report["repeats"][0]["verdict"]);
    assert!(report["repeats"][0]["verdict"]["operations"].as_u64() > Some(0), "{line}");
    report
}

/// `SWITCHBOARD_BIN`, as for all tests against real nodes; else the one beside the harness.
fn node_binary() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_BIN_EXE_switchboard-loadtest")).with_file_name("switchboard");
    let binary = std::env::var_os("SWITCHBOARD_BIN").map_or_else(beside, PathBuf::from);
    assert!(binary.is_file(), "{}: build it: cargo build -p switchboard", binary.display());
    // The tests of a package run in its folder.
    std::path::absolute(binary).unwrap()
}

fn counted_in(report: &Value, phase: &str, counter: &str) -> u64 {
    let phases = report["repeats"][0]["round"]["phases"].as_array().unwrap();
    let phase = phases.iter().find(|other| other["name"] == phase).unwrap();
    phase["counters"][counter].as_u64().unwrap_or(0)
}

/// Of the phase with the load.
fn counted(report: &Value, counter: &str) -> u64 {
    counted_in(report, "load", counter)
}

fn figure(report: &Value, name: &str) -> f64 {
    let figures = report["figures"].as_array().unwrap();
    let figure = figures.iter().find(|figure| figure["name"] == name);
    figure.unwrap_or_else(|| panic!("there is no {name}"))["value"]["median"].as_f64().unwrap()
}

#[test]
fn connect() {
    let report = verified("connect --connections 30 --duration 1");
    assert_eq!(counted_in(&report, "accept", "connects"), 30);
}

#[test]
fn direct() {
    let report = verified("direct --connections 20 --rate 100 --duration 1");
    assert_eq!((counted(&report, "sends"), counted(&report, "deliveries")), (100, 100));
}

#[test]
fn fanout() {
    let report = verified("fanout --connections 20 --rate 50 --duration 1");
    assert_eq!((counted(&report, "sends"), counted(&report, "deliveries")), (50, 1_000));
}

#[test]
fn group_that_is_delivered_to_all() {
    let report = verified("group --connections 30 --param members=10 --rate 50 --duration 1");
    assert_eq!((counted(&report, "sends"), counted(&report, "deliveries")), (50, 450));
}

/// Who has it not open asks for what he was not sent.
#[test]
fn group_that_is_delivered_to_those_who_have_it_open() {
    let line = "group --connections 30 --param members=30 --param push_members_max=5 --rate 20 --duration 1";
    let report = verified(line);
    assert_eq!((counted(&report, "sends"), counted(&report, "deliveries")), (20, 580));
    assert!(figure(&report, "activity frames per message") > 0.0);
}

#[test]
fn group_over_two_processes() {
    let report = verified("group --processes 2 --connections 30 --param members=10 --rate 50 --duration 1");
    assert_eq!(figure(&report, "deliveries missing"), 0.0);
}

#[test]
fn send() {
    let report = verified("send --connections 4 --param under_way=4 --duration 1");
    assert!(counted(&report, "sent") > 0);
    assert_eq!(counted(&report, "send_errors"), 0);
}

#[test]
fn receipts() {
    let report = verified("receipts --connections 20 --rate 100 --duration 1");
    assert_eq!((counted(&report, "sends"), counted(&report, "receipts")), (100, 100));
}

#[test]
fn presence() {
    let report = verified("presence --connections 40 --param watchers=10 --rate 40 --duration 2");
    assert!(counted(&report, "changes") > 0);
    assert_eq!(figure(&report, "users shown wrongly at the end"), 0.0);
}

#[test]
fn typing() {
    let report = verified("typing --connections 20 --param members=5 --rate 10 --duration 2");
    assert_eq!((counted(&report, "sends"), counted(&report, "typing_frames")), (20, 80));
}

#[test]
fn storm() {
    let report = verified("storm --connections 30");
    assert_eq!((figure(&report, "not back"), figure(&report, "messages missing")), (0.0, 0.0));
}

#[test]
fn storm_on_a_node_that_was_killed() {
    let report = verified("storm --connections 30 --param restart=1");
    assert_eq!((figure(&report, "not back"), figure(&report, "messages missing")), (0.0, 0.0));
}

#[test]
fn mixed() {
    let report = verified("mixed --connections 40 --rate 50 --param group_members_max=30 --duration 2");
    assert!(counted(&report, "sends") > 0 && counted(&report, "comings") > 0);
    assert_eq!(figure(&report, "deliveries missing when all are home"), 0.0);
}

/// The node is killed three seconds into the load, with everything under way.
#[test]
fn mixed_while_the_node_is_killed() {
    let line = "mixed --connections 40 --rate 50 --param group_members_max=30 --duration 5 --chaos kill";
    let report = verified(line);
    assert!(counted(&report, "sessions_lost") > 0);
    assert_eq!(figure(&report, "deliveries missing when all are home"), 0.0);
}
