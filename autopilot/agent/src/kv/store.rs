//! The state machine and the shared view that reads are served from.
//!
//! [`KvMachine`] is given to Raft and is the only writer; [`KvStore`] is the cloneable reader. Locks are held for one
//! look-up or one batch of commands, never across an await. Readers that wait for a change follow a watch of the index
//! of the last change of any key.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Bound;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::RwLock;
use raft::{SnapshotWriter, StateMachine};
use tokio::sync::watch;

use super::command::{
    AutopilotSettings, Command, DecodeError, KEY_BYTES_MAX, LEDGER_BYTES_MAX, Outcome, Reader,
    VALUE_BYTES_MAX, put_bytes, put_settings,
};
use super::transaction;

/// The first bytes of a snapshot.
const SNAPSHOT_MAGIC: &[u8; 8] = b"APKVSNP1";
/// The largest record of a snapshot: one key with its value and numbers.
const RECORD_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX + 256;
const RECORD_ENTRY: u8 = 1;
/// Settings without groups, as earlier versions wrote them; still read.
const RECORD_AUTOPILOT_PLAIN: u8 = 2;
const RECORD_END: u8 = 3;
const RECORD_KEPT_OUT: u8 = 4;
const RECORD_AUTOPILOT: u8 = 5;
const RECORD_LEDGER: u8 = 6;
/// What the answers to commands that are applied together may hold, in bytes. All of them are made before the first is
/// given away.
pub(super) const ANSWERS_BYTES_MAX: usize = 64 << 20;
/// Removed servers that are remembered; beyond it the one whose removed life is the oldest is forgotten.
const KEPT_OUT_MAX: usize = 256;

/// One key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// An opaque number of the client.
    pub flags: u64,
    /// The log index at which the key was created.
    pub create_index: u64,
    /// The log index of the last change.
    pub modify_index: u64,
}

impl Entry {
    /// What stands for a key that is not there.
    pub(super) const NONE: Self = Self { value: Bytes::new(), flags: 0, create_index: 0, modify_index: 0 };
}

/// A value with the log indexes of its creation and last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The log index at which it was created.
    pub create_index: u64,
    /// The log index of the last change.
    pub modify_index: u64,
}

/// What a leader's autopilot knew, for the next leader. Not a key: clients do not see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLedger {
    /// The ledger as JSON.
    pub ledger: Bytes,
    /// When it was made, in milliseconds since 1970 by the clock of that leader.
    pub unix_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) entries: BTreeMap<String, Entry>,
    autopilot: Option<Versioned<AutopilotSettings>>,
    ledger: Option<KeptLedger>,
    /// Servers that a person removed, each with the generation it had then.
    kept_out: BTreeMap<String, u64>,
    /// The index of the last change of any key, deletions included.
    pub(super) kv_index: u64,
}

impl State {
    /// Makes a change and gives the answer to it. A long one that exceeds the room is shortened; what was done stays done, for
    /// the state must not depend on what is applied together.
    fn apply(&mut self, index: u64, command: Command, room: &mut usize) -> Bytes {
        let outcome = match command {
            Command::Transaction(operations) => {
                let outcome = transaction::run(self, index, operations);
                let answer = outcome.encode();
                let Some(rest) = room.checked_sub(answer.len()) else { return outcome.shortened().encode() };
                *room = rest;
                return answer;
            }
            Command::Put { key, value, flags, cas } => self.put(index, key, value, flags, cas),
            Command::Delete { key, cas } => self.delete(index, &key, cas),
            Command::DeletePrefix { prefix } => {
                let keys: Vec<String> = self.range(&prefix).map(|(key, _)| key.clone()).collect();
                for key in &keys {
                    self.entries.remove(key);
                }
                if !keys.is_empty() {
                    self.kv_index = index;
                }
                Outcome::Applied
            }
            Command::SetAutopilot { settings, cas } => self.set_autopilot(index, *settings, cas),
            Command::KeepLedger { ledger, unix_ms } => {
                self.ledger = Some(KeptLedger { ledger, unix_ms });
                Outcome::Applied
            }
            Command::KeepOut { id, generation: 0 } => {
                self.kept_out.remove(&id);
                Outcome::Applied
            }
            Command::KeepOut { id, generation } => {
                self.kept_out.insert(id, generation);
                while self.kept_out.len() > KEPT_OUT_MAX {
                    let oldest = self.kept_out.iter().min_by_key(|(_, generation)| **generation);
                    let oldest = oldest.map(|(id, _)| id.clone()).expect("more than none");
                    self.kept_out.remove(&oldest);
                }
                Outcome::Applied
            }
        };
        outcome.encode()
    }

    pub(super) fn put(
        &mut self,
        index: u64,
        key: String,
        value: Bytes,
        flags: u64,
        cas: Option<u64>,
    ) -> Outcome {
        let known = self.entries.get(&key);
        if cas.is_some_and(|wanted| wanted != known.map_or(0, |entry| entry.modify_index)) {
            return Outcome::Refused;
        }
        let create_index = known.map_or(index, |entry| entry.create_index);
        self.entries.insert(key, Entry { value, flags, create_index, modify_index: index });
        self.kv_index = index;
        Outcome::Applied
    }

    pub(super) fn delete(&mut self, index: u64, key: &str, cas: Option<u64>) -> Outcome {
        let Some(known) = self.entries.get(key) else {
            return Outcome::Applied;
        };
        if cas.is_some_and(|wanted| wanted != known.modify_index) {
            return Outcome::Refused;
        }
        self.entries.remove(key);
        self.kv_index = index;
        Outcome::Applied
    }

    fn set_autopilot(&mut self, index: u64, settings: AutopilotSettings, cas: Option<u64>) -> Outcome {
        let known = self.autopilot.as_ref();
        if cas.is_some_and(|wanted| wanted != known.map_or(0, |config| config.modify_index)) {
            return Outcome::Refused;
        }
        let create_index = known.map_or(index, |config| config.create_index);
        self.autopilot = Some(Versioned { value: settings, create_index, modify_index: index });
        Outcome::Applied
    }

    pub(super) fn range(&self, prefix: &str) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }
}

/// What was read, and an index to wait for a later change from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<T> {
    /// What was read.
    pub value: T,
    /// No change after this index is missing from the value. Never 0.
    pub index: u64,
}

/// Reads the replicated state of this server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KvStore {
    state: Arc<RwLock<State>>,
    changed: watch::Receiver<u64>,
}

impl KvStore {
    /// One key. The index is the one of its last change, or, when it is absent, of the last change of any key.
    #[must_use]
    pub fn get(&self, key: &str) -> Reading<Option<Entry>> {
        let state = self.state.read();
        let value = state.entries.get(key).cloned();
        let index = value.as_ref().map_or(state.kv_index, |entry| entry.modify_index);
        Reading { value, index: index.max(1) }
    }

    /// All keys with a prefix, in order.
    #[must_use]
    pub fn list(&self, prefix: &str) -> Reading<Vec<(String, Entry)>> {
        let state = self.state.read();
        let value = state.range(prefix).map(|(key, entry)| (key.clone(), entry.clone())).collect();
        Reading { value, index: state.kv_index.max(1) }
    }

    /// The names with a prefix, in order; with a separator each is cut behind the first one after the prefix, and equal
    /// names appear once.
    #[must_use]
    pub fn keys(&self, prefix: &str, separator: Option<&str>) -> Reading<Vec<String>> {
        let state = self.state.read();
        let mut names: Vec<String> = Vec::new();
        for (key, _) in state.range(prefix) {
            let name = match separator.filter(|s| !s.is_empty()) {
                Some(separator) => key[prefix.len()..]
                    .find(separator)
                    .map_or(key.as_str(), |at| &key[..prefix.len() + at + separator.len()]),
                None => key,
            };
            if names.last().is_none_or(|last| last != name) {
                names.push(name.to_owned());
            }
        }
        Reading { value: names, index: state.kv_index.max(1) }
    }

    /// The autopilot configuration; `None` before the first leader has seeded it.
    #[must_use]
    pub fn autopilot(&self) -> Option<Versioned<AutopilotSettings>> {
        self.state.read().autopilot.clone()
    }

    /// What the autopilot of the last leader knew.
    #[must_use]
    pub fn ledger(&self) -> Option<KeptLedger> {
        self.state.read().ledger.clone()
    }

    /// Whether a person removed this life of this server from the cluster.
    #[must_use]
    pub fn is_kept_out(&self, id: &str, generation: u64) -> bool {
        self.state.read().kept_out.get(id).is_some_and(|removed| generation <= *removed)
    }

    /// Follows the index of the last change of any key.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }
}

/// The state machine that Raft drives.
#[derive(Debug)]
pub struct KvMachine {
    state: Arc<RwLock<State>>,
    changed: watch::Sender<u64>,
}

impl KvMachine {
    /// An empty state, and the handle to read it.
    #[must_use]
    pub fn new() -> (Self, KvStore) {
        let state = Arc::new(RwLock::new(State::default()));
        let (sender, changed) = watch::channel(0);
        (Self { state: Arc::clone(&state), changed: sender }, KvStore { state, changed })
    }

    fn publish(&self, index: u64) {
        self.changed.send_if_modified(|known| {
            let changed = *known != index;
            *known = index;
            changed
        });
    }
}

impl StateMachine for KvMachine {
    fn apply(&mut self, commands: &[raft::core::Entry]) -> Vec<Bytes> {
        let mut state = self.state.write();
        let mut room = ANSWERS_BYTES_MAX;
        let answers = commands
            .iter()
            .map(|entry| match Command::decode(&entry.data) {
                Ok(command) => state.apply(entry.id.index.0, command, &mut room),
                Err(error) => {
                    tracing::error!(index = %entry.id.index, %error, "a command in the log is unknown here and was skipped");
                    Outcome::Unknown.encode()
                }
            })
            .collect();
        let index = state.kv_index;
        drop(state);
        self.publish(index);
        answers
    }

    fn snapshot(&self) -> SnapshotWriter {
        // Values are shared buffers, so this copies names and numbers only.
        let state = self.state.read().clone();
        Box::new(move |out| write_snapshot(&state, out))
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        let restored = read_snapshot(state)?;
        let index = restored.kv_index;
        *self.state.write() = restored;
        self.publish(index);
        Ok(())
    }
}

/// Magic, then records (length, bytes), the last of which holds the number of entries and their checksum.
fn write_snapshot(state: &State, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(SNAPSHOT_MAGIC)?;
    let mut checksum = crc32fast::Hasher::new();
    let mut record = BytesMut::new();
    let mut flush = |record: &mut BytesMut, checksum: &mut crc32fast::Hasher| {
        let length = u32::try_from(record.len()).expect("records are limited to less than 4 GiB");
        checksum.update(record);
        out.write_all(&length.to_le_bytes())?;
        out.write_all(record)?;
        record.clear();
        io::Result::Ok(())
    };
    for (key, entry) in &state.entries {
        record.put_u8(RECORD_ENTRY);
        put_bytes(&mut record, key.as_bytes());
        put_bytes(&mut record, &entry.value);
        record.put_u64_le(entry.flags);
        record.put_u64_le(entry.create_index);
        record.put_u64_le(entry.modify_index);
        flush(&mut record, &mut checksum)?;
    }
    if let Some(autopilot) = &state.autopilot {
        record.put_u8(RECORD_AUTOPILOT);
        put_settings(&mut record, &autopilot.value);
        record.put_u64_le(autopilot.create_index);
        record.put_u64_le(autopilot.modify_index);
        flush(&mut record, &mut checksum)?;
    }
    if let Some(kept) = &state.ledger {
        record.put_u8(RECORD_LEDGER);
        put_bytes(&mut record, &kept.ledger);
        record.put_u64_le(kept.unix_ms);
        flush(&mut record, &mut checksum)?;
    }
    for (id, generation) in &state.kept_out {
        record.put_u8(RECORD_KEPT_OUT);
        put_bytes(&mut record, id.as_bytes());
        record.put_u64_le(*generation);
        flush(&mut record, &mut checksum)?;
    }
    record.put_u8(RECORD_END);
    record.put_u64_le(state.entries.len() as u64);
    record.put_u64_le(state.kv_index);
    checksum.update(&record);
    record.put_u32_le(checksum.finalize());
    out.write_all(&u32::try_from(record.len()).expect("a short record").to_le_bytes())?;
    out.write_all(&record)
}

fn read_snapshot(input: &mut dyn Read) -> io::Result<State> {
    let mut magic = [0; 8];
    input.read_exact(&mut magic)?;
    if magic != *SNAPSHOT_MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no snapshot of the key-value state"));
    }
    let mut state = State::default();
    let mut checksum = crc32fast::Hasher::new();
    loop {
        let record = read_record(input)?;
        let ended = restore_record(&mut state, &record, &checksum).map_err(invalid)?;
        if ended {
            let mut rest = [0; 1];
            if input.read(&mut rest)? != 0 {
                return Err(invalid(DecodeError::Trailing { count: 1 }));
            }
            return Ok(state);
        }
        checksum.update(&record);
    }
}

fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn read_record(input: &mut dyn Read) -> io::Result<Bytes> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > RECORD_BYTES_MAX {
        return Err(invalid(DecodeError::TooLong { what: "record", length, limit: RECORD_BYTES_MAX }));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

/// Takes one record in; true when it was the last one.
fn restore_record(
    state: &mut State,
    record: &Bytes,
    checksum: &crc32fast::Hasher,
) -> Result<bool, DecodeError> {
    let mut reader = Reader::new(record.clone());
    let ended = match reader.u8()? {
        RECORD_ENTRY => {
            let key = reader.text("key", KEY_BYTES_MAX)?;
            let entry = Entry {
                value: reader.bytes("value", VALUE_BYTES_MAX)?,
                flags: reader.u64()?,
                create_index: reader.u64()?,
                modify_index: reader.u64()?,
            };
            state.entries.insert(key, entry);
            false
        }
        tag @ (RECORD_AUTOPILOT | RECORD_AUTOPILOT_PLAIN) => {
            let plain = tag == RECORD_AUTOPILOT_PLAIN;
            let value = if plain { reader.plain_settings()? } else { reader.settings()? };
            state.autopilot =
                Some(Versioned { value, create_index: reader.u64()?, modify_index: reader.u64()? });
            false
        }
        RECORD_LEDGER => {
            let ledger = reader.bytes("ledger", LEDGER_BYTES_MAX)?;
            state.ledger = Some(KeptLedger { ledger, unix_ms: reader.u64()? });
            false
        }
        RECORD_KEPT_OUT => {
            let id = reader.text("id", KEY_BYTES_MAX)?;
            state.kept_out.insert(id, reader.u64()?);
            false
        }
        RECORD_END => {
            let count = reader.u64()?;
            state.kv_index = reader.u64()?;
            let mut checksum = checksum.clone();
            checksum.update(&record[..record.len().saturating_sub(4)]);
            if reader.u32()? != checksum.finalize() || count != state.entries.len() as u64 {
                return Err(DecodeError::Checksum);
            }
            true
        }
        value => return Err(DecodeError::Unknown { what: "record", value }),
    };
    reader.finish()?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use raft::EntryId;
    use raft::core::EntryKind;

    use super::*;

    fn run(machine: &mut KvMachine, index: u64, command: &Command) -> Outcome {
        let entry = raft::core::Entry::new(EntryId::new(1, index), EntryKind::Command, command.encode());
        Outcome::decode(&machine.apply(&[entry])[0])
    }

    fn put(key: &str, value: &'static str, cas: Option<u64>) -> Command {
        Command::Put { key: key.into(), value: value.into(), flags: 0, cas }
    }

    #[test]
    fn a_key_keeps_its_creation_and_moves_its_change() {
        let (mut machine, store) = KvMachine::new();
        run(&mut machine, 5, &put("a", "1", None));
        run(&mut machine, 9, &put("a", "2", None));
        let reading = store.get("a");
        let entry = reading.value.expect("present");
        assert_eq!((entry.create_index, entry.modify_index, reading.index), (5, 9, 9));
        assert_eq!(entry.value, "2");
    }

    #[test]
    fn conditions_decide() {
        let (mut machine, store) = KvMachine::new();
        assert_eq!(run(&mut machine, 2, &put("a", "x", Some(1))), Outcome::Refused, "there is no such key");
        assert_eq!(run(&mut machine, 3, &put("a", "1", Some(0))), Outcome::Applied, "0 creates");
        assert_eq!(run(&mut machine, 4, &put("a", "x", Some(0))), Outcome::Refused, "0 only creates");
        assert_eq!(run(&mut machine, 5, &put("a", "2", Some(3))), Outcome::Applied);
        assert_eq!(run(&mut machine, 6, &put("a", "x", Some(3))), Outcome::Refused, "changed since");
        let delete = |cas| Command::Delete { key: "a".into(), cas };
        assert_eq!(run(&mut machine, 7, &delete(Some(0))), Outcome::Refused, "0 never deletes");
        assert_eq!(run(&mut machine, 8, &delete(Some(3))), Outcome::Refused);
        assert_eq!(store.get("a").value.expect("still there").value, "2");
        assert_eq!(run(&mut machine, 9, &delete(Some(5))), Outcome::Applied);
        assert_eq!(store.get("a"), Reading { value: None, index: 9 });
        assert_eq!(run(&mut machine, 10, &delete(None)), Outcome::Applied, "deleting nothing is fine");
    }

    #[test]
    fn prefixes_list_cut_and_delete() {
        let (mut machine, store) = KvMachine::new();
        for (index, key) in ["a/1", "a/2/x", "a/2/y", "ab", "b"].iter().enumerate() {
            run(&mut machine, index as u64 + 1, &put(key, "v", None));
        }
        let names = |prefix, separator| store.keys(prefix, separator).value;
        assert_eq!(names("", None).len(), 5);
        assert_eq!(names("a/", Some("/")), ["a/1", "a/2/"]);
        assert_eq!(names("", Some("/")), ["a/", "ab", "b"]);
        assert_eq!(names("zzz", Some("/")), [""; 0]);
        assert_eq!(store.list("a/2").value.len(), 2);
        run(&mut machine, 20, &Command::DeletePrefix { prefix: "a/".into() });
        assert_eq!(names("", None), ["ab", "b"]);
        assert_eq!(store.list("").index, 20);
    }

    #[test]
    fn a_change_wakes_those_who_wait_and_a_refused_one_does_not() {
        let (mut machine, store) = KvMachine::new();
        let mut changed = store.watch();
        run(&mut machine, 1, &put("a", "1", Some(7)));
        assert!(!changed.has_changed().expect("the machine lives"));
        run(&mut machine, 2, &put("a", "1", None));
        assert_eq!(*changed.borrow_and_update(), 2);
    }

    #[test]
    fn unknown_commands_change_nothing() {
        let (mut machine, store) = KvMachine::new();
        run(&mut machine, 1, &put("a", "1", None));
        let before = store.list("");
        let data = Bytes::from_static(b"from the future");
        let entry = raft::core::Entry::new(EntryId::new(1, 2), EntryKind::Command, data);
        assert_eq!(Outcome::decode(&machine.apply(&[entry])[0]), Outcome::Unknown);
        assert_eq!(store.list(""), before);
    }

    #[test]
    fn a_removed_life_is_kept_out_and_the_next_one_is_not() {
        let (mut machine, store) = KvMachine::new();
        for generation in 1..=KEPT_OUT_MAX as u64 + 1 {
            run(&mut machine, generation, &Command::KeepOut { id: format!("id-{generation}"), generation });
        }
        assert!(store.is_kept_out("id-7", 7) && store.is_kept_out("id-7", 6));
        assert!(!store.is_kept_out("id-7", 8), "it started again");
        assert!(!store.is_kept_out("id-1", 1), "the oldest is forgotten");
        run(&mut machine, 999, &Command::KeepOut { id: "id-7".into(), generation: 0 });
        assert!(!store.is_kept_out("id-7", 7), "forgiven");
    }

    #[test]
    fn the_ledger_is_kept_beside_the_keys_and_wakes_nobody() {
        let (mut machine, store) = KvMachine::new();
        run(&mut machine, 1, &put("a", "1", None));
        let mut changed = store.watch();
        changed.borrow_and_update();
        run(&mut machine, 2, &Command::KeepLedger { ledger: "old".into(), unix_ms: 1 });
        run(&mut machine, 3, &Command::KeepLedger { ledger: "new".into(), unix_ms: 2 });
        assert_eq!(store.ledger(), Some(KeptLedger { ledger: "new".into(), unix_ms: 2 }));
        assert_eq!(store.keys("", None).value, ["a"]);
        assert!(!changed.has_changed().expect("the machine lives"));
    }

    fn snapshot_bytes(machine: &KvMachine) -> Vec<u8> {
        let mut bytes = Vec::new();
        machine.snapshot()(&mut bytes).expect("memory does not fail");
        bytes
    }

    fn filled() -> KvMachine {
        let (mut machine, _) = KvMachine::new();
        run(&mut machine, 3, &put("a", "1", None));
        run(&mut machine, 4, &put("b/c", "2", None));
        run(&mut machine, 5, &Command::Delete { key: "a".into(), cas: None });
        let settings = Box::new(AutopilotSettings { min_quorum: 3, ..AutopilotSettings::default() });
        run(&mut machine, 6, &Command::SetAutopilot { settings, cas: Some(0) });
        run(&mut machine, 7, &Command::KeepOut { id: "id-1".into(), generation: 50 });
        run(&mut machine, 8, &Command::KeepLedger { ledger: "what it knew".into(), unix_ms: 9 });
        machine
    }

    #[test]
    fn a_snapshot_holds_everything() {
        let machine = filled();
        let (mut copy, store) = KvMachine::new();
        run(&mut copy, 1, &put("old", "x", None));
        copy.restore(&mut snapshot_bytes(&machine).as_slice()).expect("valid");
        assert_eq!(*copy.state.read(), *machine.state.read());
        assert_eq!(store.autopilot().expect("restored").value.min_quorum, 3);
    }

    #[test]
    fn a_snapshot_of_an_earlier_version_is_read() {
        // Settings without groups: the record before the end of the file of such a server.
        let mut bytes = SNAPSHOT_MAGIC.to_vec();
        let mut checksum = crc32fast::Hasher::new();
        let plain = Command::SetAutopilot { settings: Box::default(), cas: None }.encode();
        let groups = plain.windows(10).position(|part| part == b"{\"health\":").expect("JSON");
        let mut record = BytesMut::new();
        record.put_u8(RECORD_AUTOPILOT_PLAIN);
        // Between the two leading bytes of a command and the length of the groups.
        record.put_slice(&plain[2..groups - 4]);
        record.put_u64_le(4);
        record.put_u64_le(6);
        let mut end = BytesMut::new();
        end.put_u8(RECORD_END);
        end.put_u64_le(0);
        end.put_u64_le(7);
        checksum.update(&record);
        checksum.update(&end);
        end.put_u32_le(checksum.finalize());
        for part in [record, end] {
            bytes.extend(u32::try_from(part.len()).expect("short").to_le_bytes());
            bytes.extend(part);
        }
        let (mut machine, store) = KvMachine::new();
        machine.restore(&mut bytes.as_slice()).expect("still readable");
        let settings = store.autopilot().expect("restored");
        assert_eq!((settings.value, settings.modify_index), (AutopilotSettings::default(), 6));
        assert_eq!(store.ledger(), None);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_and_changes_nothing() {
        let bytes = snapshot_bytes(&filled());
        let (mut copy, store) = KvMachine::new();
        run(&mut copy, 1, &put("old", "x", None));
        for length in 0..bytes.len() {
            assert!(copy.restore(&mut &bytes[..length]).is_err(), "cut to {length}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(copy.restore(&mut damaged.as_slice()).is_err(), "a flipped byte at {at} passed");
        }
        assert_eq!(store.keys("", None).value, ["old"]);
    }
}
