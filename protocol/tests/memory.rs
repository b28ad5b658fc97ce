//! The allocations of parsing a frame are bounded by the frame's size, whatever it contains.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use switchboard_protocol::{ParseLimits, parse_client_frame};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const FRAME_BYTES: usize = 65_536;

/// Maximum total of allocated bytes per byte of the frame. Lists of user ids cost most, with 6: 24 bytes for the 4 of
/// `"a",`.
const PER_BYTE_MAX: usize = 8;

/// Maximum additional bytes of a frame: its fields, an error.
const FIXED_MAX: usize = 4_096;

/// A frame of 64 KiB in which `unit` is repeated.
fn filled(before: &str, unit: &str, after: &str) -> String {
    let count = (FRAME_BYTES - before.len() - after.len()) / unit.len();
    [before, &unit.repeat(count), after].concat()
}

// A single test: the allocator counts all threads.
#[test]
fn allocations_are_bounded_by_the_frame() {
    let send = r#"{"type":"send","to":"bob","client_id":"c","content":"#;
    let frames = [
        filled("", "[", ""),
        filled("{", r#""":0,"#, r#""type":"ping"}"#),
        filled("{", r#""to":0,"#, r#""type":"ping"}"#),
        filled(r#"{"type":"ping","x":"#, "[", ""),
        filled(r#"{"type":""#, "x", r#""}"#),
        filled(r#"{"type":"ping","id":""#, "\\u0078", r#""}"#),
        filled(r#"{"type":"auth","token":""#, "x", r#""}"#),
        filled(r#"{"type":"presence_watch","user_ids":["#, r#""a","#, r#""a"]}"#),
        filled(r#"{"type":"member_add","conversation_id":"g","user_ids":["#, r#""a","#, r#""a"]}"#),
        filled(r#"{"type":"conversation_create","kind":"group","client_id":"c","members":["#, "[],", "1]}"),
        filled(&format!("{send}{{\"x\":"), "[", ""),
        filled(&format!("{send}{{\"x\":"), "[", &"]".repeat(8)),
        filled(&format!("{send}{{\"x\":\""), "\\u00e9", "\"}}"),
        filled(&format!("{send}{{\"x\":["), "1 ,", "1]}}"),
        filled(&format!("{send}{{\"mentions\":["), r#""a","#, r#""a"]}}"#),
        filled(&format!("{send}{{"), r#""text":"","#, r#""text":""}}"#),
        filled(r#"{"type":"topic_publish","topic":"t","events":["#, r#"{"series":"a","value":1},"#, "0]}"),
        filled(r#"{"type":"topic_publish","topic":"t","events":["#, "0,", "0]}"),
        filled(
            r#"{"type":"topic_publish","topic":"t","events":[{"series":"a","value":1,"tags":{"#,
            r#""a":"","#,
            r#""a":""}}]}"#,
        ),
    ];
    let limits = ParseLimits { content_bytes: FRAME_BYTES };
    for frame in frames {
        let region = Region::new(ALLOCATOR);
        let outcome = parse_client_frame(&frame, &limits);
        let change = region.change();
        let allocated = change.bytes_allocated;
        let bound = PER_BYTE_MAX * frame.len() + FIXED_MAX;
        let start: String = frame.chars().take(80).collect();
        println!("{allocated:>8} bytes for {} of {start} {}", frame.len(), outcome.is_ok());
        assert!(allocated <= bound, "{allocated} bytes for {} of {start}", frame.len());
    }
}
