//! Users with a device: in each tenant one who is never connected, and some who sometimes are, and whose clients send
//! receipts. A worker sends due notifications, as a node's does, and may die or find the provider down.

use crate::oracle::Oracle;
use crate::truth::Truth;
use crate::world::{NODES, World, options};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use switchboard_clock::Generator;
use switchboard_protocol::{Seq, Timestamp, UserId};
use switchboard_store::{
    Channel, ConversationKey, LeasedJob, Log as _, PushDevice, PushEnd, PushStore as _, StoreError, UserKey,
};

/// The maximum interval between two polls of the queue.
const POLL_MS_MAX: u64 = 400;

/// The lease of the worker's jobs.
const LEASE_MS: i64 = 4_000;

/// The delay before the provider is retried.
const AGAIN_MS: i64 = 1_000;

/// The user who is away.
pub(crate) fn name() -> UserId {
    "away".parse().unwrap()
}

/// The users of a tenant who have a device.
fn with_device(tenant: &str) -> Vec<UserKey> {
    let users = [name(), "u0".parse().unwrap(), "u1".parse().unwrap()];
    users.map(|user| UserKey { tenant: tenant.parse().unwrap(), user }).into()
}

/// Registers a user's device, through any available node.
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
    for user in tenants.iter().flat_map(|tenant| with_device(tenant)) {
        register(world, &user).await;
    }
}

// The worker

/// Sends due notifications; never returns.
pub(crate) async fn work(world: Arc<World>) {
    let generator = world.generator.fork();
    loop {
        tokio::time::sleep(Duration::from_millis(1 + generator.below(POLL_MS_MAX))).await;
        let taken = world.store.take_pushes(Channel::WebPush, in_ms(&world, 0), in_ms(&world, LEASE_MS), 16).await;
        for leased in taken.unwrap_or_default() {
            // The store is unavailable: another worker takes the job when the lease is over.
            drop(carry_out(&world, &generator, leased).await);
        }
    }
}

fn in_ms(world: &World, ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(world.clock.wall_ms() + ms)
}

/// Like `gateway/src/push/worker.rs`: messages that have arrived by now are not notified.
async fn carry_out(world: &World, generator: &Generator, leased: LeasedJob) -> Result<(), StoreError> {
    let (job, oracle) = (&leased.job, &world.oracle);
    let user = &job.key.user;
    let key = ConversationKey { tenant: user.tenant.clone(), conversation: job.key.conversation.clone() };
    let received = oracle.received_by_now(&key, &user.user);
    let member = world.store.member(&key, &user.user).await?;
    let cursor = member.map(|member| member.cursor).unwrap_or_default();
    let end = match generator.below(10) {
        _ if job.count.is_some() && cursor.delivered_seq.max(cursor.read_seq) >= job.up_to_seq => PushEnd::Dropped,
        // The worker dies.
        0 => return Ok(()),
        1..3 => PushEnd::Retry { at: in_ms(world, AGAIN_MS), reason: "down".to_owned() },
        drawn => {
            oracle.notified(job, received);
            if drawn == 3 {
                return Ok(());
            }
            PushEnd::Sent
        }
    };
    world.store.finish_push(leased.clone(), end.clone(), in_ms(world, 0)).await?;
    if end == PushEnd::Sent {
        oracle.has_notified(job);
    }
    Ok(())
}

// The judgement

/// One notification of each conversation, up to the newest message that the user has not received.
pub(crate) async fn judge(world: &World, truths: &BTreeMap<ConversationKey, Truth>) {
    for (key, truth) in truths {
        for user in with_device(key.tenant.as_str()) {
            if let Err(error) = judge_one(world, key, truth, &user).await {
                world.oracle.violated(error.to_string());
            }
        }
    }
}

async fn judge_one(world: &World, key: &ConversationKey, truth: &Truth, user: &UserKey) -> Result<(), StoreError> {
    let outstanding = world.store.outstanding_pushes(user).await?;
    let jobs: Vec<_> = outstanding.iter().filter(|job| job.key.conversation == key.conversation).collect();
    let due = due(truth, user, &world.oracle);
    let cursor = world.store.member(key, &user.user).await?.map(|member| member.cursor).unwrap_or_default();
    // The home relies on a device's receipt, although the owner may have died before it was durable.
    let said = Seq::new(world.oracle.arrived_up_to(key, &user.user));
    let has = cursor.delivered_seq.max(cursor.read_seq).max(said);
    let up_to = jobs.iter().map(|job| job.up_to_seq).max().unwrap_or_default();
    // What is shown, and what will replace it.
    let notified = world.oracle.notified_up_to(key, &user.user);
    let is_one = match &jobs[..] {
        [] | [_] => true,
        [shown, next] => shown.up_to_seq < next.up_to_seq && shown.up_to_seq.get() <= notified,
        _ => false,
    };
    if !is_one || up_to.max(has) < due || up_to > truth.end() {
        world.oracle.violated(format!(
            "{user:?} is to be told of {key:?} up to {due}, has got {has}, and the queue has {jobs:?}"
        ));
    }
    world.oracle.count(|counts| counts.pushed += jobs.len() as u64);
    Ok(())
}

/// The newest message that the user must be notified of, however often it was announced.
fn due(truth: &Truth, user: &UserKey, oracle: &Oracle) -> Seq {
    let most = options().push_members_max;
    let of = |message: &&switchboard_protocol::server::Message| {
        let stays = truth.is_member(&user.user, message.seq) && !truth.leaves_after(&user.user, message.seq);
        let mentions = message.content.mentions().contains(&user.user);
        stays
            && (mentions || truth.members_most_after(message.seq) <= most)
            && message.from != user.user
            && !oracle.has_blocked(user, &message.from)
    };
    truth.sends().filter(of).last().map(|message| message.seq).unwrap_or_default()
}
