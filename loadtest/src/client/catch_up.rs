//! Catching up: `sync`, then `changes` for each conversation that is behind, and sends that are to be repeated.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::network::Network;
use super::session::Client;
use crate::meter::now_ns;
use crate::verify::Seen;

/// Brings the client up to date, until nothing is left to do.
///
/// # Errors
/// An answer does not come, or is a refusal.
pub(super) async fn catch_up(client: &Client, network: &Arc<Network>) -> Result<()> {
    let follow = client.follow().context("this client does not follow")?;
    loop {
        if std::mem::take(&mut follow.lock().is_sync_due) {
            sync(client).await?;
        }
        let behind = follow.lock().take_behind();
        if let Some((conversation_id, known)) = behind {
            changes(client, network, &conversation_id, known).await?;
            continue;
        }
        let (again, after_ms) = {
            let mut follow = follow.lock();
            (follow.take_again(), follow.again_after_ms)
        };
        if again.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        again.iter().for_each(|frame| client.say(frame));
    }
}

async fn sync(client: &Client) -> Result<()> {
    let follow = client.follow().context("this client does not follow")?;
    loop {
        let cursor = follow.lock().cursor.clone();
        let mut frame = json!({"type": "sync", "limit": 200});
        if let Some(cursor) = cursor {
            frame["cursor"] = cursor.into();
        }
        let answer = client.ask(frame).await?;
        follow.lock().on_answer(&answer, 0);
        if answer["more"] != true {
            return Ok(());
        }
    }
}

async fn changes(client: &Client, network: &Network, conversation_id: &str, known: u64) -> Result<()> {
    let follow = client.follow().context("this client does not follow")?;
    let mut after = known;
    loop {
        let frame = json!({"type": "changes", "conversation_id": conversation_id, "after": after, "limit": 500});
        let answer = client.ask(frame).await?;
        let new = follow.lock().on_answer(&answer, after);
        count(network, &new);
        after = answer["entries"].as_array().and_then(|entries| entries.last()?["seq"].as_u64()).unwrap_or(after);
        if answer["more"] != true {
            return Ok(());
        }
    }
}

/// What came by `changes` has been delivered too, late as it is.
fn count(network: &Network, new: &[Seen]) {
    let now_ns = now_ns();
    for client_id in new.iter().filter_map(|seen| seen.client_id.as_deref()) {
        network.meters.on_delivery(client_id, &network.run, now_ns);
    }
}

/// The end of a run that verifies: everything that the server has for this client is asked for once more.
///
/// # Errors
/// An answer does not come, or is a refusal.
pub(super) async fn look_back(client: &Client, network: &Arc<Network>) -> Result<()> {
    let follow = client.follow().context("this client does not follow")?;
    {
        let mut follow = follow.lock();
        follow.is_sync_due = true;
        follow.cursor = None;
    }
    catch_up(client, network).await?;
    let conversations = follow.lock().conversations();
    for conversation_id in conversations {
        let mut after = 0;
        loop {
            let frame = json!({"type": "history", "conversation_id": conversation_id, "after": after, "limit": 200});
            let answer = client.ask(frame).await?;
            follow.lock().on_answer(&answer, 0);
            let last = answer["messages"].as_array().and_then(|messages| messages.last()?["seq"].as_u64());
            after = last.unwrap_or(after);
            if answer["more"] != true {
                break;
            }
        }
    }
    Ok(())
}
