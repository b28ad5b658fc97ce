//! `section!`: one declaration per section, from which come its struct, its defaults, the list of known keys with
//! their ranges, the reading, the rendering and the reference (`docs/configuration.md`).
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
//! A key's type says how its value is written ([`Value`]); `in` gives an integer's range, `shown` replaces a default
//! in the reference that depends on the machine.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::given::Given;
use crate::value::Value;

/// What is known about one key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The whole key, such as `limits.frame_bytes`.
    pub(crate) name: String,
    /// The type's name in the reference.
    pub(crate) type_name: String,
    /// `--set` and the environment give the value as it is, not as TOML.
    pub(crate) is_text: bool,
    /// The value, or a part of it, is never shown in a mistake.
    pub(crate) is_secret: bool,
    /// Allowed values of an integer, in the unit that ends the key's name.
    pub(crate) range: Option<RangeInclusive<i64>>,
    /// The default as the reference shows it; `None`: not set.
    pub(crate) default: Option<String>,
    /// The key's meaning, from its doc comment.
    pub(crate) meaning: String,
}

impl Key {
    /// Describes a key of type `T` with its default, and the key of its file if it can be given as one.
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

/// The key under which a file holds the value of `key`.
pub(crate) fn file_key(key: &str) -> String {
    format!("{key}_file")
}

/// A section with its keys, for who looks keys up or writes about them.
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) about: String,
    /// In the order of their declaration.
    pub(crate) keys: Vec<Key>,
}

/// A struct whose fields are the keys of a section. Implemented by `section!` only.
pub(crate) trait Section: Sized {
    /// The section's name, such as `limits` or `node.tls`.
    const NAME: &'static str;

    /// Describes the section and its keys.
    fn describe() -> Described;

    /// Takes the section's values from what was given; the others are the defaults.
    fn read(given: &mut Given) -> Self;

    /// Puts the section's values into its own table.
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
