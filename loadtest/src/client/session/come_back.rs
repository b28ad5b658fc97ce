//! Between two sessions of a client: the wait before an attempt, signing in again, and repeating frames.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use anyhow::Result;

use super::{End, Session, Shared, State, connected};
use crate::client::follow::Follow;
use crate::client::reader::Pause;
use crate::client::wire;
use crate::meter::now_ns;

/// Consecutive attempts to reconnect before a client gives up.
const RECONNECTS_MAX: u32 = 30;

impl Session {
    /// Runs the session and, if the client follows the log, those after it, to the end.
    pub(crate) async fn run(mut self) -> End {
        loop {
            let end = poll_fn(|cx| self.poll(cx)).await;
            let is_on = match &end {
                End::Closed => false,
                End::Left => {
                    self.go(Follow::on_left);
                    self.shared.wanted().await && self.come_back(0).await
                }
                End::Lost(why) => {
                    self.network.meters.lost.add(1);
                    self.network.complaints.note(&format!("a session was lost: {why}"));
                    self.go(|follow| follow.on_lost(why));
                    self.shared.state().wanted_ns.get_or_insert_with(now_ns);
                    self.shared.follow.is_some() && self.come_back(1).await
                }
            };
            if is_on {
                continue;
            }
            let mut state = self.shared.state();
            state.is_over = true;
            state.answers.clear();
            return end;
        }
    }

    /// The session is over: nothing can be sent until the next one.
    fn go(&mut self, note: impl FnOnce(&Follow)) {
        if let Some(follow) = &self.shared.follow {
            note(&follow.lock());
        }
        self.catching_up = None;
        // The next one needs a descriptor, and there may be no more of them than clients.
        self.wire.shut();
        let mut state = self.shared.state();
        (state.is_away, state.is_catching_up) = (true, false);
        state.outgoing.clear();
        // Callers that wait for an answer learn that there is none.
        state.answers.clear();
    }

    /// Opens the next session, runs `sync`, and repeats what was not answered. Waits before each attempt except number
    /// 0. Returns `false` if that is impossible, or no session is wanted.
    async fn come_back(&mut self, first_attempt: u32) -> bool {
        let pause = self.reader.ready.unwrap_or(Pause::DEFAULT);
        for attempt in first_attempt..RECONNECTS_MAX {
            if attempt > 0 {
                let wait_ms = fastrand::u64(0..=pause.most_ms(attempt - 1));
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
            if !self.shared.wanted().await {
                return false;
            }
            // Boxed: a session would otherwise carry the future of its next handshake.
            match Box::pin(self.reopen()).await {
                Ok(()) => return true,
                Err(error) => self.network.complaints.note(&format!("no way back: {}", error.root_cause())),
            }
        }
        false
    }

    async fn reopen(&mut self) -> Result<()> {
        self.wire = connected(&self.network, &self.who).await?;
        (self.reader.ready, self.reader.close) = (None, None);
        self.sign_in().await?;
        self.network.meters.reconnects.add(1);
        let again = match &self.shared.follow {
            Some(follow) => {
                let mut follow = follow.lock();
                follow.is_sync_due = true;
                follow.take_all_again()
            }
            None => Vec::new(),
        };
        {
            let mut state = self.shared.state();
            let State { kept, outgoing, is_away, .. } = &mut *state;
            *is_away = false;
            kept.values().chain(&again).for_each(|frame| wire::put_text(outgoing, frame.as_bytes()));
        }
        if self.shared.follow.is_none() {
            self.up_to_date();
        }
        Ok(())
    }
}

impl Shared {
    /// Waits until the client wants a session again; `false`: it never will.
    async fn wanted(&self) -> bool {
        poll_fn(|cx| {
            let mut state = self.state();
            state.waker = Some(cx.waker().clone());
            if state.is_leaving && !state.is_closing { Poll::Pending } else { Poll::Ready(!state.is_closing) }
        })
        .await
    }
}
