//! What a trace looks like to who asks for one.

use switchboard_router::Trace;

/// What the page's test in Chromium is given for the answer of three nodes, which is of this very shape.
const OF_THREE_NODES: &str = include_str!("../../tests/browser/pages/trace-of-three-nodes.json");

#[test]
fn the_trace_that_the_pages_test_draws_is_one() {
    let mut given: serde_json::Value = serde_json::from_str(OF_THREE_NODES).unwrap();
    let trace: Trace = serde_json::from_str(OF_THREE_NODES).unwrap();
    // The answer names the message as it was asked for.
    for asked in ["conversation_id", "seq"] {
        given.as_object_mut().unwrap().remove(asked).unwrap();
    }
    assert_eq!(serde_json::to_value(trace).unwrap(), given);
}
