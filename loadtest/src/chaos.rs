//! Faults of spawned nodes while clients verify: one node after the other is killed, stopped or restarted.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;

use crate::meter::{NS_PER_S, now_ns};
use crate::nodes::Server;

/// The time from the start of the load to the first fault, and from the end of a fault to the next one. So there is
/// never more than one node down.
const BLOW_EVERY_NS: u64 = 3 * NS_PER_S;
/// The setting that says how long a silent node counts as alive, and its default.
const TTL_SETTING: &str = "cluster.heartbeat_ttl_ms=";
const TTL_DEFAULT: Duration = Duration::from_millis(3_000);
/// How long a short stop takes at most. It is shorter than the TTL: the others wait for the node.
const SHORT_STOP_MAX: Duration = Duration::from_millis(1_500);
/// How much longer than the TTL a long stop is: the others take over the node's conversations, which may take a second
/// (DESIGN §8), and go on without it.
const LONG_STOP_BEYOND_TTL: Duration = Duration::from_secs(2);

/// What is done to the nodes, as the command line says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    Kill,
    Stop,
    Restart,
    All,
}

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// kill -9, then a restart on the same store.
    Kill,
    /// SIGSTOP, and SIGCONT before the node counts as dead.
    ShortStop,
    /// SIGSTOP, and SIGCONT after the others have taken over.
    LongStop,
    /// SIGTERM, then a restart once it has drained.
    Restart,
}

impl Blow {
    /// Comes in turn.
    fn faults(self) -> &'static [Fault] {
        match self {
            Self::Kill => &[Fault::Kill],
            Self::Stop => &[Fault::ShortStop, Fault::LongStop],
            Self::Restart => &[Fault::Restart],
            Self::All => &[Fault::Kill, Fault::ShortStop, Fault::LongStop, Fault::Restart],
        }
    }
}

impl FromStr for Blow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kill" => Ok(Self::Kill),
            "stop" => Ok(Self::Stop),
            "restart" => Ok(Self::Restart),
            "all" => Ok(Self::All),
            _ => Err(format!("{text}: must be kill, stop, restart or all")),
        }
    }
}

/// The schedule of faults.
#[derive(Clone, Debug)]
pub(crate) struct Chaos {
    blow: Blow,
    short_stop: Duration,
    long_stop: Duration,
    /// The number of faults so far.
    faults: usize,
    /// Set while a load runs.
    next_ns: Option<u64>,
}

impl Chaos {
    /// `settings` are those of the nodes, `key=value`; later ones win.
    pub(crate) fn new(blow: Blow, settings: &[String]) -> Self {
        let ttl_ms = settings.iter().rev().find_map(|setting| setting.strip_prefix(TTL_SETTING)?.parse().ok());
        let ttl = ttl_ms.map_or(TTL_DEFAULT, Duration::from_millis);
        let (short_stop, long_stop) = (SHORT_STOP_MAX.min(ttl / 2), ttl + LONG_STOP_BEYOND_TTL);
        Self { blow, short_stop, long_stop, faults: 0, next_ns: None }
    }

    /// A phase with load begins.
    pub(crate) fn begin(&mut self) {
        self.next_ns = Some(now_ns() + BLOW_EVERY_NS);
    }

    /// The load is over.
    pub(crate) fn end(&mut self) {
        self.next_ns = None;
    }

    /// Injects the next fault if it is due, reports it, and waits until it is over.
    ///
    /// # Errors
    /// The node does not come back.
    pub(crate) async fn strike(&mut self, servers: &mut [Server]) -> Result<()> {
        if servers.is_empty() || self.next_ns.is_none_or(|next_ns| next_ns > now_ns()) {
            return Ok(());
        }
        let (place, fault) = self.take_next(servers.len());
        let server = &mut servers[place];
        let name = server.name.clone();
        match fault {
            Fault::Kill => {
                eprintln!("chaos: kill {name}");
                server.kill_and_start().await?;
            }
            Fault::ShortStop => stop(server, self.short_stop).await,
            Fault::LongStop => stop(server, self.long_stop).await,
            Fault::Restart => {
                eprintln!("chaos: restart {name}");
                server.restart().await?;
            }
        }
        self.next_ns = self.next_ns.map(|_| now_ns() + BLOW_EVERY_NS);
        Ok(())
    }

    /// Which of so many nodes is next, and its fault. Both come in turn; once all have had one each as often as there
    /// are faults, the nodes go on one place further, so that each node has each fault in the end.
    fn take_next(&mut self, nodes: usize) -> (usize, Fault) {
        let (number, faults) = (self.faults, self.blow.faults());
        self.faults += 1;
        ((number + number / (nodes * faults.len())) % nodes, faults[number % faults.len()])
    }
}

async fn stop(server: &mut Server, time: Duration) {
    eprintln!("chaos: stop {} for {} ms", server.name, time.as_millis());
    server.stand_still(time).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blows_have_names() {
        for (name, blow) in [("kill", Blow::Kill), ("stop", Blow::Stop), ("restart", Blow::Restart), ("all", Blow::All)]
        {
            assert_eq!(name.parse(), Ok(blow));
        }
        assert!("hit".parse::<Blow>().is_err());
    }

    #[test]
    fn a_stop_is_shorter_or_longer_than_the_time_for_which_a_silent_node_counts_as_alive() {
        let stops = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
            let chaos = Chaos::new(Blow::Stop, &settings);
            (chaos.short_stop.as_millis(), chaos.long_stop.as_millis())
        };
        assert_eq!(stops(&[]), (1_500, 5_000));
        assert_eq!(stops(&["cluster.heartbeat_ttl_ms=9000", "a=1", "cluster.heartbeat_ttl_ms=1000"]), (500, 3_000));
        assert_eq!(stops(&["cluster.heartbeat_ttl_ms=60000"]), (1_500, 62_000));
    }

    #[test]
    fn every_node_gets_every_fault() {
        for blow in [Blow::Kill, Blow::Stop, Blow::Restart, Blow::All] {
            for nodes in 1..=8 {
                let mut chaos = Chaos::new(blow, &[]);
                let rounds = nodes * nodes * blow.faults().len();
                let mut taken: Vec<_> = (0..rounds).map(|_| chaos.take_next(nodes)).collect();
                assert!(taken.iter().map(|(_, fault)| fault).eq(blow.faults().iter().cycle().take(rounds)));
                taken.sort_by_key(|(place, fault)| (*place, *fault as u8));
                taken.dedup();
                assert_eq!(taken.len(), nodes * blow.faults().len(), "{blow:?} on {nodes}");
            }
        }
    }
}
