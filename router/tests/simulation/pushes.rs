//! In each tenant one user with a device who is never connected: what he is to be told of is in the queue in the end.

use crate::truth::Truth;
use crate::world::{NODES, World, options};
use std::collections::BTreeMap;
use switchboard_protocol::{Seq, Timestamp, UserId};
use switchboard_store::{Channel, ConversationKey, PushDevice, PushStore as _, UserKey};

/// Who is away.
pub(crate) fn name() -> UserId {
    "away".parse().unwrap()
}

fn away(tenant: &str) -> UserKey {
    UserKey { tenant: tenant.parse().unwrap(), user: name() }
}

/// Registers a user's device, by whichever node gets through.
pub(crate) async fn register(world: &World, user: &UserKey) {
    for index in (0..NODES).cycle() {
        let registered = PushDevice {
            channel: Channel::WebPush,
            target: "{}".to_owned(),
            registered_at: Timestamp::from_unix_ms(0),
        };
        let node = world.node(index).expect("it runs");
        if node.router.put_push_device(user, "phone".parse().unwrap(), registered).await.is_ok() {
            return;
        }
    }
}

pub(crate) async fn register_all(world: &World, tenants: &[&str]) {
    for tenant in tenants {
        register(world, &away(tenant)).await;
    }
}

/// One notification of each conversation, up to the newest message that he is to be told of.
pub(crate) async fn judge(world: &World, truths: &BTreeMap<ConversationKey, Truth>) {
    for (key, truth) in truths {
        let user = UserKey { tenant: key.tenant.clone(), user: name() };
        let outstanding = match world.store.outstanding_pushes(&user).await {
            Ok(outstanding) => outstanding,
            Err(error) => return world.oracle.violated(error.to_string()),
        };
        let jobs: Vec<_> = outstanding.iter().filter(|job| job.key.conversation == key.conversation).collect();
        let due = due(truth, &user.user);
        let up_to = jobs.iter().map(|job| job.up_to_seq).max().unwrap_or_default();
        if jobs.len() > 1 || up_to < due || up_to > truth.end() {
            world.oracle.violated(format!("{user:?} is to be told of {key:?} up to {due}, and the queue has {jobs:?}"));
        }
        world.oracle.count(|counts| counts.pushed += jobs.len() as u64);
    }
}

/// The newest message that he has to be told of, however often it had to be announced.
fn due(truth: &Truth, user: &UserId) -> Seq {
    let most = options().push_members_max;
    let mut due = Seq::ZERO;
    for message in truth.sends() {
        let stays = truth.is_member(user, message.seq) && !truth.leaves_after(user, message.seq);
        let mentions = message.content.mentions().contains(user);
        if stays && (mentions || truth.members_most_after(message.seq) <= most) {
            due = message.seq;
        }
    }
    due
}
