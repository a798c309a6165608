//! Reading the log back: every frame is checked, the end of an interrupted write is cut off, damage is reported.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use raft_types::{EntryId, LogIndex};

use super::super::fs::{FileSystem, read_file};
use super::super::shape::{NUMBER_LIMIT, Shape};
use super::super::{Recovered, StorageError};
use super::record::{Reader, Record, Start};
use super::{Active, FileLog, Segments, frame, remove_segment, segment_path};
use crate::core::{Entry, HardState};

/// The sequences of the segments in a directory, ascending.
pub(super) fn sequences(fs: &dyn FileSystem, directory: &Path) -> Result<Vec<u64>, StorageError> {
    let names = fs.list(directory).map_err(|error| StorageError::io("list", directory.display(), error))?;
    let mut sequences = Vec::new();
    for name in names {
        if let Some(digits) = name.strip_suffix(".log") {
            let sequence = digits.parse().map_err(|_| StorageError::Foreign {
                path: directory.join(&name).display().to_string(),
                detail: "the name is not a log segment's".to_owned(),
            })?;
            sequences.push(sequence);
        }
    }
    sequences.sort_unstable();
    Ok(sequences)
}

/// A log that was read.
pub(super) struct Found {
    pub(super) recovered: Recovered,
    pub(super) active: Active,
    /// No mark says yet that the last frame is durable, which it is.
    pub(super) unmarked: bool,
}

/// Reads everything first; only when all of it makes sense is anything on disk changed.
pub(super) fn run(log: &FileLog) -> Result<Found, StorageError> {
    let fs = log.fs.as_ref();
    let mut found = sequences(fs, &log.directory)?;
    if found.is_empty() {
        if log.must_exist {
            return Err(StorageError::Corrupt {
                path: log.directory.display().to_string(),
                offset: 0,
                detail: "the log was there and is gone".to_owned(),
            });
        }
        log.initialise()?;
        found.push(1);
    }
    // Deletions may have reached the disk in any order: what stands before a gap is a leftover, unless it is missed below.
    let run_start = (1..found.len()).rev().find(|at| found[at - 1] + 1 != found[*at]).unwrap_or(0);
    let (leftovers, needed) = found.split_at(run_start);

    let mut replay = Replay::default();
    let mut tail = None;
    for (position, sequence) in needed.iter().enumerate() {
        let last = position + 1 == needed.len();
        tail = Some(replay.segment(fs, &segment_path(&log.directory, *sequence), *sequence, last)?);
    }
    let (Some(tail), Some(first)) = (tail, needed.first()) else {
        unreachable!("there is at least one segment");
    };
    let first_needed = replay.first_segment;
    let recovered = replay.check(&log.directory, *first)?;

    let file = secure_tail(log, &tail)?;
    for sequence in leftovers {
        remove_segment(fs, &segment_path(&log.directory, *sequence));
    }
    let mut segments = replay.segments;
    while let Some(sequence) = segments.pop_before(first_needed) {
        remove_segment(fs, &segment_path(&log.directory, sequence));
    }
    remove_unfinished(fs, &log.directory)?;

    let last = recovered.entries.last().map_or(recovered.base.index, |entry| entry.id.index);
    let active = Active {
        file,
        path: tail.path,
        offset: tail.end,
        synced: tail.end,
        full: tail.end >= log.options.segment_bytes,
        shape: Shape {
            hard_state: recovered.hard_state.clone(),
            base: recovered.base,
            last,
            commit: recovered.commit,
        },
        segments,
    };
    let unmarked = !active.full && tail.proven < tail.data_end;
    Ok(Found { recovered, active, unmarked })
}

/// Cuts an interrupted write off and makes the rest durable: it may be in the page cache only. After a failed sync a page
/// may even count as clean without being on disk, so what no mark proves to be durable is written once more.
fn secure_tail(log: &FileLog, tail: &Tail) -> Result<Box<dyn super::File>, StorageError> {
    let secure = || -> io::Result<Box<dyn super::File>> {
        let mut file = log.fs.open(&tail.path)?;
        if tail.end < tail.bytes.len() as u64 {
            tracing::warn!(
                path = %tail.path.display(), offset = tail.end, bytes = tail.bytes.len() as u64 - tail.end,
                "cut an interrupted write off the log"
            );
            file.set_len(tail.end)?;
        }
        file.write_at(tail.proven, &tail.bytes[tail.unproven()])?;
        file.sync_data()?;
        // A process that was killed may have left a name that only the cache knows.
        log.fs.sync_dir(&log.directory)?;
        Ok(file)
    };
    secure().map_err(|error| StorageError::io("repair", tail.path.display(), error))
}

/// Segments that never got their name.
fn remove_unfinished(fs: &dyn FileSystem, directory: &Path) -> Result<(), StorageError> {
    let names = fs.list(directory).map_err(|error| StorageError::io("list", directory.display(), error))?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        remove_segment(fs, &directory.join(name));
    }
    Ok(())
}

/// The last segment, read.
struct Tail {
    path: std::path::PathBuf,
    bytes: Bytes,
    /// Where the valid frames end.
    end: u64,
    /// Where the last frame that holds records ends.
    data_end: u64,
    /// All bytes before this are durable, as a frame says.
    proven: u64,
}

impl Tail {
    const fn unproven(&self) -> Range<usize> {
        // Both are offsets in `bytes`.
        self.proven as usize..self.end as usize
    }
}

/// The log as the records so far make it.
#[derive(Default)]
struct Replay {
    hard_state: HardState,
    base: EntryId,
    /// The index before the first of `entries`. Above `base` while entries of deleted segments were not yet compacted.
    start: LogIndex,
    entries: Vec<Entry>,
    first_segment: u64,
    segments: Segments,
    commit: LogIndex,
    /// The path of the segment being read, for errors.
    path: String,
}

impl Replay {
    fn corrupt(&self, offset: usize, detail: impl Into<String>) -> StorageError {
        StorageError::Corrupt { path: self.path.clone(), offset: offset as u64, detail: detail.into() }
    }

    fn last(&self) -> LogIndex {
        LogIndex(self.start.0 + self.entries.len() as u64)
    }

    fn segment(
        &mut self,
        fs: &dyn FileSystem,
        path: &Path,
        sequence: u64,
        last: bool,
    ) -> Result<Tail, StorageError> {
        self.path = path.display().to_string();
        let bytes = read_file(fs, path).map_err(|error| StorageError::io("read", &self.path, error))?;
        let bytes = Bytes::from(bytes);
        frame::check_preamble(&self.path, &bytes)?;
        self.segments.push(sequence);
        let mut at = frame::PREAMBLE_LEN;
        let mut tail = Tail { path: path.to_owned(), bytes: bytes.clone(), end: 0, data_end: 0, proven: 0 };
        while at < bytes.len() {
            match frame::read(&bytes, sequence, at) {
                Ok(frame) => {
                    if !frame.body.is_empty() {
                        self.body(&bytes, frame.body, sequence, at == frame::PREAMBLE_LEN)?;
                        tail.data_end = frame.end as u64;
                    }
                    tail.proven = tail.proven.max(frame.synced.min(at as u64));
                    at = frame.end;
                }
                // The first frame was durable before the segment got its name.
                Err(detail)
                    if !last || at == frame::PREAMBLE_LEN || frame::was_synced(&bytes, sequence, at) =>
                {
                    return Err(self.corrupt(at, detail));
                }
                Err(_) => break,
            }
        }
        if at == frame::PREAMBLE_LEN {
            return Err(self.corrupt(at, "the segment's first frame is missing"));
        }
        tail.end = at as u64;
        Ok(tail)
    }

    fn body(
        &mut self,
        bytes: &Bytes,
        body: Range<usize>,
        sequence: u64,
        first: bool,
    ) -> Result<(), StorageError> {
        let mut reader = Reader::new(bytes, body);
        let mut expect_start = first;
        loop {
            let at = reader.position();
            match reader.next().map_err(|detail| self.corrupt(at, detail))? {
                None if expect_start => return Err(self.corrupt(at, "the segment's first frame is empty")),
                None => return Ok(()),
                Some(Record::Start(start)) if expect_start => {
                    expect_start = false;
                    self.start(start, &mut reader)?;
                }
                Some(_) if expect_start => {
                    return Err(self.corrupt(at, "the segment's start is not its first record"));
                }
                Some(record) => {
                    self.apply(record, sequence).map_err(|detail| self.corrupt(at, detail))?;
                }
            }
        }
    }

    /// A segment says how the log stood when it was started, which must be how its predecessors left it.
    fn start(&mut self, start: Start, reader: &mut Reader<'_>) -> Result<(), StorageError> {
        let at = reader.position();
        let Some(Record::HardState(hard_state)) = reader.next().map_err(|detail| self.corrupt(at, detail))?
        else {
            return Err(self.corrupt(at, "the segment's start lacks term and vote"));
        };
        check_numbers(&[start.base.term.0, start.base.index.0, start.last.0, hard_state.term.0])
            .map_err(|detail| self.corrupt(at, detail))?;
        if self.segments.list.len() == 1 {
            (self.base, self.start, self.hard_state) = (start.base, start.last, hard_state);
        } else if (self.base, self.last(), &self.hard_state) != (start.base, start.last, &hard_state) {
            let detail = format!(
                "the segment before ends at index {} in term {}, this one starts at index {} in term {}",
                self.last(),
                self.hard_state.term,
                start.last,
                hard_state.term
            );
            return Err(self.corrupt(at, detail));
        }
        self.need_from(start.first_segment).map_err(|detail| self.corrupt(at, detail))
    }

    /// Segments before this one are no longer needed. The one that says so always is.
    fn need_from(&mut self, first_segment: u64) -> Result<(), String> {
        let current = self.segments.current();
        if first_segment > current {
            return Err(format!(
                "segment {current} says that only segments from {first_segment} on are needed"
            ));
        }
        self.first_segment = self.first_segment.max(first_segment);
        Ok(())
    }

    fn apply(&mut self, record: Record, sequence: u64) -> Result<(), String> {
        match record {
            Record::HardState(hard_state) => {
                check_numbers(&[hard_state.term.0])?;
                self.hard_state = hard_state;
            }
            Record::Reset(base) => {
                check_numbers(&[base.term.0, base.index.0])?;
                self.entries.clear();
                (self.base, self.start) = (base, base.index);
                self.commit = LogIndex::ZERO;
                self.segments.reset();
                self.first_segment = sequence;
            }
            Record::Truncate(from) => {
                if from <= self.base.index {
                    return Err(format!(
                        "entries from {from} on removed, but compacted through {}",
                        self.base
                    ));
                }
                if from <= self.start {
                    self.start = from.previous();
                    self.entries.clear();
                } else {
                    self.entries.truncate(count(from.previous().ahead_of(self.start)));
                }
                self.segments.truncated(from);
            }
            Record::Entry(entry) => {
                check_numbers(&[entry.id.term.0])?;
                if entry.id.index != self.last().next() {
                    return Err(format!("entry {} does not follow index {}", entry.id, self.last()));
                }
                self.segments.appended(entry.id.index);
                self.entries.push(entry);
            }
            Record::Compact { through, first_segment } => {
                check_numbers(&[through.term.0, through.index.0])?;
                if through.index > self.base.index {
                    self.base = through;
                }
                if through.index >= self.last() {
                    self.entries.clear();
                    self.start = self.base.index;
                }
                self.need_from(first_segment)?;
            }
            Record::Commit(index) => {
                check_numbers(&[index.0])?;
                self.commit = self.commit.max(index);
            }
            Record::Start(_) => return Err("a segment's start in the middle of a segment".to_owned()),
        }
        Ok(())
    }

    /// Whether everything that is needed was there.
    fn check(&mut self, directory: &Path, first_read: u64) -> Result<Recovered, StorageError> {
        self.path = directory.display().to_string();
        if self.first_segment < first_read {
            return Err(self.corrupt(0, format!("log segment {} is missing", first_read - 1)));
        }
        if self.start > self.base.index {
            let detail = format!("the entries from {} to {} are missing", self.base.index.next(), self.start);
            return Err(self.corrupt(0, detail));
        }
        let compacted = count(self.base.index.ahead_of(self.start)).min(self.entries.len());
        self.entries.drain(..compacted);
        Ok(Recovered {
            hard_state: std::mem::take(&mut self.hard_state),
            base: self.base,
            entries: std::mem::take(&mut self.entries),
            commit: self.commit,
        })
    }
}

/// Refuses terms and indexes that no cluster reaches.
fn check_numbers(numbers: &[u64]) -> Result<(), String> {
    match numbers.iter().find(|number| **number >= NUMBER_LIMIT) {
        Some(number) => Err(format!("{number} is beyond what any cluster reaches")),
        None => Ok(()),
    }
}

fn count(entries: u64) -> usize {
    usize::try_from(entries).unwrap_or(usize::MAX)
}
