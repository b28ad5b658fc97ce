//! Converts commands, answers and errors to and from their form in envelopes. Frames for clients stay JSON.

use crate::api::{Answer, Command};
use crate::envelope::{Encoded, Refusal, Reply};
use crate::owner::{LocalReply, ReplyResult};
use serde_json::value::RawValue;
use switchboard_protocol::server::{self, ErrorFrame};
use switchboard_protocol::{ParseLimits, ProtocolError, ServerFrame, parse_client_frame};

/// A command for another node.
pub(crate) fn encoded(command: &Command) -> Encoded {
    Encoded(command.encode(None))
}

/// A command of another node, which has checked its limits.
pub(crate) fn decoded(command: &Encoded) -> Result<Command, ProtocolError> {
    let limits = ParseLimits { content_bytes: usize::MAX };
    parse_client_frame(&command.0, &limits).map(|incoming| incoming.frame).map_err(|_| ProtocolError::internal())
}

/// A refusal for another node.
pub(crate) fn refusal(error: &ProtocolError) -> Refusal {
    Refusal(ErrorFrame::new(None, error))
}

/// An answer for another node.
pub(crate) fn reply_of(answer: &Answer) -> Reply {
    Reply::Frame { created: matches!(answer, Answer::Created(_)), json: Encoded(answer.encode(None)) }
}

/// A conversation's reply, for another node.
pub(crate) fn encode_reply(reply: LocalReply) -> Reply {
    match reply {
        LocalReply::Answer(answer) => reply_of(&answer),
        LocalReply::Peek(peek) => Reply::Peek(peek),
        LocalReply::Roll(roll) => Reply::Roll(roll),
        LocalReply::LetGo(release) => Reply::LetGo(release),
        LocalReply::Untold(untold) => Reply::Untold(untold),
        LocalReply::Done => Reply::Done,
    }
}

/// Another node's answer.
pub(crate) fn answer_of(reply: Reply) -> Result<Answer, ProtocolError> {
    let Reply::Frame { json: Encoded(json), created } = reply else { return Err(ProtocolError::internal()) };
    let malformed = || ProtocolError::internal();
    // A `sync` is passed on as it is: its conversations are not taken apart.
    if json.starts_with("{\"type\":\"sync\"") {
        let sync: server::Sync<Box<RawValue>> = serde_json::from_str(&json).map_err(|_| malformed())?;
        return Ok(Answer::Sync(sync));
    }
    let (_, frame) = ServerFrame::decode(&json).map_err(|_| malformed())?;
    Ok(if created { Answer::Created(frame) } else { Answer::Frame(frame) })
}

/// Another node's answer, for a waiter of this process.
pub(crate) fn decode_reply(reply: Reply) -> ReplyResult {
    match reply {
        Reply::Peek(peek) => Ok(LocalReply::Peek(peek)),
        Reply::Roll(roll) => Ok(LocalReply::Roll(roll)),
        Reply::LetGo(release) => Ok(LocalReply::LetGo(release)),
        Reply::Done => Ok(LocalReply::Done),
        reply => answer_of(reply).map(LocalReply::Answer),
    }
}
