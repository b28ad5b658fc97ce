//! The given values by key, before they are typed: later layers replace earlier ones.

use std::collections::BTreeMap;

use toml::Value as Toml;

use crate::mistake::{Mistakes, Problem};
use crate::nearest::nearest;
use crate::secret::HIDDEN;
use crate::section::{Described, Key, file_key};
use crate::value::{Value, string};

/// A source of values; a later one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// The configuration file.
    File,
    /// `SWITCHBOARD__SECTION__KEY`.
    Environment,
    /// `--set key=value`.
    Set,
}

/// The given values by key, and their mistakes.
pub(crate) struct Given {
    sections: Vec<Described>,
    values: BTreeMap<String, (Layer, Toml)>,
    pub(crate) mistakes: Mistakes,
}

impl Given {
    /// No values yet, for the keys of these sections.
    pub(crate) fn new(sections: Vec<Described>) -> Self {
        Self { sections, values: BTreeMap::new(), mistakes: Mistakes::default() }
    }

    /// Adds the configuration file.
    pub(crate) fn add_table(&mut self, table: &toml::Table) {
        self.add_below("", table);
    }

    fn add_below(&mut self, section: &str, table: &toml::Table) {
        for (name, value) in table {
            let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
            match value {
                Toml::Table(below) if self.key(&key).is_none() && !below.is_empty() => self.add_below(&key, below),
                Toml::Table(_) if self.is_section(&key) => {}
                _ => self.add(Layer::File, &key, value.clone()),
            }
        }
    }

    /// Adds a value of the environment or of `--set`: taken literally for text keys, otherwise parsed as TOML.
    pub(crate) fn add_text(&mut self, layer: Layer, name: &str, text: &str) {
        let value = match self.key(name) {
            Some(key) if !key.is_text => match text.parse::<Toml>() {
                Ok(value) => value,
                Err(_) => {
                    let value = if key.is_secret { HIDDEN } else { text }.to_owned();
                    let problem = Problem::NotA { value, expected: format!("TOML of type {}", key.type_name) };
                    return self.mistakes.push(name, problem);
                }
            },
            _ => Toml::String(text.to_owned()),
        };
        self.add(layer, name, value);
    }

    fn add(&mut self, layer: Layer, name: &str, value: Toml) {
        if self.key(name).is_none() {
            let problem = self.unknown(name);
            return self.mistakes.push(name, problem);
        }
        self.values.insert(name.to_owned(), (layer, value));
    }

    /// Takes the value of a key, if it was given and is valid.
    pub(crate) fn take<T: Value>(&mut self, name: &str) -> Option<T> {
        let value = self.values.remove(name);
        let Some(from_file) = T::FROM_FILE else { return self.typed(name, &value?.1) };

        let file_name = file_key(name);
        match (value, self.values.remove(&file_name)) {
            (Some((layer, _)), Some((file_layer, _))) if layer == file_layer => {
                let problem = format!("set together with {file_name}; only one may be");
                self.mistakes.push(name, Problem::Wrong(problem));
                None
            }
            (Some((layer, value)), file) if file.as_ref().is_none_or(|(file_layer, _)| *file_layer < layer) => {
                self.typed(name, &value)
            }
            (_, file) => {
                let (_, path) = file?;
                let path = string(&path, &file_name, "path", &mut self.mistakes)?;
                from_file(path.as_ref()).map_err(|problem| self.mistakes.push(file_name, problem)).ok()
            }
        }
    }

    fn typed<T: Value>(&mut self, name: &str, value: &Toml) -> Option<T> {
        let range = self.key(name).and_then(|key| key.range.clone());
        match (value.as_integer(), range) {
            (Some(value), Some(range)) if !range.contains(&value) => {
                self.mistakes.push(name, Problem::OutOfRange { value, range });
                None
            }
            _ => T::read(value, name, &mut self.mistakes),
        }
    }

    fn unknown(&self, name: &str) -> Problem {
        if self.is_section(name) {
            return Problem::IsSection;
        }
        Problem::UnknownKey { nearest: nearest(name, self.keys().map(|key| key.name.as_str())).to_owned() }
    }

    fn is_section(&self, name: &str) -> bool {
        self.sections.iter().any(|section| section.name == name)
    }

    fn key(&self, name: &str) -> Option<&Key> {
        self.keys().find(|key| key.name == name)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.sections.iter().flat_map(|section| &section.keys)
    }
}
