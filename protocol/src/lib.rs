//! The wire protocol of Switchboard, version 1: every frame, error and HTTP body of PROTOCOL.md as a type that can't
//! hold what the contract forbids, with all limits in one place ([`limits`]).
//!
//! It owns no state, does no I/O and reads no clock. It checks whether a request is well formed, not whether it is
//! allowed (membership, roles, blocks).

pub mod client;
mod compact;
pub mod content;
pub mod error;
mod fields;
pub mod http;
pub mod ids;
pub mod limits;
mod parse;
pub mod server;
pub mod text;
pub mod timestamp;
pub mod topic;

pub use client::{ClientFrame, Role};
pub use content::{Content, Custom, SignalData};
pub use error::{CloseCode, ErrorCode, FieldError, ProtocolError};
pub use ids::{
    ClientId, ConversationId, DeviceId, FrameId, InstanceId, MessageId, NodeId, Seq, SessionId, StoreId, TenantId,
    TopicId, UserId,
};
pub use parse::{Incoming, ParseLimits, Rejection, parse_client_frame};
pub use server::{EntryFrame, Frame, ServerFrame};
pub use text::{Emoji, SignalKind, Title};
pub use timestamp::Timestamp;
pub use topic::{Event, Number, Point, SeriesName, SeriesPoints, Tags, Window};
