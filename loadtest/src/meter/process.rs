//! The resource use of a process, and of the machine, from `/proc`.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The kernel's unit of `utime` and `stime`: `USER_HZ`, which is 100 on every Linux that Rust supports
/// (`proc_pid_stat(5)`).
const TICKS_PER_S: u64 = 100;

/// A sample of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessUse {
    /// User and system time of all its threads since its start.
    pub(crate) cpu_us: u64,
    pub(crate) resident_bytes: u64,
}

/// Samples a process.
///
/// # Errors
/// There is no process with this id (any more).
pub(crate) fn look_at(pid: u32) -> Result<ProcessUse> {
    let read = |file| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).with_context(|| format!("can't read {path}"))
    };
    let cpu_us = cpu_us(&read("stat")?).context("can't parse /proc/…/stat")?;
    let pages = resident_pages(&read("statm")?).context("can't parse /proc/…/statm")?;
    Ok(ProcessUse { cpu_us, resident_bytes: pages * rustix::param::page_size() as u64 })
}

/// The fields are counted after the command's name, which may contain anything.
fn cpu_us(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * (1_000_000 / TICKS_PER_S))
}

/// CPU time of the whole machine since its start, in microseconds: other processes disturb the measurement.
pub(crate) fn machine_cpu_us() -> Option<u64> {
    busy_us(&fs::read_to_string("/proc/stat").ok()?)
}

/// The first line is `cpu user nice system idle iowait irq softirq steal …` (`proc_stat(5)`); two of these are idle.
fn busy_us(stat: &str) -> Option<u64> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let ticks = numbers.map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = ticks[..] else { return None };
    Some((user + nice + system + irq + softirq + steal) * (1_000_000 / TICKS_PER_S))
}

fn resident_pages(statm: &str) -> Option<u64> {
    statm.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let stat =
            "42 (a) S ( b) R 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 3 0 12345 1000 200 18446744073709551615";
        assert_eq!(cpu_us(stat), Some(120_000));
        assert_eq!(cpu_us("42 (a) R 1"), None);
        assert_eq!(cpu_us(""), None);
    }

    #[test]
    fn what_is_not_idle_is_busy() {
        assert_eq!(busy_us("cpu  1 2 3 1000 2000 4 5 6 0 0\ncpu0 1 1\n"), Some(210_000));
        assert_eq!(busy_us("cpu  1 2 3\n"), None);
        assert_eq!(busy_us("intr 1\n"), None);
        assert!(machine_cpu_us().unwrap() > 0);
    }

    #[test]
    fn resident_is_the_second_number() {
        assert_eq!(resident_pages("5000 321 200 10 0 400 0\n"), Some(321));
        assert_eq!(resident_pages("5000"), None);
    }

    #[test]
    fn this_process_is_there_and_one_that_is_not_is_an_error() {
        assert!(look_at(std::process::id()).unwrap().resident_bytes > 100_000);
        assert!(look_at(u32::MAX).is_err());
    }
}
