//! Faults of spawned nodes while clients verify: one node after the other is killed, stopped or restarted.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;

use crate::meter::{NS_PER_S, now_ns};
use crate::nodes::Server;

/// The time from the start of the load to the first fault, and between two.
const BLOW_EVERY_NS: u64 = 3 * NS_PER_S;
/// How long a stopped node is suspended.
const STOPPED: Duration = Duration::from_millis(1_500);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// kill -9, then a restart on the same store.
    Kill,
    /// SIGSTOP, and SIGCONT some time later.
    Stop,
    /// SIGTERM, then a restart once it has drained.
    Restart,
}

impl FromStr for Blow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kill" => Ok(Self::Kill),
            "stop" => Ok(Self::Stop),
            "restart" => Ok(Self::Restart),
            _ => Err(format!("{text}: must be kill, stop or restart")),
        }
    }
}

/// The schedule of faults.
#[derive(Clone, Debug)]
pub(crate) struct Chaos {
    blow: Blow,
    next_node: usize,
    /// Set while a load runs.
    next_ns: Option<u64>,
}

impl Chaos {
    pub(crate) fn new(blow: Blow) -> Self {
        Self { blow, next_node: 0, next_ns: None }
    }

    /// A phase with load begins.
    pub(crate) fn begin(&mut self) {
        self.next_ns = Some(now_ns() + BLOW_EVERY_NS);
    }

    /// The load is over.
    pub(crate) fn end(&mut self) {
        self.next_ns = None;
    }

    /// Injects the next fault if it is due, and reports it.
    ///
    /// # Errors
    /// The node does not come back.
    pub(crate) async fn strike(&mut self, servers: &mut [Server]) -> Result<()> {
        if servers.is_empty() || self.next_ns.is_none_or(|next_ns| next_ns > now_ns()) {
            return Ok(());
        }
        let place = self.next_node % servers.len();
        let server = &mut servers[place];
        self.next_node += 1;
        eprintln!("chaos: {} {}", self.blow, server.name);
        match self.blow {
            Blow::Kill => server.kill_and_start().await?,
            Blow::Stop => server.stand_still(STOPPED).await,
            Blow::Restart => server.restart().await?,
        }
        self.next_ns = self.next_ns.map(|_| now_ns() + BLOW_EVERY_NS);
        Ok(())
    }
}

impl std::fmt::Display for Blow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Restart => "restart",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blows_have_names() {
        for blow in [Blow::Kill, Blow::Stop, Blow::Restart] {
            assert_eq!(blow.to_string().parse(), Ok(blow));
        }
        assert!("hit".parse::<Blow>().is_err());
    }
}
