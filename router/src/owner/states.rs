//! The current state of the messages that recent commands were about: read once, then cached within a limit.

use std::collections::BTreeMap;
use switchboard_protocol::{Seq, UserId};
use switchboard_store::MessageState;

/// Message states, ahead of the store as the log is.
#[derive(Debug, Default)]
pub(super) struct States {
    known: BTreeMap<Seq, KnownState>,
    bytes: usize,
}

/// A message's state, and the last entry that changes it and may still fail.
#[derive(Debug)]
pub(super) struct KnownState {
    pub(super) from: UserId,
    pub(super) state: MessageState,
    changed_by: Seq,
    bytes: usize,
}

impl KnownState {
    /// Adds a state as the store has it.
    pub(super) fn stored(from: UserId, state: MessageState) -> Self {
        let bytes = weight(&state);
        Self { from, state, changed_by: Seq::ZERO, bytes }
    }
}

impl States {
    pub(super) fn get(&self, message: Seq) -> Option<&KnownState> {
        self.known.get(&message)
    }

    pub(super) fn insert(&mut self, message: Seq, known: KnownState) {
        self.bytes += known.bytes;
        self.known.insert(message, known);
    }

    /// The entry `by` changes a message in place; whether anything changed.
    ///
    /// # Errors
    /// That of `change`, which must then have changed nothing.
    pub(super) fn change<E>(
        &mut self,
        message: Seq,
        by: Seq,
        change: impl FnOnce(&mut MessageState) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let Some(known) = self.known.get_mut(&message) else { return Ok(false) };
        let changed = change(&mut known.state)?;
        if changed {
            known.changed_by = by;
            let before = std::mem::replace(&mut known.bytes, weight(&known.state));
            self.bytes = self.bytes - before + known.bytes;
        }
        Ok(changed)
    }

    /// Above `bytes_max`, forgets states without a change under way, since the store has them. `next` is needed now.
    pub(super) fn forget(&mut self, bytes_max: usize, durable: Seq, next: Seq) {
        if self.bytes > bytes_max {
            self.known.retain(|message, known| *message == next || known.changed_by > durable);
            self.bytes = self.known.values().map(|known| known.bytes).sum();
        }
    }
}

/// About the size of a state in memory.
fn weight(state: &MessageState) -> usize {
    let edited = state.edited.as_ref().map_or(0, |(content, _)| content.as_str().len());
    let user = |user: &UserId| size_of::<UserId>() + user.as_str().len();
    let reactions = state
        .reactions
        .iter()
        .map(|reaction| size_of_val(reaction) + reaction.emoji.len() + reaction.users.iter().map(user).sum::<usize>());
    size_of::<(Seq, KnownState)>() + edited + reactions.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_store::ReactionState;

    fn liked_by(users: usize) -> MessageState {
        let users = (0..users).map(|n| format!("user-{n:04}").parse().unwrap()).collect();
        MessageState { reactions: vec![ReactionState { emoji: "+1".to_owned(), users }], ..MessageState::default() }
    }

    #[test]
    fn what_is_kept_has_a_bound_in_bytes_save_for_what_is_under_way() {
        let mut states = States::default();
        let seq = Seq::new;
        for n in 1..=4 {
            states.insert(seq(n), KnownState::stored("alice".parse().unwrap(), liked_by(100)));
        }
        let all = states.bytes;
        states.forget(all, seq(10), seq(4));
        assert!(states.get(seq(1)).is_some(), "at the bound");
        let by = seq(11);
        assert_eq!(states.change(seq(2), by, |_| Ok::<_, ()>(false)), Ok(false));
        let grows = |state: &mut MessageState| {
            *state = liked_by(101);
            Ok::<_, ()>(true)
        };
        assert_eq!(states.change(seq(3), by, grows), Ok(true));
        assert!(states.bytes > all);
        states.forget(all, seq(10), seq(4));
        let left: Vec<u64> = states.known.keys().map(|message| message.get()).collect();
        assert_eq!(left, [3, 4], "the one under way, and the one that is needed");
        states.forget(0, seq(11), seq(4));
        assert_eq!((states.known.len(), states.bytes), (1, states.known[&seq(4)].bytes));
    }
}
