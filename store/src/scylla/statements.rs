//! All statements of this backend except those of the schema, prepared once when the store is opened: one struct per
//! group of tables.
//!
//! Writes to tables without compare-and-set name their timestamp, so that no node's clock decides which of two writes
//! wins. Entries and their projections carry the entry's timestamp. Values that only grow are their own timestamps
//! (DESIGN §3). Notes in `active` carry a counter of the only node that writes them.

mod devices;
mod inbox;
mod letters;
mod log;
mod members;
mod nodes;
mod places;
mod projections;
mod queue;
mod users;

use self::devices::DeviceStatements;
use self::inbox::InboxStatements;
use self::letters::LetterStatements;
use self::log::LogStatements;
use self::members::MemberStatements;
use self::nodes::NodeStatements;
use self::places::PlaceStatements;
use self::projections::ProjectionStatements;
use self::queue::QueueStatements;
use self::users::UserStatements;
use super::client::{Client, Statement};
use crate::StoreError;

pub(super) struct Statements {
    pub(super) log: LogStatements,
    pub(super) nodes: NodeStatements,
    pub(super) projections: ProjectionStatements,
    pub(super) members: MemberStatements,
    pub(super) inbox: InboxStatements,
    pub(super) users: UserStatements,
    pub(super) devices: DeviceStatements,
    pub(super) places: PlaceStatements,
    pub(super) queue: QueueStatements,
    pub(super) letters: LetterStatements,
    /// Reads one row, to check that the store answers.
    pub(super) check: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        Ok(Self {
            log: Box::pin(LogStatements::prepare(client)).await?,
            nodes: Box::pin(NodeStatements::prepare(client)).await?,
            projections: Box::pin(ProjectionStatements::prepare(client)).await?,
            members: Box::pin(MemberStatements::prepare(client)).await?,
            inbox: Box::pin(InboxStatements::prepare(client)).await?,
            users: Box::pin(UserStatements::prepare(client)).await?,
            devices: Box::pin(DeviceStatements::prepare(client)).await?,
            places: Box::pin(PlaceStatements::prepare(client)).await?,
            queue: Box::pin(QueueStatements::prepare(client)).await?,
            letters: Box::pin(LetterStatements::prepare(client)).await?,
            check: client.prepare("check", "SELECT value FROM KS.store WHERE part = 'store_id'").await?,
        })
    }
}
