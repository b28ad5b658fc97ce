//! Composes a notification's content. It is read when the notification is sent, because the message may have been
//! edited, deleted or read meanwhile; and so the queue holds no message content.

use switchboard_protocol::{Content, EntryFrame, Title, UserId};
use switchboard_push::Preferences;
use switchboard_push_providers::Body;
use switchboard_store::{
    ConversationKey, Head, HistoryRange, Kind, PushJob, Store, StoreError, StoredMessage, UserKey,
};

/// The limit in bytes for the messages that are read. The first one is always returned, so one is.
const MESSAGE_BYTES: usize = 1;

/// The result of composing a job.
pub(super) enum Composed {
    /// The content for its devices.
    Body(Body),
    /// Nothing is to be sent, for this reason (in the words of the trace).
    Nothing(&'static str),
}

/// Composes the content for a job's devices.
pub(super) async fn compose(store: &dyn Store, job: &PushJob) -> Result<Composed, StoreError> {
    let Some(count) = job.count else { return Ok(Composed::Body(Body::Withdraw)) };
    let user = &job.key.user;
    let key = ConversationKey { tenant: user.tenant.clone(), conversation: job.key.conversation.clone() };
    // If the conversation is active on another node, the store may not show new members or the end of the log yet. So
    // the inbox decides whether the user has left; and what is notified is durable.
    if store.inbox_row(user, &key.conversation).await?.is_some_and(|row| !row.member) {
        return Ok(Composed::Nothing("not_a_member"));
    }
    let cursor = store.member(&key, &user.user).await?.map(|member| member.cursor).unwrap_or_default();
    if cursor.delivered_seq.max(cursor.read_seq) >= job.up_to_seq {
        return Ok(Composed::Nothing("arrived"));
    }
    let Some(head) = store.head(&key).await? else { return Ok(Composed::Nothing("expired")) };
    let range = HistoryRange::Before(job.up_to_seq.next());
    let newest = store.history(&key, range, head.end.max(job.up_to_seq), 1, MESSAGE_BYTES).await?.messages.pop();
    let Some((from, content)) = newest.and_then(read) else { return Ok(Composed::Nothing("expired")) };
    let preferences = store.notification_preferences(user).await?;
    let preferences = preferences.and_then(|json| serde_json::from_str::<Preferences>(&json).ok());
    let title = title(store, user, head, from).await?;
    Ok(Composed::Body(Body::alert(count, &title, content.as_ref(), preferences.unwrap_or_default().preview)))
}

/// A message's sender, and its content as it is now; without one if it was deleted.
fn read(message: StoredMessage) -> Option<(UserId, Option<Content>)> {
    let text = std::str::from_utf8(&message.json).ok()?;
    let (_, EntryFrame::Message(entry)) = EntryFrame::decode(text).ok()? else { return None };
    let state = message.state.unwrap_or_default();
    let content = state.edited.map_or(entry.content, |(content, _)| content);
    Some((entry.from, Some(content).filter(|_| !state.deleted)))
}

/// A group's title, or the sender's name.
async fn title(store: &dyn Store, user: &UserKey, head: Head, from: UserId) -> Result<String, StoreError> {
    if let (Kind::Group, Some(title)) = (&head.meta.kind, head.meta.title.as_ref().map(Title::as_str)) {
        return Ok(title.to_owned());
    }
    let sender = UserKey { tenant: user.tenant.clone(), user: from };
    let name = store.user(&sender).await?.name;
    Ok(name.unwrap_or_else(|| sender.user.to_string()))
}
