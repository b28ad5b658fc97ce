//! Beginning a term: how a conversation passes from its last owner to the next.

use super::term::Term;
use super::{LogHead, Quorum, QuorumLog, Release, Swapped, WriteTimestamp};
use crate::{ConversationKey, Incarnation, NewConversation, StoreError, TermNumber};
use switchboard_protocol::Seq;

/// How often a begin starts again because another one was faster.
const BEGIN_ATTEMPTS_MAX: u32 = 16;

/// Rows read and rewritten at a time during a takeover.
const TAIL_ROWS_MAX: u64 = 256;

/// What the caller knows of the owner that the head names, if that is another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Previous {
    /// Nothing: [`Beginning::Owned`] names the owner.
    #[default]
    Unknown,
    /// It has released a term. If the head names another term, this counts as [`Previous::Unknown`].
    Released(Release),
    /// The heartbeat of this incarnation is gone and it does not answer: it may be fenced.
    Gone(Incarnation),
    /// The same, with the rest of the head that named it ([`Beginning::Owned`]), which need not be read again.
    GoneFrom {
        /// The owner.
        owner: Incarnation,
        /// Its term.
        term: TermNumber,
        /// The head's end.
        end: Seq,
    },
}

impl Previous {
    /// Who is known to be gone.
    pub(crate) fn gone(&self) -> Option<&Incarnation> {
        match self {
            Self::Gone(owner) | Self::GoneFrom { owner, .. } => Some(owner),
            Self::Unknown | Self::Released(_) => None,
        }
    }

    /// The head to begin from, if it has been read. If it stands no more, the compare-and-set is refused.
    fn head(&self) -> Option<LogHead> {
        match self {
            Self::GoneFrom { owner, term, end } => Some(LogHead { term: *term, owner: Some(owner.clone()), end: *end }),
            _ => None,
        }
    }
}

/// The outcome of beginning a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The term is the caller's.
    Begun {
        /// Its number.
        term: TermNumber,
        /// The log's end, for every reader, for ever.
        end: Seq,
        /// Who had the previous term, if it was not ended. Some of what that made durable may be unannounced, and if it
        /// was another incarnation, its note in `active` is still there ([`QuorumLog::forget_note`]).
        former: Option<Incarnation>,
    },
    /// Another process has it. Ask it for its release, or fence it if it is gone.
    Owned {
        /// The owner.
        by: Incarnation,
        /// Its term.
        term: TermNumber,
        /// The head's end.
        end: Seq,
    },
    /// There is no such conversation, and it may not be created.
    Missing,
}

impl<Q: Quorum> QuorumLog<Q> {
    /// Begins the next term of a conversation for `by`. This call ends any term of it that runs in this process. With
    /// `create`, a conversation that does not exist is created.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if `by` is: the node has to go on as a new incarnation. [`StoreError::Unavailable`] if
    /// the store did not answer, or others kept beginning terms. The term may have begun all the same, but nobody
    /// appends in it: the next begin continues from there.
    pub async fn begin_term(
        &self,
        conversation: &ConversationKey,
        by: &Incarnation,
        previous: &Previous,
        create: Option<&NewConversation>,
    ) -> Result<Beginning, StoreError> {
        let life = self.life(by).await?;
        let here = self.conversations.hold(conversation);
        let _only = here.beginning.lock().await;
        let stopped = here.term().map(|term| (term.number, term.stop()));
        let mut found = previous.head();
        for _ in 0..BEGIN_ATTEMPTS_MAX {
            // 1. The current head.
            let is_found = found.is_some();
            let head = match found.take() {
                Some(head) => Some(head),
                None => self.quorum.read_head(conversation).await?,
            };
            let (old, end) = match (head, create) {
                (None, None) => return Ok(Beginning::Missing),
                (None, Some(new)) => (Old::Nothing(new), Seq::ZERO),
                (Some(head), _) => match self.final_end(conversation, &head, stopped, previous).await? {
                    Final::End(end) => (Old::Head(head), end),
                    Final::OwnedBy(by) => return Ok(Beginning::Owned { by, term: head.term, end: head.end }),
                },
            };
            // 5. Of all that have come this far, only one succeeds.
            let Some((head, noted)) = self.take(conversation, &old, by, end, is_found).await? else { continue };
            here.put(Term::new(head.term, life, head.end, noted));
            return Ok(Beginning::Begun { term: head.term, end: head.end, former: old.owner().cloned() });
        }
        Err(StoreError::unavailable("others keep beginning terms of this conversation"))
    }

    /// The end of the log once the term of `head` is over, and no more of it can become durable. `stopped` is the
    /// newest term that was handed out here, with what it has confirmed.
    async fn final_end(
        &self,
        conversation: &ConversationKey,
        head: &LogHead,
        stopped: Option<(TermNumber, Seq)>,
        previous: &Previous,
    ) -> Result<Final, StoreError> {
        let Some(owner) = &head.owner else { return Ok(Final::End(head.end)) };
        if self.is_of_this_process(owner) {
            // Our own term: what is not confirmed is dropped. A term that is not known here was never handed out, or
            // was forgotten when it was over: nobody appends in it either.
            if let Some((_, confirmed)) = stopped.filter(|(term, _)| *term == head.term) {
                return Ok(Final::End(confirmed));
            }
        } else {
            match previous {
                Previous::Released(release) if release.term == head.term => return Ok(Final::End(release.end)),
                // 2. After this, nothing more of the fenced node's term becomes durable.
                previous if previous.gone() == Some(owner) => self.fence(owner).await?,
                _ => return Ok(Final::OwnedBy(owner.clone())),
            }
        }
        self.settle_tail(conversation, head).await.map(Final::End)
    }

    /// Makes sure that no later reader misses what was ever durable, or what else was found with it: the rows that
    /// belong to the log behind the head's end. Returns the place of the last one.
    async fn settle_tail(&self, conversation: &ConversationKey, head: &LogHead) -> Result<Seq, StoreError> {
        let mut end = head.end;
        loop {
            // 3. Every quorum sees a confirmed row; an unconfirmed one may be seen now, and not by the next reader.
            let upto = Seq::new(end.get() + TAIL_ROWS_MAX);
            let mut rows = self.quorum.read_rows(conversation, end, upto).await?;
            let places = end.get() + 1..;
            let in_log = rows.iter().zip(places).take_while(|(row, at)| row.seq.get() == *at && row.term == head.term);
            rows.truncate(in_log.count());
            let Some(last) = rows.last() else { return Ok(end) };
            end = last.seq;
            // 4. So all are rewritten, unchanged.
            self.quorum.write_rows(conversation, &rows).await?;
            if end < upto {
                return Ok(end);
            }
        }
    }

    /// Sets the head to the next term and notes the conversation as active. Returns the head of the new term, if it is
    /// `by`'s, with the note's timestamp. With `is_found`, an earlier begin has read the old head.
    async fn take(
        &self,
        conversation: &ConversationKey,
        old: &Old<'_>,
        by: &Incarnation,
        end: Seq,
        is_found: bool,
    ) -> Result<Option<(LogHead, WriteTimestamp)>, StoreError> {
        let new = LogHead { term: TermNumber(old.term().0 + 1), owner: Some(by.clone()), end };
        let swap = async {
            match old {
                Old::Nothing(create) => self.quorum.create_head(conversation, create, &new).await,
                Old::Head(head) => self.quorum.swap_head(conversation, head, &new).await,
            }
        };
        let note = self.quorum.note_active(by, conversation, new.term);
        let (swapped, noted) = tokio::join!(swap, note);
        let stands = match swapped {
            Ok(Swapped::Applied) => Some(new),
            Ok(Swapped::Refused(_)) => None,
            // Since the head was found, another begin of this process may have begun and used that very term.
            Err(StoreError::Unavailable { .. }) if is_found => None,
            Err(StoreError::Unavailable { .. }) => {
                // What is in the head holds, including the end, which may be that of an earlier attempt.
                let head = self.quorum.read_head(conversation).await?;
                head.filter(|head| head.term == new.term && head.owner == new.owner)
            }
            Err(error) => return Err(error),
        };
        match stands {
            Some(head) => Ok(Some((head, noted?))),
            None => Ok(None),
        }
    }
}

/// What a begin starts from.
enum Old<'a> {
    Nothing(&'a NewConversation),
    Head(LogHead),
}

impl Old<'_> {
    fn term(&self) -> TermNumber {
        match self {
            Self::Nothing(_) => TermNumber(0),
            Self::Head(head) => head.term,
        }
    }

    fn owner(&self) -> Option<&Incarnation> {
        match self {
            Self::Nothing(_) => None,
            Self::Head(head) => head.owner.as_ref(),
        }
    }
}

enum Final {
    End(Seq),
    /// Only that process can say.
    OwnedBy(Incarnation),
}
