//! `section!`: generates a section's struct, its defaults, the list of known keys with their ranges, reading, rendering
//! and the reference (`docs/configuration.md`) from one declaration.
//!
//! ```text
//! section! {
//!     /// What the section is about.
//!     "limits" Limits {
//!         /// What the key means.
//!         frame_bytes: usize = 65_536, in 256..=16_777_216;
//!     }
//! }
//! ```
//!
//! A key's type determines how its value is written ([`Value`]); `in` gives an integer's range, `shown` replaces a
//! machine-dependent default in the reference.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::given::Given;
use crate::value::Value;

/// The description of a key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The full key, such as `limits.frame_bytes`.
    pub(crate) name: String,
    /// The type's name in the reference.
    pub(crate) type_name: String,
    /// `--set` and the environment give the value literally, not as TOML.
    pub(crate) is_text: bool,
    /// Mistakes never show the value or a part of it.
    pub(crate) is_secret: bool,
    /// Allowed values of an integer, in the unit that ends the key's name.
    pub(crate) range: Option<RangeInclusive<i64>>,
    /// The default as the reference shows it; `None`: not set.
    pub(crate) default: Option<String>,
    /// The key's meaning, from its doc comment.
    pub(crate) meaning: String,
}

impl Key {
    /// Describes a key of type `T` with its default, and its `_file` key if it can be given as a file.
    pub(crate) fn of<T: Value>(
        name: &str,
        default: &T,
        range: Option<RangeInclusive<i64>>,
        shown: Option<&str>,
        docs: &[&str],
    ) -> Vec<Self> {
        let key = Self {
            name: name.to_owned(),
            type_name: T::type_name(),
            is_text: T::IS_TEXT,
            is_secret: T::IS_SECRET,
            range,
            default: shown.map(str::to_owned).or_else(|| default.to_toml().map(|value| format!("`{value}`"))),
            meaning: paragraph(docs),
        };
        let file = T::FROM_FILE.map(|_| Self {
            name: file_key(name),
            type_name: PathBuf::type_name(),
            is_text: true,
            is_secret: false,
            range: None,
            default: None,
            meaning: format!("File that holds `{name}`."),
        });
        std::iter::once(key).chain(file).collect()
    }
}

/// The key for a file that holds the value of `key`.
pub(crate) fn file_key(key: &str) -> String {
    format!("{key}_file")
}

/// A section with its keys, for lookups and for the reference.
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) about: String,
    /// In order of declaration.
    pub(crate) keys: Vec<Key>,
}

/// A struct whose fields are the keys of a section. Implemented only by `section!`.
pub(crate) trait Section: Sized {
    /// The section's name, such as `limits` or `node.tls`.
    const NAME: &'static str;

    /// Describes the section and its keys.
    fn describe() -> Described;

    /// Takes the section's given values; the others get their defaults.
    fn read(given: &mut Given) -> Self;

    /// Writes the section's values into its own table.
    fn write(&self, section: &mut toml::Table);
}

/// Joins the lines of a doc comment.
pub(crate) fn paragraph(docs: &[&str]) -> String {
    docs.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:literal $Section:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $ty:ty = $default:expr $(, in $range:expr)? $(, shown $shown:literal)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $Section {
            $(
                $(#[doc = $doc])+
                pub $key: $ty,
            )+
        }

        impl Default for $Section {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $crate::section::Section for $Section {
            const NAME: &'static str = $name;

            fn describe() -> $crate::section::Described {
                let default = Self::default();
                $crate::section::Described {
                    name: $name,
                    about: $crate::section::paragraph(&[$($about),+]),
                    keys: [$(
                        $crate::section::Key::of(
                            concat!($name, ".", stringify!($key)),
                            &default.$key,
                            None$(.or(Some($range)))?,
                            None$(.or(Some($shown)))?,
                            &[$($doc),+],
                        ),
                    )+]
                    .concat(),
                }
            }

            fn read(given: &mut $crate::given::Given) -> Self {
                let default = Self::default();
                Self { $($key: given.take(concat!($name, ".", stringify!($key))).unwrap_or(default.$key),)+ }
            }

            fn write(&self, section: &mut toml::Table) {
                $( $crate::value::Value::write(&self.$key, stringify!($key), section); )+
            }
        }
    };
}
pub(crate) use section;
