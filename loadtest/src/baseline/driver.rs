//! The bare driver: rows like those of the log, written to the same ScyllaDB or Cassandra by the driver alone, with as
//! many conversations and as many messages under way (`under_way` in each) as the real load has clients and sends.
//!
//! One message under way in a conversation is a single row; several are batches of one partition, as many in parallel
//! as hold that many rows together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use switchboard_clock::Clock;

use super::own_load::{self, Writers};
use crate::run::replicas;

/// Maximum rows of a batch.
const BATCH_ROWS_MAX: usize = 16;
/// Rows of a partition, as in the log.
const PARTITION_ROWS: u64 = 4_096;
/// The size of a log entry without its text, in bytes.
const AROUND_TEXT_BYTES: usize = 190;

/// The program.
pub(super) async fn serve(servers: &[String], conversations: usize, under_way: usize, text_bytes: usize) -> Result<()> {
    ensure!(!servers.is_empty(), "the address of a ScyllaDB or Cassandra is missing");
    let rows = under_way.clamp(1, BATCH_ROWS_MAX);
    let table = Arc::new(Table::make(servers, rows, "x".repeat(AROUND_TEXT_BYTES + text_bytes).into_bytes()).await?);
    own_load::serve(async |writers: &mut Writers| {
        for number in 0..conversations {
            let next = Arc::new(AtomicU64::new(0));
            for _ in 0..under_way.div_ceil(rows).max(1) {
                let (table, durable) = (table.clone(), writers.durable.clone());
                let conversation = format!("d:{number}");
                let next = next.clone();
                writers.tasks.spawn(async move {
                    loop {
                        table.write(&conversation, next.fetch_add(table.rows as u64, Ordering::Relaxed)).await?;
                        durable.fetch_add(table.rows as u64, Ordering::Relaxed);
                    }
                });
            }
        }
        Ok(())
    })
    .await
}

/// The table that rows are written to, and the statement.
struct Table {
    session: Session,
    insert: PreparedStatement,
    /// Rows of one statement.
    rows: usize,
    batch: Batch,
    payload: Vec<u8>,
}

impl Table {
    async fn make(servers: &[String], rows: usize, payload: Vec<u8>) -> Result<Self> {
        let session = SessionBuilder::new().known_nodes(servers).build().await?;
        let keyspace = format!("loadtest_bare_{:x}", Clock::system().wall_ms());
        let replicas = replicas(servers);
        let make = format!(
            "CREATE KEYSPACE {keyspace}
             WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replicas}}}"
        );
        session.query_unpaged(make, ()).await?;
        let make = format!(
            "CREATE TABLE {keyspace}.messages (tenant text, conversation text, bucket bigint, seq bigint, term bigint,
             payload blob, PRIMARY KEY ((tenant, conversation, bucket), seq))"
        );
        session.query_unpaged(make, ()).await?;
        session.await_schema_agreement().await?;
        let insert = format!(
            "INSERT INTO {keyspace}.messages (tenant, conversation, bucket, seq, term, payload)
             VALUES ('load', ?, ?, ?, 1, ?) USING TIMESTAMP ?"
        );
        let mut insert = session.prepare(insert).await?;
        insert.set_consistency(Consistency::LocalQuorum);
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, vec![insert.clone().into(); rows]);
        batch.set_consistency(Consistency::LocalQuorum);
        Ok(Self { session, insert, rows, batch, payload })
    }

    /// Writes the rows from `first` on.
    async fn write(&self, conversation: &str, first: u64) -> Result<()> {
        let row = |seq: u64| {
            let (bucket, seq) = ((seq / PARTITION_ROWS).cast_signed(), seq.cast_signed());
            (conversation, bucket, seq, self.payload.as_slice(), seq + 1)
        };
        if self.rows == 1 {
            self.session.execute_unpaged(&self.insert, row(first)).await?;
        } else {
            let rows: Vec<_> = (first..first + self.rows as u64).map(row).collect();
            self.session.batch(&self.batch, rows).await?;
        }
        Ok(())
    }
}
