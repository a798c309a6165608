use proptest::prelude::*;
use raft_types::EntryId;

use super::*;
use crate::core::EntryKind;

/// Keeps every command and answers with how many came before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Journal(Vec<Bytes>);

impl StateMachine for Journal {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        let number = |entry: &Entry| {
            assert!(entry.extensions.is_empty(), "the layer's bytes are its own");
            self.0.push(entry.data.clone());
            Bytes::from((self.0.len() - 1).to_string())
        };
        commands.iter().map(number).collect()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let all = self.0.clone();
        Box::new(move |out: &mut dyn Write| {
            all.iter().try_for_each(|line| out.write_all(line).and_then(|()| out.write_all(b"\n")))
        })
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        self.0 = io::read_to_string(state)?.lines().map(|line| Bytes::from(line.to_owned())).collect();
        Ok(())
    }
}

fn entry(index: u64, header: Header, data: &str) -> Entry {
    let entry = Entry::new(EntryId::new(1, index), EntryKind::Command, Bytes::from(data.to_owned()));
    Entry { extensions: header.encode(), ..entry }
}

fn request(index: u64, session: u64, number: u64) -> Entry {
    entry(index, Header::Request { session, number }, &format!("{session}.{number}"))
}

fn answers(machine: &mut SessionStateMachine<Journal>, entries: &[Entry]) -> Vec<Answer> {
    machine.apply(entries).iter().map(|bytes| Answer::decode(bytes).expect("an answer")).collect()
}

fn done(text: &str) -> Answer {
    Answer::Done(Bytes::from(text.to_owned()))
}

#[test]
fn a_number_is_applied_once_and_repetitions_get_the_same_answer() {
    let mut machine = SessionStateMachine::new(Journal::default());
    // In one batch, where the first answer is not there yet when the repetition comes, and across batches.
    let first = answers(
        &mut machine,
        &[entry(1, Header::Open, ""), request(2, 1, 1), request(3, 1, 1), request(4, 1, 2), request(5, 1, 1)],
    );
    assert_eq!(first, [Answer::Opened(1), done("0"), done("0"), done("1"), Answer::Overtaken]);
    assert_eq!(answers(&mut machine, &[request(6, 1, 2), request(7, 9, 1)]), [done("1"), Answer::Expired]);
    assert_eq!(machine.inner.0, ["1.1", "1.2"]);
}

#[test]
fn entries_without_a_session_pass_untouched_and_malformed_ones_not_at_all() {
    let mut machine = SessionStateMachine::new(Journal::default());
    let plain = Entry::new(EntryId::new(1, 1), EntryKind::Command, Bytes::from_static(b"plain"));
    assert_eq!(machine.apply(&[plain.clone(), plain]), ["0", "1"]);
    for extensions in [&b"RSx1"[..], b"RSx1\x01short", b"RSx1\x07aaaaaaaabbbbbbbb"] {
        let entry = Entry { extensions: Bytes::from(extensions), ..entry(3, Header::Open, "") };
        assert_eq!(answers(&mut machine, &[entry]), [Answer::Malformed]);
    }
    assert_eq!(machine.inner.0.len(), 2);
}

#[test]
fn the_session_used_longest_ago_is_forgotten_first() {
    let limits = SessionLimits { sessions_max: 2, answer_bytes_max: 0 };
    let mut machine = SessionStateMachine::with_limits(Journal::default(), limits);
    answers(&mut machine, &[entry(1, Header::Open, ""), entry(2, Header::Open, ""), request(3, 1, 1)]);
    answers(&mut machine, &[entry(4, Header::Open, "")]);
    let after = answers(&mut machine, &[request(5, 2, 1), request(6, 1, 1), request(7, 4, 1)]);
    assert_eq!(after, [Answer::Expired, Answer::NotKept, done("1")]);
    assert_eq!(machine.sessions_count(), 2);
}

#[test]
fn a_damaged_snapshot_is_refused_and_changes_nothing() {
    let mut machine = SessionStateMachine::new(Journal::default());
    answers(&mut machine, &[entry(1, Header::Open, ""), request(2, 1, 1)]);
    let mut bytes = Vec::new();
    machine.snapshot()(&mut bytes).expect("memory");
    // The state inside ends wherever its text ends.
    let table = bytes.len() - b"1.1\n".len();
    for length in 0..table {
        let mut other = SessionStateMachine::new(Journal::default());
        assert!(other.restore(&mut &bytes[..length]).is_err(), "{length} of {table} bytes");
        assert_eq!(other.sessions_count(), 0);
    }
    let mut huge = bytes.clone();
    huge[4 + 4 + 24 + 1..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(machine.restore(&mut &huge[..]).is_err(), "a length is not believed");
}

/// One thing that reaches the log.
#[derive(Clone, Debug)]
enum Step {
    Open,
    /// The nth session ever opened sends its next number.
    Next(usize),
    /// It repeats one of its numbers, that many back.
    Repeat(usize, u64),
    Plain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Open),
        4 => (0..6_usize).prop_map(Step::Next),
        4 => (0..6_usize, 0..3_u64).prop_map(|(session, back)| Step::Repeat(session, back)),
        1 => Just(Step::Plain),
    ];
    prop::collection::vec(step, 1..120)
}

/// Turns steps into entries; a session's id is the index at which it was opened.
fn log(steps: &[Step]) -> Vec<Entry> {
    let mut opened: Vec<(u64, u64)> = Vec::new();
    let mut entries = Vec::new();
    for (step, index) in steps.iter().zip(1..) {
        entries.push(match step {
            Step::Open => {
                opened.push((index, 0));
                entry(index, Header::Open, "")
            }
            Step::Next(which) if !opened.is_empty() => {
                let at = which % opened.len();
                opened[at].1 += 1;
                request(index, opened[at].0, opened[at].1)
            }
            Step::Repeat(which, back) if !opened.is_empty() => {
                let (session, number) = opened[which % opened.len()];
                request(index, session, number.saturating_sub(*back).max(1))
            }
            _ => Entry::new(EntryId::new(1, index), EntryKind::Command, Bytes::from_static(b"plain")),
        });
    }
    entries
}

proptest! {
    #[test]
    fn no_number_is_ever_applied_twice_however_the_log_is_cut_into_batches_and_snapshots(
        steps in steps(),
        cuts in prop::collection::vec((1..20_usize, any::<bool>()), 1..40),
    ) {
        let limits = SessionLimits { sessions_max: 3, answer_bytes_max: 1 };
        let entries = log(&steps);
        let mut whole = SessionStateMachine::with_limits(Journal::default(), limits);
        let expected = whole.apply(&entries);

        // Another server: other batches, and restarts from snapshots in between.
        let mut machine = SessionStateMachine::with_limits(Journal::default(), limits);
        let mut responses = Vec::new();
        let mut rest = &entries[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (size, restart) = *cuts.next().expect("endless");
            let (batch, later) = rest.split_at(size.min(rest.len()));
            responses.extend(machine.apply(batch));
            rest = later;
            if restart {
                let mut bytes = Vec::new();
                machine.snapshot()(&mut bytes).expect("memory");
                machine = SessionStateMachine::with_limits(Journal::default(), limits);
                machine.restore(&mut &bytes[..]).expect("its own snapshot");
            }
        }
        prop_assert_eq!(&responses, &expected);
        prop_assert_eq!(&machine.table, &whole.table);
        prop_assert_eq!(&machine.inner, &whole.inner);

        let mut requests: Vec<&Bytes> = whole.inner.0.iter().filter(|line| *line != "plain").collect();
        let applied = requests.len();
        requests.sort();
        requests.dedup();
        prop_assert_eq!(requests.len(), applied, "twice: {:?}", whole.inner.0);
        prop_assert!(whole.sessions_count() <= 3);
    }

    #[test]
    fn whatever_bytes_stand_beside_a_command_nothing_panics(
        extensions in prop::collection::vec(any::<u8>(), 0..40),
        magic in any::<bool>(),
    ) {
        let extensions = if magic { [&HEADER_MAGIC[..], &extensions].concat() } else { extensions };
        let plain = Entry::new(EntryId::new(1, 1), EntryKind::Command, Bytes::new());
        let _ = Header::decode(&extensions);
        if magic {
            let entry = Entry { extensions: extensions.into(), ..plain };
            let mut machine = SessionStateMachine::new(Ignore);
            prop_assert_eq!(machine.apply(&[entry]).len(), 1);
        }
    }
}

/// Takes anything.
#[derive(Debug)]
struct Ignore;

impl StateMachine for Ignore {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        vec![Bytes::new(); commands.len()]
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
}
