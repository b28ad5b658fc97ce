//! Admission limits: WebSocket and HTTP connections, in total and per address, and concurrent requests.
//!
//! Owns the counts. A slot or a permit is returned when it is dropped, wherever that happens.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The counts of one node.
#[derive(Default)]
pub(crate) struct Admission {
    websockets: Count,
    http: Count,
    forwarded: Count,
    requests: AtomicUsize,
    /// Notified when there may be room again.
    room: Notify,
}

/// What is counted by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A connection that has become a WebSocket.
    WebSocket,
    /// Any other connection.
    Http,
    /// A request forwarded by a trusted proxy, whose connections carry those of many clients.
    ForwardedRequest,
}

/// The limits of a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) in_all: usize,
    pub(crate) per_address: u32,
}

#[derive(Default)]
struct Count {
    in_all: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, u32>>,
}

/// A slot for a connection or forwarded request, until it is dropped.
pub(crate) struct Slot {
    admission: Arc<Admission>,
    kind: Kind,
    address: IpAddr,
}

/// The permit to carry out one request.
pub(crate) struct Permit(Arc<Admission>);

impl Admission {
    /// A slot for one more from `address`, if there is one in all and for the address.
    pub(crate) fn slot(self: &Arc<Self>, kind: Kind, address: IpAddr, most: Most) -> Option<Slot> {
        let count = self.count(kind);
        let address = counted_as(address);
        if !take_one(&count.in_all, most.in_all) {
            return None;
        }
        let mut by_address = count.by_address();
        let of_address = by_address.entry(address).or_default();
        if *of_address >= most.per_address {
            count.in_all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *of_address += 1;
        Some(Slot { admission: self.clone(), kind, address })
    }

    /// A permit for a request, while fewer than `requests_max` are under way.
    pub(crate) fn permit(self: &Arc<Self>, requests_max: usize) -> Option<Permit> {
        take_one(&self.requests, requests_max).then(|| Permit(self.clone()))
    }

    /// The number of slots of a kind that are taken.
    pub(crate) fn taken(&self, kind: Kind) -> usize {
        self.count(kind).in_all.load(Ordering::Relaxed)
    }

    /// Ready when there may be room again. One task at a time may wait.
    pub(crate) async fn changed(&self) {
        self.room.notified().await;
    }

    /// Makes the task that waits for room look again.
    pub(crate) fn look_again(&self) {
        self.room.notify_one();
    }

    fn count(&self, kind: Kind) -> &Count {
        match kind {
            Kind::WebSocket => &self.websockets,
            Kind::Http => &self.http,
            Kind::ForwardedRequest => &self.forwarded,
        }
    }
}

impl Count {
    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The holder of one IPv6 address has a /64 network of them (RFC 6177 §2).
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

fn take_one(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1)).is_ok()
}

impl Drop for Slot {
    fn drop(&mut self) {
        let count = self.admission.count(self.kind);
        count.in_all.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = count.by_address();
        if let Some(of_address) = by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                by_address.remove(&self.address);
            }
        }
        drop(by_address);
        self.admission.look_again();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "10.0.0.1";
    const THERE: &str = "10.0.0.2";

    fn slot(admission: &Arc<Admission>, address: &str, in_all: usize, per_address: u32) -> Option<Slot> {
        admission.slot(Kind::WebSocket, address.parse().unwrap(), Most { in_all, per_address })
    }

    #[test]
    fn slots_run_out_and_come_back() {
        let admission = Arc::new(Admission::default());
        let first = slot(&admission, HERE, 2, 9).unwrap();
        let second = slot(&admission, HERE, 2, 9);
        assert!(second.is_some());
        assert!(slot(&admission, HERE, 2, 9).is_none());
        drop(first);
        assert!(slot(&admission, HERE, 2, 9).is_some());
        drop(second);
        assert_eq!(admission.taken(Kind::WebSocket), 0);
    }

    #[test]
    fn one_address_has_no_more_than_its_share() {
        let admission = Arc::new(Admission::default());
        let first = slot(&admission, HERE, 10, 1);
        assert!(first.is_some());
        assert!(slot(&admission, HERE, 10, 1).is_none());
        assert_eq!(admission.taken(Kind::WebSocket), 1, "who is turned away holds no slot");
        assert!(slot(&admission, THERE, 10, 1).is_some());
        drop(first);
        assert!(admission.websockets.by_address().is_empty());
        assert!(slot(&admission, HERE, 10, 1).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let admission = Arc::new(Admission::default());
        let _first = slot(&admission, "2001:db8:0:1::1", 10, 1).unwrap();
        assert!(slot(&admission, "2001:db8:0:1:ffff::2", 10, 1).is_none());
        assert!(slot(&admission, "2001:db8:0:2::1", 10, 1).is_some());
        let _mapped = slot(&admission, "::ffff:10.0.0.1", 10, 1).unwrap();
        assert!(slot(&admission, HERE, 10, 1).is_none());
    }

    #[tokio::test]
    async fn who_waits_for_room_is_told_even_if_he_comes_late() {
        let admission = Arc::new(Admission::default());
        drop(slot(&admission, HERE, 1, 1));
        admission.changed().await;
    }

    #[test]
    fn permits_run_out_and_come_back() {
        let admission = Arc::new(Admission::default());
        let first = admission.permit(1).unwrap();
        assert!(admission.permit(1).is_none());
        drop(first);
        assert!(admission.permit(1).is_some());
    }
}
