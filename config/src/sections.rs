//! Every section with its keys, defaults, ranges and meanings: the one place where a key is declared.
//!
//! A component is given its own section and reads no other. The doc comments are the text of `docs/configuration.md`,
//! so they speak to operators. Ranges are wide on purpose: they keep out what can't work, not what is unusual.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::auth_key::AuthKey;
use crate::choice::{BusKind, LogFormat, LogLevel, StoreKind};
use crate::redis_url::RedisUrl;
use crate::secret::Secret;
use crate::section::section;
use crate::text::{AdvertiseUrl, HostPort, Keyspace, NodeName, Origin, RedisPrefix, TenantDays};

section! {
    /// This process: its name and where clients reach it.
    "node" Node {
        /// The node's name in logs, in `ready` frames and in the ring: 1 to 128 bytes of `A-Z a-z 0-9 _ - . : @`.
        id: NodeName = NodeName::of_host(), shown "the host name";
        /// Where clients connect, by WebSocket and HTTP. Port 0 takes a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080));
        /// The address under which clients reach this very node (`ws`, `wss`, `http` or `https`), given out by
        /// `/v1/connect` and `reconnect`; `/v1/ws` is added. Not set: the address it listens on. Needed with `bus.kind`
        /// `redis` where that is every address of the machine (`0.0.0.0`).
        advertise_url: Option<AdvertiseUrl> = None;
        /// The node's share of users and conversations, beside the other nodes' weights.
        weight: u32 = 1, in 1..=100;
    }
}

section! {
    /// TLS on `node.listen`. Both keys or neither.
    "node.tls" Tls {
        /// File with the certificate chain, PEM, the node's own certificate first.
        cert: Option<PathBuf> = None;
        /// File with the certificate's private key, PEM.
        key: Option<PathBuf> = None;
    }
}

section! {
    /// The listener for Prometheus.
    "metrics" Metrics {
        /// Where `/metrics` is served, without authentication. Port 0 takes a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9464));
    }
}

section! {
    /// Browsers and proxies.
    "http" Http {
        /// The `Origin`s that may connect, such as `https://app.example.com`; `*` is any. A request without an
        /// `Origin` (no browser) is not asked. Empty: only pages from the server's own address, in development mode
        /// from any loopback address too.
        allowed_origins: Vec<Origin> = Vec::new();
        /// Addresses and networks (`10.0.0.0/8`) of the proxies whose `X-Forwarded-For` is believed.
        trusted_proxies: Vec<IpNet> = Vec::new();
    }
}

section! {
    /// The keys that tokens are checked with. With none set the server is in *development mode*: it makes a signing
    /// key of its own and gives anyone a token.
    "auth" Auth {
        /// The secret for HS256 tokens that name no `kid`, used as its bytes, at least 32. `switchboard token` signs
        /// with it.
        hs256_secret: Option<Secret> = None;
        /// Keys chosen by a token's `kid`. Each is a table of `kid`, `alg` (`HS256`, `RS256`, `ES256` or `EdDSA`) and
        /// the key: `secret` or `secret_file` for HS256 (at least 32 bytes), `public_key` (PEM) or `public_key_file`
        /// for the others.
        keys: Vec<AuthKey> = Vec::new();
    }
}

section! {
    /// Where conversations are kept.
    "store" Store {
        /// `embedded` keeps everything in a folder of this machine, for one node that is alone; the other keys here are
        /// its own. `scylla` keeps everything in the cluster of `store.scylla`.
        kind: StoreKind = StoreKind::Embedded;
        /// The embedded store's folder; made if it is missing. One process at a time. The development mode's keys are kept
        /// beside it.
        path: PathBuf = PathBuf::from("./data");
        /// Free disk space below which writes are answered with `unavailable`, so that the store never hits a full
        /// disk.
        reserve_bytes: u64 = 67_108_864, in 0..=1_099_511_627_776;
        /// Memory for what is read again: blocks from the disk, and rows written lately.
        cache_bytes: u64 = 67_108_864, in 1_048_576..=1_099_511_627_776;
        /// Reads under way at once; more wait.
        reads_max: usize = 64, in 1..=65_536;
        /// Reads that wait; more are answered with `unavailable`.
        reads_waiting_max: usize = 65_536, in 0..=10_000_000;
        /// Writes that wait for the next sync; more are answered with `unavailable`.
        queue_max: usize = 65_536, in 1..=10_000_000;
        /// The same in bytes. One write always has room.
        queue_bytes: usize = 67_108_864, in 1_048_576..=1_099_511_627_776;
    }
}

section! {
    /// The ScyllaDB cluster, in one data centre, that keeps the conversations of several nodes. The start waits for it,
    /// and is refused if it is not as these keys say.
    "store.scylla" Scylla {
        /// Servers that are asked for all the others. At least one with `store.kind` `scylla`.
        nodes: Vec<HostPort> = Vec::new();
        /// Made if it is missing; the tables in it too.
        keyspace: Keyspace = Keyspace::default();
        /// Copies of everything. The start is refused if there are fewer servers (see `forming_timeout_ms`), or if the
        /// keyspace was made with another number.
        replication_factor: u32 = 3, in 1..=100;
        /// The user, where the cluster asks for one.
        username: Option<String> = None;
        /// The user's password.
        password: Option<Secret> = None;
        /// How long the start waits for a cluster that has fewer servers than copies, or does not let the user in: it may
        /// still be forming. After that it is refused.
        forming_timeout_ms: u64 = 60_000, in 0..=86_400_000;
        /// Time limit of each statement, the wait for its turn included; what it cuts off is answered with
        /// `unavailable` or tried again.
        request_timeout_ms: u64 = 3_000, in 10..=600_000;
        /// Time after which a read without an answer is asked of another server too. 0: never.
        speculate_after_ms: u64 = 100, in 0..=600_000;
        /// Statements under way at once; more wait.
        statements_max: usize = 1_024, in 1..=1_000_000;
        /// Statements that wait; more are answered with `unavailable`.
        statements_waiting_max: usize = 65_536, in 0..=10_000_000;
        /// Time between two rounds in which members, edits and reactions are written behind the log. Until then other
        /// nodes make them from the log's last entries.
        apply_interval_ms: u64 = 10_000, in 10..=3_600_000;
        /// Time between two rounds in which it is noted where logs end, so that a take-over has less to read.
        raise_interval_ms: u64 = 60_000, in 10..=3_600_000;
        /// Users as whose inbox's writer this node is remembered; to write another's costs a compare-and-set.
        inbox_writers_max: usize = 100_000, in 1..=100_000_000;
        /// Memory for the inbox rows that this node wrote last; to write another costs a read.
        inbox_rows_bytes: usize = 33_554_432, in 65_536..=1_099_511_627_776;
    }
}

section! {
    /// What carries envelopes between nodes.
    "bus" Bus {
        /// `memory` is the bus within this process, which is alone then: no other may use the same store. `redis` makes
        /// all the nodes with the same `redis.url` and `redis.prefix` one gateway; it needs `store.kind` `scylla`, with
        /// the same keyspace at each.
        kind: BusKind = BusKind::Memory;
        /// Envelopes that wait for one other node at the sender, and packets that wait at the receiver; beyond it they
        /// are dropped, and what is owed is told again.
        queue_bytes: usize = 16_777_216, in 1_048_576..=1_073_741_824;
    }
}

section! {
    /// Redis, where nodes see each other and through which they talk (`bus.kind`). Nothing that must last is in it. The
    /// start waits for it; while it is away, what needs another node is answered with `unavailable`.
    "redis" Redis {
        /// `redis://host:6379/0`; `rediss` for TLS, checked against the system's certificates or those of the file that
        /// the environment's `SSL_CERT_FILE` names; `redis-cluster://host:port?node=host:port`;
        /// `redis-sentinel://host:port?node=host:port&sentinelServiceName=name`, with `sentinelUsername` and
        /// `sentinelPassword` where the sentinels ask for them. May hold `user:password@`; in the environment and in
        /// arguments others can see it, so a URL with a password is better given by its file.
        url: Option<RedisUrl> = None;
        /// The user, in place of the URL's.
        username: Option<String> = None;
        /// The password, in place of the URL's.
        password: Option<Secret> = None;
        /// What the names of all keys and channels begin with: gateways that share a Redis need different ones.
        prefix: RedisPrefix = RedisPrefix::default();
        /// Time limit of each command, of connecting and of a heartbeat's answer.
        timeout_ms: u64 = 1_000, in 10..=600_000;
        /// Packets that wait for Redis, and those from it that wait for this node; beyond it they are dropped, and what
        /// is owed is told again.
        queue_bytes: usize = 67_108_864, in 1_048_576..=1_099_511_627_776;
    }
}

section! {
    /// Nodes among themselves, with `bus.kind` `redis`. A node that is alone hears of nobody.
    "cluster" Cluster {
        /// How long a node that is not heard of counts as alive. Its conversations take messages again within a second
        /// after it.
        heartbeat_ttl_ms: u64 = 3_000, in 100..=600_000;
    }
}

section! {
    /// How entries reach a conversation's members.
    "fanout" Fanout {
        /// Largest conversation whose entries are sent whole to every member (`delivery` `full`); in a larger one
        /// only to those that have it open (`activity`).
        push_members_max: usize = 100, in 0..=10_000;
    }
}

section! {
    /// Catching up by `changes`.
    "changes" Changes {
        /// Most entries that a client can be behind; one that is further gets `reset` and uses `history`.
        max: usize = 5_000, in 1..=1_000_000;
    }
}

section! {
    /// How long messages are kept.
    "retention" Retention {
        /// Days after which an entry of a conversation is removed. 0: never. With `store.kind` `scylla` the time runs from
        /// when it was written; another value holds for what is written after it.
        days: u32 = 0, in 0..=7_300;
        /// The same for single tenants, each as `tenant=days`.
        tenants: Vec<TenantDays> = Vec::new();
    }
}

section! {
    /// Who is online.
    "presence" Presence {
        /// A watcher gets at most one `presence` frame in this time.
        batch_ms: u64 = 1_000, in 1..=600_000;
        /// A user whose last device has gone is offline only after this time, so that a reconnect is not seen.
        grace_ms: u64 = 5_000, in 0..=600_000;
    }
}

section! {
    /// Dashboards.
    "topics" Topics {
        /// Windows are closed so long after their end; events that come later are counted as late and left out.
        lateness_ms: u32 = 2_000, in 0..=60_000;
        /// Series of one topic with an event in the last hour; events that would make another are refused with
        /// `conflict`.
        series_max: usize = 1_000, in 1..=1_000_000;
        /// Time between two updates of a topic and window to its watchers.
        update_ms: u64 = 250, in 250..=60_000;
        /// Memory for the topics that this node owns, and for its copies of others' (each topic has one, at the node that
        /// would be its next owner); beyond it events are refused with `overloaded`, and copies are not kept. An hour of a
        /// series with events in each second takes about 270 KB, one with an event a minute 12 KB.
        memory_bytes: usize = 268_435_456, in 1_048_576..=1_099_511_627_776;
        /// How much of `memory_bytes` the topics of one tenant may take, in percent; beyond it that tenant's events are
        /// refused with `overloaded`. 100 where there is only one.
        tenant_percent: usize = 50, in 1..=100;
    }
}

section! {
    /// Notifications for who has no device that says it has got the message.
    "push" Push {
        /// How long a message waits for `delivered` or `read` from any of the user's devices before he is notified.
        hold_ms: u64 = 5_000, in 0..=600_000;
        /// Time between two notifications of one conversation; what comes meanwhile is told together.
        collapse_ms: u64 = 30_000, in 0..=86_400_000;
        /// Notifications of one user by one provider in an hour; further ones wait, and are told together.
        per_hour: usize = 10, in 1..=1_000;
        /// Conversations of one user of which it is kept in mind what he was told; of further ones he is not told until
        /// there is room.
        conversations_max: usize = 200, in 1..=10_000;
        /// Messages of one conversation that are told apart while they wait; of more, some count together.
        messages_max: usize = 20, in 3..=1_000;
        /// Users of whom it is kept in memory whether they have a device, and what they were told.
        users_max: usize = 100_000, in 1..=100_000_000;
        /// Devices that one user may register; one more is refused with `conflict`.
        devices_max: usize = 20, in 1..=1_000;
        /// Requests under way at once, for each provider: one that is slow holds up no other.
        in_flight_max: usize = 64, in 1..=10_000;
        /// Time limit of a request to a provider, connecting included.
        timeout_ms: u64 = 10_000, in 10..=60_000;
        /// For how long a node that sends a notification has it for itself: longer than `push.timeout_ms`, and than the
        /// nodes' clocks differ. If the node dies, another one sends it after that.
        lease_ms: u64 = 60_000, in 1_000..=3_600_000;
        /// How long a provider keeps a notification for a device that it can't reach.
        ttl_s: u32 = 86_400, in 0..=2_419_200;
        /// Networks, beside the public internet, to which notifications may be sent. Whoever registers a browser names a
        /// server that the node then talks to.
        allowed_networks: Vec<IpNet> = Vec::new();
    }
}

section! {
    /// Web Push, for browsers. Off without a key.
    "push.web_push" WebPush {
        /// The gateway's private key on P-256, PKCS #8 as PEM (VAPID). Browsers subscribe with its public part: with
        /// another key they have to subscribe again. In development mode one is made on first start, if none is set.
        vapid_key: Option<Secret> = None;
        /// Whom push services may write to: a `mailto:` or `https:` URL. Needed with the key.
        subject: Option<String> = None;
    }
}

section! {
    /// Firebase Cloud Messaging. Off without a service account.
    "push.fcm" Fcm {
        /// The service account's key, the JSON that Google gives out.
        service_account: Option<Secret> = None;
        /// Where messages are sent to.
        url: String = "https://fcm.googleapis.com".to_owned();
    }
}

section! {
    /// Apple's push notification service. Off without a key; with it `key_id`, `team_id` and `topic` are needed.
    "push.apns" Apns {
        /// The signing key, the `.p8` file that Apple gives out.
        key: Option<Secret> = None;
        /// The key's id.
        key_id: Option<String> = None;
        /// The developer's team.
        team_id: Option<String> = None;
        /// The application's bundle id.
        topic: Option<String> = None;
        /// Where notifications are sent to; `https://api.sandbox.push.apple.com` for applications under development.
        url: String = "https://api.push.apple.com".to_owned();
    }
}

section! {
    /// The application's own server, which gets each notification as a signed request. Off without a URL.
    "push.webhook" Webhook {
        /// Where requests are sent to, `https`.
        url: Option<String> = None;
        /// What requests are signed with, used as its bytes, at least 32. Needed with the URL.
        secret: Option<Secret> = None;
    }
}

section! {
    /// What became of messages, for whoever is asked why somebody did not get one: each node keeps in memory what it did
    /// itself.
    "trace" Trace {
        /// Memory for it; 0: nothing is noted. What is oldest is forgotten first.
        bytes: usize = 16_777_216, in 0..=1_099_511_627_776;
        /// For how long it is kept at most.
        kept_s: u32 = 3_600, in 1..=604_800;
        /// Sessions that are told apart of those that one delivery at one node is given to; of the others, the number is
        /// kept.
        sessions_max: usize = 100, in 0..=10_000;
    }
}

section! {
    /// Going away on SIGTERM or SIGINT.
    "drain" Drain {
        /// The time over which clients are asked to reconnect elsewhere; cut to what is left of `drain.timeout_ms` for it.
        spread_ms: u64 = 5_000, in 0..=3_600_000;
        /// The process has ended by then, drained or not.
        timeout_ms: u64 = 25_000, in 1..=3_600_000;
    }
}

section! {
    /// What the server tells each client about reconnecting, in `ready`.
    "session" Session {
        /// `reconnect.min_ms`.
        reconnect_min_ms: u64 = 500, in 1..=600_000;
        /// `reconnect.max_ms`.
        reconnect_max_ms: u64 = 30_000, in 1..=3_600_000;
    }
}

section! {
    /// Bounds. Those on a session count for each session alone.
    "limits" Limits {
        /// WebSocket connections to this node; more are refused with 503. 0: as many as the descriptors (`nofile`)
        /// allow. The start is refused if they don't allow what is asked for.
        connections: Option<NonZeroU32> = None, in 0..=100_000_000;
        /// Sessions of one user, on all nodes together; one more is closed with 4503.
        connections_per_user: u32 = 100, in 1..=1_000_000;
        /// WebSocket connections from one address, or one /64 network of IPv6; more are refused with 503. Behind
        /// `http.trusted_proxies` the address is the one that they forward. 0: no limit.
        connections_per_ip: Option<NonZeroU32> = None, in 0..=100_000_000;
        /// HTTP connections at once, those that are about to become a WebSocket included; more wait to be accepted.
        http_connections: usize = 4_096, in 1..=1_000_000;
        /// HTTP connections from one address; one more is closed at once. Behind `http.trusted_proxies` it is the
        /// requests under way from one forwarded address; one more is answered with 503. 0: no limit.
        http_connections_per_ip: Option<NonZeroU32> = None, in 0..=1_000_000;
        /// Time for TLS's handshake, and then for the head of each request, the wait for it included; the connection
        /// is closed after it.
        http_head_timeout_ms: u64 = 10_000, in 1..=600_000;
        /// Time for a request's body; also the longest time in which a client may take nothing of an answer.
        http_body_timeout_ms: u64 = 30_000, in 1..=600_000;
        /// Largest WebSocket message from a client.
        frame_bytes: usize = 65_536, in 256..=16_777_216;
        /// Largest `content`, as compact JSON. One beyond `limits.frame_bytes` can never come.
        content_bytes: usize = 32_768, in 16..=524_288;
        /// Frames per second and session; the bucket holds two seconds' worth.
        frames_per_s: u32 = 50, in 1..=1_000_000;
        /// HTTP requests per second and user.
        http_requests_per_s: u32 = 50, in 1..=1_000_000;
        /// A socket that is not authenticated by then is closed with 4401.
        auth_timeout_ms: u64 = 5_000, in 1..=600_000;
        /// Time between the server's pings; a socket silent for two and a half of them is closed with 4408.
        heartbeat_ms: u64 = 25_000, in 10..=3_600_000;
        /// Frames waiting for one session; when undroppable ones don't fit, it is closed with 4508.
        session_queue_bytes: usize = 1_048_576, in 1_024..=1_073_741_824;
        /// Requests of one session under way at once; its next frame is read when one is answered.
        session_requests_max: usize = 64, in 1..=65_536;
        /// Requests of this node's sessions under way at once; more are answered with `overloaded`.
        requests_waiting_max: usize = 100_000, in 1..=100_000_000;
        /// Time after which a `send` that is not durable yet is answered with `unavailable`.
        send_timeout_ms: u64 = 5_000, in 1..=600_000;
        /// Commands waiting at one conversation's owner; more are answered with `overloaded`. A new value holds for
        /// conversations that become active after it.
        conversation_queue_max: usize = 1_024, in 1..=1_000_000;
        /// The same in bytes. The largest command, a group of 10,000 members with long ids, has room.
        conversation_queue_bytes: usize = 4_194_304, in 2_097_152..=1_073_741_824;
        /// Entries in which a repeat with an old `base_seq` is looked for; where that is not enough, it is answered with
        /// `outcome_unknown`.
        resend_search_max: u64 = 100_000, in 1..=100_000_000;
        /// Conversations that this node owns in memory at once; for more, commands are answered with `overloaded`.
        conversations_active_max: usize = 100_000, in 1..=100_000_000;
        /// A conversation without a command for so long is released from memory.
        conversation_idle_ms: u64 = 30_000, in 1..=86_400_000;
        /// Users whose inbox changes wait to be written; with more, they are written before their time. As many
        /// times at which users were last seen may wait; a further one is left out.
        home_dirty_max: usize = 100_000, in 1..=100_000_000;
        /// Inbox changes that wait to be written; beyond it, what would add to them is answered with `overloaded`, and
        /// what other nodes tell is dropped and told again.
        home_dirty_bytes: usize = 134_217_728, in 1_048_576..=1_099_511_627_776;
        /// Time between two writes of a home's inbox changes.
        inbox_flush_ms: u64 = 1_000, in 1..=60_000;
        /// What is kept in memory of the last entries of active conversations, at most 8 KiB of each: who missed no more
        /// gets it without a read of the store.
        newest_entries_bytes: usize = 16_777_216, in 0..=1_099_511_627_776;
        /// What is kept in memory, per conversation, of messages that were edited or reacted to lately; beyond it
        /// they are read again.
        message_states_bytes: usize = 262_144, in 0..=1_073_741_824;
        /// Users whom one user blocks; one more is refused with `conflict`.
        blocks_per_user: usize = 1_000, in 1..=5_000;
        /// Different emojis on one message.
        reactions_per_message_max: usize = 100, in 1..=10_000;
    }
}

section! {
    /// The log, on stderr. Tokens and contents are never in it.
    "log" Log {
        /// `text`, `json`, or `auto`: `text` on a terminal, else `json`.
        format: LogFormat = LogFormat::Auto;
        /// The least important that is logged: `error`, `warn`, `info`, `debug`, `trace`, or `off`.
        level: LogLevel = LogLevel::Info;
    }
}
