//! SIGKILL during traffic (DESIGN §5.1, §5.2, §5.4, §5.5): no acknowledged message is lost or duplicated, and a reader
//! that catches up by the protocol's one rule has exactly the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::tokens::token;
use crate::support::{Client, Config, Connect, PATIENCE, Server, soon};

const SENDERS: usize = 3;
const CRASHES: usize = 8;
/// Minimum number of acknowledged messages per sender between two crashes.
const ACKNOWLEDGED: usize = 40;
/// Sends that a sender has under way.
const PIPELINE: usize = 8;

fn config() -> Config {
    Config::new().set("limits.frames_per_s", 100_000)
}

/// A client that sends, and records the answer for each `client_id`.
struct Sender {
    name: String,
    group: Value,
    next: usize,
    waiting: BTreeSet<usize>,
    /// Number → seq.
    acknowledged: BTreeMap<usize, u64>,
}

impl Sender {
    fn frame(&self, number: usize) -> Value {
        let client_id = format!("{}-{number}", self.name);
        json!({"type": "send", "conversation_id": self.group, "client_id": client_id, "content": {"text": client_id}})
    }

    /// Repeats what was not answered, then continues sending until the server is gone.
    async fn run(mut self, address: Connect, done: Arc<AtomicUsize>) -> Self {
        let mut client = address.open().await;
        client.expect("ready").await;
        let before = self.acknowledged.len();
        for number in &self.waiting {
            client.feed(&self.frame(*number)).await;
        }
        client.flush().await;
        let mut has_reported = false;
        loop {
            while self.waiting.len() < PIPELINE {
                self.waiting.insert(self.next);
                if client.try_send(&self.frame(self.next)).await.is_err() {
                    return self;
                }
                self.next += 1;
            }
            match client.try_recv(PATIENCE).await {
                Ok(Some(frame)) if frame["type"] == "sent" => self.on_sent(&frame),
                Ok(Some(frame)) => assert_ne!(frame["type"], "error", "{frame}"),
                Ok(None) => panic!("no answer"),
                Err(_) => return self,
            }
            if !has_reported && self.acknowledged.len() >= before + ACKNOWLEDGED {
                has_reported = true;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn on_sent(&mut self, frame: &Value) {
        let client_id = frame["client_id"].as_str().unwrap();
        let number: usize = client_id.rsplit('-').next().unwrap().parse().unwrap();
        let seq = frame["seq"].as_u64().unwrap();
        self.waiting.remove(&number);
        let before = self.acknowledged.insert(number, seq);
        assert!(before.is_none_or(|before| before == seq), "{client_id} was {before:?} and is {seq}");
    }
}

/// A client that only reads, by the rule of PROTOCOL §3.
struct Reader {
    group: Value,
    /// The `client_id` of the message at seq n+1 (seq 1 created the group).
    log: Vec<Option<String>>,
    catch_ups: usize,
}

impl Reader {
    fn last_seq(&self) -> u64 {
        self.log.len() as u64
    }

    fn apply(&mut self, entry: &Value) -> Result<(), ()> {
        match entry["seq"].as_u64() {
            Some(seq) if seq <= self.last_seq() => Ok(()),
            Some(seq) if seq == self.last_seq() + 1 => {
                self.log.push(entry["client_id"].as_str().map(str::to_owned));
                Ok(())
            }
            Some(_) => Err(()),
            None => Ok(()),
        }
    }

    /// Fetches `changes` to the end.
    async fn catch_up(&mut self, client: &mut Client) -> Result<(), Option<u16>> {
        self.catch_ups += 1;
        loop {
            let ask = json!({"type": "changes", "id": "c", "conversation_id": self.group, "after": self.last_seq()});
            client.try_send(&ask).await?;
            let answer = loop {
                let frame = client.try_recv(PATIENCE).await?.expect("an answer");
                if frame["id"] == "c" {
                    break frame;
                }
                // A live frame meanwhile: a later answer contains it.
            };
            for entry in answer["entries"].as_array().unwrap() {
                self.apply(entry).expect("changes have no holes");
            }
            if answer["more"] == false {
                return Ok(());
            }
        }
    }

    /// Reads until the server is gone.
    async fn run(mut self, address: Connect) -> Self {
        let mut client = address.open().await;
        client.expect("ready").await;
        let _gone: Result<(), Option<u16>> = async {
            self.catch_up(&mut client).await?;
            loop {
                let Some(frame) = client.try_recv(PATIENCE).await? else { panic!("nothing comes") };
                if self.apply(&frame).is_err() {
                    self.catch_up(&mut client).await?;
                }
            }
        }
        .await;
        self
    }
}

fn connect(server: &Server, user: &str) -> Connect {
    Connect::to(server).token(&token(user)).query("device_id", "d")
}

#[tokio::test]
async fn a_kill_in_the_middle_of_traffic_loses_and_doubles_nothing() {
    let mut server = config().start().await;
    let group = make_group(&server).await;
    let mut senders: Vec<Sender> = (0..SENDERS)
        .map(|n| Sender {
            name: format!("sender{n}"),
            group: group.clone(),
            next: 0,
            waiting: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
        })
        .collect();
    let mut reader = Reader { group: group.clone(), log: Vec::new(), catch_ups: 0 };
    for _ in 0..CRASHES {
        let done = Arc::new(AtomicUsize::new(0));
        let mut running = tokio::task::JoinSet::new();
        for sender in senders.drain(..) {
            let address = connect(&server, &sender.name);
            running.spawn(sender.run(address, done.clone()));
        }
        let reading = tokio::spawn(reader.run(connect(&server, "reader")));
        let enough = async {
            while done.load(Ordering::Relaxed) < SENDERS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("acknowledged messages", enough).await;
        server.signal(Signal::KILL);
        while let Some(sender) = running.join_next().await {
            senders.push(sender.unwrap());
        }
        senders.sort_by(|a, b| a.name.cmp(&b.name));
        reader = reading.await.unwrap();
        server = server.kill_and_restart().await;
        check(&server, &senders, &mut reader).await;
    }
    assert!(reader.catch_ups >= CRASHES);
}

async fn make_group(server: &Server) -> Value {
    let mut owner = Client::sign_in(server, "owner").await;
    let members: Vec<String> = (0..SENDERS).map(|n| format!("sender{n}")).chain(["reader".to_owned()]).collect();
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": members});
    owner.ask(create).await["conversation_id"].clone()
}

/// Everything acknowledged is in its place in the log, nothing is duplicated, and the reader has the log.
async fn check(server: &Server, senders: &[Sender], reader: &mut Reader) {
    let mut client = Client::sign_in(server, "owner").await;
    let mut log = Reader { group: reader.group.clone(), log: Vec::new(), catch_ups: 0 };
    log.catch_up(&mut client).await.unwrap();
    let mut seqs = BTreeMap::new();
    for (client_id, seq) in log.log.iter().zip(1..) {
        if let Some(client_id) = client_id {
            let before = seqs.insert(client_id.clone(), seq);
            assert!(before.is_none(), "{client_id} is at {before:?} and at {seq}");
        }
    }
    let mut acknowledged = 0;
    for sender in senders {
        for (number, seq) in &sender.acknowledged {
            let client_id = format!("{}-{number}", sender.name);
            assert_eq!(seqs.get(&client_id), Some(seq), "{client_id} was acknowledged");
            acknowledged += 1;
        }
    }
    assert!(acknowledged >= SENDERS * ACKNOWLEDGED);
    assert!(log.log.starts_with(&reader.log), "what the reader was shown is not the log");
    let history = client.ask(json!({"type": "history", "conversation_id": reader.group, "limit": 200})).await;
    let newest = history["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(seqs[newest["client_id"].as_str().unwrap()], newest["seq"].as_u64().unwrap());
    assert_eq!(history["last_seq"].as_u64(), Some(log.last_seq()));
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash() {
    let server = config().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let sent = alice.ask(json!({"type": "send", "to": "bob", "client_id": "1", "content": {"text": "one"}})).await;
    let id = sent["conversation_id"].clone();
    let about = |kind: &str| json!({"type": kind, "conversation_id": id, "seq": 1});
    let mut edit = about("edit");
    edit["content"] = json!({"text": "two"});
    assert_eq!(alice.ask(edit).await["seq"], 2);
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut react = about("react");
    react["emoji"] = json!("e");
    assert_eq!(bob.ask(react).await["seq"], 3);
    assert_eq!(bob.ask(about("read")).await["type"], "ok");
    let settings = json!({"type": "conversation_settings", "conversation_id": id, "pinned": true});
    assert_eq!(bob.ask(settings).await["type"], "ok");

    let server = server.kill_and_restart().await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let sync = bob.ask(json!({"type": "sync", "entries_per_conversation": 3})).await;
    let conversation = &sync["conversations"][0];
    assert_eq!(
        (&conversation["last_seq"], &conversation["read_seq"], &conversation["unread"]),
        (&json!(3), &json!(1), &json!(0))
    );
    assert_eq!(conversation["settings"]["pinned"], true);
    assert_eq!(conversation["entries"].as_array().map(Vec::len), Some(3));
    let history = bob.ask(json!({"type": "history", "conversation_id": id})).await;
    assert_eq!(history["messages"][0]["content"]["text"], "two");
    assert_eq!(history["messages"][0]["reactions"][0]["me"], true);
}
