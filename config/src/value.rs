//! How values of keys are read from TOML, rendered, and named in the reference, by type.

use std::num::NonZeroU32;
use std::path::Path;

use toml::Value as Toml;

use crate::mistake::{Mistakes, Problem};

/// Makes a value from the file named by `<key>_file`.
pub(crate) type FromFile<T> = fn(&Path) -> Result<T, Problem>;

/// A type of keys.
pub(crate) trait Value: Sized {
    /// `--set` and the environment give the value literally, not as TOML.
    const IS_TEXT: bool = false;
    /// Mistakes never show the value.
    const IS_SECRET: bool = false;
    /// The value may also be given as a file.
    const FROM_FILE: Option<FromFile<Self>> = None;

    /// The type's name in the reference and in mistakes, such as `integer`.
    fn type_name() -> String;

    /// Reads the value of the key `at`; problems go to `mistakes`.
    fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self>;

    /// The value as TOML, with secrets hidden; `None`: not set.
    fn to_toml(&self) -> Option<Toml>;

    /// Writes the value into its section's table.
    fn write(&self, key: &str, section: &mut toml::Table) {
        if let Some(value) = self.to_toml() {
            section.insert(key.to_owned(), value);
        }
    }
}

/// A value that is written as text, and given literally by `--set` and the environment.
pub(crate) trait Text: Sized {
    /// The type's name in the reference.
    const TYPE: &'static str;
    /// What a wrong value should have been, such as `an address (ip:port)`.
    const EXPECTED: &'static str;

    /// Parses the text; `None` if it is invalid.
    fn parse(text: &str) -> Option<Self>;

    /// The text that [`Text::parse`] reads back as this value.
    fn text(&self) -> String;
}

impl<T: Text> Value for T {
    const IS_TEXT: bool = true;

    fn type_name() -> String {
        T::TYPE.to_owned()
    }

    fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let text = string(value, at, T::TYPE, mistakes)?;
        let parsed = T::parse(text);
        if parsed.is_none() {
            mistakes.push(at, Problem::NotA { value: text.to_owned(), expected: T::EXPECTED.to_owned() });
        }
        parsed
    }

    fn to_toml(&self) -> Option<Toml> {
        Some(Toml::String(self.text()))
    }
}

impl<T: Value> Value for Option<T> {
    const IS_TEXT: bool = T::IS_TEXT;
    const IS_SECRET: bool = T::IS_SECRET;

    fn type_name() -> String {
        T::type_name()
    }

    fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self> {
        T::read(value, at, mistakes).map(Some)
    }

    fn to_toml(&self) -> Option<Toml> {
        self.as_ref().and_then(T::to_toml)
    }
}

impl<T: Value> Value for Vec<T> {
    const IS_SECRET: bool = T::IS_SECRET;

    fn type_name() -> String {
        format!("list of {}s", T::type_name())
    }

    fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let Toml::Array(items) = value else {
            mistakes.push(at, wrong_type(&Self::type_name(), value));
            return None;
        };
        let read: Vec<Option<T>> =
            items.iter().enumerate().map(|(n, item)| T::read(item, &format!("{at}[{n}]"), mistakes)).collect();
        read.into_iter().collect()
    }

    fn to_toml(&self) -> Option<Toml> {
        Some(Toml::Array(self.iter().filter_map(T::to_toml).collect()))
    }
}

macro_rules! integer {
    ($($T:ty),+) => {$(
        impl Value for $T {
            fn type_name() -> String {
                "integer".to_owned()
            }

            fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self> {
                let number = integer(value, at, mistakes)?;
                let read = Self::try_from(number).ok();
                if read.is_none() {
                    let largest = i64::try_from(Self::MAX).unwrap_or(i64::MAX);
                    mistakes.push(at, Problem::OutOfRange { value: number, range: 0..=largest });
                }
                read
            }

            fn to_toml(&self) -> Option<Toml> {
                // A value comes from TOML or is a default; neither exceeds i64.
                Some(Toml::Integer(i64::try_from(*self).unwrap_or(i64::MAX)))
            }
        }
    )+};
}
integer!(u32, u64, usize);

/// 0 stands for "no number": no limit, or one that the server determines.
impl Value for Option<NonZeroU32> {
    fn type_name() -> String {
        u32::type_name()
    }

    fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self> {
        u32::read(value, at, mistakes).map(NonZeroU32::new)
    }

    fn to_toml(&self) -> Option<Toml> {
        self.map_or(0, NonZeroU32::get).to_toml()
    }
}

fn integer(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<i64> {
    let number = value.as_integer();
    if number.is_none() {
        mistakes.push(at, wrong_type("integer", value));
    }
    number
}

/// The text of a TOML string.
pub(crate) fn string<'a>(value: &'a Toml, at: &str, expected: &str, mistakes: &mut Mistakes) -> Option<&'a str> {
    let text = value.as_str();
    if text.is_none() {
        mistakes.push(at, wrong_type(expected, value));
    }
    text
}

/// The problem of a value whose TOML type is not `expected`.
pub(crate) fn wrong_type(expected: &str, value: &Toml) -> Problem {
    Problem::WrongType { expected: expected.to_owned(), found: value.type_str() }
}
