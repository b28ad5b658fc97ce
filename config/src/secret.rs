//! A secret that no log, mistake or rendering shows.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value as Toml;

use crate::file;
use crate::mistake::{Mistakes, Problem};
use crate::value::{FromFile, Value, string};

/// What is shown instead of a secret.
pub(crate) const HIDDEN: &str = "(hidden)";

/// A secret, used as raw bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    bytes: Vec<u8>,
    /// The file it was read from; not secret.
    file: Option<PathBuf>,
}

impl Secret {
    /// A secret given directly.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), file: None }
    }

    /// Reads a secret from a file; one line break at its end is not part of it.
    pub(crate) fn from_file(path: &Path) -> Result<Self, Problem> {
        let mut bytes = file::read(path, file::SECRET_BYTES_MAX)?;
        if bytes.pop_if(|last| *last == b'\n').is_some() {
            bytes.pop_if(|last| *last == b'\r');
        }
        Ok(Self { bytes, file: Some(path.to_owned()) })
    }

    /// The secret itself. Must not be logged.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// The key that it was given with: `key` or `<key>_file`.
    pub(crate) fn given_by(&self, key: &str) -> String {
        match self.file {
            Some(_) => format!("{key}_file"),
            None => key.to_owned(),
        }
    }

    /// Writes the file's path, or a placeholder for a hidden value, into a table.
    pub(crate) fn write_to(&self, key: &str, table: &mut toml::Table) {
        match &self.file {
            Some(file) => table.insert(format!("{key}_file"), file.to_string_lossy().into_owned().into()),
            None => table.insert(key.to_owned(), HIDDEN.into()),
        };
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Value for Option<Secret> {
    const IS_TEXT: bool = true;
    const IS_SECRET: bool = true;
    const FROM_FILE: Option<FromFile<Self>> = Some(|path| Secret::from_file(path).map(Some));

    fn type_name() -> String {
        "secret".to_owned()
    }

    fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self> {
        string(value, at, "secret", mistakes).map(|text| Some(Secret::new(text)))
    }

    fn to_toml(&self) -> Option<Toml> {
        self.as_ref().map(|_| HIDDEN.into())
    }

    fn write(&self, key: &str, section: &mut toml::Table) {
        if let Some(secret) = self {
            secret.write_to(key, section);
        }
    }
}
