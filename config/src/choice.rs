//! Keys with a fixed set of values.

use crate::value::Text;

macro_rules! choice {
    ($(#[$attr:meta])* $Choice:ident { $( $(#[doc = $doc:literal])+ $Variant:ident = $word:literal ),+ $(,)? } one of $all:literal) => {
        $(#[$attr])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Choice {
            $( $(#[doc = $doc])+ $Variant, )+
        }

        impl $Choice {
            /// The word used in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$Variant => $word,)+ }
            }
        }

        impl Text for $Choice {
            const TYPE: &'static str = concat!("one of ", $all);
            const EXPECTED: &'static str = Self::TYPE;

            fn parse(text: &str) -> Option<Self> {
                match text { $($word => Some(Self::$Variant),)+ _ => None }
            }

            fn text(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

choice! {
    /// The store that keeps conversations.
    StoreKind {
        /// In a folder of this machine.
        Embedded = "embedded",
        /// In a ScyllaDB cluster.
        Scylla = "scylla",
    } one of "embedded, scylla"
}

choice! {
    /// The bus between nodes.
    BusKind {
        /// Within this process.
        Memory = "memory",
        /// Redis's pub/sub.
        Redis = "redis",
    } one of "memory, redis"
}

choice! {
    /// The format of log lines.
    LogFormat {
        /// `Text` on a terminal, else `Json`.
        Auto = "auto",
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    } one of "auto, text, json"
}

choice! {
    /// The lowest level that is logged.
    LogLevel {
        /// Nothing.
        Off = "off",
        /// A person has to act.
        Error = "error",
        /// A person may have to act.
        Warn = "warn",
        /// Events of the whole process.
        Info = "info",
        /// Events of single sessions and conversations.
        Debug = "debug",
        /// Every step.
        Trace = "trace",
    } one of "off, error, warn, info, debug, trace"
}
