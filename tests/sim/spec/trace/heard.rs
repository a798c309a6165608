//! What inputs mean to the specification.

use raft::Term;
use raft::core::{Entry as RealEntry, EntryKind, Input, Request, Response};

use super::super::lives::{Lives, number_of};
use super::super::{Content, Entry, Members, Node};
use super::pair;
use crate::random::{fold, fold_number};

/// What a core is about to be told, in the words of the specification.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// Nothing that the specification knows of.
    Nothing,
    /// Something of a server in this term.
    Term(Term),
    /// A vote.
    Vote {
        /// Who gave it.
        voter: Node,
        /// In which term.
        term: Term,
    },
    /// A request for a vote.
    Campaign {
        /// Which server asks, whichever life of it.
        candidate: usize,
        /// In which term.
        term: Term,
        /// How the candidate's log ends.
        last: (Term, usize),
    },
    /// A request to append.
    Append(Part),
    /// A snapshot.
    Snapshot {
        /// The leader's term.
        term: Term,
        /// The last entry in it.
        last: (Term, usize),
    },
    /// The first configuration.
    Bootstrap(Members),
}

/// A part of what a leader said.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) leader: usize,
    pub(super) term: Term,
    pub(super) after: (Term, usize),
    pub(super) entries: Vec<Entry>,
    pub(super) commit: usize,
}

impl Part {
    pub(super) const fn through(&self) -> usize {
        self.after.1 + self.entries.len()
    }
}

fn content_of(entry: &RealEntry, lives: &mut Lives) -> Content {
    let plain = |kind| Content::Plain(fold(fold(fold_number(0, kind), &entry.data), &entry.extensions));
    match &entry.kind {
        EntryKind::Command => plain(1),
        EntryKind::Noop => plain(2),
        EntryKind::Barrier => plain(3),
        EntryKind::Configuration(configuration) => Content::Members(lives.members(configuration)),
    }
}

pub(super) fn entries_of(entries: &[RealEntry], lives: &mut Lives) -> Vec<Entry> {
    let entry_of = |entry: &RealEntry| Entry { term: entry.id.term, content: content_of(entry, lives) };
    entries.iter().map(entry_of).collect()
}

pub(super) fn part_of(leader: usize, request: &Request, lives: &mut Lives) -> Option<Part> {
    let Request::Append { term, prev, entries, commit } = request else { return None };
    Some(Part {
        leader,
        term: *term,
        after: pair(*prev),
        entries: entries_of(entries, lives),
        commit: usize::try_from(commit.0).unwrap_or(usize::MAX),
    })
}

/// Says what an input means to the specification.
pub(super) fn heard(input: &Input, lives: &mut Lives) -> Heard {
    match input {
        Input::Request { from, request, .. } => {
            let server = number_of(&from.id);
            match request {
                Request::Vote { term, last, .. } => {
                    Heard::Campaign { candidate: server, term: *term, last: pair(*last) }
                }
                Request::Append { .. } => {
                    part_of(server, request, lives).map_or(Heard::Nothing, Heard::Append)
                }
                Request::Heartbeat { term, .. } => Heard::Term(*term),
                Request::InstallSnapshot { term, meta } => {
                    Heard::Snapshot { term: *term, last: pair(meta.last) }
                }
                Request::PreVote { .. } | Request::TimeoutNow { .. } | Request::ReadIndex => Heard::Nothing,
            }
        }
        Input::Response { from, response, .. } => match response {
            Response::Vote { term, granted: true, incarnation } => {
                Heard::Vote { voter: lives.of(from, *incarnation), term: *term }
            }
            other => other.term().map_or(Heard::Nothing, Heard::Term),
        },
        Input::Bootstrap { configuration, .. } => Heard::Bootstrap(lives.members(configuration)),
        Input::Tick
        | Input::SendFailed { .. }
        | Input::Persisted { .. }
        | Input::StorageFailed
        | Input::Applied { .. }
        | Input::SnapshotTaken { .. }
        | Input::Propose { .. }
        | Input::Barrier { .. }
        | Input::Read { .. }
        | Input::VerifyLeader { .. }
        | Input::LeaseRead { .. }
        | Input::Change { .. }
        | Input::ChangeMembership { .. }
        | Input::AddVoter { .. }
        | Input::BeginRestore { .. }
        | Input::RestoreStored { .. }
        | Input::Campaign
        | Input::ForgetLeader
        | Input::Transfer { .. } => Heard::Nothing,
    }
}

impl Heard {
    pub(super) const fn term(&self) -> Option<Term> {
        match self {
            Self::Term(term)
            | Self::Vote { term, .. }
            | Self::Campaign { term, .. }
            | Self::Append(Part { term, .. })
            | Self::Snapshot { term, .. } => Some(*term),
            Self::Nothing | Self::Bootstrap(_) => None,
        }
    }
}
