//! The examples in `golden/` for client authors: each frame is read and written again byte for byte, and each rejected
//! one gets exactly the documented error.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use switchboard_protocol::{ClientFrame, Incoming, ParseLimits, ServerFrame, parse_client_frame};

pub(crate) const LIMITS: ParseLimits = ParseLimits { content_bytes: 32_768 };

/// One file: examples of a frame type.
#[derive(Deserialize)]
struct Golden {
    about: String,
    examples: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    client: Option<Box<RawValue>>,
    /// The client's frame with its defaults written out.
    means: Option<Box<RawValue>>,
    /// The frames that the same session gets.
    #[serde(default)]
    server: Vec<Box<RawValue>>,
    /// The frames that other sessions get.
    #[serde(default)]
    others: Vec<Box<RawValue>>,
    /// The error of a frame that is rejected before the router gets it.
    error: Option<Box<RawValue>>,
}

/// The frames of all files, by side.
#[derive(Default)]
pub(crate) struct Frames {
    pub(crate) accepted: Vec<String>,
    pub(crate) refused: Vec<(String, String)>,
    pub(crate) server: Vec<String>,
}

fn files() -> Vec<(String, Golden)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let golden = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), golden)
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

fn sort_into(frames: &mut Frames, example: Example) {
    let text = |raw: Box<RawValue>| raw.get().to_owned();
    match (example.client.map(text), example.error.map(text)) {
        (Some(client), Some(error)) => frames.refused.push((client, error)),
        (Some(client), None) => frames.accepted.push(client),
        (None, error) => assert_eq!(error, None, "an error without the frame that it refuses"),
    }
    frames.accepted.extend(example.means.map(text));
    frames.server.extend(example.server.into_iter().chain(example.others).map(text));
}

pub(crate) fn frames() -> Frames {
    let mut frames = Frames::default();
    files().into_iter().flat_map(|(_, golden)| golden.examples).for_each(|example| sort_into(&mut frames, example));
    frames
}

fn parse(text: &str) -> Incoming {
    parse_client_frame(text, &LIMITS).unwrap_or_else(|rejection| panic!("{text}: {:?}", rejection.error))
}

fn written(incoming: &Incoming) -> String {
    incoming.frame.encode(incoming.id.as_ref())
}

#[test]
fn every_type_has_its_file_with_frames_of_it() {
    let known: BTreeSet<_> = ClientFrame::TYPES.iter().chain(ServerFrame::TYPES).map(ToString::to_string).collect();
    let files = files();
    assert_eq!(files.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(), known);

    for (name, golden) in files {
        assert!(!golden.about.is_empty(), "{name}");
        let mut frames = Frames::default();
        golden.examples.into_iter().for_each(|example| sort_into(&mut frames, example));
        let client = frames.accepted.iter().any(|text| parse(text).frame.type_name() == name);
        let server = frames.server.iter().any(|text| ServerFrame::decode(text).unwrap().1.type_name() == name);
        let refused = frames.refused.iter().any(|(_, error)| ServerFrame::decode(error).unwrap().1.type_name() == name);
        assert_eq!(client, ClientFrame::TYPES.contains(&name.as_str()), "{name}: client frames");
        assert_eq!(server || refused, ServerFrame::TYPES.contains(&name.as_str()), "{name}: server frames");
    }
}

#[test]
fn client_frames_are_read_and_written_again() {
    for example in files().into_iter().flat_map(|(_, golden)| golden.examples) {
        let Some(client) = example.client.filter(|_| example.error.is_none()) else { continue };
        let incoming = parse(client.get());
        // If the frame omits defaults, `means` contains them.
        let expected = example.means.as_deref().unwrap_or(&client).get();
        assert_eq!(written(&incoming), expected);
        assert_eq!(parse(expected), incoming);
    }
}

#[test]
fn server_frames_are_read_and_written_again() {
    let frames = frames();
    for text in frames.server.iter().chain(frames.refused.iter().map(|(_, error)| error)) {
        let (id, frame) = ServerFrame::decode(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(&frame.encode(id.as_ref()), text);
    }
}

#[test]
fn refused_frames_get_the_error_beside_them() {
    for (client, error) in frames().refused {
        let rejection = parse_client_frame(&client, &LIMITS).expect_err(&client);
        assert_eq!(rejection.not_an_object, !client.starts_with('{'));
        assert_eq!(rejection.encode(), error);
    }
}
