//! The envelopes that wait for one peer, in the order of their numbers and bounded in bytes.

use crate::envelope::Envelope;
use std::collections::VecDeque;

/// What is in one packet at most; one envelope always fits.
const PACKET_ENVELOPES_MAX: usize = 256;
const PACKET_BYTES_MAX: usize = 1024 * 1024;

/// Envelopes that wait: a run of numbers.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Number of the first.
    first: u64,
    envelopes: VecDeque<Envelope>,
    bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.envelopes.is_empty()
    }

    /// Whether it took the envelope: not with a hole before it, and not beyond `bytes_max` (one always has room).
    pub(super) fn push(&mut self, number: u64, envelope: Envelope, bytes_max: usize) -> bool {
        let bytes = envelope.bytes();
        if self.envelopes.is_empty() {
            self.first = number;
        } else if self.first + self.envelopes.len() as u64 != number || self.bytes + bytes > bytes_max {
            return false;
        }
        self.bytes += bytes;
        self.envelopes.push_back(envelope);
        true
    }

    /// What leaves in the next packet, and the number of its first.
    pub(super) fn take(&mut self) -> (u64, Vec<Envelope>) {
        let (first, mut taken, mut bytes) = (self.first, Vec::new(), 0);
        while let Some(next) = self.envelopes.front() {
            bytes += next.bytes();
            if taken.len() == PACKET_ENVELOPES_MAX || (bytes > PACKET_BYTES_MAX && !taken.is_empty()) {
                break;
            }
            self.bytes -= next.bytes();
            taken.extend(self.envelopes.pop_front());
        }
        self.first += taken.len() as u64;
        (first, taken)
    }
}
