//! Several operations on keys at one place in the log: all of them are done, or none.
//!
//! A transaction is one command. Its reads are made where it stands in the log, so that one that only reads is a read
//! through the log: it rests on neither a lease nor a round of heartbeats. Each operation sees what those before it did.

use bytes::{BufMut, Bytes, BytesMut};

use super::command::{DecodeError, KEY_BYTES_MAX, Outcome, Reader, VALUE_BYTES_MAX, put_bytes, put_cas};
use super::store::{Entry, State};

/// The most operations in one transaction (as in Consul).
pub const OPERATIONS_MAX: usize = 128;
/// What one transaction may read, in bytes; every server makes its answer, also where nobody waits for it.
pub const RESULT_BYTES_MAX: usize = 2 << 20;
/// What each result counts beyond its key and value, in bytes.
const RESULT_OVERHEAD: usize = 64;
/// The longest text of a failure, in bytes: a key and a sentence.
const TEXT_BYTES_MAX: usize = KEY_BYTES_MAX + 256;

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Store a value.
    Set {
        /// Where.
        key: String,
        /// What.
        value: Bytes,
        /// An opaque number of the client.
        flags: u64,
        /// Fails unless the key was last changed at this index; 0: unless there is no such key.
        cas: Option<u64>,
    },
    /// Remove one key.
    Delete {
        /// Which.
        key: String,
        /// Fails if the key was last changed at another index.
        cas: Option<u64>,
    },
    /// Remove all keys that start with a prefix.
    DeleteTree {
        /// The prefix; empty removes everything.
        prefix: String,
    },
    /// Read one key.
    Get {
        /// Which.
        key: String,
        /// Whether it fails when there is no such key.
        required: bool,
    },
    /// Read all keys that start with a prefix.
    GetTree {
        /// The prefix; empty reads everything.
        prefix: String,
    },
    /// Fails unless the key was last changed at an index.
    CheckIndex {
        /// Which.
        key: String,
        /// The index.
        index: u64,
    },
    /// Fails if there is such a key.
    CheckNotExists {
        /// Which.
        key: String,
    },
}

/// What an operation found or left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: String,
    /// Its entry, without the value where it was not read; all zero where a read found nothing.
    pub entry: Entry,
}

/// Why an operation undid its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which one, counted from 0.
    pub operation: usize,
    /// Why.
    pub why: String,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionOutcome {
    /// Everything was done.
    Done(Vec<Found>),
    /// Nothing was changed. No reasons are given where so much failed at once that they were left out.
    RolledBack(Vec<Failure>),
    /// Everything was done, but so much was read by many transactions at once that this answer was left out.
    DoneWithoutAnswer,
    /// This server does not know the command; it changed nothing here. Some server runs a newer version.
    Unknown,
}

const SET: u8 = 1;
const DELETE: u8 = 2;
const DELETE_TREE: u8 = 3;
const GET: u8 = 4;
const GET_TREE: u8 = 5;
const CHECK_INDEX: u8 = 6;
const CHECK_NOT_EXISTS: u8 = 7;

/// The first byte of an answer; beside those of [`Outcome`].
const DONE: u8 = 3;
const ROLLED_BACK: u8 = 4;
const DONE_WITHOUT_ANSWER: u8 = 5;

pub(super) fn put_operations(out: &mut BytesMut, operations: &[Operation]) {
    out.put_u32_le(u32::try_from(operations.len()).expect("a transaction is limited"));
    for operation in operations {
        match operation {
            Operation::Set { key, value, flags, cas } => {
                out.put_u8(SET);
                put_bytes(out, key.as_bytes());
                put_bytes(out, value);
                out.put_u64_le(*flags);
                put_cas(out, *cas);
            }
            Operation::Delete { key, cas } => {
                out.put_u8(DELETE);
                put_bytes(out, key.as_bytes());
                put_cas(out, *cas);
            }
            Operation::DeleteTree { prefix } => {
                out.put_u8(DELETE_TREE);
                put_bytes(out, prefix.as_bytes());
            }
            Operation::Get { key, required } => {
                out.put_u8(GET);
                put_bytes(out, key.as_bytes());
                out.put_u8(u8::from(*required));
            }
            Operation::GetTree { prefix } => {
                out.put_u8(GET_TREE);
                put_bytes(out, prefix.as_bytes());
            }
            Operation::CheckIndex { key, index } => {
                out.put_u8(CHECK_INDEX);
                put_bytes(out, key.as_bytes());
                out.put_u64_le(*index);
            }
            Operation::CheckNotExists { key } => {
                out.put_u8(CHECK_NOT_EXISTS);
                put_bytes(out, key.as_bytes());
            }
        }
    }
}

pub(super) fn operations(reader: &mut Reader) -> Result<Vec<Operation>, DecodeError> {
    let count = reader.count("operations", OPERATIONS_MAX)?;
    (0..count).map(|_| operation(reader)).collect()
}

fn operation(reader: &mut Reader) -> Result<Operation, DecodeError> {
    let tag = reader.u8()?;
    Ok(match tag {
        SET => Operation::Set {
            key: reader.text("key", KEY_BYTES_MAX)?,
            value: reader.bytes("value", VALUE_BYTES_MAX)?,
            flags: reader.u64()?,
            cas: reader.cas()?,
        },
        DELETE => Operation::Delete { key: reader.text("key", KEY_BYTES_MAX)?, cas: reader.cas()? },
        DELETE_TREE => Operation::DeleteTree { prefix: reader.text("prefix", KEY_BYTES_MAX)? },
        GET => Operation::Get { key: reader.text("key", KEY_BYTES_MAX)?, required: reader.flag("required")? },
        GET_TREE => Operation::GetTree { prefix: reader.text("prefix", KEY_BYTES_MAX)? },
        CHECK_INDEX => {
            Operation::CheckIndex { key: reader.text("key", KEY_BYTES_MAX)?, index: reader.u64()? }
        }
        CHECK_NOT_EXISTS => Operation::CheckNotExists { key: reader.text("key", KEY_BYTES_MAX)? },
        value => return Err(DecodeError::Unknown { what: "operation", value }),
    })
}

impl TransactionOutcome {
    /// The same in a few bytes, without what was read and without reasons.
    pub(super) fn shortened(self) -> Self {
        match self {
            Self::Done(_) => Self::DoneWithoutAnswer,
            Self::RolledBack(_) => Self::RolledBack(Vec::new()),
            Self::DoneWithoutAnswer | Self::Unknown => self,
        }
    }

    /// The answer's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        let count = |length: usize| u32::try_from(length).expect("answers are limited");
        match self {
            Self::Done(found) => {
                out.put_u8(DONE);
                out.put_u32_le(count(found.len()));
                for Found { key, entry } in found {
                    put_bytes(&mut out, key.as_bytes());
                    put_bytes(&mut out, &entry.value);
                    out.put_u64_le(entry.flags);
                    out.put_u64_le(entry.create_index);
                    out.put_u64_le(entry.modify_index);
                }
            }
            Self::RolledBack(failures) => {
                out.put_u8(ROLLED_BACK);
                out.put_u32_le(count(failures.len()));
                for Failure { operation, why } in failures {
                    out.put_u32_le(count(*operation));
                    put_bytes(&mut out, why.as_bytes());
                }
            }
            Self::DoneWithoutAnswer => out.put_u8(DONE_WITHOUT_ANSWER),
            Self::Unknown => return Outcome::Unknown.encode(),
        }
        out.freeze()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// Whatever makes the bytes something else than one whole answer.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes.clone());
        let outcome = match reader.u8()? {
            DONE => {
                let count = reader.count("results", RESULT_BYTES_MAX / RESULT_OVERHEAD)?;
                Self::Done((0..count).map(|_| found(&mut reader)).collect::<Result<_, _>>()?)
            }
            ROLLED_BACK => {
                let count = reader.count("failures", OPERATIONS_MAX)?;
                Self::RolledBack((0..count).map(|_| failure(&mut reader)).collect::<Result<_, _>>()?)
            }
            DONE_WITHOUT_ANSWER => Self::DoneWithoutAnswer,
            _ => return Ok(Self::Unknown),
        };
        reader.finish()?;
        Ok(outcome)
    }
}

fn found(reader: &mut Reader) -> Result<Found, DecodeError> {
    Ok(Found {
        key: reader.text("key", KEY_BYTES_MAX)?,
        entry: Entry {
            value: reader.bytes("value", VALUE_BYTES_MAX)?,
            flags: reader.u64()?,
            create_index: reader.u64()?,
            modify_index: reader.u64()?,
        },
    })
}

fn failure(reader: &mut Reader) -> Result<Failure, DecodeError> {
    let operation = reader.u32()? as usize;
    Ok(Failure { operation, why: reader.text("failure", TEXT_BYTES_MAX)? })
}

/// A transaction under way.
struct Transaction<'a> {
    state: &'a mut State,
    index: u64,
    /// What each touched key was before, oldest first.
    before: Vec<(String, Option<Entry>)>,
    found: Vec<Found>,
    /// What the results may still hold, in bytes.
    room: usize,
}

/// Runs a transaction at an index. All servers come to the same end.
pub(super) fn run(state: &mut State, index: u64, operations: Vec<Operation>) -> TransactionOutcome {
    let kv_index = state.kv_index;
    let mut transaction =
        Transaction { state, index, before: Vec::new(), found: Vec::new(), room: RESULT_BYTES_MAX };
    let mut failures = Vec::new();
    // As in Consul, those behind a failed one are tried too, so that one answer names all that is wrong.
    for (operation, wanted) in operations.into_iter().enumerate() {
        if let Err(why) = transaction.step(wanted) {
            failures.push(Failure { operation, why });
        }
    }
    let Transaction { state, before, found, .. } = transaction;
    if failures.is_empty() {
        return TransactionOutcome::Done(found);
    }
    for (key, entry) in before.into_iter().rev() {
        match entry {
            Some(entry) => drop(state.entries.insert(key, entry)),
            None => drop(state.entries.remove(&key)),
        }
    }
    state.kv_index = kv_index;
    TransactionOutcome::RolledBack(failures)
}

impl Transaction<'_> {
    fn step(&mut self, operation: Operation) -> Result<(), String> {
        let stale = |key: &str| format!("key {key:?}: the index is stale");
        match operation {
            Operation::Set { key, value, flags, cas } => {
                self.remember(&key);
                if self.state.put(self.index, key.clone(), value, flags, cas) != Outcome::Applied {
                    return Err(stale(&key));
                }
                self.show_without_value(key)
            }
            Operation::Delete { key, cas } => {
                self.remember(&key);
                let held = self.state.delete(self.index, &key, cas) == Outcome::Applied;
                if held { Ok(()) } else { Err(stale(&key)) }
            }
            Operation::DeleteTree { prefix } => {
                let keys: Vec<String> = self.state.range(&prefix).map(|(key, _)| key.clone()).collect();
                for key in keys {
                    self.remember(&key);
                    self.state.delete(self.index, &key, None);
                }
                Ok(())
            }
            Operation::Get { key, required } => match self.state.entries.get(&key).cloned() {
                Some(entry) => self.show(key, entry),
                None if required => Err(format!("key {key:?} doesn't exist")),
                None => self.show(key, Entry::NONE),
            },
            Operation::GetTree { prefix } => {
                let limit = self.room / RESULT_OVERHEAD + 1;
                let all: Vec<(String, Entry)> =
                    self.state.range(&prefix).take(limit).map(|(k, e)| (k.clone(), e.clone())).collect();
                all.into_iter().try_for_each(|(key, entry)| self.show(key, entry))
            }
            Operation::CheckIndex { key, index } => match self.state.entries.get(&key) {
                None => Err(format!("key {key:?} doesn't exist")),
                Some(entry) if entry.modify_index != index => {
                    Err(format!("key {key:?}: the current index is {}, not {index}", entry.modify_index))
                }
                Some(_) => self.show_without_value(key),
            },
            Operation::CheckNotExists { key } => {
                let exists = self.state.entries.contains_key(&key);
                if exists { Err(format!("key {key:?} exists")) } else { Ok(()) }
            }
        }
    }

    fn remember(&mut self, key: &str) {
        self.before.push((key.to_owned(), self.state.entries.get(key).cloned()));
    }

    fn show_without_value(&mut self, key: String) -> Result<(), String> {
        let entry = self.state.entries.get(&key).cloned().unwrap_or(Entry::NONE);
        self.show(key, Entry { value: Bytes::new(), ..entry })
    }

    fn show(&mut self, key: String, entry: Entry) -> Result<(), String> {
        let bytes = key.len() + entry.value.len() + RESULT_OVERHEAD;
        self.room = self.room.checked_sub(bytes).ok_or_else(|| {
            format!("the results have more than {RESULT_BYTES_MAX} bytes; read less at a time")
        })?;
        self.found.push(Found { key, entry });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raft::EntryId;
    use raft::StateMachine;
    use raft::core::EntryKind;

    use super::*;
    use crate::kv::{Command, KvMachine, KvStore};

    struct Bed {
        machine: KvMachine,
        store: KvStore,
        index: u64,
    }

    impl Bed {
        fn new() -> Self {
            let (machine, store) = KvMachine::new();
            Self { machine, store, index: 0 }
        }

        fn entry(&mut self, operations: &[Operation]) -> raft::core::Entry {
            self.index += 1;
            let data = Command::Transaction(operations.to_vec()).encode();
            raft::core::Entry::new(EntryId::new(1, self.index), EntryKind::Command, data)
        }

        fn run(&mut self, operations: &[Operation]) -> TransactionOutcome {
            let entry = self.entry(operations);
            TransactionOutcome::decode(&self.machine.apply(&[entry])[0]).expect("an answer")
        }

        fn value(&self, key: &str) -> Option<Bytes> {
            self.store.get(key).value.map(|entry| entry.value)
        }
    }

    fn set(key: &str, value: &'static str, cas: Option<u64>) -> Operation {
        Operation::Set { key: key.into(), value: value.into(), flags: 7, cas }
    }

    fn get(key: &str) -> Operation {
        Operation::Get { key: key.into(), required: true }
    }

    fn get_or_empty(key: &str) -> Operation {
        Operation::Get { key: key.into(), required: false }
    }

    fn delete(key: &str, cas: Option<u64>) -> Operation {
        Operation::Delete { key: key.into(), cas }
    }

    fn done(outcome: TransactionOutcome) -> Vec<(String, Bytes, u64)> {
        let TransactionOutcome::Done(found) = outcome else { panic!("{outcome:?}") };
        found.into_iter().map(|f| (f.key, f.entry.value, f.entry.modify_index)).collect()
    }

    fn failed_at(outcome: TransactionOutcome) -> Vec<usize> {
        let TransactionOutcome::RolledBack(failures) = outcome else { panic!("{outcome:?}") };
        failures.iter().map(|failure| failure.operation).collect()
    }

    #[test]
    fn each_operation_sees_what_those_before_it_did() {
        let mut bed = Bed::new();
        let found = done(bed.run(&[
            get_or_empty("a"),
            set("a", "1", None),
            get("a"),
            set("a", "2", Some(1)),
            get("a"),
            delete("a", None),
            get_or_empty("a"),
            set("a", "3", Some(0)),
        ]));
        let shown = |value: &'static str, index| ("a".to_owned(), Bytes::from(value), index);
        // A write shows its index, and not its value.
        let expected = [
            shown("", 0),
            shown("", 1),
            shown("1", 1),
            shown("", 1),
            shown("2", 1),
            shown("", 0),
            shown("", 1),
        ];
        assert_eq!(found, expected);
        assert_eq!(bed.value("a").as_deref(), Some(&b"3"[..]));
        assert_eq!(bed.store.get("a").value.expect("there").flags, 7);
    }

    #[test]
    fn one_failure_undoes_everything_and_all_are_named() {
        let mut bed = Bed::new();
        bed.run(&[set("a", "1", None), set("t/x", "1", None), set("t/y", "1", None)]);
        let before = bed.store.list("");
        let mut changed = bed.store.watch();
        changed.borrow_and_update();
        let outcome = bed.run(&[
            set("a", "2", None),
            delete("a", None),
            set("a", "3", None),
            set("new", "1", None),
            Operation::DeleteTree { prefix: "t/".into() },
            set("t/y", "2", None),
            get("missing"),
            set("a", "no", Some(1)),
        ]);
        assert_eq!(failed_at(outcome), [6, 7]);
        assert_eq!(bed.store.list(""), before, "entries and index are as they were");
        assert!(!changed.has_changed().expect("the machine lives"), "nobody is woken");
    }

    #[test]
    fn every_condition_decides() {
        let check_index = |key: &str, index| Operation::CheckIndex { key: key.into(), index };
        let absent = |key: &str| Operation::CheckNotExists { key: key.into() };
        for (operation, holds) in [
            (set("a", "2", Some(1)), true),
            (set("a", "2", Some(0)), false),
            (set("a", "2", Some(9)), false),
            (set("new", "2", Some(0)), true),
            (set("new", "2", Some(1)), false),
            (delete("a", Some(1)), true),
            (delete("a", Some(0)), false),
            (delete("a", Some(9)), false),
            (delete("new", Some(1)), true),
            (check_index("a", 1), true),
            (check_index("a", 2), false),
            (check_index("new", 0), false),
            (absent("new"), true),
            (absent("a"), false),
            (get("a"), true),
            (get("new"), false),
            (get_or_empty("new"), true),
        ] {
            let mut bed = Bed::new();
            bed.run(&[set("a", "1", None)]);
            let outcome = bed.run(&[set("mark", "1", None), operation.clone()]);
            assert_eq!(matches!(outcome, TransactionOutcome::Done(_)), holds, "{operation:?}: {outcome:?}");
            assert_eq!(bed.value("mark").is_some(), holds, "{operation:?}");
        }
    }

    #[test]
    fn trees_are_read_and_removed_whole() {
        let mut bed = Bed::new();
        bed.run(&[set("t/x", "1", None), set("t/y", "2", None), set("u", "3", None)]);
        let tree = Operation::GetTree { prefix: "t/".into() };
        let found = done(bed.run(&[tree.clone(), Operation::DeleteTree { prefix: "t/".into() }, tree]));
        let keys: Vec<_> = found.iter().map(|(key, ..)| key.as_str()).collect();
        assert_eq!(keys, ["t/x", "t/y"]);
        assert_eq!(bed.store.keys("", None).value, ["u"]);
        assert_eq!(bed.store.list("").index, 2);
    }

    #[test]
    fn what_is_read_is_limited_for_one_and_for_many() {
        let mut bed = Bed::new();
        let value = Bytes::from(vec![7; VALUE_BYTES_MAX]);
        for name in ["t/1", "t/2", "t/3", "t/4"] {
            let large = Operation::Set { key: name.into(), value: value.clone(), flags: 0, cas: None };
            done(bed.run(&[large]));
        }
        let tree = Operation::GetTree { prefix: "t/".into() };
        assert_eq!(failed_at(bed.run(&[set("a", "1", None), tree])), [1], "four values are too much");
        assert_eq!(bed.value("a"), None);
        let three = [set("a", "1", None), get("t/1"), get("t/2"), get("t/3")];
        assert_eq!(done(bed.run(&three)).len(), 4);

        // As after a restart, when all that is in the log is applied at once.
        let mut entries: Vec<_> = (0..100).map(|_| bed.entry(&three)).collect();
        let done_at = bed.index;
        entries.push(bed.entry(&[set("a", "2", Some(0)), get("t/1"), get("t/2"), get("t/3")]));
        let answers = bed.machine.apply(&entries);
        let bytes: usize = answers.iter().map(Bytes::len).sum();
        assert!(bytes <= crate::kv::store::ANSWERS_BYTES_MAX + 8 * answers.len(), "{bytes}");
        let answer = |at: usize| TransactionOutcome::decode(&answers[at]).expect("an answer");
        assert_eq!(answer(99), TransactionOutcome::DoneWithoutAnswer);
        assert_eq!(bed.store.get("a").index, done_at, "but it was done");
        assert!(matches!(answer(100), TransactionOutcome::RolledBack(_)), "{:?}", answer(100));
    }

    #[test]
    fn operations_and_answers_survive_their_bytes() {
        let operations = vec![
            set("ü", "v", Some(3)),
            delete("a", None),
            Operation::DeleteTree { prefix: String::new() },
            get("a"),
            get_or_empty("a"),
            Operation::GetTree { prefix: "a/".into() },
            Operation::CheckIndex { key: "a".into(), index: 9 },
            Operation::CheckNotExists { key: "a".into() },
        ];
        let command = Command::Transaction(operations);
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes), Ok(command));
        for length in 0..bytes.len() {
            assert!(Command::decode(&bytes.slice(..length)).is_err(), "cut to {length}");
        }
        let many = Command::Transaction(vec![get("a"); OPERATIONS_MAX + 1]).encode();
        let refused = Command::decode(&many);
        assert!(matches!(refused, Err(DecodeError::TooLong { what: "operations", .. })), "{refused:?}");

        let entry = Entry { value: "v".into(), flags: 1, create_index: 2, modify_index: 3 };
        for outcome in [
            TransactionOutcome::Done(vec![Found { key: "a".into(), entry }]),
            TransactionOutcome::RolledBack(vec![Failure { operation: 5, why: "because".into() }]),
            TransactionOutcome::DoneWithoutAnswer,
            TransactionOutcome::Unknown,
        ] {
            let bytes = outcome.encode();
            assert_eq!(TransactionOutcome::decode(&bytes), Ok(outcome.clone()));
            for length in 0..bytes.len() {
                assert_ne!(TransactionOutcome::decode(&bytes.slice(..length)), Ok(outcome.clone()));
            }
        }
    }
}
