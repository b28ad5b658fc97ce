//! The number of the newest synced commit, in a file beside the database.
//!
//! The database's own recovery stops at the first thing in its journal that it can't read, which is right for a write
//! that was torn by a crash, and silent loss for anything else. This number tells the two apart. It is written after
//! the sync that it refers to and not synced itself: whatever number is in the file, that commit is durable.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// The file, open for writing.
pub(super) struct Watermark(File);

const LEN: usize = 16;

fn encode(commit: u64) -> [u8; LEN] {
    let number = commit.to_be_bytes();
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(&number);
    bytes[8..].copy_from_slice(&xxh3_64(&number).to_be_bytes());
    bytes
}

impl Watermark {
    /// Creates the file at its full length, so that it never needs more disk space.
    pub(super) fn create(path: &Path) -> io::Result<()> {
        let file = File::create_new(path)?;
        file.write_all_at(&encode(0), 0)?;
        file.sync_all()
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().write(true).open(path).map(Self)
    }

    /// Reads the number from the file.
    ///
    /// # Errors
    /// `InvalidData` if it holds no number.
    pub(super) fn read(path: &Path) -> io::Result<u64> {
        let bytes = std::fs::read(path)?;
        let commit = bytes.first_chunk().map(|number| u64::from_be_bytes(*number)).unwrap_or_default();
        if bytes == encode(commit) { Ok(commit) } else { Err(io::Error::from(io::ErrorKind::InvalidData)) }
    }

    pub(super) fn raise(&self, commit: u64) -> io::Result<()> {
        self.0.write_all_at(&encode(commit), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_a_number_or_says_that_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("commits");
        Watermark::create(&path).unwrap();
        assert_eq!(Watermark::read(&path).unwrap(), 0);
        let watermark = Watermark::open(&path).unwrap();
        watermark.raise(7).unwrap();
        watermark.raise(u64::MAX).unwrap();
        assert_eq!(Watermark::read(&path).unwrap(), u64::MAX);
        for damaged in [&b""[..], &[0; 16], &[0; 17], &encode(5)[..15]] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(Watermark::read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
