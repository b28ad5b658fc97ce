//! A hashed timer wheel (Varghese and Lauck, "Hashed and hierarchical timing wheels", scheme 6).
//!
//! One wheel holds the deadlines of many things (every session of a node, every typist of a conversation) at the cost
//! of one vector slot each, where a separate timer would cost a hundred bytes and a wake-up. There is no cancelling: an
//! item that is woken checks whether there is still something to do, and is inserted again for its next deadline.

/// Items, each due at a tick. Owned by the task that turns it; not shared.
#[derive(Debug)]
pub struct Wheel<T> {
    tick_ms: u64,
    /// The next tick to process. Everything due before it has been fired.
    next_tick: u64,
    slots: Vec<Vec<Due<T>>>,
    len: usize,
}

#[derive(Debug)]
struct Due<T> {
    tick: u64,
    item: T,
}

impl<T> Wheel<T> {
    /// A wheel of `slots` slots of `tick_ms` milliseconds that begins at `now_ms`. Items with deadlines further away
    /// than one turn stay in their slot for further turns.
    pub fn new(tick_ms: u64, slots: usize, now_ms: u64) -> Self {
        let tick_ms = tick_ms.max(1);
        let slots = (0..slots.max(1)).map(|_| Vec::new()).collect();
        Self { tick_ms, next_tick: now_ms / tick_ms, slots, len: 0 }
    }

    /// Schedules `item` for the first [`Wheel::turn`] at or after `deadline_ms`, at most a tick late.
    pub fn insert(&mut self, deadline_ms: u64, item: T) {
        let tick = deadline_ms.div_ceil(self.tick_ms).max(self.next_tick);
        let slot = self.slot_of(tick);
        self.slots[slot].push(Due { tick, item });
        self.len += 1;
    }

    /// Calls `fire` with every item that is due at `now_ms`, oldest tick first.
    pub fn turn(&mut self, now_ms: u64, mut fire: impl FnMut(T)) {
        let last_tick = now_ms / self.tick_ms;
        // After a long pause, one turn over all slots finds everything that is due.
        let turns = (last_tick + 1).saturating_sub(self.next_tick).min(self.slots.len() as u64);
        for tick in self.next_tick..self.next_tick + turns {
            let slot = self.slot_of(tick);
            let before = self.slots[slot].len();
            for due in self.slots[slot].extract_if(.., |due| due.tick <= last_tick) {
                fire(due.item);
            }
            let after = &mut self.slots[slot];
            self.len -= before - after.len();
            if after.is_empty() {
                after.shrink_to(64);
            }
        }
        self.next_tick = self.next_tick.max(last_tick + 1);
    }

    /// The number of waiting items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no items wait.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn slot_of(&self, tick: u64) -> usize {
        usize::try_from(tick % self.slots.len() as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel<u64>, now_ms: u64) -> Vec<u64> {
        let mut fired = Vec::new();
        wheel.turn(now_ms, |item| fired.push(item));
        fired
    }

    #[test]
    fn gives_out_at_the_deadline_and_not_before() {
        let mut wheel = Wheel::new(100, 8, 0);
        wheel.insert(250, 250);
        assert_eq!(due(&mut wheel, 299), [0; 0]);
        assert_eq!(due(&mut wheel, 300), [250]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_deadline_in_the_past_is_due_at_the_next_tick() {
        let mut wheel = Wheel::new(100, 8, 1_000);
        due(&mut wheel, 1_050);
        wheel.insert(500, 500);
        assert_eq!(due(&mut wheel, 1_100), [500]);
    }

    #[test]
    fn holds_deadlines_beyond_one_turn_and_survives_pauses() {
        let generator = crate::Generator::from_seed(3);
        let mut wheel = Wheel::new(10, 16, 0);
        let mut waiting = Vec::new();
        let mut now_ms = 0;
        for _ in 0..2_000 {
            let deadline = now_ms + generator.below(1_000);
            wheel.insert(deadline, deadline);
            waiting.push(deadline);
            now_ms += generator.below(if generator.percent(5) { 900 } else { 9 });
            let mut fired = due(&mut wheel, now_ms);
            fired.sort_unstable();
            // At most a tick late, never early.
            assert!(fired.iter().all(|deadline| *deadline <= now_ms), "early");
            for deadline in &fired {
                let at = waiting.iter().position(|w| w == deadline).expect("fired twice");
                waiting.swap_remove(at);
            }
            assert!(waiting.iter().all(|deadline| deadline + 20 > now_ms), "more than a tick late");
            assert_eq!(wheel.len(), waiting.len());
        }
    }
}
