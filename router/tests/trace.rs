//! The format of a trace for its readers.

use switchboard_router::Trace;

/// The answer of three nodes in the page's Chromium test, which must have this format.
const OF_THREE_NODES: &str = include_str!("../../tests/browser/pages/trace-of-three-nodes.json");

#[test]
fn the_trace_that_the_pages_test_draws_is_one() {
    let mut given: serde_json::Value = serde_json::from_str(OF_THREE_NODES).unwrap();
    let trace: Trace = serde_json::from_str(OF_THREE_NODES).unwrap();
    // The answer names the message as in the request.
    for asked in ["conversation_id", "seq"] {
        given.as_object_mut().unwrap().remove(asked).unwrap();
    }
    assert_eq!(serde_json::to_value(trace).unwrap(), given);
}
