//! Reads entries of a log page by page, across partitions.

use super::Core;
use super::quorum::{bigint, bucket};
use crate::kv::values::decode_entry;
use crate::quorum::BUCKET_ENTRIES;
use crate::{ConversationKey, StoreError, StoredEntry};
use bytes::Bytes;
use switchboard_protocol::Seq;

/// Entries read at a time.
pub(super) const PAGE_ENTRIES: usize = 128;

/// A scan of many entries reads up to this many at a time, if about this many bytes hold them: that is where ScyllaDB
/// ends a page itself.
const LARGE_PAGE_ENTRIES: usize = 1_024;
const LARGE_PAGE_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
}

/// The range that is still to be read.
pub(super) struct Scan<'a> {
    core: &'a Core,
    conversation: &'a ConversationKey,
    first: u64,
    /// Exclusive.
    end: u64,
    order: Order,
    page_entries: usize,
    /// Whether pages grow.
    is_of_many: bool,
}

impl<'a> Scan<'a> {
    /// A scan over the entries from `first` to `last`.
    pub(super) fn new(core: &'a Core, conversation: &'a ConversationKey, first: Seq, last: Seq, order: Order) -> Self {
        let (first, end) = (first.get(), last.get().saturating_add(1));
        Self { core, conversation, first, end, order, page_entries: PAGE_ENTRIES, is_of_many: false }
    }

    /// A scan that is likely to go far: each page is up to twice as large as the one before.
    pub(super) fn of_many(
        core: &'a Core,
        conversation: &'a ConversationKey,
        first: Seq,
        last: Seq,
        order: Order,
    ) -> Self {
        Self { is_of_many: true, ..Self::new(core, conversation, first, last, order) }
    }

    /// The next entries, at least one; `None` when there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<StoredEntry>>, StoreError> {
        while self.first < self.end {
            let page = self.next_of_bucket().await?;
            if !page.is_empty() {
                return Ok(Some(page));
            }
            if self.order == Order::Descending {
                // This entry has expired, and so have all below it.
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Continues at the next message after `passed`, the last entry that was returned: any number of reactions may lie
    /// in between. Entries say how many messages the log holds up to them, so a search skips most of the reactions.
    pub(super) async fn skip_to_message(&mut self, passed: &StoredEntry) -> Result<(), StoreError> {
        match self.order {
            Order::Ascending => {
                let found = self.first_with(passed.messages + 1).await?;
                self.first = found.map_or(self.end, Seq::get);
            }
            Order::Descending => {
                let found = self.first_with(passed.messages).await?;
                self.end = found.map_or(self.first, |seq| seq.get() + 1);
            }
        }
        Ok(())
    }

    /// The first entry of the remaining range up to which the log holds this many messages.
    async fn first_with(&self, messages: u64) -> Result<Option<Seq>, StoreError> {
        let (mut first, mut end, mut found) = (self.first, self.end, None);
        while first < end {
            let middle = first + (end - first) / 2;
            let last = Seq::new(end - 1);
            let mut page = Scan::new(self.core, self.conversation, Seq::new(middle), last, Order::Ascending);
            let entries = Box::pin(page.next()).await?.unwrap_or_default();
            match entries.iter().position(|entry| entry.messages >= messages) {
                Some(0) => {
                    found = Some(entries[0].seq);
                    end = middle;
                }
                Some(at) => return Ok(Some(entries[at].seq)),
                None => match entries.last() {
                    Some(last) => first = last.seq.get() + 1,
                    None => end = middle,
                },
            }
        }
        Ok(found)
    }

    async fn next_of_bucket(&mut self) -> Result<Vec<StoredEntry>, StoreError> {
        let leading = if self.order == Order::Ascending { self.first } else { self.end - 1 };
        let bucket = bucket(Seq::new(leading));
        let (first, end) = (bucket * BUCKET_ENTRIES, (bucket + 1).saturating_mul(BUCKET_ENTRIES));
        let (first, end) = (first.max(self.first), end.min(self.end));
        let statements = &self.core.statements;
        let statement =
            if self.order == Order::Ascending { &statements.log.entries_first } else { &statements.log.entries_last };
        let (tenant, id) = (self.conversation.tenant.as_str(), self.conversation.conversation.as_str());
        let limit = i32::try_from(self.page_entries).unwrap_or(i32::MAX);
        let values = (tenant, id, bigint(bucket), bigint(first), bigint(end - 1), limit);
        let found: Vec<(i64, Vec<u8>)> = self.core.client.rows(statement, values).await?;
        let decoded = found.into_iter().map(|(seq, payload)| decode(Seq::new(seq.cast_unsigned()), &payload));
        let page = decoded.collect::<Result<Vec<_>, _>>()?;
        let read_on = page.last().filter(|_| page.len() == self.page_entries).map(|entry| entry.seq.get());
        match self.order {
            Order::Ascending => self.first = read_on.map_or(end, |last| last + 1),
            Order::Descending => self.end = read_on.unwrap_or(first),
        }
        if self.is_of_many {
            self.page_entries = next_page_entries(self.page_entries, &page);
        }
        Ok(page)
    }
}

/// How many entries follow a page in one read. The entries beyond it may be larger than those on it; the next page is
/// small again then.
fn next_page_entries(now: usize, page: &[StoredEntry]) -> usize {
    let largest = page.iter().map(|entry| entry.json.len()).max().unwrap_or_default();
    let fitting = LARGE_PAGE_BYTES.checked_div(largest).unwrap_or_default();
    fitting.min(2 * now).clamp(PAGE_ENTRIES, LARGE_PAGE_ENTRIES)
}

/// Decodes an entry from its row's payload.
pub(super) fn decode(seq: Seq, payload: &[u8]) -> Result<StoredEntry, StoreError> {
    let (messages, json) = decode_entry(format!("entry {seq}").as_bytes(), payload)?;
    Ok(StoredEntry { seq, messages, json: Bytes::copy_from_slice(json) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_while_their_entries_are_small() {
        let page = |entries: &[usize]| -> Vec<StoredEntry> {
            let entry = |bytes: &usize| StoredEntry { seq: Seq::ZERO, messages: 0, json: Bytes::from(vec![0; *bytes]) };
            entries.iter().map(entry).collect()
        };
        assert_eq!(next_page_entries(PAGE_ENTRIES, &page(&[200, 300])), 2 * PAGE_ENTRIES);
        assert_eq!(next_page_entries(LARGE_PAGE_ENTRIES, &page(&[200, 300])), LARGE_PAGE_ENTRIES);
        assert_eq!(next_page_entries(LARGE_PAGE_ENTRIES, &page(&[200, LARGE_PAGE_BYTES / 500])), 500);
        assert_eq!(next_page_entries(LARGE_PAGE_ENTRIES, &page(&[200, LARGE_PAGE_BYTES])), PAGE_ENTRIES);
        assert_eq!(next_page_entries(LARGE_PAGE_ENTRIES, &[]), PAGE_ENTRIES);
    }
}
