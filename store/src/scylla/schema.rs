//! The keyspace and its tables: created, migrated to this version, and refused if they do not match.
//!
//! Each migration is a list of repeatable statements. One node at a time runs them, under a lock with a TTL in the one
//! table that exists from the start, and always through the same coordinator: two coordinators that create a table at
//! the same time could create it twice.

use super::ScyllaOptions;
use super::client::{Client, store_error, unreadable};
use crate::{SetupError, StoreError};
use scylla::cluster::metadata::Strategy;
use scylla::deserialize::row::DeserializeRow;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::{Consistency, Statement};
use std::collections::BTreeSet;
use switchboard_protocol::StoreId;

/// A repeatable step of a migration.
enum Step {
    Run(&'static str),
    /// Adds a column. A variant of its own because one of the two servers has no `IF NOT EXISTS` for it.
    AddColumn {
        table: &'static str,
        column: &'static str,
        is: &'static str,
    },
}

use Step::{AddColumn, Run};

/// Migration n turns version n into n + 1. Never changed once released: a later version adds a list.
const MIGRATIONS: [&[Step]; 2] = [FIRST, PUSH];

const FIRST: &[Step] = &[
    Run("CREATE TABLE IF NOT EXISTS KS.messages (tenant text, conversation text, bucket bigint, seq bigint, term bigint,
     payload blob, PRIMARY KEY ((tenant, conversation, bucket), seq))"),
    Run("CREATE TABLE IF NOT EXISTS KS.conversation_head (tenant text, conversation text, term bigint, owner text,
     log_end bigint, created text, PRIMARY KEY ((tenant, conversation)))"),
    Run("CREATE TABLE IF NOT EXISTS KS.conversation_state (tenant text, conversation text, applied_seq bigint, state text,
     PRIMARY KEY ((tenant, conversation)))"),
    Run("CREATE TABLE IF NOT EXISTS KS.members (tenant text, conversation text, user_id text, membership text,
     delivered_seq bigint, read_seq bigint, read_messages bigint, mentioned_seq bigint,
     PRIMARY KEY ((tenant, conversation), user_id))"),
    Run("CREATE TABLE IF NOT EXISTS KS.message_states (tenant text, conversation text, bucket bigint, seq bigint, part text,
     emoji text, user_id text, entry_seq bigint, value text,
     PRIMARY KEY ((tenant, conversation, bucket), seq, part, emoji, user_id))"),
    Run("CREATE TABLE IF NOT EXISTS KS.nodes (node text PRIMARY KEY, state text)"),
    // Notes come and go, so tombstones are purged soon. A note that reappears costs one take-over.
    Run("CREATE TABLE IF NOT EXISTS KS.active (node text, shard int, tenant text, conversation text, term bigint,
     PRIMARY KEY ((node, shard), tenant, conversation)) WITH gc_grace_seconds = 600"),
    Run("CREATE TABLE IF NOT EXISTS KS.inbox (tenant text, user_id text, conversation text, version bigint, last text,
     mentioned_seq bigint, read_seq bigint, read_messages bigint, membership_seq bigint, member boolean,
     settings_number bigint, settings text, PRIMARY KEY ((tenant, user_id), conversation))"),
    Run("CREATE TABLE IF NOT EXISTS KS.inbox_epochs (tenant text, user_id text, epoch bigint,
     PRIMARY KEY ((tenant, user_id)))"),
    Run("CREATE TABLE IF NOT EXISTS KS.users (tenant text, user_id text, revoked_ms bigint static,
     last_seen_ms bigint static, side text, other text, number bigint, since_ms bigint,
     PRIMARY KEY ((tenant, user_id), side, other))"),
];

/// Push, and its traces of what was sent. In tables whose rows are removed for good, tombstones are purged soon: a row
/// that reappears is recognized as stale again.
const PUSH: &[Step] = &[
    AddColumn { table: "users", column: "name", is: "text static" },
    Run(
        "CREATE TABLE IF NOT EXISTS KS.push_devices (tenant text, user_id text, device text, channel text, target text,
     registered_ms bigint, PRIMARY KEY ((tenant, user_id), device))",
    ),
    Run("CREATE TABLE IF NOT EXISTS KS.notification_preferences (tenant text, user_id text, preferences text,
     PRIMARY KEY ((tenant, user_id)))"),
    Run("CREATE TABLE IF NOT EXISTS KS.push_deliveries (tenant text, user_id text, conversation text, channel text,
     number bigint, place text, PRIMARY KEY ((tenant, user_id), conversation, channel))"),
    Run(
        "CREATE TABLE IF NOT EXISTS KS.push_queue (channel text, priority int, bucket bigint, shard int, due_ms bigint,
     tenant text, user_id text, conversation text, number bigint,
     PRIMARY KEY ((channel, priority, bucket, shard), due_ms, tenant, user_id, conversation))
     WITH gc_grace_seconds = 600",
    ),
    Run("CREATE TABLE IF NOT EXISTS KS.push_buckets (channel text, priority int, bucket bigint, state text,
     PRIMARY KEY ((channel), priority, bucket)) WITH gc_grace_seconds = 600"),
    Run("CREATE TABLE IF NOT EXISTS KS.dead_letters (tenant text, id bigint, letter text,
     PRIMARY KEY ((tenant), id))"),
    // A version without push works with this schema too (DESIGN §5.12).
    Run("INSERT INTO KS.store (part, value) VALUES ('schema_oldest', '1') IF NOT EXISTS"),
];

/// The table that exists before any migration: the schema's version, the migrating node, the store's id.
const STORE: &str = "CREATE TABLE IF NOT EXISTS KS.store (part text PRIMARY KEY, value text)";

/// The migration lock expires after this, so that a node that died does not block the others.
const MIGRATING_S: u32 = 120;

const KEYSPACE_BYTES_MAX: usize = 48;

#[expect(clippy::cast_possible_truncation, reason = "few")]
const NEWEST: u32 = MIGRATIONS.len() as u32;

/// Creates what is missing. Returns the store's id.
pub(super) async fn prepare(client: &Client, options: &ScyllaOptions, me: &str) -> Result<StoreId, StoreError> {
    let schema = Schema { client, keyspace: &options.keyspace };
    schema.check_name()?;
    let data_center = schema.data_center(options.replication_factor)?;
    schema.make_keyspace(&data_center, options.replication_factor).await?;
    if !schema.is_there().await? {
        schema.define(STORE).await?;
    }
    schema.migrate(me).await?;
    client.session.refresh_metadata().await.map_err(|error| StoreError::unavailable(error.to_string()))?;
    schema.put_if_missing("store_id", me).await?;
    let found = schema.part("store_id").await?.ok_or_else(|| unreadable("the store has lost its id"))?;
    found.parse::<StoreId>().map_err(|error| {
        let keyspace = options.keyspace.clone();
        SetupError::StoreId { keyspace, found, expected: error.expected }.into()
    })
}

struct Schema<'a> {
    client: &'a Client,
    keyspace: &'a str,
}

impl Schema<'_> {
    fn wrong_keyspace(&self, why: impl Into<String>) -> StoreError {
        SetupError::Keyspace { keyspace: self.keyspace.to_owned(), why: why.into() }.into()
    }

    fn check_name(&self) -> Result<(), StoreError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let name = self.keyspace.as_bytes();
        let is_name = name.first().is_some_and(u8::is_ascii_lowercase) && name.iter().all(|byte| fits(*byte));
        if is_name && name.len() <= KEYSPACE_BYTES_MAX {
            return Ok(());
        }
        Err(self.wrong_keyspace("a name is 1 to 48 of a-z, 0-9 and _, and begins with a letter"))
    }

    /// The name of the only data centre.
    fn data_center(&self, replication_factor: u32) -> Result<String, StoreError> {
        let cluster = self.client.session.get_cluster_state();
        let nodes = cluster.get_nodes_info();
        let found: BTreeSet<&str> = nodes.iter().filter_map(|node| node.datacenter.as_deref()).collect();
        let mut found = found.into_iter();
        let data_center = match (found.next(), found.next()) {
            (Some(one), None) => one.to_owned(),
            (one, other) => {
                let found = one.into_iter().chain(other).chain(found).map(str::to_owned).collect();
                return Err(SetupError::DataCenters { found }.into());
            }
        };
        if usize::try_from(replication_factor).is_ok_and(|wanted| wanted > nodes.len()) {
            return Err(SetupError::Replication { wanted: replication_factor, nodes: nodes.len() }.into());
        }
        Ok(data_center)
    }

    async fn make_keyspace(&self, data_center: &str, replication_factor: u32) -> Result<(), StoreError> {
        let cluster = self.client.session.get_cluster_state();
        let Some(keyspace) = cluster.get_keyspace(self.keyspace) else {
            let keyspace = self.keyspace;
            let make = format!(
                "CREATE KEYSPACE IF NOT EXISTS {keyspace}
                 WITH replication = {{'class': 'NetworkTopologyStrategy', '{data_center}': {replication_factor}}}"
            );
            // Without tablets, with which ScyllaDB before 2025.4 has no compare-and-set. Cassandra and ScyllaDB before
            // 6 do not know the keyword.
            if cluster.get_nodes_info().iter().any(|node| node.sharder().is_some()) {
                let made = self.define(&format!("{make} AND tablets = {{'enabled': false}}")).await;
                if !matches!(made, Err(StoreError::Refused { .. })) {
                    return made;
                }
            }
            return self.define(&make).await;
        };
        let found = match &keyspace.strategy {
            Strategy::SimpleStrategy { replication_factor } => Some(*replication_factor),
            Strategy::NetworkTopologyStrategy { datacenter_repfactors } => {
                datacenter_repfactors.get(data_center).copied()
            }
            _ => None,
        };
        if found == usize::try_from(replication_factor).ok() {
            return Ok(());
        }
        let found = found.map_or_else(|| "no".to_owned(), |found| found.to_string());
        Err(self.wrong_keyspace(format!(
            "it keeps {found} copies in {data_center}, where store.scylla.replication_factor is {replication_factor}"
        )))
    }

    /// Whether the keyspace contains a store. Tables are never created beside those of something else.
    async fn is_there(&self) -> Result<bool, StoreError> {
        let select = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
        let tables: Vec<(String,)> = self.rows(select, (self.keyspace,)).await?;
        let is_there = tables.iter().any(|(table,)| table == "store");
        if is_there || tables.is_empty() {
            return Ok(is_there);
        }
        Err(self.wrong_keyspace("it holds tables of something else"))
    }

    async fn migrate(&self, me: &str) -> Result<(), StoreError> {
        loop {
            let version = self.part("schema").await?;
            let found = version.as_deref().map_or(Ok(0), str::parse::<u32>);
            let found = found.map_err(|_| self.wrong_keyspace("its table \"store\" is of something else"))?;
            let Some(migration) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found)) else {
                if found == NEWEST || self.oldest_in_use().await?.is_some_and(|oldest| oldest <= NEWEST) {
                    return Ok(());
                }
                let keyspace = self.keyspace.to_owned();
                return Err(SetupError::NewerSchema { keyspace, found, known: NEWEST }.into());
            };
            self.begin_migrating(me).await?;
            for step in *migration {
                self.take(step).await?;
            }
            let next = (found + 1).to_string();
            match version {
                None => self.put_if_missing("schema", &next).await?,
                Some(version) => {
                    let set = "UPDATE KS.store SET value = ? WHERE part = 'schema' IF value = ?";
                    self.run(set, (next, version)).await?;
                }
            }
            self.run("DELETE FROM KS.store WHERE part = 'migrating' IF value = ?", (me,)).await?;
        }
    }

    async fn take(&self, step: &Step) -> Result<(), StoreError> {
        match step {
            Run(statement) => self.define(statement).await,
            AddColumn { table, column, is } => {
                let select = "SELECT type FROM system_schema.columns
                              WHERE keyspace_name = ? AND table_name = ? AND column_name = ?";
                let found: Vec<(String,)> = self.rows(select, (self.keyspace, *table, *column)).await?;
                if !found.is_empty() {
                    return Ok(());
                }
                self.define(&format!("ALTER TABLE KS.{table} ADD {column} {is}")).await
            }
        }
    }

    /// The oldest version that works with a newer schema, as that schema's migration recorded: a node of the previous
    /// version may be restarted during an upgrade (DESIGN §5.12).
    async fn oldest_in_use(&self) -> Result<Option<u32>, StoreError> {
        Ok(self.part("schema_oldest").await?.and_then(|oldest| oldest.parse().ok()))
    }

    async fn begin_migrating(&self, me: &str) -> Result<(), StoreError> {
        let lock =
            format!("INSERT INTO KS.store (part, value) VALUES ('migrating', ?) IF NOT EXISTS USING TTL {MIGRATING_S}");
        self.run(&lock, (me,)).await?;
        match self.part("migrating").await? {
            Some(who) if who == me => Ok(()),
            _ => Err(StoreError::unavailable("another node is preparing the schema")),
        }
    }

    async fn put_if_missing(&self, part: &str, value: &str) -> Result<(), StoreError> {
        self.run("INSERT INTO KS.store (part, value) VALUES (?, ?) IF NOT EXISTS", (part, value)).await.map(drop)
    }

    async fn part(&self, part: &str) -> Result<Option<String>, StoreError> {
        let mut select = self.statement("SELECT value FROM KS.store WHERE part = ?");
        select.set_consistency(Consistency::LocalSerial);
        let found = self.client.session.query_unpaged(select, (part,)).await.map_err(store_error)?;
        let found: Vec<(String,)> = read(found)?;
        Ok(found.into_iter().next().map(|(value,)| value))
    }

    fn statement(&self, cql: &str) -> Statement {
        Statement::new(cql.replace("KS.", &format!("{}.", self.keyspace)))
    }

    /// Changes the schema, through the node with the lowest id.
    async fn define(&self, cql: &str) -> Result<(), StoreError> {
        let mut statement = self.statement(cql);
        let cluster = self.client.session.get_cluster_state();
        let first = cluster.get_nodes_info().iter().filter(|node| node.is_connected()).min_by_key(|node| node.host_id);
        let first = first.map(|node| SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(node.host_id), None));
        statement.set_load_balancing_policy(first);
        Box::pin(self.client.session.query_unpaged(statement, ())).await.map_err(store_error)?;
        // Even if there was nothing to do: another node may have defined it a moment ago.
        let agreed = Box::pin(self.client.session.await_schema_agreement()).await;
        agreed.map(drop).map_err(|error| StoreError::unavailable(error.to_string()))
    }

    async fn run(&self, cql: &str, values: impl SerializeRow) -> Result<QueryResult, StoreError> {
        self.client.session.query_unpaged(self.statement(cql), values).await.map_err(store_error)
    }

    async fn rows<R>(&self, cql: &str, values: impl SerializeRow) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        read(self.run(cql, values).await?)
    }
}

fn read<R>(result: QueryResult) -> Result<Vec<R>, StoreError>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let rows = result.into_rows_result().map_err(unreadable)?;
    let rows = rows.rows().map_err(unreadable)?;
    rows.collect::<Result<_, _>>().map_err(unreadable)
}
