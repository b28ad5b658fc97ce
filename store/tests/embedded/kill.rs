//! kill -9 at random moments: what was acknowledged is there, and what is there is complete.

use super::{child, open, options};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::Seq;
use switchboard_store::contract::{Conversation, conversation_key, model, user_key};
use switchboard_store::{EmbeddedStore, InboxChange, InboxLast, Store};

const CONVERSATIONS: u64 = 6;
/// Kills per folder: what was recovered is written to, and recovered again.
const KILLS: u64 = 8;
const FOLDERS: u64 = 3;

/// The child: appends to all conversations at once until it is killed, and prints what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_until_killed() {
    let Some(folder) = child::folder() else { return };
    let store = EmbeddedStore::open(&options(&folder), Clock::system(), &Generator::from_entropy()).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut owners = tokio::task::JoinSet::new();
    for number in 0..CONVERSATIONS {
        owners.spawn(append_for_ever(store.clone(), number));
    }
    owners.join_all().await;
}

async fn append_for_ever(store: Arc<dyn Store>, number: u64) {
    let generator = Generator::from_entropy();
    let id = format!("g{number}");
    let mut c = match store.head(&conversation_key(&id)).await.unwrap() {
        Some(_) => Conversation::take_over(&store, &conversation_key(&id), number).await.0,
        None => Conversation::group(&store, &id).await,
    };
    loop {
        let first = c.end + 1;
        match generator.below(3) {
            0 => {
                let entry = model::random_entry(&generator, &mut c);
                c.append([entry]).await;
            }
            1 => {
                let entries = [(); 7].map(|()| model::random_entry(&generator, &mut c));
                c.append(entries).await;
            }
            _ => {
                let text = format!("{:x}", generator.u64()).repeat(200);
                let entry = c.message("alice", &text);
                c.append([entry]).await;
            }
        }
        say(&format!("log {number} {first} {}", c.end));
        if generator.percent(20) {
            store.put_inbox(vec![(user_key("alice"), last(&id, c.end))]).await.unwrap();
            say(&format!("inbox {number} 0 {}", c.end));
        }
    }
}

fn last(id: &str, seq: u64) -> InboxChange {
    let last = InboxLast { last_seq: Seq::new(seq), messages: 0, preview: None, ask_owner: false, outline: None };
    InboxChange {
        conversation: id.parse().unwrap(),
        last: Some(last.into()),
        mentioned_seq: Seq::ZERO,
        read: None,
        membership: None,
        settings: None,
    }
}

/// A single write, so that a line is complete or cut off at its end.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What children had acknowledged: by conversation, the end of the log and of its inbox row.
#[derive(Default)]
struct Acknowledged {
    log: BTreeMap<u64, u64>,
    inbox: BTreeMap<u64, u64>,
}

impl Acknowledged {
    fn note(&mut self, line: &str) -> bool {
        let mut words = line.split(' ');
        let what = match words.next() {
            Some("log") => &mut self.log,
            Some("inbox") => &mut self.inbox,
            _ => return false,
        };
        let mut numbers = words.map_while(|word| word.parse().ok());
        let (Some(number), Some(_), Some(end)) = (numbers.next(), numbers.next(), numbers.next()) else { return false };
        let known = what.entry(number).or_default();
        *known = end.max(*known);
        true
    }
}

/// Runs a child, kills it after this many acknowledgements, and records these and those that were still on their way.
fn run_and_kill(folder: &Path, kill_after: u64, acknowledged: &mut Acknowledged) {
    let mut child = child::command(&[], "kill::appends_until_killed", folder.as_os_str())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut noted = 0;
    while noted < kill_after {
        let line = lines.next().expect("the child goes on until it is killed").unwrap();
        noted += u64::from(acknowledged.note(&line));
    }
    child.kill().unwrap();
    for line in lines {
        // A line that was cut off names no more than what was acknowledged: its last number is shorter.
        acknowledged.note(&line.unwrap());
    }
    child.wait().unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    for _ in 0..FOLDERS {
        kill_and_look().await;
    }
}

async fn kill_and_look() {
    let folder = tempfile::tempdir().unwrap();
    let generator = Generator::from_entropy();
    let mut acknowledged = Acknowledged::default();
    for kill in 0..KILLS {
        run_and_kill(folder.path(), generator.below(300), &mut acknowledged);
        let store = open(folder.path());
        for (number, end) in &acknowledged.log {
            let key = conversation_key(&format!("g{number}"));
            let (c, _) = Conversation::take_over(&store, &key, 1).await;
            assert!(c.end >= *end, "kill {kill}: {key:?} ends at {}, but {end} was acknowledged", c.end);
            model::assert_is_folded(&c, &format!("kill {kill}: {key:?}")).await;
        }
        for (number, last_seq) in &acknowledged.inbox {
            let id = format!("g{number}").parse().unwrap();
            let row = store.inbox_row(&user_key("alice"), &id).await.unwrap().expect("a row");
            assert!(row.last.last_seq.get() >= *last_seq, "kill {kill}: {row:?}");
        }
        store.close().await.unwrap();
    }
    assert!(acknowledged.log.values().sum::<u64>() > KILLS, "children got to work");
}
