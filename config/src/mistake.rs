//! The mistakes in a configuration, all reported at once.
//!
//! Each mistake is one line that begins with the key. No mistake shows a secret.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// One mistake.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct Mistake {
    /// The key, such as `limits.frame_bytes` or `auth.keys[0].alg`; for an unparsable file its path and line.
    pub at: String,
    /// The problem.
    pub problem: Problem,
}

impl Mistake {
    /// A mistake at a key. Also used by later checks, such as the reader of a certificate.
    pub fn new(at: impl Into<String>, problem: Problem) -> Self {
        Self { at: at.into(), problem }
    }
}

/// A problem with a key.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No such key.
    #[error("unknown key; did you mean {nearest}?")]
    UnknownKey {
        /// The most similar known key.
        nearest: String,
    },
    /// A value was given for a section.
    #[error("is a section, not a key")]
    IsSection,
    /// The value has the wrong TOML type.
    #[error("is {found}, expected {expected}")]
    WrongType {
        /// The key's type.
        expected: String,
        /// The type of the value.
        found: &'static str,
    },
    /// The text given in the environment or by `--set` is not TOML of the key's type.
    #[error("{value:?} is not {expected}")]
    NotA {
        /// The given text.
        value: String,
        /// The key's type.
        expected: String,
    },
    /// A number outside its range.
    #[error("{value} is out of range; allowed is {} to {}", range.start(), range.end())]
    OutOfRange {
        /// The given number.
        value: i64,
        /// The allowed range.
        range: RangeInclusive<i64>,
    },
    /// A file that a key names, or the configuration file itself, can't be read.
    #[error("can't read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Text that is not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// Anything else, such as two contradictory keys.
    #[error("{0}")]
    Wrong(String),
}

/// All mistakes, one per line.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Adds one.
    pub fn add(&mut self, mistake: Mistake) {
        self.0.push(mistake);
    }

    /// Adds a mistake at a key.
    pub(crate) fn push(&mut self, at: impl Into<String>, problem: Problem) {
        self.add(Mistake::new(at, problem));
    }

    /// Adds the mistakes of another list.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mistakes in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }

    /// Whether any concerns this key or a part of it.
    pub(crate) fn concern(&self, key: &str) -> bool {
        let is_part = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        self.iter().any(|mistake| mistake.at.strip_prefix(key).is_some_and(is_part))
    }
}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            // A path or a parser's message may contain line breaks; a mistake is one line nevertheless.
            f.write_str(&mistake.to_string().replace('\n', " "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
