//! The signing key of development mode: created on first start and kept beside the store.

use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

use crate::dev_file::{DevFileError, read_or_make};

/// Random bytes in a key: as long as SHA-256's output (RFC 7518 §3.2).
const KEY_BYTES: usize = 32;

/// A secret for HS256, used as the bytes of its text.
pub(crate) struct DevKey(String);

impl DevKey {
    /// Reads the key that belongs to the store at `store_path`, or makes it.
    pub(crate) fn load_or_make(store_path: &Path) -> Result<Self, DevFileError> {
        read_or_make(store_path, ".dev-key", KEY_BYTES, random_key).map(Self)
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn random_key() -> io::Result<String> {
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(STANDARD_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_long_enough_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("data");
        let made = DevKey::load_or_make(&store).unwrap();
        assert!(made.expose().len() >= KEY_BYTES);
        assert_eq!(DevKey::load_or_make(&store).unwrap().expose(), made.expose());
    }
}
