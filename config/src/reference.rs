//! Generates the reference of all keys, `docs/configuration.md`, from their declaration.

use crate::config::{Config, RELOADED};
use crate::section::{Described, Key};

/// The text of `docs/configuration.md`.
pub fn reference() -> String {
    let mut text = include_str!("reference_intro.md").to_owned();
    for section in Config::sections() {
        text.push_str(&describe(&section));
    }
    text
}

fn describe(section: &Described) -> String {
    let reloaded = if RELOADED.contains(&section.name) { " Read again on SIGHUP." } else { "" };
    let rows: String = section.keys.iter().map(row).collect();
    format!(
        "\n## {}\n\n{}{reloaded}\n\n| key | type | default | meaning |\n|---|---|---|---|\n{rows}",
        section.name, section.about
    )
}

fn row(key: &Key) -> String {
    let range = match &key.range {
        Some(range) => format!(", {} to {}", range.start(), range.end()),
        None => String::new(),
    };
    let default = key.default.as_deref().unwrap_or("not set");
    format!("| `{}` | {}{range} | {default} | {} |\n", key.name, key.type_name, key.meaning.replace('|', "\\|"))
}
