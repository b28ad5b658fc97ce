//! Sends, repeated under their `client_id` until they are answered.

use super::{Client, Failure, is_final};
use std::time::Duration;
use switchboard_protocol::client::{Send, SendTarget};
use switchboard_protocol::server::{Message, Sent};
use switchboard_protocol::{ClientFrame, ClientId, Content, ServerFrame};

/// An unanswered send.
#[derive(Clone)]
pub(super) struct Pending {
    send: Send,
    tries: u32,
}

impl Client {
    pub(crate) fn name(&mut self) -> ClientId {
        self.names += 1;
        format!("{}-{}", self.device, self.names).parse().unwrap()
    }

    pub(crate) fn queue_send(&mut self, target: SendTarget) {
        let client_id = self.name();
        let mentions = if self.generator.percent(30) {
            let other = &self.others[self.generator.below(self.others.len() as u64) as usize];
            format!(r#","mentions":["{other}"]"#)
        } else {
            String::new()
        };
        let text = format!(r#"{{"text":"{} says {client_id}"{mentions}}}"#, self.user.user);
        let content = Content::parse(&text, usize::MAX).unwrap();
        self.pending.push(Pending { send: Send { target, client_id, content, base_seq: None }, tries: 0 });
    }

    pub(super) async fn try_pending(&mut self) {
        let waiting = std::mem::take(&mut self.pending);
        if waiting.is_empty() {
            return;
        }
        // Sends are under way together; some of them twice, some without waiting.
        let attempts = waiting.iter().map(|pending| self.attempt(pending));
        let outcomes = futures_util::future::join_all(attempts).await;
        for (mut pending, outcome) in waiting.into_iter().zip(outcomes) {
            match outcome {
                Ok(sent) => self.take_sent(&pending.send, sent),
                Err(Failure::Refused(error)) if is_final(&error) => {
                    if pending.tries == 0 {
                        self.oracle.refused(&self.user, &pending.send.client_id);
                    }
                }
                Err(_) => {
                    pending.tries += 1;
                    self.pending.push(pending);
                }
            }
        }
    }

    async fn attempt(&self, pending: &Pending) -> Result<Sent, Failure> {
        let once = || async { self.call(ClientFrame::Send(pending.send.clone())).await };
        let answer = match self.generator.below(100) {
            0..10 => {
                let (first, second) = tokio::join!(once(), once());
                self.note_sent(pending, &second);
                self.note_sent(pending, &first);
                first.or(second)
            }
            10..20 => {
                let patience = Duration::from_millis(self.generator.below(300));
                tokio::time::timeout(patience, once()).await.unwrap_or(Err(Failure::Broken))
            }
            _ => once().await,
        };
        self.note_sent(pending, &answer);
        match answer? {
            ServerFrame::Sent(sent) => Ok(sent),
            other => panic!("a send was answered with {other:?}"),
        }
    }

    fn note_sent(&self, pending: &Pending, answer: &Result<ServerFrame, Failure>) {
        if let Ok(ServerFrame::Sent(sent)) = answer {
            self.oracle.sent(&self.user, sent, pending.send.content.as_str());
        }
    }

    /// `sent` counts as the entry.
    fn take_sent(&mut self, send: &Send, sent: Sent) {
        let message = Message {
            conversation_id: sent.conversation_id,
            message_id: sent.message_id,
            seq: sent.seq,
            from: self.me(),
            client_id: sent.client_id,
            content: send.content.clone(),
            timestamp: sent.timestamp,
        };
        self.take_entry(message.into());
    }

    /// The number of sends that were never answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.pending.len()
    }
}
