//! The signing key of development mode: made on first start and kept beside the store.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

/// Random bytes in a key: as long as SHA-256's output (RFC 7518 §3.2).
const KEY_BYTES: usize = 32;

/// A secret for HS256, used as the bytes of its text.
pub(crate) struct DevKey(String);

/// The key can't be had.
#[derive(Debug, thiserror::Error)]
#[error("can't keep the development key in {}: {source}", path.display())]
pub(crate) struct DevKeyError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl DevKey {
    /// Reads the key that belongs to the store at `store_path`, or makes it.
    pub(crate) fn load_or_make(store_path: &Path) -> Result<Self, DevKeyError> {
        let path = path_of(store_path);
        read_or_make(&path).map(Self).map_err(|source| DevKeyError { path, source })
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Beside the folder, not in it: what is in it is the store's alone.
fn path_of(store_path: &Path) -> PathBuf {
    let mut name = store_path.file_name().unwrap_or_default().to_owned();
    name.push(".dev-key");
    store_path.with_file_name(name)
}

fn read_or_make(path: &Path) -> io::Result<String> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let key = random_key()?;
            file.write_all(key.as_bytes())?;
            file.sync_all()?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let key = fs::read_to_string(path)?;
    if key.len() < KEY_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file holds no key; delete it to have one made"));
    }
    Ok(key)
}

fn random_key() -> io::Result<String> {
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(STANDARD_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("new").join("data");
        let made = DevKey::load_or_make(&store).unwrap();
        assert!(made.expose().len() >= KEY_BYTES);
        assert_eq!(DevKey::load_or_make(&store).unwrap().expose(), made.expose());
        let mode = fs::metadata(path_of(&store)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_holds_no_key_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("data");
        fs::write(path_of(&store), "short").unwrap();
        let error = DevKey::load_or_make(&store).err().unwrap().to_string();
        assert!(error.contains("data.dev-key"), "{error}");
        assert_eq!(fs::read_to_string(path_of(&store)).unwrap(), "short");
    }
}
