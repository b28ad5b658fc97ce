//! Reads the files named in the configuration, up to a size limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::mistake::Problem;

/// Maximum size of a secret or public key, in bytes.
pub(crate) const SECRET_BYTES_MAX: u64 = 65_536;
/// Maximum size of the configuration file, in bytes.
pub(crate) const CONFIG_BYTES_MAX: u64 = 1_048_576;

/// Reads a whole file of at most `bytes_max` bytes.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Problem> {
    read_bounded(path, bytes_max).map_err(|source| Problem::Unreadable { path: path.to_owned(), source })
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {bytes_max} bytes")));
    }
    Ok(bytes)
}
