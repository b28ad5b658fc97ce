//! Who is typing in one conversation (PROTOCOL §4): the throttle of `typing_start`, and the `typing_stop` that the
//! server sends by itself. Owns the typists of one conversation; recipients and membership are not its business.

/// At most one `typing_start` of a user goes out in this time (PROTOCOL §4).
pub const TYPING_INTERVAL_MS: u64 = 2_000;
/// A session without a new `typing_start` for this long no longer types (PROTOCOL §4).
pub const TYPING_EXPIRY_MS: u64 = 5_000;
/// Maximum typists of one conversation. Typing is ephemeral, so in a larger crowd the others are dropped: nobody reads
/// a hundred names, and each would cost every reader a frame.
pub const TYPISTS_MAX: usize = 100;

/// The typists of one conversation. 24 bytes while nobody types; at most [`TYPISTS_MAX`] users, each with their typing
/// sessions.
///
/// `U` is a user of the conversation's tenant, `S` a session.
#[derive(Debug)]
pub struct Typing<U, S> {
    typists: Vec<Typist<U, S>>,
}

/// A user who types, or whose last `typing_start` is too recent for another one.
#[derive(Debug)]
struct Typist<U, S> {
    user: U,
    /// When a `typing_start` last went out.
    told_ms: u64,
    /// The user's typing sessions. Others see the user typing while there is one.
    sessions: Vec<TypingSession<S>>,
}

#[derive(Debug)]
struct TypingSession<S> {
    session: S,
    expires_ms: u64,
}

impl<U, S> Default for Typing<U, S> {
    fn default() -> Self {
        Self { typists: Vec::new() }
    }
}

impl<U: Clone + Eq, S: Clone + Eq> Typing<U, S> {
    /// `typing_start` of a session. Returns whether it goes out to the others; a repeat goes out too, once the interval
    /// is over, for those who have come since.
    ///
    /// If it comes too early while the user is not shown as typing, it is dropped, not kept for later.
    #[must_use]
    pub fn start(&mut self, user: &U, session: &S, now_ms: u64) -> bool {
        let Some(typist) = self.typist(user) else { return self.add(user, session, now_ms) };
        let goes_out = now_ms >= typist.told_ms + TYPING_INTERVAL_MS;
        if goes_out {
            typist.told_ms = now_ms;
        }
        if goes_out || typist.is_shown() {
            typist.renew(session, now_ms);
        }
        goes_out
    }

    /// `typing_stop` of a session, or the session's end. Returns whether `typing_stop` goes out: the user was shown as
    /// typing, and has no other typing session.
    #[must_use]
    pub fn stop(&mut self, user: &U, session: &S) -> bool {
        self.end(user, |typing| typing.session == *session)
    }

    /// The user sent a message, or is no longer a member, so no session of theirs types. Returns whether `typing_stop`
    /// goes out.
    #[must_use]
    pub fn stop_all(&mut self, user: &U) -> bool {
        self.end(user, |_| true)
    }

    /// When [`Typing::expire`] next has something to do; `None` when nothing is left.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.typists.iter().map(Typist::deadline_ms).min()
    }

    /// Ends what has expired, and calls `stopped` with each user for whom `typing_stop` goes out, in the order in which
    /// they started. Called too early it changes nothing.
    pub fn expire(&mut self, now_ms: u64, mut stopped: impl FnMut(&U)) {
        self.typists.retain_mut(|typist| {
            if typist.end(|typing| typing.expires_ms <= now_ms) {
                stopped(&typist.user);
            }
            typist.is_shown() || typist.deadline_ms() > now_ms
        });
        if self.typists.is_empty() {
            self.typists = Vec::new();
        }
    }

    /// Whether nothing is left to remember.
    pub fn is_empty(&self) -> bool {
        self.typists.is_empty()
    }

    fn typist(&mut self, user: &U) -> Option<&mut Typist<U, S>> {
        self.typists.iter_mut().find(|typist| typist.user == *user)
    }

    fn add(&mut self, user: &U, session: &S, now_ms: u64) -> bool {
        if self.typists.len() == TYPISTS_MAX {
            return false;
        }
        let mut typist = Typist { user: user.clone(), told_ms: now_ms, sessions: Vec::new() };
        typist.renew(session, now_ms);
        self.typists.push(typist);
        true
    }

    fn end(&mut self, user: &U, ends: impl Fn(&TypingSession<S>) -> bool) -> bool {
        self.typist(user).is_some_and(|typist| typist.end(ends))
    }
}

impl<U, S: Clone + Eq> Typist<U, S> {
    fn is_shown(&self) -> bool {
        !self.sessions.is_empty()
    }

    fn renew(&mut self, session: &S, now_ms: u64) {
        let expires_ms = now_ms + TYPING_EXPIRY_MS;
        match self.sessions.iter_mut().find(|typing| typing.session == *session) {
            Some(typing) => typing.expires_ms = expires_ms,
            None => {
                // Hardly anyone types on two devices at once, so reserve room for one.
                self.sessions.reserve_exact(1);
                self.sessions.push(TypingSession { session: session.clone(), expires_ms });
            }
        }
    }

    /// Returns whether the user was shown as typing and no longer is.
    fn end(&mut self, ends: impl Fn(&TypingSession<S>) -> bool) -> bool {
        let was_shown = self.is_shown();
        self.sessions.retain(|typing| !ends(typing));
        was_shown && !self.is_shown()
    }

    /// When a session expires, or otherwise when the throttle no longer needs the user.
    fn deadline_ms(&self) -> u64 {
        let expiry = self.sessions.iter().map(|typing| typing.expires_ms).min();
        expiry.unwrap_or(self.told_ms + TYPING_INTERVAL_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(typing: &mut Typing<u32, char>, now_ms: u64) -> Vec<u32> {
        let mut stopped = Vec::new();
        typing.expire(now_ms, |user| stopped.push(*user));
        stopped
    }

    #[test]
    fn a_start_goes_out_at_most_once_in_the_interval() {
        let mut typing = Typing::default();
        assert!(typing.start(&1, &'a', 0));
        assert!(!typing.start(&1, &'a', 1_999));
        assert!(typing.start(&1, &'a', 2_000), "a repeat is for those who have come since");
        assert!(!typing.start(&1, &'b', 3_999), "it counts by user, not by session");
        assert!(typing.start(&2, &'c', 3_999), "each user has an interval of his own");
    }

    #[test]
    fn typing_expires_after_the_last_start_and_not_a_millisecond_before() {
        let mut typing = Typing::default();
        assert!(typing.start(&1, &'a', 0));
        assert!(!typing.start(&1, &'a', 1_000), "it does not go out, but counts");
        assert_eq!(typing.next_deadline_ms(), Some(6_000));
        assert_eq!(expired(&mut typing, 5_999), [0; 0]);
        assert_eq!(expired(&mut typing, 6_000), [1]);
        assert_eq!(expired(&mut typing, 6_000), [0; 0], "told once");
        assert_eq!((typing.next_deadline_ms(), typing.is_empty()), (None, true));
    }

    #[test]
    fn a_stop_goes_out_only_after_a_start() {
        let mut typing = Typing::default();
        assert!(!typing.stop(&1, &'a'));
        assert!(!typing.stop_all(&1));
        assert!(typing.start(&1, &'a', 0));
        assert!(!typing.stop(&2, &'a'));
        assert!(typing.stop(&1, &'a'));
        assert!(!typing.stop(&1, &'a'));
    }

    #[test]
    fn a_stop_does_not_lift_the_throttle() {
        let mut typing = Typing::default();
        assert!(typing.start(&1, &'a', 0));
        assert!(typing.stop(&1, &'a'));
        assert!(!typing.start(&1, &'a', 1_999));
        assert!(!typing.stop(&1, &'a'), "he was not shown");
        assert_eq!(typing.next_deadline_ms(), Some(2_000), "until then he is remembered");
        assert_eq!(expired(&mut typing, 1_999), [0; 0]);
        assert!(!typing.is_empty());
        assert_eq!(expired(&mut typing, 2_000), [0; 0]);
        assert!(typing.is_empty());
        assert!(typing.start(&1, &'a', 2_000));
    }

    #[test]
    fn he_types_while_one_of_his_sessions_does() {
        let mut typing = Typing::default();
        assert!(typing.start(&1, &'a', 0));
        assert!(!typing.start(&1, &'b', 1_000));
        assert!(!typing.stop(&1, &'a'));
        assert!(!typing.stop(&1, &'c'), "it never typed");
        assert!(typing.stop(&1, &'b'));

        assert!(typing.start(&1, &'a', 10_000));
        assert!(!typing.start(&1, &'b', 11_000));
        assert_eq!(typing.next_deadline_ms(), Some(15_000));
        assert_eq!(expired(&mut typing, 15_000), [0; 0], "the other session still types");
        assert_eq!(typing.next_deadline_ms(), Some(16_000));
        assert_eq!(expired(&mut typing, 16_000), [1]);
    }

    #[test]
    fn a_message_ends_the_typing_of_all_his_sessions() {
        let mut typing = Typing::default();
        assert!(typing.start(&1, &'a', 0));
        assert!(!typing.start(&1, &'b', 0));
        assert!(typing.start(&2, &'c', 0));
        assert!(typing.stop_all(&1));
        assert_eq!(expired(&mut typing, 5_000), [2]);
    }

    #[test]
    fn beyond_the_bound_typing_is_dropped_until_there_is_room() {
        let mut typing = Typing::default();
        let crowd = u32::try_from(TYPISTS_MAX).expect("a small number");
        for user in 0..crowd {
            assert!(typing.start(&user, &'a', 0));
        }
        assert!(!typing.start(&crowd, &'a', 0));
        assert!(!typing.stop(&crowd, &'a'));
        assert!(typing.start(&0, &'a', 2_000), "who is known is not affected");
        assert_eq!(expired(&mut typing, 5_000), (1..crowd).collect::<Vec<_>>());
        assert!(typing.start(&crowd, &'a', 5_000));
    }

    #[test]
    fn it_is_held_per_conversation_so_it_is_small() {
        type Id = [u64; 3];
        assert_eq!(size_of::<Typing<Id, Id>>(), 24);
        assert_eq!((size_of::<Typist<Id, Id>>(), size_of::<TypingSession<Id>>()), (56, 32));
    }
}
