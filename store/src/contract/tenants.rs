//! Nothing crosses a tenant.

use super::fixture::time_of;
use super::inbox::{ALL, change, last};
use super::{Backend, Conversation, user};
use crate::{ConversationKey, HistoryRange, InboxChange, Kind, UserKey};
use switchboard_protocol::Seq;

/// Pairs of ids that give the same text when joined, with and without the separators that ids may contain.
const COLLIDING: [[&str; 2]; 6] = [["ab", "c"], ["a", "bc"], ["a:b", "c"], ["a", "b:c"], ["a.b", "c"], ["a", "b.c"]];

pub async fn ids_that_join_to_the_same_text_stay_apart(backend: &dyn Backend) {
    let store = backend.open().await;
    for [tenant, id] in COLLIDING {
        let key = ConversationKey {
            tenant: tenant.parse().expect("a tenant id"),
            conversation: id.parse().expect("a conversation id"),
        };
        let mut c = Conversation::create(&store, key, Kind::Direct(user("alice"), user("bob"))).await;
        assert_eq!((c.term.0, c.end), (1, 0), "{tenant} {id} is new");
        let own = format!("{tenant} {id}");
        c.send("alice", &own).await;
        let edit = c.edit(Seq::new(1), &own);
        c.append([edit]).await;
        let page = store.history(&c.key, HistoryRange::Newest, Seq::new(c.end), 9, usize::MAX).await.expect("reads");
        assert_eq!(page.messages.len(), 1, "{tenant} {id}");
    }
    for [tenant, id] in COLLIDING {
        let alice = UserKey { tenant: tenant.parse().expect("a tenant id"), user: user(id) };
        assert_eq!(store.user(&alice).await.expect("reads").revoked_at, None, "{tenant} {id}");
        assert_eq!(store.inbox(&alice, ALL, 9).await.expect("reads").rows, [], "{tenant} {id}");
        store.revoke(&alice, time_of(1)).await.expect("revokes");
        store.block(&alice, &user("x"), time_of(1)).await.expect("blocks");
        let row = InboxChange { last: Some(last(1).into()), ..change("c") };
        store.put_inbox(vec![(alice.clone(), row)]).await.expect("puts");
        assert_eq!(store.inbox(&alice, ALL, 9).await.expect("reads").rows.len(), 1, "{tenant} {id}");
        assert_eq!(store.user(&alice).await.expect("reads").blocks.len(), 1, "{tenant} {id}");
    }
    let blocked = UserKey { tenant: "a".parse().expect("a tenant id"), user: user("x") };
    assert_eq!(store.user(&blocked).await.expect("reads").blocked_by.len(), 3, "only of his own tenant");
    assert_eq!(store.active(&[]).await.expect("reads").len(), COLLIDING.len());
}
