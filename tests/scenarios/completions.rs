//! Reports of finished writes that come merged, late and again (catalogue R10): what is durable is what the newest of them
//! says, none is needed twice, and none is lost.

use bytes::Bytes;
use raft::core::{
    Effect, Entry, EntryKind, Input, Peer, Persisted, RaftCore, ReplyToken, Request, RequestId, Response,
    Role, Write, WriteId,
};
use raft::{Config, Configuration, EntryId, LogIndex, Server, Term, Time};
use simulation::disk::LogImage;
use simulation::mutant::Mutant;

/// One core and the writes that it asked for, which finish when the test says so.
struct Story {
    core: RaftCore,
    now: Time,
    writes: Vec<Write>,
    /// What the disk holds: the writes up to the newest that was reported.
    durable: LogImage,
    reported: usize,
    /// Success was answered for this many append requests.
    acknowledged: usize,
}

impl Story {
    fn new(id: &str) -> Self {
        let mut effects = Vec::new();
        let me = Peer::new(id, format!("{id}:1"));
        let mutant = Mutant::planted().and_then(Mutant::core);
        let config = Config::default();
        let core =
            RaftCore::restore_mutated(me, &config, 1, Time::ZERO, Persisted::default(), mutant, &mut effects)
                .expect("an empty disk");
        assert!(effects.is_empty());
        let durable = LogImage::default();
        Self { core, now: Time::ZERO, writes: Vec::new(), durable, reported: 0, acknowledged: 0 }
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.core.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Persist(write) => self.writes.push(write),
                Effect::Respond { response: Response::Append { success: true, last_log, .. }, .. } => {
                    assert_eq!(
                        self.durable.term_at(last_log),
                        self.core.term_at(last_log),
                        "{last_log} is acknowledged and the disk holds up to {}",
                        self.durable.last()
                    );
                    self.acknowledged += 1;
                }
                Effect::Commit { through } => {
                    assert!(
                        through <= self.durable.last().index,
                        "{through} is committed before it is durable"
                    );
                }
                _ => {}
            }
        }
    }

    /// Says that everything up to this write is durable, if it was asked for; perhaps not for the first time.
    fn report(&mut self, number: usize) {
        let Some(write) = self.writes.get(number) else { return };
        let through: WriteId = write.id;
        for write in &self.writes[self.reported.min(number + 1)..=number] {
            self.durable.apply(write).expect("it fits the log");
        }
        self.reported = self.reported.max(number + 1);
        self.step(Input::Persisted { through });
    }

    /// Reports what is left, until the core asks for nothing more.
    fn report_the_rest(&mut self) {
        while self.reported < self.writes.len() {
            self.report(self.writes.len() - 1);
        }
    }
}

/// Every sequence of so many of the numbers below `numbers`.
fn sequences(numbers: usize, length: u32) -> impl Iterator<Item = Vec<usize>> {
    (0..numbers.pow(length))
        .map(move |code| (0..length).map(|place| code / numbers.pow(place) % numbers).collect())
}

/// A fresh cluster of one: its first entry of term 0, its vote and the first entry of its term.
#[test]
fn r10_a_fresh_server_leads_in_whatever_order_its_writes_are_reported() {
    for order in sequences(3, 5) {
        let mut story = Story::new("a");
        let configuration = Configuration::new(vec![Server::voter("a", "a:1")]);
        story.step(Input::Bootstrap { request: RequestId(1), configuration });
        story.now = story.core.next_wake().max(story.now);
        story.step(Input::Tick);
        for number in &order {
            story.report(*number);
            // The same may come once more before anything else happens.
            story.report(*number);
        }
        story.report_the_rest();
        assert_eq!(story.core.role(), Role::Leader, "{order:?}");
        assert!(story.core.is_ready(), "{order:?}: its own entry is committed");
        assert_eq!(story.core.commit_index(), story.durable.last().index, "{order:?}");
    }
}

fn append(term: u64, prev: EntryId, indexes: std::ops::RangeInclusive<u64>, reply: u64) -> Input {
    let entry =
        |index| Entry::new(EntryId::new(term, index), EntryKind::Command, Bytes::from_static(b"command"));
    let (term, entries) = (Term(term), indexes.map(entry).collect());
    let request = Request::Append { term, prev, entries, commit: LogIndex(0) };
    let from = Peer::new(format!("l{}", term.0), "l:1");
    Input::Request { from, request, reply: ReplyToken(reply), regard: None }
}

/// A follower has the writes of a leader under way when the next leader truncates below them, twice: a report of the older
/// write makes nothing durable that is not there any more.
#[test]
fn r10_a_follower_acknowledges_what_its_disk_holds_in_whatever_order_its_writes_are_reported() {
    let mut requests_answered = 0;
    for order in sequences(5, 5) {
        let mut story = Story::new("f");
        let requests = [
            append(1, EntryId::default(), 1..=4, 1),
            append(1, EntryId::new(1, 4), 5..=8, 2),
            append(2, EntryId::new(1, 3), 4..=4, 3),
            append(2, EntryId::new(2, 4), 5..=6, 4),
            append(3, EntryId::new(2, 4), 5..=5, 5),
        ];
        let mut order = order.into_iter();
        for request in requests {
            story.step(request);
            if let Some(number) = order.next() {
                story.report(number);
            }
        }
        story.report_the_rest();
        let expected =
            [(1, 1), (1, 2), (1, 3), (2, 4), (3, 5)].map(|(term, index)| EntryId::new(term, index));
        let held: Vec<EntryId> = story.durable.entries.iter().map(|entry| entry.id).collect();
        assert_eq!(held, expected);
        assert!(story.acknowledged >= 1, "the last request is acknowledged in the end");
        requests_answered += story.acknowledged;
    }
    assert!(requests_answered > 3125, "often more than the last: {requests_answered}");
}
