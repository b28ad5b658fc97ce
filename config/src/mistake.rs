//! What can be wrong with a configuration, and all of it at once.
//!
//! Each mistake is one line that begins with the key. None shows a secret.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct Mistake {
    /// The key, such as `limits.frame_bytes` or `auth.keys[0].alg`; for a file that can't be parsed its path and line.
    pub at: String,
    /// What is wrong there.
    pub problem: Problem,
}

impl Mistake {
    /// A mistake at a key. Also for those who find out only later, such as the reader of a certificate.
    pub fn new(at: impl Into<String>, problem: Problem) -> Self {
        Self { at: at.into(), problem }
    }
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No such key.
    #[error("unknown key; did you mean {nearest}?")]
    UnknownKey {
        /// The known key most like it.
        nearest: String,
    },
    /// A section was given a value.
    #[error("is a section, not a key")]
    IsSection,
    /// The value is of another TOML type.
    #[error("is {found}, expected {expected}")]
    WrongType {
        /// The type that the key has.
        expected: String,
        /// The type that was given.
        found: &'static str,
    },
    /// The text given in the environment or by `--set` is no TOML of the key's type.
    #[error("{value:?} is not {expected}")]
    NotA {
        /// What was given.
        value: String,
        /// What the key takes.
        expected: String,
    },
    /// A number outside its range.
    #[error("{value} is out of range; allowed is {} to {}", range.start(), range.end())]
    OutOfRange {
        /// What was given.
        value: i64,
        /// What is allowed.
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
    /// Text that is no TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// Anything else, such as two keys that contradict each other.
    #[error("{0}")]
    Wrong(String),
}

/// All that is wrong, one a line.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Adds one.
    pub fn add(&mut self, mistake: Mistake) {
        self.0.push(mistake);
    }

    /// Adds one at a key.
    pub(crate) fn push(&mut self, at: impl Into<String>, problem: Problem) {
        self.add(Mistake::new(at, problem));
    }

    /// Adds those of others.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each mistake, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }

    /// Whether something is wrong with this key or a part of it.
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
            // A path or a parser's message may hold line breaks; a mistake is one line all the same.
            f.write_str(&mistake.to_string().replace('\n', " "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
