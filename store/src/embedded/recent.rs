//! A cache of rows that the commit thread wrote recently: it mostly changes what it has just changed, such as the heads
//! of active conversations, and finds it here instead of in the database's tables.
//!
//! The commit thread is the only writer, so a cached row is always current. Log entries are not cached: nobody changes
//! them. The most recently written rows stay; the bound is in bytes.

use crate::kv::keys::Table;
use fjall::Slice;
use hashbrown::HashMap;

/// See the file's comment.
#[derive(Default)]
pub(super) struct Recent {
    /// Rows written since the other half was started.
    young: HashMap<Slice, Slice>,
    old: HashMap<Slice, Slice>,
    young_bytes: u64,
}

/// Estimated memory overhead of a row.
const ROW_BYTES: u64 = 96;

fn row_bytes(key: &Slice, value: &Slice) -> u64 {
    (key.len() + value.len()) as u64 + ROW_BYTES
}

impl Recent {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Slice> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Records a written row; about `bytes_max` are kept in total.
    pub(super) fn put(&mut self, key: &Slice, value: &Slice, bytes_max: u64) {
        if [Table::Message, Table::Entry].iter().any(|log| key.first() == Some(&(*log as u8))) {
            return;
        }
        let before = self.young.insert(key.clone(), value.clone()).map_or(0, |before| row_bytes(key, &before));
        self.young_bytes = self.young_bytes + row_bytes(key, value) - before;
        if self.young_bytes > bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    /// Records a removed row.
    pub(super) fn remove(&mut self, key: &[u8]) {
        if let Some((key, value)) = self.young.remove_entry(key) {
            self.young_bytes -= row_bytes(&key, &value);
        }
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: u64 = 1_000;

    fn put(recent: &mut Recent, key: &str, value: &str) {
        recent.put(&Slice::from(key), &Slice::from(value), BYTES_MAX);
    }

    fn get<'a>(recent: &'a Recent, key: &str) -> Option<&'a [u8]> {
        recent.get(key.as_bytes()).map(AsRef::as_ref)
    }

    #[test]
    fn what_was_written_last_is_found_and_takes_bounded_memory() {
        let mut recent = Recent::default();
        for number in 0..100 {
            put(&mut recent, "often", &number.to_string());
            put(&mut recent, &number.to_string(), "once");
        }
        assert_eq!(get(&recent, "often"), Some(&b"99"[..]));
        assert_eq!(get(&recent, "99"), Some(&b"once"[..]));
        assert_eq!(get(&recent, "0"), None);
        assert!((recent.young.len() + recent.old.len()) as u64 * ROW_BYTES <= BYTES_MAX);
    }

    #[test]
    fn a_row_that_grows_counts_with_what_it_has_grown_by() {
        let mut recent = Recent::default();
        put(&mut recent, "grows", "");
        put(&mut recent, "other", "");
        put(&mut recent, "grows", &"x".repeat(400));
        assert_eq!(recent.young_bytes, 0, "the half that was full is the old one");
        put(&mut recent, "shrinks", &"x".repeat(300));
        put(&mut recent, "shrinks", "x");
        assert_eq!(recent.young_bytes, 8 + ROW_BYTES);
        recent.remove(b"shrinks");
        assert_eq!(recent.young_bytes, 0);
    }

    #[test]
    fn what_was_removed_is_in_neither_half() {
        let mut recent = Recent::default();
        put(&mut recent, "row", "old");
        recent.old = std::mem::take(&mut recent.young);
        put(&mut recent, "row", "young");
        recent.remove(b"row");
        assert_eq!(get(&recent, "row"), None);
    }

    #[test]
    fn entries_of_logs_are_not_kept() {
        let mut recent = Recent::default();
        put(&mut recent, "\u{3}entry", "{}");
        put(&mut recent, "\u{4}entry", "{}");
        assert!(recent.young.is_empty());
    }
}
