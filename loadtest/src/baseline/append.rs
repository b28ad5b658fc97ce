//! Bare batched appends: the embedded store alone, synced to disk, with as many conversations as the real load has
//! clients, and as many messages in an append as it has sends under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::json;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::server::Message;
use switchboard_protocol::{Content, EntryFrame, MessageId, Seq, Timestamp};
use switchboard_store::{
    Appended, Claim, ConversationKey, EmbeddedOptions, EmbeddedStore, Entry, Incarnation, Kind, NewConversation,
    Previous, RecentWindow, Store, TermNumber,
};

use super::own_load::{self, Writers};

/// The program.
pub(super) async fn serve(conversations: usize, batch: usize, text_bytes: usize) -> Result<()> {
    let (clock, text) = (Clock::system(), "x".repeat(text_bytes));
    // The folder that the harness created for this process.
    let options = EmbeddedOptions::new(std::env::current_dir()?.join("store"));
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&options, clock, &Generator::from_entropy())?);
    own_load::serve(async |writers: &mut Writers| {
        for number in 0..conversations {
            let owner = Owner::begin(store.clone(), number).await?;
            writers.tasks.spawn(owner.append(batch.max(1), text.clone(), writers.durable.clone()));
        }
        Ok(())
    })
    .await
}

/// A minimal owner of a conversation: just enough to make messages.
struct Owner {
    store: Arc<dyn Store>,
    key: ConversationKey,
    term: TermNumber,
    end: u64,
}

impl Owner {
    async fn begin(store: Arc<dyn Store>, number: usize) -> Result<Self> {
        let key = ConversationKey { tenant: "load".parse()?, conversation: format!("d:{number}").parse()? };
        let kind = Kind::Direct("alice".parse()?, "bob".parse()?);
        let created_at = Timestamp::from_unix_ms(Clock::system().wall_ms());
        let create = Some(NewConversation { kind, title: None, custom: None, created_at });
        let by = Incarnation { node: "bare".parse()?, life: 1 };
        let claim = Claim {
            by,
            create,
            recent: RecentWindow { entries_max: 0, since: Timestamp::MIN },
            previous: Previous::Unknown,
        };
        let begun = store.begin_term(&key, claim).await?.context("the conversation was not created")?;
        Ok(Self { store, key, term: begun.term, end: begun.end.get() })
    }

    async fn append(mut self, batch: usize, text: String, durable: Arc<AtomicU64>) -> Result<()> {
        loop {
            let entries = (0..batch).map(|_| self.message(&text)).collect::<Result<Arc<[Entry]>>>()?;
            match self.store.append(&self.key, self.term, entries).await? {
                Appended::Durable => durable.fetch_add(batch as u64, Ordering::Relaxed),
                Appended::Superseded => bail!("superseded, although there is no other owner"),
            };
        }
    }

    fn message(&mut self, text: &str) -> Result<Entry> {
        self.end += 1;
        let seq = Seq::new(self.end);
        let frame = EntryFrame::Message(Message {
            conversation_id: self.key.conversation.clone(),
            message_id: MessageId::new(self.end),
            seq,
            from: "alice".parse()?,
            client_id: format!("bare.{:x}", self.end).parse()?,
            content: Content::parse(&json!({"text": text}).to_string(), usize::MAX)?,
            timestamp: Timestamp::from_unix_ms(1_700_000_000_000),
        });
        let json = Bytes::from(frame.encode(None));
        Ok(Entry { seq, messages: self.end, frame, json })
    }
}
