//! The machine of a measurement.

use std::fs;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processors: usize,
    pub(crate) model: String,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// `nofile`, per process.
    pub(crate) descriptors: u64,
}

impl Machine {
    pub(crate) fn look(descriptors: u64) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let kib: Option<u64> =
            field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            model: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_bytes: kib.unwrap_or_default() * 1_024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            descriptors,
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gib = self.memory_bytes as f64 / f64::from(1 << 30);
        write!(f, "{} × {}, {gib:.0} GiB, Linux {}", self.processors, self.model, self.kernel)
    }
}

/// The value of `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotalish: 1 kB\nMemTotal:       24683 kB\nmodel name\t: A B\n";
        assert_eq!(field(text, "MemTotal").as_deref(), Some("24683 kB"));
        assert_eq!(field(text, "model name").as_deref(), Some("A B"));
        assert_eq!(field(text, "Mem"), None);
    }
}
