//! Who gets in while there is room: connections to this node and from one address, and requests under way.
//!
//! Owns the counts. A place or a permit is given back when it is dropped, wherever that happens.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counts of one node.
#[derive(Default)]
pub(crate) struct Admission {
    connections: AtomicUsize,
    /// Only while connections per address are limited.
    by_address: Mutex<HashMap<IpAddr, u32>>,
    requests: AtomicUsize,
}

/// A connection's place.
pub(crate) struct Place {
    admission: Arc<Admission>,
    /// `None`: was not counted by address.
    address: Option<IpAddr>,
}

/// Leave to carry out one request.
pub(crate) struct Permit(Arc<Admission>);

impl Admission {
    /// A place among at most `connections_max`, of which at most `per_address_max` from `address`.
    pub(crate) fn place(
        self: &Arc<Self>,
        connections_max: usize,
        address: IpAddr,
        per_address_max: Option<u32>,
    ) -> Option<Place> {
        if !take_one(&self.connections, connections_max) {
            return None;
        }
        // From here on the place gives the count back, if the address has no room.
        let mut place = Place { admission: self.clone(), address: None };
        if let Some(per_address_max) = per_address_max {
            let mut by_address = self.by_address();
            let count = by_address.entry(address).or_default();
            if *count >= per_address_max {
                return None;
            }
            *count += 1;
            place.address = Some(address);
        }
        Some(place)
    }

    /// Leave to carry out a request while fewer than `requests_max` are under way.
    pub(crate) fn permit(self: &Arc<Self>, requests_max: usize) -> Option<Permit> {
        take_one(&self.requests, requests_max).then(|| Permit(self.clone()))
    }

    /// Connections that have a place.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_one(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1)).is_ok()
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut by_address = self.admission.by_address();
            if let Some(count) = by_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&address);
                }
            }
        }
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

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn places_run_out_and_come_back() {
        let admission = Arc::new(Admission::default());
        let first = admission.place(2, HERE, None).unwrap();
        let second = admission.place(2, HERE, None);
        assert!(second.is_some());
        assert!(admission.place(2, HERE, None).is_none());
        drop(first);
        assert!(admission.place(2, HERE, None).is_some());
        drop(second);
        assert_eq!(admission.connections(), 0);
    }

    #[test]
    fn one_address_has_no_more_than_its_share() {
        let admission = Arc::new(Admission::default());
        let first = admission.place(10, HERE, Some(1));
        assert!(first.is_some());
        assert!(admission.place(10, HERE, Some(1)).is_none());
        assert_eq!(admission.connections(), 1, "who is turned away holds no place");
        assert!(admission.place(10, THERE, Some(1)).is_some());
        drop(first);
        assert!(admission.by_address().is_empty());
        assert!(admission.place(10, HERE, Some(1)).is_some());
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
