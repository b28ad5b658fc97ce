//! Records what clients do and see, and checks it.
//!
//! Every session of a run with `--verify` records by itself (`client/follow.rs`): scenarios do nothing for it. Each
//! worker writes a file of its own; the coordinator merges them and checks them.

mod check;
mod evidence;
mod operation;
mod rules;
mod verdict;

pub(crate) use check::check;
pub(crate) use operation::{Asked, Operation, Outline, Seen, Tally, What};
pub(crate) use verdict::Verdict;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::meter::now_ns;

/// The file to which a worker's sessions write: one operation per line, as JSON.
pub(crate) struct Log(Mutex<BufWriter<File>>);

impl Log {
    /// # Errors
    /// The file can't be created.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("can't create {}", path.display()))?;
        Ok(Self(Mutex::new(BufWriter::new(file))))
    }

    pub(crate) fn note(&self, client: &str, what: What) {
        let operation = Operation { at_ns: now_ns(), client: client.to_owned(), what };
        let Ok(mut line) = serde_json::to_vec(&operation) else { return };
        line.push(b'\n');
        // A full disk is reported by `finish`.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
    }

    /// # Errors
    /// Something could not be written.
    pub(crate) fn finish(&self) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush().context("can't write the history")
    }
}

/// All operations in the files of a folder, ordered by time.
///
/// # Errors
/// A file can't be read, or a line is invalid.
pub(crate) fn read_folder(folder: &Path) -> Result<Vec<Operation>> {
    let mut operations = Vec::new();
    for file in folder.read_dir()? {
        let path = file?.path();
        for (number, line) in BufReader::new(File::open(&path)?).lines().enumerate() {
            let operation = serde_json::from_str(&line?);
            operations.push(operation.with_context(|| format!("{}:{}", path.display(), number + 1))?);
        }
    }
    operations.sort_by_key(|operation: &Operation| operation.at_ns);
    Ok(operations)
}

/// Adds operations to a history file.
///
/// # Errors
/// It can't be written.
pub(crate) fn append(path: &Path, operations: &[Operation]) -> Result<()> {
    let file = File::options().create(true).append(true).open(path);
    let mut file = BufWriter::new(file.with_context(|| format!("can't write {}", path.display()))?);
    for operation in operations {
        serde_json::to_writer(&mut file, operation)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_write_is_read_in_the_order_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("0"), folder.path().join("1"));
        let (first, second) = (Log::create(&one).unwrap(), Log::create(&other).unwrap());
        first.note("a", What::Lost { why: "x".to_owned() });
        second.note("b", What::Lost { why: "y".to_owned() });
        first.note("c", What::Lost { why: "z".to_owned() });
        first.finish().unwrap();
        second.finish().unwrap();
        let read = read_folder(folder.path()).unwrap();
        assert_eq!(read.iter().map(|operation| operation.client.as_str()).collect::<String>(), "abc");
        let history = folder.path().join("history");
        append(&history, &read[..1]).unwrap();
        append(&history, &read[1..]).unwrap();
        assert_eq!(std::fs::read_to_string(&history).unwrap().lines().count(), 3);
        std::fs::write(other, "nonsense\n").unwrap();
        assert!(read_folder(folder.path()).is_err());
    }
}
