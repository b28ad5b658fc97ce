//! Catching up: `sync`, then `changes` for each conversation that is behind, and sends to be repeated. Also the final
//! read of everything at the end of a verified run.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::network::Network;
use super::session::Client;
use crate::meter::now_ns;
use crate::verify::{Asked, Seen, What};

/// Poll interval.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);
/// How long a client may take to reconnect and to be up to date. The longest pause between two attempts is just as long
/// (PROTOCOL §2).
pub(super) const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// Attempts at the final read, and the pause between two.
const LOOKS_MAX: usize = 5;
const NEXT_LOOK_AFTER: Duration = Duration::from_millis(500);

/// Brings the client up to date, until nothing is left to do.
///
/// # Errors
/// An answer is missing, or an error.
pub(super) async fn catch_up(client: &Client, network: &Arc<Network>) -> Result<()> {
    let follow = client.follow().context("this client does not follow")?;
    loop {
        if std::mem::take(&mut follow.lock().is_sync_due) {
            sync(client).await?;
        }
        let behind = follow.lock().take_behind();
        if let Some((conversation_id, known)) = behind {
            changes(client, network, &conversation_id, known).await?;
            follow.lock().has_changes();
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

/// Sends a request, and records the answer; returns it with the messages of others that are new.
async fn ask(client: &Client, frame: Value, asked: Asked) -> Result<(Value, Vec<Seen>)> {
    let follow = client.follow().context("this client does not follow")?;
    let asked = Asked { at_ns: now_ns(), ..asked };
    let answer = client.ask(frame).await?;
    let new = follow.lock().on_answer(&answer, asked)?;
    Ok((answer, new))
}

async fn sync(client: &Client) -> Result<()> {
    let follow = client.follow().context("this client does not follow")?;
    let is_whole = follow.lock().cursor.is_none();
    loop {
        let cursor = follow.lock().cursor.clone();
        let mut frame = json!({"type": "sync", "limit": 200});
        if let Some(cursor) = cursor {
            frame["cursor"] = cursor.into();
        }
        let (answer, _) = ask(client, frame, Asked { is_whole, ..Asked::after(0, 0) }).await?;
        if answer["more"] != true {
            return Ok(());
        }
    }
}

async fn changes(client: &Client, network: &Network, conversation_id: &str, known: u64) -> Result<()> {
    let mut after = known;
    loop {
        let frame = json!({"type": "changes", "conversation_id": conversation_id, "after": after, "limit": 500});
        let (answer, new) = ask(client, frame, Asked::after(after, 0)).await?;
        count(network, &new);
        match next_page(&answer, "entries", "seq", after) {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

/// Messages received through `changes` count as delivered too, however late.
fn count(network: &Network, new: &[Seen]) {
    let now_ns = now_ns();
    for client_id in new.iter().filter_map(|seen| seen.client_id.as_deref()) {
        network.meters.on_delivery(client_id, &network.run, now_ns);
    }
}

/// Where the next page begins; `None` if there is none, or it would be the same one again.
fn next_page(answer: &Value, list: &str, field: &str, after: u64) -> Option<u64> {
    let last = answer[list].as_array()?.last()?[field].as_u64()?;
    (answer["more"] == true && last > after).then_some(last)
}

/// Waits until the client has a session, is up to date, and has an answer to each of its sends.
///
/// # Errors
/// That takes too long.
pub(super) async fn settle(client: &Client) -> Result<()> {
    let is_settled = async {
        while !client.is_settled() {
            ensure!(!client.has_given_up(), "the client has given up");
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        Ok(())
    };
    tokio::time::timeout(SETTLED_WITHIN, is_settled).await.context("the client did not settle in time")?
}

/// Asks once more for everything that the server has for this client. Only some members of a conversation, and clients
/// that were told to by `reset`, read its whole history.
///
/// # Errors
/// An answer is missing, or an error, repeatedly.
pub(super) async fn look_back(client: &Client, network: &Arc<Network>) -> Result<()> {
    let mut looked = Ok(());
    for look in 0..LOOKS_MAX {
        if look > 0 {
            tokio::time::sleep(NEXT_LOOK_AFTER).await;
        }
        looked = look_back_once(client, network).await;
        if looked.is_ok() {
            break;
        }
    }
    looked
}

async fn look_back_once(client: &Client, network: &Arc<Network>) -> Result<()> {
    let follow = client.follow().context("this client does not follow")?;
    settle(client).await?;
    {
        let mut follow = follow.lock();
        follow.note(|| What::LookBack);
        follow.is_sync_due = true;
        follow.cursor = None;
    }
    catch_up(client, network).await?;
    settle(client).await?;
    let conversations = follow.lock().conversations();
    for (conversation_id, is_forgotten) in conversations {
        let is_reader = network.final_readers.claim(&conversation_id, client.user());
        if is_reader || is_forgotten {
            history(client, &conversation_id).await?;
        }
        if is_reader {
            members(client, &conversation_id).await?;
        }
    }
    follow.lock().note(|| What::Done);
    Ok(())
}

async fn history(client: &Client, conversation_id: &str) -> Result<()> {
    let mut after = 0;
    loop {
        let frame = json!({"type": "history", "conversation_id": conversation_id, "after": after, "limit": 200});
        let (answer, _) = ask(client, frame, Asked::after(after, 0)).await?;
        match next_page(&answer, "messages", "seq", after) {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

async fn members(client: &Client, conversation_id: &str) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let mut frame = json!({"type": "conversation_members", "conversation_id": conversation_id, "limit": 1_000});
        if let Some(after) = &after {
            frame["after"] = after.as_str().into();
        }
        let (answer, _) = ask(client, frame, Asked::after(0, 0)).await?;
        let last = answer["members"].as_array().and_then(|members| members.last()?["user_id"].as_str());
        let last = last.map(str::to_owned);
        if answer["more"] != true {
            return Ok(());
        }
        ensure!(last.is_some() && last != after, "members: `more` is true, but the page does not advance");
        after = last;
    }
}
