//! The statements of the log's projections: a conversation's state, and the states of its messages.

use crate::StoreError;
use crate::scylla::client::{Client, Figures, Statement};

pub(in crate::scylla) struct ProjectionStatements {
    pub(in crate::scylla) state: Statement,
    pub(in crate::scylla) put_state: Statement,
    pub(in crate::scylla) put_message_states: Figures,
    pub(in crate::scylla) put_message_state: Statement,
    pub(in crate::scylla) message_states: Statement,
}

impl ProjectionStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        Ok(Self {
            state: client
                .prepare(
                    "conversation_state",
                    "SELECT applied_seq, state FROM KS.conversation_state WHERE tenant = ? AND conversation = ?",
                )
                .await?,
            put_state: client
                .prepare(
                    "put_conversation_state",
                    "INSERT INTO KS.conversation_state (tenant, conversation, applied_seq, state) VALUES (?, ?, ?, ?)
                     USING TIMESTAMP ?",
                )
                .await?,
            put_message_states: Figures::of("put_message_states"),
            put_message_state: client
                .prepare(
                    "put_message_state",
                    "INSERT INTO KS.message_states
                     (tenant, conversation, bucket, seq, part, emoji, user_id, entry_seq, value)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
                )
                .await?,
            message_states: client
                .prepare_paged(
                    "message_states",
                    "SELECT seq, part, emoji, user_id, entry_seq, value FROM KS.message_states
                     WHERE tenant = ? AND conversation = ? AND bucket = ? AND seq >= ? AND seq <= ?",
                )
                .await?,
        })
    }
}
