//! The end of a run: everything has recovered and come to rest. Now logs, copies, inboxes and presence agree.

use crate::actions::is_idle_change;
use crate::client::Client;
use crate::truth::Truth;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use switchboard_protocol::client::{ConversationMembers, SyncGet};
use switchboard_protocol::server::{ShownStatus, SyncConversation};
use switchboard_protocol::{ClientFrame, ConversationId, Role, Seq, ServerFrame, UserId};
use switchboard_store::{ConversationKey, Inbox as _, InboxRange, Log as _, UserKey};

type Truths = BTreeMap<ConversationKey, Truth>;

pub(crate) async fn judge(world: &World, clients: &mut [Client]) {
    let violated = |what: String| world.oracle.violated(what);
    let mut truths = Truths::new();
    for key in world.oracle.conversations() {
        match Truth::read(&*world.store, &key).await {
            Ok(truth) => drop(truths.insert(key, truth)),
            Err(broken) => return violated(broken),
        }
    }
    world.oracle.judge(&truths);
    for (key, truth) in &truths {
        let idle = (1..=truth.end().get()).filter_map(|seq| truth.entry(Seq::new(seq))).any(is_idle_change);
        if idle {
            violated(format!("{key:?} has an entry that changes nothing"));
        }
    }
    judge_live(world, &truths, clients);
    judge_presence(world, clients);
    judge_rest(world, &truths, clients).await;
    crate::pushes::judge(world, &truths).await;
    for client in clients.iter_mut() {
        judge_anew(world, &truths, client).await;
    }
    world.oracle.judge(&truths);
}

/// The live frames, with what they made the client ask for, equal the log.
fn judge_live(world: &World, truths: &Truths, clients: &mut [Client]) {
    for client in clients {
        client.take_frames();
        let who = format!("{:?} ({})", client.user, client.device);
        if client.connection.is_none() {
            world.oracle.violated(format!("{who} is not connected"));
        }
        if client.unanswered() > 0 {
            world.oracle.violated(format!("{who} has {} sends that were never answered", client.unanswered()));
        }
        for key in concerning(truths, &client.user) {
            let copy = client.copies.entry(key.conversation.clone()).or_default();
            if let Some(what) = copy.differs(&truths[&key], &client.user.user) {
                world.oracle.violated(format!("{who}: {key:?}: {what}"));
            }
        }
    }
}

/// Conversations that a user is or was a member of.
fn concerning(truths: &Truths, user: &UserKey) -> Vec<ConversationKey> {
    let concerns = |(key, truth): &(&ConversationKey, &Truth)| {
        // A conversation without entries exists for nobody.
        key.tenant == user.tenant && truth.end() > Seq::ZERO && truth.was_member(&user.user, truth.end())
    };
    truths.iter().filter(concerns).map(|(key, _)| key.clone()).collect()
}

/// Exactly the connected users are shown as online.
fn judge_presence(world: &World, clients: &[Client]) {
    let connected: BTreeSet<UserKey> =
        clients.iter().filter(|client| client.connection.is_some()).map(|client| client.user.clone()).collect();
    for client in clients {
        for (user, status) in client.seen.iter().filter(|(user, _)| client.watched.contains(user)) {
            let key = UserKey { tenant: client.user.tenant.clone(), user: user.clone() };
            let there = connected.contains(&key);
            if there != (*status != ShownStatus::Offline) {
                world.oracle.violated(format!(
                    "{:?} ({}) sees {user} {status:?}; connected: {there}",
                    client.user, client.device
                ));
            }
        }
    }
    // All watchers of a user see the same.
    let mut shown: BTreeMap<UserKey, BTreeSet<String>> = BTreeMap::new();
    for client in clients {
        for (user, status) in client.seen.iter().filter(|(user, _)| client.watched.contains(user)) {
            let key = UserKey { tenant: client.user.tenant.clone(), user: user.clone() };
            shown.entry(key).or_default().insert(format!("{status:?}"));
        }
    }
    for (user, seen) in shown.into_iter().filter(|(_, seen)| seen.len() > 1) {
        world.oracle.violated(format!("{user:?} looks {seen:?}"));
    }
}

/// At rest nothing is owed: no conversation is active, and every inbox is exact.
async fn judge_rest(world: &World, truths: &Truths, clients: &[Client]) {
    let open: BTreeSet<ConversationKey> = clients
        .iter()
        .flat_map(|client| client.may_be_open.iter().map(|conversation| client.key(conversation)))
        .collect();
    match world.store.active(&[]).await {
        Ok(active) => {
            // A user who has a conversation open keeps it active.
            let left: Vec<_> = active.into_iter().filter(|(_, key)| !open.contains(key)).collect();
            if !left.is_empty() {
                world.oracle.violated(format!("still noted as active: {left:?}"));
            }
        }
        Err(error) => world.oracle.violated(error.to_string()),
    }
    let users: BTreeSet<&UserKey> = clients.iter().map(|client| &client.user).collect();
    for user in users {
        let page = world.store.inbox(user, InboxRange { after: 0, below: None }, usize::MAX).await;
        let Ok(page) = page else { return world.oracle.violated("the store is away".to_owned()) };
        for key in concerning(truths, user) {
            let truth = &truths[&key];
            let row = page.rows.iter().find(|row| row.conversation == key.conversation);
            let told = row.map(|row| (row.member, row.last.last_seq, row.last.ask_owner));
            let right = match told {
                Some((member, ..)) if !truth.members().contains_key(&user.user) => !member,
                // Rows of large groups are not updated with every message.
                Some((member, last_seq, ask_owner)) => member && (ask_owner || last_seq == truth.end()),
                None => false,
            };
            if !right {
                world.oracle.violated(format!("{user:?}'s inbox has {row:?}; {key:?} ends at {}", truth.end()));
            }
        }
    }
}

/// A new connection elsewhere: `sync` from the start is exact, and with `changes` the copies equal the log again.
async fn judge_anew(world: &World, truths: &Truths, client: &mut Client) {
    client.connection = client.connect().await;
    let who = format!("{:?} ({})", client.user, client.device);
    // The first may complete an earlier one.
    if !client.sync().await && !client.sync().await {
        return world.oracle.violated(format!("{who} can't sync"));
    }
    let me = client.user.user.clone();
    let mut rows: BTreeMap<ConversationId, SyncConversation> = BTreeMap::new();
    let mut cursor = None;
    loop {
        let asked = SyncGet { cursor: cursor.clone(), entries_per_conversation: 2, limit: 3 };
        let Ok(ServerFrame::Sync(page)) = client.call(ClientFrame::Sync(asked)).await else {
            return world.oracle.violated(format!("{who} can't sync from the start"));
        };
        rows.extend(page.conversations.into_iter().map(|row| (row.conversation.conversation_id.clone(), row)));
        cursor = Some(page.cursor);
        if !page.more {
            break;
        }
    }
    for key in concerning(truths, &client.user) {
        let truth = &truths[&key];
        let row = rows.get(&key.conversation);
        if let Some(what) = wrong_row(row, truth, &me) {
            world.oracle.violated(format!("{who}: sync has {key:?} wrong: {what}: {row:?}"));
        }
        if truth.members().contains_key(&me) {
            client.changes(&key.conversation).await;
            let copy = client.copies.entry(key.conversation.clone()).or_default();
            if let Some(what) = copy.differs(truth, &me) {
                world.oracle.violated(format!("{who}: after a reconnect: {key:?}: {what}"));
            }
            let members = members(client, &key.conversation).await;
            if members.as_ref() != Some(truth.members()) {
                world.oracle.violated(format!("{who}: {key:?} has members {members:?}, not {:?}", truth.members()));
            }
        }
    }
}

fn wrong_row(row: Option<&SyncConversation>, truth: &Truth, me: &UserId) -> Option<String> {
    let Some(row) = row else { return Some("missing".to_owned()) };
    let member = truth.members().contains_key(me);
    if row.state.removed == member {
        return Some(format!("member: {member}"));
    }
    if !member {
        return None;
    }
    let mentioned = truth.mentioned(me, truth.end());
    let unread = truth.messages_between(row.conversation.read_seq, truth.end());
    let preview = row.state.last_message.as_ref().map(|last| (last.seq, last.text.clone()));
    let told = (row.conversation.last_seq, row.conversation.unread, row.state.mentioned_seq, preview);
    let right = (truth.end(), unread, mentioned, truth.preview());
    (told != right).then(|| format!("{told:?} is {right:?}"))
}

async fn members(client: &Client, conversation_id: &ConversationId) -> Option<BTreeMap<UserId, Role>> {
    let asked = ConversationMembers { conversation_id: conversation_id.clone(), after: None, limit: 1_000 };
    match client.call(ClientFrame::ConversationMembers(asked)).await {
        Ok(ServerFrame::Members(members)) => {
            Some(members.members.into_iter().map(|member| (member.user_id, member.role)).collect())
        }
        _ => None,
    }
}
