//! Verifies the database's journals before the database opens them.
//!
//! fjall cuts a journal off at the first thing that it can't read, so damage in the middle would silently discard
//! everything behind it. Here the batches of all journals must follow each other without a gap in their commit numbers,
//! up to the watermark at least. What is behind a journal's last whole batch is then a torn write, from a crash or a
//! full disk, and is removed. Whole batches behind the watermark are rewritten: their sync may have failed, in which
//! case the page cache may show what is not on the disk, and no later sync reports it. The format is that of fjall's
//! database version 3 (its `journal/entry.rs`), which the database's own version file names.
//!
//! Not detected: the loss of the whole oldest of several journals, and a lower sequence number in the very first batch,
//! since nothing precedes it and no checksum covers it.

use crate::kv::{Meta, keys, values};
use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// A description of the damage, for the operator.
pub(super) type Damage = String;

/// Checks the journals in `folder` against the newest commit known to be durable.
///
/// # Errors
/// A description of the damage, in which case nothing is changed, or the I/O error.
pub(super) fn verify(folder: &Path, watermark: u64) -> Result<(), Damage> {
    let journals = journals(folder).map_err(|error| format!("its journals can't be listed: {error}"))?;
    let mut chain = Chain::default();
    let (mut unsure, mut torn) = (Vec::new(), Vec::new());
    for (index, path) in journals.iter().enumerate() {
        let found = read_through(path, &mut chain, watermark)?;
        // A journal is sealed when it is full, so only the newest may be empty.
        if found.batches == 0 && index + 1 < journals.len() {
            return Err(format!("{} can't be read", path.display()));
        }
        if found.synced_bytes < found.whole_bytes {
            unsure.push((path, found.synced_bytes..found.whole_bytes));
        }
        if !found.rest_is_zero {
            torn.push((path, found.whole_bytes));
        }
    }
    if journals.is_empty() {
        return Err("it has no journal any more".to_owned());
    }
    if let Some(commit) = chain.commit.filter(|commit| *commit < watermark) {
        return Err(format!("its journals end at commit {commit}, but {watermark} was synced{}", places(&torn)));
    }
    if chain.commit.is_none() {
        refuse_lost_batches(&torn)?;
    }
    for (path, at) in torn {
        tracing::info!(journal = %path.display(), at, "removing a torn write");
        cut_off(path, at).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for (path, bytes) in unsure {
        write_again(path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// For a journal of which nothing can be read. A torn write has no end marker; a batch that has one was written as a
/// whole, and may have been synced.
fn refuse_lost_batches(torn: &[(&PathBuf, u64)]) -> Result<(), Damage> {
    for (path, _) in torn {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if bytes.windows(TRAILER.len()).any(|window| window == TRAILER) {
            return Err(format!("{} can't be read", path.display()));
        }
    }
    Ok(())
}

/// The places where journals become unreadable.
fn places(torn: &[(&PathBuf, u64)]) -> String {
    torn.iter().map(|(path, at)| format!("; {} can't be read after byte {at}", path.display())).collect()
}

/// The journals, oldest first.
fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            found.push((number.ok_or(io::ErrorKind::InvalidData)?, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn cut_off(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}

/// Rewrites what the page cache shows, which the disk may not have.
fn write_again(path: &Path, bytes: Range<u64>) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = bytes.start;
    while at < bytes.end {
        let len = buffer.len().min(usize::try_from(bytes.end - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..len], at)?;
        file.write_all_at(&buffer[..len], at)?;
        at += len as u64;
    }
    file.sync_all()
}

/// Checks that successive batches are contiguous.
#[derive(Default)]
struct Chain {
    commit: Option<u64>,
    seqno: Option<u64>,
}

impl Chain {
    fn add(&mut self, batch: &Batch) -> Result<(), Damage> {
        // They grow with each batch, but not by one: tables take some too.
        if let Some(last) = self.seqno.replace(batch.seqno).filter(|last| batch.seqno <= *last) {
            return Err(format!("batch {} follows on {last}", batch.seqno));
        }
        let Some(commit) = batch.commit else { return Ok(()) };
        match self.commit.replace(commit) {
            Some(last) if commit != last + 1 => Err(format!("commit {commit} follows on {last}")),
            _ => Ok(()),
        }
    }
}

/// One journal.
struct Found {
    batches: u64,
    /// The end of the last batch that is known to be durable.
    synced_bytes: u64,
    /// The end of the last whole batch.
    whole_bytes: u64,
    /// Journals are created at a fixed length, filled with zeros.
    rest_is_zero: bool,
}

fn read_through(path: &Path, chain: &mut Chain, watermark: u64) -> Result<Found, Damage> {
    let io_error = |error: io::Error| format!("{}: {error}", path.display());
    let mut reader = JournalReader { file: BufReader::new(File::open(path).map_err(io_error)?), position: 0 };
    let mut found = Found { batches: 0, synced_bytes: 0, whole_bytes: 0, rest_is_zero: true };
    while let Some(batch) = reader.batch().map_err(io_error)? {
        let at = found.whole_bytes;
        chain.add(&batch).map_err(|why| format!("{} is damaged before byte {at}: {why}", path.display()))?;
        found.batches += 1;
        found.whole_bytes = reader.position;
        if chain.commit.is_none_or(|commit| commit <= watermark) {
            found.synced_bytes = found.whole_bytes;
        }
    }
    found.rest_is_zero = is_zero_from(reader.file, found.whole_bytes).map_err(io_error)?;
    Ok(found)
}

fn is_zero_from(mut file: BufReader<File>, position: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(position))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(true),
            len if buffer[..len].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

/// The relevant facts of a batch.
struct Batch {
    seqno: u64,
    /// The number in its [`Meta`] row, which all our batches have.
    commit: Option<u64>,
}

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const TRAILER: &[u8] = b"FJL\x03";

struct JournalReader {
    file: BufReader<File>,
    position: u64,
}

/// Something that is not a batch: the end of the journal, as far as it can be read.
enum Stop {
    Unreadable,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Unreadable } else { Self::Io(error) }
    }
}

impl JournalReader {
    /// The next whole batch, or `None` if something else follows.
    fn batch(&mut self) -> io::Result<Option<Batch>> {
        match self.try_batch() {
            Ok(batch) => Ok(Some(batch)),
            Err(Stop::Unreadable) => Ok(None),
            Err(Stop::Io(error)) => Err(error),
        }
    }

    fn try_batch(&mut self) -> Result<Batch, Stop> {
        let mut checksum = Xxh3::new();
        // The checksum does not cover the start and end markers, so only their form is checked.
        let mut unsummed = Xxh3::new();
        let [tag] = self.take(&mut unsummed)?;
        expect(tag == START)?;
        let items = u32::from_le_bytes(self.take(&mut unsummed)?);
        let seqno = u64::from_le_bytes(self.take(&mut unsummed)?);
        let mut commit = None;
        for _ in 0..items {
            commit = self.item(&mut checksum)?.or(commit);
        }
        let [tag] = self.take(&mut unsummed)?;
        expect(tag == END)?;
        let sum = u64::from_le_bytes(self.take(&mut unsummed)?);
        let trailer: [u8; TRAILER.len()] = self.take(&mut unsummed)?;
        expect(trailer == TRAILER && sum == checksum.finish())?;
        Ok(Batch { seqno, commit })
    }

    /// One item; the commit number if it is the [`Meta`] row.
    fn item(&mut self, checksum: &mut Xxh3) -> Result<Option<u64>, Stop> {
        let [tag] = self.take(checksum)?;
        expect(tag == ITEM)?;
        let [_value_type, _compression] = self.take(checksum)?;
        let _keyspace: [u8; 8] = self.take(checksum)?;
        let key_len = u16::from_le_bytes(self.take(checksum)?);
        let _value_len: [u8; 4] = self.take(checksum)?;
        let stored_len = u32::from_le_bytes(self.take(checksum)?);
        let key = self.take_vec(u64::from(key_len), checksum)?;
        let value = self.take_vec(u64::from(stored_len), checksum)?;
        let meta_key = keys::meta();
        if key != meta_key.as_bytes() {
            return Ok(None);
        }
        let meta: Meta = values::decode(&meta_key, &value).map_err(|_| Stop::Unreadable)?;
        Ok(Some(meta.commit))
    }

    fn take<const N: usize>(&mut self, checksum: &mut Xxh3) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        checksum.update(&bytes);
        self.position += N as u64;
        Ok(bytes)
    }

    /// Never allocates more than the file holds, even if a length is damaged.
    fn take_vec(&mut self, len: u64, checksum: &mut Xxh3) -> Result<Vec<u8>, Stop> {
        let mut bytes = Vec::new();
        let taken = self.file.by_ref().take(len).read_to_end(&mut bytes)?;
        expect(taken as u64 == len)?;
        checksum.update(&bytes);
        self.position += len;
        Ok(bytes)
    }
}

fn expect(holds: bool) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(Stop::Unreadable) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use xxhash_rust::xxh3::xxh3_64;

    /// A journal as fjall writes it, with the commits `first` to `last` of some rows each, and the ends of its batches.
    fn journal(first: u64, last: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for commit in first..=last {
            let meta = values::encode(&Meta { commit, ..Meta::default() }).unwrap();
            let rows = [(vec![9; 20], vec![commit.to_le_bytes()[0]; 300]), (keys::meta().into_bytes(), meta)];
            bytes.extend([START]);
            bytes.extend(u32::try_from(rows.len()).unwrap().to_le_bytes());
            bytes.extend((commit + 100).to_le_bytes());
            let mut items = Vec::new();
            for (key, value) in rows {
                items.extend([ITEM, 0, 0]);
                items.extend(1u64.to_le_bytes());
                items.extend(u16::try_from(key.len()).unwrap().to_le_bytes());
                let value_len = u32::try_from(value.len()).unwrap().to_le_bytes();
                items.extend([value_len, value_len].concat());
                items.extend(key);
                items.extend(value);
            }
            bytes.extend(&items);
            bytes.extend([END]);
            bytes.extend(xxh3_64(&items).to_le_bytes());
            bytes.extend(TRAILER);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn folder(journals: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in journals {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn padded(bytes: &[u8]) -> Vec<u8> {
        [bytes, &[0; 5_000]].concat()
    }

    #[test]
    fn the_format_is_the_databases_own() {
        let folder = tempfile::tempdir().unwrap();
        let database = fjall::Database::builder(folder.path()).open().unwrap();
        let keyspace = database.keyspace("rows", fjall::KeyspaceCreateOptions::default).unwrap();
        for commit in 1..=20 {
            let mut batch = database.batch();
            // Values over 4 KiB are compressed.
            batch.insert(&keyspace, format!("row {commit}"), vec![7; 1_000 * usize::try_from(commit).unwrap()]);
            batch.remove(&keyspace, "row 1");
            let meta = values::encode(&Meta { commit, ..Meta::default() }).unwrap();
            batch.insert(&keyspace, keys::meta().into_bytes(), meta);
            batch.commit().unwrap();
        }
        assert_eq!(verify(folder.path(), 20), Ok(()));
        assert!(verify(folder.path(), 21).unwrap_err().contains("end at commit 20, but 21 was synced"));
    }

    #[test]
    fn journals_follow_each_other() {
        let (one, _) = journal(5, 8);
        let (two, _) = journal(9, 12);
        let whole = folder(&[("9.jnl", &padded(&one)), ("10.jnl", &padded(&two))]);
        assert_eq!(verify(whole.path(), 12), Ok(()));
        let (gap, _) = journal(10, 12);
        let gap = folder(&[("9.jnl", &padded(&one)), ("10.jnl", &padded(&gap))]);
        assert!(verify(gap.path(), 0).unwrap_err().contains("commit 10 follows on 8"));
        let empty = folder(&[("9.jnl", &padded(&one)), ("10.jnl", &padded(&[]))]);
        assert_eq!(verify(empty.path(), 8), Ok(()), "a journal was just begun");
        assert!(verify(empty.path(), 9).is_err());
        assert!(verify(folder(&[]).path(), 0).is_err(), "there always is one");
        let cut_off = folder(&[("11.jnl", &two[..100])]);
        assert_eq!(verify(cut_off.path(), 8), Ok(()), "the first write of a journal was cut off");
        let mut unreadable = two.clone();
        unreadable[0] ^= 0x41;
        let unreadable = folder(&[("11.jnl", &unreadable)]);
        assert!(verify(unreadable.path(), 8).unwrap_err().contains("11.jnl can't be read"));
    }

    #[test]
    fn a_sealed_journal_must_be_whole() {
        let (one, ends) = journal(5, 8);
        let (two, _) = journal(9, 12);
        let first_seqno = 5..13;
        for at in (0..one.len()).step_by(3).filter(|at| !first_seqno.contains(at)) {
            let mut damaged = one.clone();
            damaged[at] ^= 0x41;
            let folder = folder(&[("0.jnl", &padded(&damaged)), ("1.jnl", &padded(&two))]);
            assert!(verify(folder.path(), 0).is_err(), "byte {at}");
        }
        let torn = [&one[..], b"cut off"].concat();
        let after_a_full_disk = folder(&[("0.jnl", &torn), ("1.jnl", &padded(&two))]);
        assert_eq!(verify(after_a_full_disk.path(), 12), Ok(()));
        assert_eq!(fs::read(after_a_full_disk.path().join("0.jnl")).unwrap(), one);
        for len in [0, 1, ends[0], ends[2], ends[2] + 7] {
            let folder = folder(&[("0.jnl", &one[..len]), ("1.jnl", &padded(&two))]);
            assert!(verify(folder.path(), 0).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn what_may_not_be_on_the_disk_is_what_is_behind_the_watermark() {
        let (one, ends) = journal(5, 8);
        let folder = folder(&[("0.jnl", &padded(&one))]);
        let path = folder.path().join("0.jnl");
        for (watermark, synced_bytes) in [(4, 0), (5, ends[0]), (7, ends[2]), (8, ends[3])] {
            let found = read_through(&path, &mut Chain::default(), watermark).unwrap();
            assert_eq!((found.synced_bytes, found.whole_bytes), (synced_bytes as u64, one.len() as u64));
            assert_eq!(verify(folder.path(), watermark), Ok(()));
            assert_eq!(fs::read(&path).unwrap(), padded(&one), "what is written again is what was there");
        }
    }

    #[test]
    fn only_what_was_never_synced_is_cut_off_the_newest() {
        let (bytes, ends) = journal(1, 4);
        let whole_bytes = ends[2];
        // Everything that a crash can leave of the last batch, with its blocks written in any order.
        for at in (whole_bytes..bytes.len()).step_by(3) {
            let mut torn = padded(&bytes);
            torn[at] ^= 0x41;
            torn[at..].iter_mut().step_by(3).skip(1).for_each(|byte| *byte = 0);
            let folder = folder(&[("0.jnl", &torn)]);
            let path = folder.path().join("0.jnl");
            assert!(verify(folder.path(), 4).is_err(), "it was synced");
            assert_eq!(fs::read(&path).unwrap(), torn, "nothing was changed");
            assert_eq!(verify(folder.path(), 3), Ok(()), "byte {at}");
            assert_eq!(fs::read(&path).unwrap(), bytes[..whole_bytes], "byte {at}");
        }
        let clean = folder(&[("0.jnl", &padded(&bytes))]);
        assert_eq!(verify(clean.path(), 4), Ok(()));
        assert_eq!(fs::read(clean.path().join("0.jnl")).unwrap(), padded(&bytes), "zeros are left");
    }
}
