//! The envelopes that wait for one peer, ordered by number and bounded in bytes.

use crate::envelope::Envelope;
use std::collections::VecDeque;

/// Limits of a packet; one envelope always fits.
const PACKET_ENVELOPES_MAX: usize = 256;
const PACKET_BYTES_MAX: usize = 1024 * 1024;

/// Waiting envelopes with consecutive numbers.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The number of the first one.
    first: u64,
    envelopes: VecDeque<Envelope>,
    bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.envelopes.is_empty()
    }

    /// Adds an envelope. Refuses it (`false`) if there is a gap before it, or beyond `bytes_max` (one always has room).
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

    /// Takes the envelopes of the next packet, with the number of the first.
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
