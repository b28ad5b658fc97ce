//! Reads the database's journals through before the database does.
//!
//! fjall cuts a journal off at the first thing in it that it can't read, so that damage in the middle would silently take
//! everything behind it along. Here the batches of all journals must follow each other without a gap in their commit
//! numbers, up to the watermark at least; only the newest journal may end in a write that a crash cut off, which is
//! removed. The format is that of fjall's database version 3 (its `journal/entry.rs`), which the database's own version
//! file names. Not noticed: that the oldest of several journals is gone as a whole.

use crate::kv::{Meta, keys, values};
use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// What is wrong with the journals, for the operator.
pub(super) type Damage = String;

/// Checks the journals in `folder` against the newest commit known to be durable.
///
/// # Errors
/// What is damaged, or what the system said. Nothing is changed then.
pub(super) fn verify(folder: &Path, watermark: u64) -> Result<(), Damage> {
    let journals = journals(folder).map_err(|error| format!("its journals can't be listed: {error}"))?;
    let Some((newest, sealed)) = journals.split_last() else {
        return Err("it has no journal any more".to_owned());
    };
    let mut chain = Chain::default();
    for path in sealed {
        let found = read_through(path, &mut chain)?;
        if found.batches == 0 || !found.rest_is_zero {
            return Err(format!("{} is damaged after byte {}", path.display(), found.whole_bytes));
        }
    }
    let found = read_through(newest, &mut chain)?;
    if chain.commit.is_some_and(|commit| commit < watermark) {
        let at = found.whole_bytes;
        return Err(format!("{} is damaged after byte {at}: synced writes are missing", newest.display()));
    }
    if !found.rest_is_zero {
        tracing::info!(journal = %newest.display(), at = found.whole_bytes, "removing a write that was cut off");
        cut_off(newest, found.whole_bytes).map_err(|error| format!("{}: {error}", newest.display()))?;
    }
    Ok(())
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

/// How far the batches read so far follow each other.
#[derive(Default)]
struct Chain {
    commit: Option<u64>,
    seqno: Option<u64>,
}

/// The database's own numbers skip one for each batch that failed.
const SEQNOS_SKIPPED_MAX: u64 = 1_000;

impl Chain {
    fn add(&mut self, batch: &Batch) -> Result<(), Damage> {
        if let Some(last) = self.seqno.replace(batch.seqno)
            && (batch.seqno <= last || batch.seqno - last > SEQNOS_SKIPPED_MAX)
        {
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
    /// Where the last whole batch ends.
    whole_bytes: u64,
    /// Journals are made at a fixed length, filled with zeros.
    rest_is_zero: bool,
}

fn read_through(path: &Path, chain: &mut Chain) -> Result<Found, Damage> {
    let io_error = |error: io::Error| format!("{}: {error}", path.display());
    let mut reader = JournalReader { file: BufReader::new(File::open(path).map_err(io_error)?), position: 0 };
    let mut found = Found { batches: 0, whole_bytes: 0, rest_is_zero: true };
    while let Some(batch) = reader.batch().map_err(io_error)? {
        let at = found.whole_bytes;
        chain.add(&batch).map_err(|why| format!("{} is damaged before byte {at}: {why}", path.display()))?;
        found.batches += 1;
        found.whole_bytes = reader.position;
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

/// What has to be known of a batch.
struct Batch {
    seqno: u64,
    /// The number in its [`Meta`] row; all of ours have one.
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

/// Something that is no batch; where the journal ends, as far as it can be read.
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
    /// The next whole batch, or `None` where there is something else.
    fn batch(&mut self) -> io::Result<Option<Batch>> {
        match self.try_batch() {
            Ok(batch) => Ok(Some(batch)),
            Err(Stop::Unreadable) => Ok(None),
            Err(Stop::Io(error)) => Err(error),
        }
    }

    fn try_batch(&mut self) -> Result<Batch, Stop> {
        let mut checksum = Xxh3::new();
        // Of the start and the end only their form is checked, as they are outside of the checksum.
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

    /// Never allocates beyond what the file holds, whatever a damaged length says.
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
