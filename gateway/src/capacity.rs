//! Compares the connections that the machine allows with those that are configured (OPERATING, "Start").

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use switchboard_config::{Limits, Mistake, Problem};

/// Descriptors that are not for sessions, at most: the store's files, listeners, HTTP connections.
const DESCRIPTORS_RESERVED_MAX: usize = 1_024;
/// Memory that a connection is reckoned with: about 5 KB of the process's own (ARCHITECTURE.md, "What a connection holds") and what the
/// kernel keeps of a TCP socket.
const CONNECTION_BYTES: u64 = 16 * 1_024;

/// What the machine allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// `nofile`.
    pub(crate) descriptors: usize,
    /// `None`: not known.
    pub(crate) memory_bytes: Option<u64>,
}

impl Capacity {
    /// Looks at this process, whose soft limit of descriptors is raised to the hard one first.
    pub(crate) fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile);
        // Without the right to raise it, the limit stays as it is, and is what counts.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self { descriptors: usize::try_from(descriptors).unwrap_or(usize::MAX), memory_bytes: memory_bytes() }
    }

    /// HTTP connections that may be open even when all WebSocket connections are.
    pub(crate) fn http_connections_kept(self) -> usize {
        (self.reserved() / 2).max(1)
    }

    /// `limits.connections`, or what is allowed if that is not set.
    ///
    /// # Errors
    /// The promise can't be kept.
    pub(crate) fn connections_max(self, limits: &Limits) -> Result<usize, Mistake> {
        let Some(promised) = limits.connections else { return Ok(self.by_descriptors().min(self.by_memory()).max(1)) };
        let promised = promised.get() as usize;
        let problem = if promised > self.by_descriptors() {
            format!(
                "{promised} connections need {} descriptors, nofile allows {}: raise it (ulimit -n), or promise at most {}",
                promised.saturating_add(self.reserved()),
                self.descriptors,
                self.by_descriptors()
            )
        } else if promised > self.by_memory() {
            format!(
                "{promised} connections need about {} MiB of memory, more than there is: promise at most {}",
                promised as u64 * CONNECTION_BYTES / 1_048_576,
                self.by_memory()
            )
        } else {
            return Ok(promised);
        };
        Err(Mistake::new("limits.connections", Problem::Wrong(problem)))
    }

    fn reserved(self) -> usize {
        DESCRIPTORS_RESERVED_MAX.min(self.descriptors / 4)
    }

    fn by_descriptors(self) -> usize {
        self.descriptors - self.reserved()
    }

    fn by_memory(self) -> usize {
        let connections = self.memory_bytes.map(|bytes| bytes / CONNECTION_BYTES);
        connections.and_then(|connections| usize::try_from(connections).ok()).unwrap_or(usize::MAX)
    }
}

/// The machine's memory, or the control group's share of it.
fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text));
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    [machine, group].into_iter().flatten().min()
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn allowed(capacity: Capacity, connections: u32) -> Result<usize, String> {
        let limits = Limits { connections: NonZeroU32::new(connections), ..Limits::default() };
        capacity.connections_max(&limits).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn descriptors_bound_the_promise() {
        let capacity = Capacity { descriptors: 10_000, memory_bytes: None };
        assert_eq!(allowed(capacity, 0), Ok(8_976));
        assert_eq!(allowed(capacity, 8_976), Ok(8_976));
        let mistake = allowed(capacity, 8_977).unwrap_err();
        assert!(mistake.starts_with("limits.connections: ") && mistake.contains("ulimit -n"), "{mistake}");
    }

    #[test]
    fn memory_bounds_the_promise() {
        let capacity = Capacity { descriptors: 10_000, memory_bytes: Some(100 * CONNECTION_BYTES) };
        assert_eq!(allowed(capacity, 0), Ok(100));
        assert_eq!(allowed(capacity, 100), Ok(100));
        assert!(allowed(capacity, 101).unwrap_err().contains("memory"));
    }

    #[test]
    fn few_descriptors_leave_room_for_the_store() {
        let capacity = Capacity { descriptors: 64, memory_bytes: None };
        assert_eq!(allowed(capacity, 0), Ok(48));
        assert_eq!(capacity.http_connections_kept(), 8);
    }

    #[test]
    fn the_memory_of_this_machine_is_known() {
        assert_eq!(mem_total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2_097_152));
        assert!(memory_bytes().is_some_and(|bytes| bytes > 1_048_576));
    }
}
