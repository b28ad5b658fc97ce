//! The statements of the push queue's places. Their rows are changed by compare-and-set.

use crate::StoreError;
use crate::scylla::client::{Client, Statement};

pub(in crate::scylla) struct PlaceStatements {
    pub(in crate::scylla) one: Statement,
    pub(in crate::scylla) of_conversation: Statement,
    pub(in crate::scylla) of_user: Statement,
    pub(in crate::scylla) first: Statement,
    pub(in crate::scylla) next: Statement,
}

impl PlaceStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        Ok(Self {
            one: client
                .prepare(
                    "push_place",
                    "SELECT number, place FROM KS.push_deliveries
                     WHERE tenant = ? AND user_id = ? AND conversation = ? AND channel = ?",
                )
                .await?,
            of_conversation: client
                .prepare_paged(
                    "push_places_of_conversation",
                    "SELECT channel, number, place FROM KS.push_deliveries
                     WHERE tenant = ? AND user_id = ? AND conversation = ?",
                )
                .await?,
            of_user: client
                .prepare_paged(
                    "push_places_of_user",
                    "SELECT conversation, channel, number, place FROM KS.push_deliveries
                     WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            first: client
                .prepare(
                    "first_push_place",
                    "INSERT INTO KS.push_deliveries (number, place, tenant, user_id, conversation, channel)
                     VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?",
                )
                .await?,
            next: client
                .prepare(
                    "next_push_place",
                    "UPDATE KS.push_deliveries USING TTL ? SET number = ?, place = ?
                     WHERE tenant = ? AND user_id = ? AND conversation = ? AND channel = ? IF number = ?",
                )
                .await?,
        })
    }
}
