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
    /// The value is never shown, and may be given in a file named by `<key>_file`.
    pub(crate) has_file: bool,
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
    /// Describes a key of type `T` whose default is `default`.
    pub(crate) fn of<T: Value>(
        name: &str,
        default: &T,
        range: Option<RangeInclusive<i64>>,
        shown: Option<&str>,
        docs: &[&str],
    ) -> Self {
        Self {
            name: name.to_owned(),
            type_name: T::type_name(),
            is_text: T::IS_TEXT,
            has_file: T::FROM_FILE.is_some(),
            is_secret: T::IS_SECRET,
            range,
            default: shown.map(str::to_owned).or_else(|| default.to_toml().map(|value| format!("`{value}`"))),
            meaning: paragraph(docs),
        }
    }
}

/// A section: a struct whose fields are keys.
pub(crate) trait Section {
    /// The section's name, such as `limits` or `node.tls`.
    const NAME: &'static str;

    /// What the section is about, from its doc comment.
    fn about() -> String;

    /// The section's keys, in the order of their declaration.
    fn keys() -> Vec<Key>;
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

            fn about() -> String {
                $crate::section::paragraph(&[$($about),+])
            }

            fn keys() -> Vec<$crate::section::Key> {
                let default = Self::default();
                vec![$(
                    $crate::section::Key::of(
                        concat!($name, ".", stringify!($key)),
                        &default.$key,
                        None$(.or(Some($range)))?,
                        None$(.or(Some($shown)))?,
                        &[$($doc),+],
                    ),
                )+]
            }
        }
    };
}
pub(crate) use section;
