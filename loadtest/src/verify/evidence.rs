//! The facts of a history: the result of each send, what each session was shown and when, and the final log. It judges
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{Operation, Outline, Seen, What};

/// The input of all rules.
#[derive(Default)]
pub(super) struct Evidence<'a> {
    pub(super) conversations: BTreeMap<&'a str, Conversation<'a>>,
    /// By sender and `client_id`.
    pub(super) sends: BTreeMap<(&'a str, &'a str), Send<'a>>,
    /// In the order in which they began.
    pub(super) sessions: Vec<Session<'a>>,
    pub(super) clients: BTreeMap<&'a str, Client<'a>>,
    /// When a client last lost a session against its will, or was told to `resync`: a node may have died, or the others may
    /// have taken it for dead, and what it had not made durable may be gone.
    pub(super) last_gone_ns: u64,
    pub(super) shown: u64,
}

#[derive(Default)]
pub(super) struct Conversation<'a> {
    /// The entries of the final log, and others as they were first seen.
    pub(super) entries: BTreeMap<u64, &'a Seen>,
    /// The final log as read by each reader.
    pub(super) final_logs: Vec<FinalLog<'a>>,
    /// According to the final answer; empty if nobody asked.
    pub(super) members: BTreeSet<&'a str>,
    /// Up to this `seq`, some client was told to forget and use `history`, which shows only messages.
    pub(super) reset_until: u64,
    /// The times of acknowledgements, each with the highest `seq` so far.
    acknowledged: Vec<(u64, u64)>,
}

/// The messages of a whole conversation, according to `history` after the last send.
#[derive(Default)]
pub(super) struct FinalLog<'a> {
    pub(super) reader: &'a str,
    pub(super) asked_at_ns: u64,
    pub(super) messages: BTreeMap<u64, &'a Seen>,
    pub(super) end: u64,
    /// It was read to the end.
    pub(super) is_whole: bool,
}

#[derive(Default)]
pub(super) struct Send<'a> {
    /// The time and the session of each attempt.
    pub(super) attempts: Vec<(u64, Option<usize>)>,
    pub(super) acknowledged: Vec<Acknowledged<'a>>,
    pub(super) fails: usize,
}

pub(super) struct Acknowledged<'a> {
    pub(super) conversation_id: &'a str,
    pub(super) seq: u64,
    pub(super) at_ns: u64,
    pub(super) session: Option<usize>,
}

pub(super) struct Session<'a> {
    pub(super) client: &'a str,
    pub(super) began_ns: u64,
    /// It ended before the run did.
    pub(super) is_over: bool,
    pub(super) resyncs_ns: Vec<u64>,
    pub(super) streams: BTreeMap<&'a str, Stream>,
}

/// What a session was shown of a conversation without asking.
#[derive(Default)]
pub(super) struct Stream {
    /// In the order of arrival.
    pub(super) live: Vec<u64>,
    /// The highest `last_seq` of `conversation_activity`.
    pub(super) activity: u64,
}

/// A client's `read`.
pub(super) struct Read {
    pub(super) at_ns: u64,
    pub(super) seq: u64,
    pub(super) session: Option<usize>,
}

#[derive(Default)]
pub(super) struct Client<'a> {
    /// Everything shown to it that counts for a copy: live, `sent`, `changes`, and after `reset` also `history`.
    pub(super) shown: BTreeMap<&'a str, BTreeSet<u64>>,
    pub(super) reset_until: BTreeMap<&'a str, u64>,
    pub(super) reads: BTreeMap<&'a str, Vec<Read>>,
    /// When its final read began.
    pub(super) looked_back_ns: Option<u64>,
    /// The final read has completed.
    pub(super) is_done: bool,
    /// The result of the complete `sync` in the final read, and when it was requested.
    pub(super) outlines: BTreeMap<&'a str, &'a Outline>,
    pub(super) synced_ns: Option<u64>,
}

impl<'a> Evidence<'a> {
    /// `operations` are ordered by time.
    pub(super) fn of(operations: &'a [Operation]) -> Self {
        let mut evidence = Self::default();
        // The current session of each client.
        let mut now: BTreeMap<&str, usize> = BTreeMap::new();
        for operation in operations {
            let client = operation.client.as_str();
            match &operation.what {
                What::Ready { .. } => {
                    now.insert(client, evidence.sessions.len());
                    evidence.sessions.push(Session {
                        client,
                        began_ns: operation.at_ns,
                        is_over: false,
                        resyncs_ns: Vec::new(),
                        streams: BTreeMap::new(),
                    });
                }
                What::Lost { .. } | What::Left => {
                    if let What::Lost { .. } = &operation.what {
                        evidence.last_gone_ns = operation.at_ns;
                    }
                    if let Some(session) = now.remove(client) {
                        evidence.sessions[session].is_over = true;
                    }
                }
                _ => evidence.on_operation(operation, now.get(client).copied()),
            }
        }
        evidence.finish();
        evidence
    }

    fn on_operation(&mut self, operation: &'a Operation, session: Option<usize>) {
        let (client, at_ns) = (operation.client.as_str(), operation.at_ns);
        match &operation.what {
            What::Invoke { client_id, .. } => self.send(client, client_id).attempts.push((at_ns, session)),
            What::Fail { client_id, .. } => self.send(client, client_id).fails += 1,
            What::Ok { client_id, conversation_id, seq, .. } => {
                let acknowledged = Acknowledged { conversation_id, seq: *seq, at_ns, session };
                self.send(client, client_id).acknowledged.push(acknowledged);
                self.conversation(conversation_id).acknowledged.push((at_ns, *seq));
                self.client(client).shown.entry(conversation_id).or_default().insert(*seq);
            }
            What::Read { conversation_id, seq } => {
                let read = Read { at_ns, seq: *seq, session };
                self.client(client).reads.entry(conversation_id).or_default().push(read);
            }
            What::Live { conversation_id, entry } => {
                if let Some(stream) = self.stream(session, conversation_id) {
                    stream.live.push(entry.seq);
                }
                self.show(client, conversation_id, std::slice::from_ref(entry));
            }
            What::Activity { conversation_id, last_seq } => {
                if let Some(stream) = self.stream(session, conversation_id) {
                    stream.activity = stream.activity.max(*last_seq);
                }
            }
            What::Resync => {
                self.last_gone_ns = at_ns;
                if let Some(session) = session {
                    self.sessions[session].resyncs_ns.push(at_ns);
                }
            }
            What::Changes { conversation_id, entries, last_seq, reset, .. } => {
                if *reset {
                    let conversation = self.conversation(conversation_id);
                    conversation.reset_until = conversation.reset_until.max(*last_seq);
                    self.client(client).reset_until.insert(conversation_id, *last_seq);
                }
                self.show(client, conversation_id, entries);
            }
            What::LookBack => {
                // An earlier attempt has not completed: its results don't count.
                let own = self.client(client);
                own.looked_back_ns = Some(at_ns);
                own.outlines.clear();
                own.synced_ns = None;
                for conversation in self.conversations.values_mut() {
                    conversation.final_logs.retain(|log| log.reader != client);
                }
            }
            What::Done => self.client(client).is_done = true,
            What::Sync { asked_at_ns, whole, conversations, .. } => {
                self.on_sync(client, *asked_at_ns, *whole, conversations);
            }
            What::History { .. } => self.on_history(client, &operation.what),
            What::Members { conversation_id, users } => {
                self.conversation(conversation_id).members.extend(users.iter().map(String::as_str));
            }
            What::Ready { .. } | What::Lost { .. } | What::Left | What::Info { .. } => {}
            // Dashboards and notifications have separate rules, which don't need this.
            What::Published { .. } | What::Windows { .. } | What::Device | What::Notified { .. } => {}
        }
    }

    fn on_sync(&mut self, client: &'a str, asked_at_ns: u64, is_whole: bool, outlines: &'a [Outline]) {
        let client = self.client(client);
        if is_whole && client.looked_back_ns.is_some() {
            client.synced_ns.get_or_insert(asked_at_ns);
            client.outlines.extend(outlines.iter().map(|outline| (outline.conversation_id.as_str(), outline)));
        }
    }

    fn on_history(&mut self, client: &'a str, what: &'a What) {
        let What::History { asked_at_ns, conversation_id, after, messages, last_seq, more } = what else { return };
        self.shown += messages.len() as u64;
        let own = self.client(client);
        let (is_final, has_reset) =
            (own.looked_back_ns.is_some(), own.reset_until.contains_key(conversation_id.as_str()));
        if has_reset {
            own.shown.entry(conversation_id).or_default().extend(messages.iter().map(|seen| seen.seq));
        }
        let conversation = self.conversation(conversation_id);
        for seen in messages {
            conversation.entries.entry(seen.seq).or_insert(seen);
        }
        if !is_final {
            return;
        }
        if *after == 0 {
            conversation.final_logs.push(FinalLog { reader: client, asked_at_ns: *asked_at_ns, ..FinalLog::default() });
        }
        let log = conversation.final_logs.iter_mut().rev().find(|log| log.reader == client && !log.is_whole);
        if let Some(log) = log {
            log.messages.extend(messages.iter().map(|seen| (seen.seq, seen)));
            log.end = log.end.max(*last_seq);
            log.is_whole = !more;
        }
    }

    /// Completes the evidence after the last operation.
    fn finish(&mut self) {
        for conversation in self.conversations.values_mut() {
            conversation.final_logs.retain(|log| log.is_whole);
            for log in &conversation.final_logs {
                conversation.entries.extend(log.messages.iter().map(|(seq, seen)| (*seq, *seen)));
            }
            let mut highest = 0;
            for (_, seq) in &mut conversation.acknowledged {
                highest = highest.max(*seq);
                *seq = highest;
            }
        }
    }

    fn show(&mut self, client: &'a str, conversation_id: &'a str, entries: &'a [Seen]) {
        self.shown += entries.len() as u64;
        self.client(client).shown.entry(conversation_id).or_default().extend(entries.iter().map(|seen| seen.seq));
        let conversation = self.conversation(conversation_id);
        for seen in entries {
            conversation.entries.entry(seen.seq).or_insert(seen);
        }
    }

    fn conversation(&mut self, id: &'a str) -> &mut Conversation<'a> {
        self.conversations.entry(id).or_default()
    }

    fn client(&mut self, name: &'a str) -> &mut Client<'a> {
        self.clients.entry(name).or_default()
    }

    fn send(&mut self, client: &'a str, client_id: &'a str) -> &mut Send<'a> {
        self.sends.entry((client, client_id)).or_default()
    }

    fn stream(&mut self, session: Option<usize>, conversation_id: &'a str) -> Option<&mut Stream> {
        Some(self.sessions[session?].streams.entry(conversation_id).or_default())
    }
}

impl Conversation<'_> {
    /// The highest `seq` that was acknowledged before a moment; 0 if there was none.
    pub(super) fn acknowledged_before(&self, moment_ns: u64) -> u64 {
        let before = self.acknowledged.partition_point(|(at_ns, _)| *at_ns < moment_ns);
        before.checked_sub(1).map_or(0, |last| self.acknowledged[last].1)
    }

    /// The end of the log, as far as anybody knows.
    pub(super) fn end(&self) -> u64 {
        self.final_logs.iter().map(|log| log.end).max().unwrap_or(0)
    }
}

/// The entries that an operation shows, with their conversation.
pub(super) fn shown_in(what: &What) -> impl Iterator<Item = (&str, &Seen)> {
    let (conversation_id, seen) = match what {
        What::Live { conversation_id, entry } => (conversation_id.as_str(), std::slice::from_ref(entry)),
        What::Changes { conversation_id, entries, .. } => (conversation_id.as_str(), entries.as_slice()),
        What::History { conversation_id, messages, .. } => (conversation_id.as_str(), messages.as_slice()),
        _ => ("", [].as_slice()),
    };
    seen.iter().map(move |seen| (conversation_id, seen))
}
