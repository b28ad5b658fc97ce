//! The secrets of development mode: each is created on first start and kept in a file beside the store that only its
//! owner can read.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// The secret can't be had.
#[derive(Debug, thiserror::Error)]
#[error("can't keep a development key in {}: {source}", path.display())]
pub(crate) struct DevFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Reads the secret that belongs to the store at `store_path`, or makes it.
///
/// # Errors
/// It can be neither read nor written, or what is there is shorter than `bytes_min`, and thus none.
pub(crate) fn read_or_make(
    store_path: &Path,
    suffix: &str,
    bytes_min: usize,
    make: impl FnOnce() -> io::Result<String>,
) -> Result<String, DevFileError> {
    let path = path_of(store_path, suffix);
    let read = try_read_or_make(&path, bytes_min, make);
    read.map_err(|source| DevFileError { path, source })
}

/// Beside the folder, not in it: what is in it is the store's alone.
fn path_of(store_path: &Path, suffix: &str) -> PathBuf {
    let mut name = store_path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    store_path.with_file_name(name)
}

/// Nodes that start together may share the folder: the file appears with its content, and the first one to make it wins.
fn try_read_or_make(path: &Path, bytes_min: usize, make: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    match read(path, bytes_min) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let secret = make()?;
    // Only its owner can read it.
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(secret.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(secret),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => read(path, bytes_min),
        Err(error) => Err(error.error),
    }
}

fn read(path: &Path, bytes_min: usize) -> io::Result<String> {
    let secret = fs::read_to_string(path)?;
    if secret.len() < bytes_min {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file holds no key; delete it to have one made"));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn it_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("new").join("data");
        let made = read_or_make(&store, ".key", 3, || Ok("first".to_owned())).unwrap();
        assert_eq!(made, "first");
        assert_eq!(read_or_make(&store, ".key", 3, || Ok("second".to_owned())).unwrap(), "first");
        let mode = fs::metadata(path_of(&store, ".key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn of_many_that_make_it_at_once_all_get_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("data");
        let start = Barrier::new(16);
        let make = &|n: usize| {
            start.wait();
            read_or_make(&store, ".key", 3, || Ok(format!("secret {n}"))).unwrap()
        };
        let secrets: BTreeSet<_> = thread::scope(|scope| {
            let makers: Vec<_> = (0..16).map(|n| scope.spawn(move || make(n))).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert_eq!(secrets.len(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left in the folder");
    }

    #[test]
    fn a_file_that_holds_none_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("data");
        fs::write(path_of(&store, ".key"), "short").unwrap();
        let error = read_or_make(&store, ".key", 32, || Ok("new".to_owned())).unwrap_err().to_string();
        assert!(error.contains("data.key"), "{error}");
        assert_eq!(fs::read_to_string(path_of(&store, ".key")).unwrap(), "short");
    }
}
