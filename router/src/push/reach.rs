//! The users without sessions that are known to have no device, so that nothing is looked up for a message to them.

use hashbrown::HashSet;
use switchboard_store::UserKey;

/// Valid for one view: in the next one a device may have been registered at another home. When it is full, the half
/// that was not looked up recently is forgotten.
#[derive(Default)]
pub(crate) struct Unreachable {
    view: u64,
    young: HashSet<UserKey>,
    old: HashSet<UserKey>,
}

impl Unreachable {
    /// Whether the user is known to have no device.
    pub(crate) fn has(&mut self, user: &UserKey, view: u64) -> bool {
        if self.view != view {
            return false;
        }
        if self.young.contains(user) {
            return true;
        }
        let Some(known) = self.old.take(user) else { return false };
        self.young.insert(known);
        true
    }

    /// Notes that the user has no device, as of `view`; at most `most` users.
    pub(crate) fn note(&mut self, user: &UserKey, view: u64, most: usize) {
        if self.view != view {
            *self = Self { view, ..Self::default() };
        }
        if self.young.len() >= (most / 2).max(1) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user.clone());
    }

    /// The user has a device now.
    pub(crate) fn forget(&mut self, user: &UserKey) {
        self.young.remove(user);
        self.old.remove(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: usize) -> UserKey {
        UserKey { tenant: "t".parse().unwrap(), user: format!("u{number}").parse().unwrap() }
    }

    #[test]
    fn the_users_asked_for_lately_are_kept_and_no_more_than_there_may_be() {
        let mut unreachable = Unreachable::default();
        for number in 0..1_000 {
            unreachable.note(&user(number), 7, 10);
            assert!(unreachable.has(&user(number), 7) && unreachable.has(&user(0), 7));
            assert!(unreachable.young.len() + unreachable.old.len() <= 12);
        }
        assert!(!unreachable.has(&user(1), 7));
    }

    #[test]
    fn what_was_known_in_another_view_is_not_in_this_one() {
        let mut unreachable = Unreachable::default();
        unreachable.note(&user(1), 7, 10);
        assert!(!unreachable.has(&user(1), 8));
        unreachable.note(&user(2), 8, 10);
        assert!(!unreachable.has(&user(1), 7) && !unreachable.has(&user(1), 8));
        unreachable.forget(&user(2));
        assert!(!unreachable.has(&user(2), 8));
    }
}
