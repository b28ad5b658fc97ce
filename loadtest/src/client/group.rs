//! Creates groups of any size, within the server's limits on a frame.

use anyhow::{Context, Result};
use serde_json::json;

use super::session::Client;

/// Members per frame: 500 ids of 40 bytes are 20 KB of the 64 KB that a frame may have.
const MEMBERS_PER_FRAME: usize = 500;

/// Creates a group of `owner` and `members`, and returns its id.
///
/// # Errors
/// The server refuses.
pub(crate) async fn create(owner: &Client, client_id: &str, members: &[String]) -> Result<String> {
    let mut parts = members.chunks(MEMBERS_PER_FRAME);
    let first = parts.next().unwrap_or_default();
    let frame = json!({"type": "conversation_create", "kind": "group", "client_id": client_id, "members": first});
    let conversation = owner.ask(frame).await?;
    let id = conversation["conversation_id"].as_str().context("the answer has no conversation_id")?.to_owned();
    for part in parts {
        owner.ask(json!({"type": "member_add", "conversation_id": id, "user_ids": part})).await?;
    }
    Ok(id)
}
