//! The secrets of development mode: each is created on first start and kept in a file beside the store that only its
//! owner can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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

fn try_read_or_make(path: &Path, bytes_min: usize, make: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let secret = make()?;
            file.write_all(secret.as_bytes())?;
            file.sync_all()?;
            Ok(secret)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path, bytes_min),
        Err(error) => Err(error),
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
    use std::os::unix::fs::PermissionsExt;

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
    fn a_file_that_holds_none_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("data");
        fs::write(path_of(&store, ".key"), "short").unwrap();
        let error = read_or_make(&store, ".key", 32, || Ok("new".to_owned())).unwrap_err().to_string();
        assert!(error.contains("data.key"), "{error}");
        assert_eq!(fs::read_to_string(path_of(&store, ".key")).unwrap(), "short");
    }
}
