//! All sections with their keys, defaults, ranges and meanings: the only place where keys are declared.
//!
//! A component gets its own section and reads no other. The doc comments are the text of `docs/configuration.md`, so
//! they address operators. Ranges are wide on purpose: they exclude what can't work, not what is unusual.

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
        /// The listen address for clients, WebSocket and HTTP. Port 0 takes a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080));
        /// The URL under which clients reach this particular node (`ws`, `wss`, `http` or `https`), announced by
        /// `/v1/connect` and `reconnect`; `/v1/ws` is appended. Default: the listen address. Required with `bus.kind`
        /// `redis` if that is the unspecified address (`0.0.0.0`).
        advertise_url: Option<AdvertiseUrl> = None;
        /// The node's share of users and conversations, relative to the other nodes' weights.
        weight: u32 = 1, in 1..=100;
    }
}

section! {
    /// TLS on `node.listen`. Set both keys or neither.
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
        /// The listen address for `/metrics`, served without authentication. Port 0 takes a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9464));
    }
}

section! {
    /// Browsers and proxies.
    "http" Http {
        /// The `Origin`s that may connect, such as `https://app.example.com`; `*` allows any. A request without an
        /// `Origin` (not from a browser) is always allowed. Empty: only pages from the server's own address; in
        /// development mode also from any loopback address.
        allowed_origins: Vec<Origin> = Vec::new();
        /// Addresses and networks (`10.0.0.0/8`) of the proxies whose `X-Forwarded-For` is trusted.
        trusted_proxies: Vec<IpNet> = Vec::new();
    }
}

section! {
    /// The keys that verify tokens. If none is set the server runs in *development mode*: it creates its own signing
    /// key and gives anyone a token.
    "auth" Auth {
        /// The secret for HS256 tokens without a `kid`, used as raw bytes, at least 32. `switchboard token` signs with
        /// it.
        hs256_secret: Option<Secret> = None;
        /// Keys selected by a token's `kid`. Each is a table of `kid`, `alg` (`HS256`, `RS256`, `ES256` or `EdDSA`) and
        /// the key: `secret` or `secret_file` for HS256 (at least 32 bytes), `public_key` (PEM) or `public_key_file`
        /// for the others.
        keys: Vec<AuthKey> = Vec::new();
    }
}

section! {
    /// Where conversations are stored.
    "store" Store {
        /// `embedded` stores everything in a local folder, for a single node; the other keys of this section apply to
        /// it. `scylla` stores everything in the cluster of `store.scylla`.
        kind: StoreKind = StoreKind::Embedded;
        /// The embedded store's folder; created if it is missing. Used by one process at a time. The keys of
        /// development mode are stored beside it.
        path: PathBuf = PathBuf::from("./data");
        /// Free disk space below which writes are answered with `unavailable`, so that the store never fills the disk.
        reserve_bytes: u64 = 67_108_864, in 0..=1_099_511_627_776;
        /// Memory for caches: blocks from the disk, and recently written rows.
        cache_bytes: u64 = 67_108_864, in 1_048_576..=1_099_511_627_776;
        /// Concurrent reads; more wait.
        reads_max: usize = 64, in 1..=65_536;
        /// Waiting reads; more are answered with `unavailable`.
        reads_waiting_max: usize = 65_536, in 0..=10_000_000;
        /// Writes that may wait for the next sync; more are answered with `unavailable`.
        queue_max: usize = 65_536, in 1..=10_000_000;
        /// The same limit in bytes. One write always has room.
        queue_bytes: usize = 67_108_864, in 1_048_576..=1_099_511_627_776;
    }
}

section! {
    /// The ScyllaDB cluster that stores the conversations of several nodes; it must be in one data centre. The server
    /// waits for it when it starts, and refuses to start if it does not match these keys.
    "store.scylla" Scylla {
        /// Contact points, from which the other servers are discovered. At least one with `store.kind` `scylla`.
        nodes: Vec<HostPort> = Vec::new();
        /// The keyspace; created with its tables if it is missing.
        keyspace: Keyspace = Keyspace::default();
        /// Replicas of all data. The server refuses to start if there are fewer servers (see `forming_timeout_ms`), or
        /// if the keyspace was created with another number.
        replication_factor: u32 = 3, in 1..=100;
        /// The user, if the cluster requires authentication.
        username: Option<String> = None;
        /// The user's password.
        password: Option<Secret> = None;
        /// How long the server waits at startup for a cluster that has fewer servers than replicas, or rejects the
        /// credentials: it may still be forming. After that it refuses to start.
        forming_timeout_ms: u64 = 60_000, in 0..=86_400_000;
        /// Time limit of each statement, including the wait for its turn; after it, the request is answered with
        /// `unavailable` or retried. A connection to a server that does not answer for two thirds of it, and at least
        /// 2 s, is taken for dead.
        request_timeout_ms: u64 = 3_000, in 10..=600_000;
        /// Time after which an unanswered read is sent to another server as well. 0: never.
        speculate_after_ms: u64 = 100, in 0..=600_000;
        /// Concurrent statements; more wait.
        statements_max: usize = 1_024, in 1..=1_000_000;
        /// Waiting statements; more are answered with `unavailable`.
        statements_waiting_max: usize = 65_536, in 0..=10_000_000;
        /// How often members, edits and reactions are written behind the log. Until then other nodes compute them from
        /// the log's last entries.
        apply_interval_ms: u64 = 10_000, in 10..=3_600_000;
        /// How often the ends of logs are recorded, so that a take-over has less to read.
        raise_interval_ms: u64 = 60_000, in 10..=3_600_000;
        /// Users for whom this node remembers that it writes their inboxes; writing another user's costs a
        /// compare-and-set.
        inbox_writers_max: usize = 100_000, in 1..=100_000_000;
        /// Memory for the inbox rows that this node wrote last; writing another row costs a read.
        inbox_rows_bytes: usize = 33_554_432, in 65_536..=1_099_511_627_776;
    }
}

section! {
    /// The transport for messages between nodes.
    "bus" Bus {
        /// `memory` is the bus within one process, for a single node: no other process may use the same store. `redis`
        /// joins all nodes with the same `redis.url` and `redis.prefix` into one gateway; it requires `store.kind`
        /// `scylla`, with the same keyspace on each node.
        kind: BusKind = BusKind::Memory;
        /// Bytes that may wait at the sender for each other node; beyond that messages are dropped, and what they
        /// announced is repeated. What waits for Redis, and at the receiver, is bounded by `redis.queue_bytes`.
        queue_bytes: usize = 16_777_216, in 1_048_576..=1_073_741_824;
    }
}

section! {
    /// Redis, through which nodes find each other and communicate (`bus.kind`). It holds nothing durable. The server
    /// waits for it when it starts; while it is unreachable, requests that need another node are answered with
    /// `unavailable`.
    "redis" Redis {
        /// `redis://host:6379/0`; `rediss` for TLS, verified with the system's certificates or those in the file named
        /// by the environment variable `SSL_CERT_FILE`; `redis-cluster://host:port?node=host:port`;
        /// `redis-sentinel://host:port?node=host:port&sentinelServiceName=name`, with `sentinelUsername` and
        /// `sentinelPassword` if the sentinels require them. May contain `user:password@`; others can see the
        /// environment and arguments, so give a URL with a password in a file.
        url: Option<RedisUrl> = None;
        /// The user, instead of the one in the URL.
        username: Option<String> = None;
        /// The password, instead of the one in the URL.
        password: Option<Secret> = None;
        /// The prefix of all keys and channels: gateways that share a Redis need different ones.
        prefix: RedisPrefix = RedisPrefix::default();
        /// Time limit of each command, of connecting, and of a heartbeat's answer.
        timeout_ms: u64 = 1_000, in 10..=600_000;
        /// Bytes that may wait for Redis, and bytes from Redis that may wait for this node; beyond that packets are
        /// dropped, and what they announced is repeated.
        queue_bytes: usize = 67_108_864, in 1_048_576..=1_099_511_627_776;
    }
}

section! {
    /// The cluster of nodes, with `bus.kind` `redis`. Unused by a single node.
    "cluster" Cluster {
        /// How long a node counts as alive without a heartbeat. After that, its conversations accept messages again
        /// within a second.
        heartbeat_ttl_ms: u64 = 3_000, in 100..=600_000;
    }
}

section! {
    /// How entries reach a conversation's members.
    "fanout" Fanout {
        /// Largest conversation whose entries are sent in full to every member (`delivery` `full`); in a larger one
        /// they are sent only to members that have it open (`activity`).
        push_members_max: usize = 100, in 0..=10_000;
    }
}

section! {
    /// Catching up with `changes`.
    "changes" Changes {
        /// How many entries a client may be behind; beyond that it gets `reset` and uses `history`.
        max: usize = 5_000, in 1..=1_000_000;
    }
}

section! {
    /// How long messages are stored.
    "retention" Retention {
        /// Days after which the entries of a conversation are removed. 0: never. With `store.kind` `scylla` the time
        /// counts from when an entry is written, and a new value applies to entries written after the change.
        days: u32 = 0, in 0..=7_300;
        /// Exceptions for single tenants, each as `tenant=days`.
        tenants: Vec<TenantDays> = Vec::new();
    }
}

section! {
    /// Who is online.
    "presence" Presence {
        /// A watcher gets at most one `presence` frame in this time.
        batch_ms: u64 = 1_000, in 1..=600_000;
        /// A user is offline only this long after the last device has gone, so that a reconnect is not visible.
        grace_ms: u64 = 5_000, in 0..=600_000;
    }
}

section! {
    /// Dashboards.
    "topics" Topics {
        /// How long after their end windows are closed; events that arrive later are counted as late and left out.
        lateness_ms: u32 = 2_000, in 0..=60_000;
        /// Series of one topic with an event in the last hour; events that would add another are refused with
        /// `conflict`.
        series_max: usize = 1_000, in 1..=1_000_000;
        /// Time between two updates of a topic and window to its watchers.
        update_ms: u64 = 250, in 250..=60_000;
        /// Memory for the topics that this node owns, and for its copies of topics of other nodes (each topic has one
        /// copy, on the node that would be its next owner); beyond that events are refused with `overloaded`, and
        /// copies are not kept. An hour of a series with an event every second takes about 270 KB, with an event every
        /// minute 12 KB.
        memory_bytes: usize = 268_435_456, in 1_048_576..=1_099_511_627_776;
        /// The share of `memory_bytes` that the topics of one tenant may take, in percent; beyond that the tenant's
        /// events are refused with `overloaded`. Use 100 if there is only one tenant.
        tenant_percent: usize = 50, in 1..=100;
    }
}

section! {
    /// Notifications for users whose devices have not confirmed a message.
    "push" Push {
        /// How long a message waits for `delivered` or `read` from any of the user's devices before the user is
        /// notified.
        hold_ms: u64 = 5_000, in 0..=600_000;
        /// Time between two notifications of one conversation; messages that come meanwhile are combined.
        collapse_ms: u64 = 30_000, in 0..=86_400_000;
        /// Notifications per user, provider and hour; further ones wait, and are combined.
        per_hour: usize = 10, in 1..=1_000;
        /// Conversations per user whose notifications are tracked; for others the user is not notified until there is
        /// room.
        conversations_max: usize = 200, in 1..=10_000;
        /// Waiting messages of one conversation that are tracked individually; beyond that, some are counted together.
        messages_max: usize = 20, in 3..=1_000;
        /// Users whose devices and notifications are kept in memory.
        users_max: usize = 100_000, in 1..=100_000_000;
        /// Devices that one user may register; one more is refused with `conflict`.
        devices_max: usize = 20, in 1..=1_000;
        /// Concurrent requests per provider, so that a slow one delays no other.
        in_flight_max: usize = 64, in 1..=10_000;
        /// Time limit of a request to a provider, including the time to connect.
        timeout_ms: u64 = 10_000, in 10..=60_000;
        /// How long a node reserves a notification that it sends: longer than `push.timeout_ms`, and than the nodes'
        /// clocks may differ. If the node dies, another one sends the notification after that.
        lease_ms: u64 = 60_000, in 1_000..=3_600_000;
        /// How long a provider keeps a notification for an unreachable device.
        ttl_s: u32 = 86_400, in 0..=2_419_200;
        /// Networks, in addition to the public internet, to which notifications may be sent. Whoever registers a
        /// browser chooses a server that the node then connects to.
        allowed_networks: Vec<IpNet> = Vec::new();
    }
}

section! {
    /// Web Push, for browsers. Off without a key.
    "push.web_push" WebPush {
        /// The gateway's private P-256 key, PKCS #8 as PEM (VAPID). Browsers subscribe with its public key: after a
        /// change they have to subscribe again. In development mode one is created on first start, if none is set.
        vapid_key: Option<Secret> = None;
        /// The contact for push services: a `mailto:` or `https:` URL. Required with the key.
        subject: Option<String> = None;
    }
}

section! {
    /// Firebase Cloud Messaging. Off without a service account.
    "push.fcm" Fcm {
        /// The service account's key, the JSON file from Google.
        service_account: Option<Secret> = None;
        /// The URL of the service.
        url: String = "https://fcm.googleapis.com".to_owned();
    }
}

section! {
    /// Apple's push notification service. Off without a key, with which `key_id`, `team_id` and `topic` are required.
    "push.apns" Apns {
        /// The signing key, the `.p8` file from Apple.
        key: Option<Secret> = None;
        /// The key's id.
        key_id: Option<String> = None;
        /// The id of the developer's team.
        team_id: Option<String> = None;
        /// The application's bundle id.
        topic: Option<String> = None;
        /// The URL of the service; `https://api.sandbox.push.apple.com` for applications under development.
        url: String = "https://api.push.apple.com".to_owned();
    }
}

section! {
    /// The application's own server, which receives each notification as a signed request. Off without a URL.
    "push.webhook" Webhook {
        /// The URL of the requests, `https`.
        url: Option<String> = None;
        /// The secret that signs requests, used as raw bytes, at least 32. Required with the URL.
        secret: Option<Secret> = None;
    }
}

section! {
    /// Message traces, which answer why somebody did not get a message: each node records its own actions in memory.
    "trace" Trace {
        /// Memory for the records; 0: nothing is recorded. The oldest are dropped first.
        bytes: usize = 16_777_216, in 0..=1_099_511_627_776;
        /// Maximum age of the records.
        kept_s: u32 = 3_600, in 1..=604_800;
        /// Sessions that are recorded individually for one delivery on one node; the rest are only counted.
        sessions_max: usize = 100, in 0..=10_000;
    }
}

section! {
    /// Shutting down on SIGTERM or SIGINT.
    "drain" Drain {
        /// The time over which clients are asked to reconnect elsewhere, limited by what is left of `drain.timeout_ms`.
        spread_ms: u64 = 5_000, in 0..=3_600_000;
        /// The process ends after this time, drained or not.
        timeout_ms: u64 = 25_000, in 1..=3_600_000;
    }
}

section! {
    /// What the server tells clients about reconnecting, in `ready`.
    "session" Session {
        /// `reconnect.min_ms`.
        reconnect_min_ms: u64 = 500, in 1..=600_000;
        /// `reconnect.max_ms`.
        reconnect_max_ms: u64 = 30_000, in 1..=3_600_000;
    }
}

section! {
    /// Limits. Limits on a session apply to each session separately.
    "limits" Limits {
        /// WebSocket connections to this node; more are refused with 503. 0: as many as the file descriptors (`nofile`)
        /// allow. The server refuses to start if they don't allow the configured number.
        connections: Option<NonZeroU32> = None, in 0..=100_000_000;
        /// Sessions of one user, on all nodes together; one more is closed with 4503.
        connections_per_user: u32 = 100, in 1..=1_000_000;
        /// WebSocket connections from one address, or one /64 network of IPv6; more are refused with 503. Behind
        /// `http.trusted_proxies` it is the forwarded address. 0: no limit.
        connections_per_ip: Option<NonZeroU32> = None, in 0..=100_000_000;
        /// Concurrent HTTP connections, including those about to become a WebSocket; more wait to be accepted.
        http_connections: usize = 4_096, in 1..=1_000_000;
        /// HTTP connections from one address; one more is closed at once. Behind `http.trusted_proxies` it limits the
        /// concurrent requests from one forwarded address; one more is answered with 503. 0: no limit.
        http_connections_per_ip: Option<NonZeroU32> = None, in 0..=1_000_000;
        /// Time limit of the TLS handshake, and then of the head of each request, including the wait for it; after that
        /// the connection is closed.
        http_head_timeout_ms: u64 = 10_000, in 1..=600_000;
        /// Time limit of a request's body; also the longest time in which a client may read nothing of an answer.
        http_body_timeout_ms: u64 = 30_000, in 1..=600_000;
        /// Largest WebSocket message from a client.
        frame_bytes: usize = 65_536, in 256..=16_777_216;
        /// Largest `content`, as compact JSON. A content larger than `limits.frame_bytes` can never arrive.
        content_bytes: usize = 32_768, in 16..=524_288;
        /// Frames per second and session; the bucket holds two seconds' worth.
        frames_per_s: u32 = 50, in 1..=1_000_000;
        /// HTTP requests per second and user.
        http_requests_per_s: u32 = 50, in 1..=1_000_000;
        /// Time after which a socket that has not authenticated is closed with 4401.
        auth_timeout_ms: u64 = 5_000, in 1..=600_000;
        /// Time between the server's pings; a socket silent for two and a half of them is closed with 4408.
        heartbeat_ms: u64 = 25_000, in 10..=3_600_000;
        /// Bytes of frames that may wait for one session; if undroppable ones don't fit, it is closed with 4508.
        session_queue_bytes: usize = 1_048_576, in 1_024..=1_073_741_824;
        /// Concurrent requests of one session; its next frame is read when one is answered.
        session_requests_max: usize = 64, in 1..=65_536;
        /// Concurrent requests of this node's sessions; more are answered with `overloaded`.
        requests_waiting_max: usize = 100_000, in 1..=100_000_000;
        /// Time after which a `send` that is not durable yet is answered with `unavailable`.
        send_timeout_ms: u64 = 5_000, in 1..=600_000;
        /// Commands waiting at one conversation's owner; more are answered with `overloaded`. A new value applies to
        /// conversations that become active after the change.
        conversation_queue_max: usize = 1_024, in 1..=1_000_000;
        /// The same limit in bytes. The largest command, a group of 10,000 members with long ids, fits.
        conversation_queue_bytes: usize = 4_194_304, in 2_097_152..=1_073_741_824;
        /// Entries that are searched for the original of a repeat with an old `base_seq`; if that is not enough, it is
        /// answered with `outcome_unknown`.
        resend_search_max: u64 = 100_000, in 1..=100_000_000;
        /// Conversations that this node owns in memory at once; commands for more are answered with `overloaded`.
        conversations_active_max: usize = 100_000, in 1..=100_000_000;
        /// A conversation without commands for this long is released from memory.
        conversation_idle_ms: u64 = 30_000, in 1..=86_400_000;
        /// Users with inbox changes that wait to be written; with more, the changes are written early. The same number
        /// of last-seen times may wait; more are dropped.
        home_dirty_max: usize = 100_000, in 1..=100_000_000;
        /// Bytes of inbox changes that wait to be written; beyond that, requests that would add to them are answered
        /// with `overloaded`, and announcements of other nodes are dropped and repeated.
        home_dirty_bytes: usize = 134_217_728, in 1_048_576..=1_099_511_627_776;
        /// Time between two writes of a user's inbox changes at their home, where users take turns.
        inbox_flush_ms: u64 = 1_000, in 1..=60_000;
        /// Memory for the last entries of active conversations, at most 8 KiB of each: a client that missed no more
        /// than these gets them without a read of the store.
        newest_entries_bytes: usize = 16_777_216, in 0..=1_099_511_627_776;
        /// Memory per conversation for recently edited or reacted messages; others are read again.
        message_states_bytes: usize = 262_144, in 0..=1_073_741_824;
        /// Users that one user may block; one more is refused with `conflict`.
        blocks_per_user: usize = 1_000, in 1..=5_000;
        /// Different emojis on one message.
        reactions_per_message_max: usize = 100, in 1..=10_000;
    }
}

section! {
    /// The log, on stderr. It never contains tokens or message contents.
    "log" Log {
        /// `text`, `json`, or `auto`: `text` on a terminal, otherwise `json`.
        format: LogFormat = LogFormat::Auto;
        /// The lowest level that is logged: `error`, `warn`, `info`, `debug`, `trace`, or `off`.
        level: LogLevel = LogLevel::Info;
    }
}
