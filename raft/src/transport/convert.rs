//! What the messages on the wire mean to the core, and how the core's messages are said on the wire.
//!
//! Everything that a sender may get wrong is refused here, before the core sees it: unknown versions, entries that do
//! not follow one another, numbers that no cluster reaches, names that are no text.

use std::str;

use bytes::{Bytes, BytesMut};
use raft_types::{
    Configuration, EntryId, Incarnation, LogIndex, NAME_BYTES_MAX, Server, ServerAddress, ServerId, Suffrage,
    Term, is_plain_name,
};

use super::wire::{
    self, AppendEntriesRequest, AppendEntriesResponse, Header, InstallSnapshotRequest,
    InstallSnapshotResponse, Limits, Log, LogView, PROTOCOL_VERSION, ReadIndexRequest, ReadIndexResponse,
    RequestFrame, RequestPreVoteRequest, RequestPreVoteResponse, RequestVoteRequest, RequestVoteResponse,
    ResponseBody, ResponseFrame, TimeFormat, TimeoutNowRequest, TimeoutNowResponse, Timestamp,
};
use crate::core::{Entry, EntryKind, Features, Peer, Regard, Request, Response, SnapshotMeta};

/// What hashicorp/raft answers to a version that it does not speak.
const UNSUPPORTED_PROTOCOL: &str = "operation not supported with current protocol version";
/// What a hashicorp/raft server without pre-vote answers to a pre-vote. It counts as consent, as in Go.
const NO_PRE_VOTE: &[u8] = b"unexpected command";
/// Terms and indexes from here on are refused. No cluster gets there by elections and writes, a forged number does, and
/// one step below the end of the range there would be no next term.
const NUMBER_LIMIT: u64 = 1 << 63;

/// Why a message that was read is not acted upon. The sender gets it as the error text of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nonsense {
    #[error("{UNSUPPORTED_PROTOCOL}")]
    Protocol,
    #[error("unsupported snapshot version {0}")]
    SnapshotVersion(i64),
    #[error("the sender gives neither an id nor an address")]
    NoSender,
    #[error("{what} is not UTF-8 text of at most {NAME_BYTES_MAX} bytes")]
    Name { what: &'static str },
    #[error("{what} holds control characters")]
    ControlCharacters { what: &'static str },
    #[error("{what} {value} is beyond what any cluster reaches")]
    Number { what: &'static str, value: u64 },
    #[error("a snapshot cannot have {0} bytes")]
    Size(i64),
    #[error("log entry type {kind} at index {index} is not supported")]
    EntryType { kind: u8, index: u64 },
    #[error("entry {found} stands where entry {expected} belongs")]
    Gap { expected: u64, found: u64 },
    #[error("entry {index} of term {term} cannot follow term {after} in a request of term {limit}")]
    EntryTerm { index: u64, term: u64, after: u64, limit: u64 },
    #[error("the configuration cannot be read: {0}")]
    Configuration(#[from] wire::MsgpackError),
    #[error("suffrage {0} is unknown")]
    Suffrage(i64),
    #[error("this is server {here}, not {asked}")]
    NotHere { asked: String, here: String },
    #[error("the answer comes from {found}, not from {asked}")]
    WrongServer { asked: String, found: String },
    #[error("{0}")]
    PeerError(String),
    #[error("the answer is empty")]
    NoAnswer,
}

/// Bytes as a name: text of a sane length.
fn name<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, Nonsense> {
    let text = str::from_utf8(bytes).map_err(|_| Nonsense::Name { what })?;
    if text.len() > NAME_BYTES_MAX { Err(Nonsense::Name { what }) } else { Ok(text) }
}

/// A sender's name. It is stored and logged, so it must be one that [`Configuration::validate`] lets in. Names in entries are
/// not held to that: they are members already, and an entry that is refused stops replication for good.
fn plain_name<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, Nonsense> {
    let text = name(bytes, what)?;
    if is_plain_name(text) { Ok(text) } else { Err(Nonsense::ControlCharacters { what }) }
}

fn number(value: u64, what: &'static str) -> Result<u64, Nonsense> {
    if value < NUMBER_LIMIT { Ok(value) } else { Err(Nonsense::Number { what, value }) }
}

fn term(value: u64) -> Result<Term, Nonsense> {
    number(value, "term").map(Term)
}

fn entry_id(term: u64, index: u64) -> Result<EntryId, Nonsense> {
    Ok(EntryId::new(number(term, "term")?, number(index, "index")?))
}

/// Who this server says it is.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    header: Header,
    address: Bytes,
}

impl Local {
    pub(crate) fn new(peer: &Peer) -> Self {
        let address = Bytes::copy_from_slice(peer.address.as_str().as_bytes());
        let id = Bytes::copy_from_slice(peer.id.as_str().as_bytes());
        let header = Header {
            protocol_version: PROTOCOL_VERSION,
            id: Some(id),
            addr: Some(address.clone()),
            ..Header::default()
        };
        Self { header, address }
    }

    /// Lets a request pass unless it is for another server, whose address this one has now (catalogue M12).
    pub(crate) fn check_target(&self, asked: Asked) -> Result<Asked, Nonsense> {
        match (&asked.to, &self.header.id) {
            (Some(to), Some(here)) if to != here => {
                Err(Nonsense::NotHere { asked: printable(to), here: printable(here) })
            }
            _ => Ok(asked),
        }
    }

    /// The same who says whom it means and what it takes that one for.
    fn meaning(&self, to: &ServerId, regard: Regard) -> Self {
        let to = Some(Bytes::copy_from_slice(to.as_str().as_bytes()));
        let Regard { incarnation: Incarnation(incarnation), held: LogIndex(held), epoch } = regard;
        let header = Header { to, incarnation, held, epoch, ..self.header.clone() };
        Self { header, address: self.address.clone() }
    }

    /// Appends the frame of a request to a certain server.
    pub(crate) fn encode_request_to(
        &self,
        to: &ServerId,
        request: &Request,
        regard: Regard,
        format: TimeFormat,
        out: &mut BytesMut,
    ) {
        self.meaning(to, regard).encode_request(request, format, out);
    }

    /// Appends a request's frame.
    fn encode_request(&self, request: &Request, format: TimeFormat, out: &mut BytesMut) {
        let frame = match request {
            Request::Append { term, prev, entries, commit } => {
                return self.encode_append(*term, *prev, entries, *commit, format, out);
            }
            Request::Heartbeat { term, features } => RequestFrame::AppendEntries(AppendEntriesRequest {
                header: self.header.clone(),
                term: term.0,
                features: features.0,
                leader: Some(self.address.clone()),
                ..AppendEntriesRequest::default()
            }),
            Request::PreVote { term, last } => RequestFrame::RequestPreVote(RequestPreVoteRequest {
                header: self.header.clone(),
                term: term.0,
                last_log_index: last.index.0,
                last_log_term: last.term.0,
            }),
            Request::Vote { term, last, transfer } => RequestFrame::RequestVote(RequestVoteRequest {
                header: self.header.clone(),
                term: term.0,
                candidate: Some(self.address.clone()),
                last_log_index: last.index.0,
                last_log_term: last.term.0,
                leadership_transfer: *transfer,
            }),
            Request::InstallSnapshot { term, meta } => {
                RequestFrame::InstallSnapshot(self.snapshot(*term, meta))
            }
            Request::TimeoutNow { term } => RequestFrame::TimeoutNow(TimeoutNowRequest {
                header: self.header.clone(),
                term: term.map(|term| term.0),
            }),
            Request::ReadIndex => RequestFrame::ReadIndex(ReadIndexRequest { header: self.header.clone() }),
        };
        frame.encode(format, out);
    }

    fn encode_append(
        &self,
        term: Term,
        prev: EntryId,
        entries: &[Entry],
        commit: LogIndex,
        format: TimeFormat,
        out: &mut BytesMut,
    ) {
        let request = AppendEntriesRequest {
            header: self.header.clone(),
            term: term.0,
            leader: Some(self.address.clone()),
            prev_log_entry: prev.index.0,
            prev_log_term: prev.term.0,
            entries: None,
            leader_commit_index: commit.0,
            features: 0,
        };
        // Names, numbers and times of an entry take under 100 bytes.
        out.reserve(entries.iter().map(|entry| entry.size() + 64).sum::<usize>() + 256);
        request.put_head(out, Some(entries.len()));
        for entry in entries {
            let configuration = match &entry.kind {
                EntryKind::Configuration(members) => Some(encode_configuration(members)),
                EntryKind::Command | EntryKind::Noop | EntryKind::Barrier => None,
            };
            let data: &[u8] = configuration.as_deref().unwrap_or(&entry.data);
            let view = LogView {
                index: entry.id.index.0,
                term: entry.id.term.0,
                kind: entry_type(&entry.kind),
                data: (!data.is_empty()).then_some(data),
                extensions: (!entry.extensions.is_empty()).then_some(&*entry.extensions),
                // Only Go's metrics look at it, and they take Go's zero time for "unknown".
                appended_at: Timestamp::default(),
            };
            view.put(out, format);
        }
        request.put_tail(out);
    }

    fn snapshot(&self, term: Term, meta: &SnapshotMeta) -> InstallSnapshotRequest {
        let voters: Vec<Bytes> = meta
            .configuration
            .voters()
            .map(|server| Bytes::copy_from_slice(server.address.as_str().as_bytes()))
            .collect();
        InstallSnapshotRequest {
            header: self.header.clone(),
            snapshot_version: 1,
            term: term.0,
            leader: Some(self.address.clone()),
            last_log_index: meta.last.index.0,
            last_log_term: meta.last.term.0,
            peers: Some(wire::encode_peers(Some(&voters))),
            configuration: Some(encode_configuration(&meta.configuration)),
            configuration_index: meta.configuration_index.0,
            size: i64::try_from(meta.size).unwrap_or(i64::MAX),
        }
    }

    /// The frame of a response. Like Go, answers to snapshots and TimeoutNow carry an empty header.
    pub(crate) fn response(&self, response: &Response) -> ResponseFrame {
        let incarnation = response.incarnation().unwrap_or_default().0;
        let header = || Header { incarnation, ..self.header.clone() };
        ResponseFrame::ok(match *response {
            Response::Append { term, success, last_log, features, .. } => {
                ResponseBody::AppendEntries(AppendEntriesResponse {
                    header: header(),
                    term: term.0,
                    last_log: last_log.0,
                    success,
                    // A refusal comes with a hint where to try next, so there is nothing to wait for.
                    no_retry_backoff: !success,
                    features: features.0,
                })
            }
            Response::Vote { term, granted, .. } => ResponseBody::RequestVote(RequestVoteResponse {
                header: header(),
                term: term.0,
                peers: None,
                granted,
            }),
            Response::PreVote { term, granted, .. } => ResponseBody::RequestPreVote(RequestPreVoteResponse {
                header: header(),
                term: term.0,
                granted,
            }),
            Response::InstallSnapshot { term, success, .. } => {
                ResponseBody::InstallSnapshot(InstallSnapshotResponse {
                    header: Header { incarnation, ..Header::default() },
                    term: term.0,
                    success,
                })
            }
            Response::TimeoutNow => ResponseBody::TimeoutNow(TimeoutNowResponse::default()),
            Response::ReadIndex { term, index } => ResponseBody::ReadIndex(ReadIndexResponse {
                header: header(),
                term: term.0,
                index: index.map_or(0, |index| index.0),
                success: index.is_some(),
            }),
        })
    }
}

const fn entry_type(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::Command => 0,
        EntryKind::Noop => 1,
        EntryKind::Barrier => 4,
        EntryKind::Configuration(_) => 5,
    }
}

fn encode_configuration(configuration: &Configuration) -> Bytes {
    let outgoing = configuration.is_joint().then(|| encode_servers(configuration.outgoing()));
    let servers = Some(encode_servers(configuration.servers()));
    wire::Configuration { servers, outgoing, epoch: configuration.epoch() }.encode()
}

fn encode_servers(servers: &[Server]) -> Vec<wire::Server> {
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let encode = |server: &Server| wire::Server {
        suffrage: match server.suffrage {
            Suffrage::Voter => 0,
            Suffrage::Nonvoter => 1,
        },
        id: text(server.id.as_str()),
        address: text(server.address.as_str()),
        incarnation: server.incarnation.0,
    };
    servers.iter().map(encode).collect()
}

fn decode_configuration(bytes: Bytes, limits: &Limits) -> Result<Configuration, Nonsense> {
    let wire::Configuration { servers, outgoing, epoch } = wire::Configuration::decode(bytes, limits)?;
    let decode =
        |list: Option<Vec<wire::Server>>| list.unwrap_or_default().iter().map(decode_server).collect();
    let servers: Result<_, Nonsense> = decode(servers);
    Ok(Configuration::joint(servers?, decode(outgoing)?).in_epoch(epoch))
}

fn decode_server(server: &wire::Server) -> Result<Server, Nonsense> {
    Ok(Server {
        id: name(&server.id, "a server's id")?.into(),
        address: name(&server.address, "a server's address")?.into(),
        incarnation: Incarnation(server.incarnation),
        suffrage: match server.suffrage {
            0 => Suffrage::Voter,
            // A staging server does not vote; no released hashicorp/raft promotes one by itself.
            1 | 2 => Suffrage::Nonvoter,
            other => return Err(Nonsense::Suffrage(other)),
        },
    })
}

/// The older form of a configuration: the addresses of the voters, which are their ids as well.
fn decode_voters(bytes: Bytes, limits: &Limits) -> Result<Configuration, Nonsense> {
    let voters = wire::decode_peers(bytes, limits)?.unwrap_or_default();
    let voter = |address: &Bytes| {
        let address = name(address, "a server's address")?;
        Ok(Server::voter(address, address))
    };
    Ok(Configuration::new(voters.iter().map(voter).collect::<Result<_, Nonsense>>()?))
}

/// A request with its sender.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) from: Peer,
    pub(crate) request: Request,
    /// The id of the server that is meant; Go servers do not say.
    pub(crate) to: Option<Bytes>,
    /// What that server is taken for.
    pub(crate) regard: Option<Regard>,
}

/// What a request means.
///
/// The sender's id is the header's, or its address if that is empty (protocol version 2). Its address is the header's,
/// or the older field beside it.
pub(crate) fn read_request(frame: RequestFrame, limits: &Limits) -> Result<Asked, Nonsense> {
    let header = frame.header();
    let to = header.to.clone();
    let regard = to.as_ref().map(|_| -> Result<_, Nonsense> {
        let held = LogIndex(number(header.held, "last index held")?);
        Ok(Regard { incarnation: Incarnation(header.incarnation), held, epoch: header.epoch })
    });
    let regard = regard.transpose()?;
    let (from, request) = match frame {
        RequestFrame::AppendEntries(request) if is_heartbeat(&request) => (
            sender(&request.header, request.leader.as_ref())?,
            Request::Heartbeat { term: term(request.term)?, features: Features(request.features) },
        ),
        RequestFrame::AppendEntries(request) => {
            check_version(&request.header)?;
            (sender(&request.header, request.leader.as_ref())?, append(request, limits)?)
        }
        RequestFrame::RequestVote(request) => {
            check_version(&request.header)?;
            let ask = Request::Vote {
                term: term(request.term)?,
                last: entry_id(request.last_log_term, request.last_log_index)?,
                transfer: request.leadership_transfer,
            };
            (sender(&request.header, request.candidate.as_ref())?, ask)
        }
        RequestFrame::RequestPreVote(request) => {
            check_version(&request.header)?;
            let ask = Request::PreVote {
                term: term(request.term)?,
                last: entry_id(request.last_log_term, request.last_log_index)?,
            };
            (sender(&request.header, None)?, ask)
        }
        RequestFrame::InstallSnapshot(request) => {
            check_version(&request.header)?;
            (sender(&request.header, request.leader.as_ref())?, install_snapshot(request, limits)?)
        }
        RequestFrame::TimeoutNow(request) => {
            check_version(&request.header)?;
            (
                sender(&request.header, None)?,
                Request::TimeoutNow { term: request.term.map(term).transpose()? },
            )
        }
        RequestFrame::ReadIndex(request) => {
            check_version(&request.header)?;
            (sender(&request.header, None)?, Request::ReadIndex)
        }
    };
    Ok(Asked { from, request, to, regard })
}

/// hashicorp/raft's own rule. Such a request is answered whatever its version, and carries no commit index. A request
/// about an empty log with nothing committed looks the same and means no more.
fn is_heartbeat(request: &AppendEntriesRequest) -> bool {
    let leader_given = match &request.header.addr {
        Some(address) if !address.is_empty() => true,
        _ => request.leader.is_some(),
    };
    request.term != 0
        && leader_given
        && request.prev_log_entry == 0
        && request.prev_log_term == 0
        && request.leader_commit_index == 0
        && request.entries.as_ref().is_none_or(Vec::is_empty)
}

fn check_version(header: &Header) -> Result<(), Nonsense> {
    if matches!(header.protocol_version, 2..=PROTOCOL_VERSION) { Ok(()) } else { Err(Nonsense::Protocol) }
}

fn sender(header: &Header, older: Option<&Bytes>) -> Result<Peer, Nonsense> {
    let filled = |bytes: &&Bytes| !bytes.is_empty();
    let address = header.addr.as_ref().filter(filled).or_else(|| older.filter(filled));
    let id = header.id.as_ref().filter(filled).or(address).ok_or(Nonsense::NoSender)?;
    let address = address.map_or(Ok(""), |address| plain_name(address, "the sender's address"))?;
    Ok(Peer { id: ServerId::from(plain_name(id, "the sender's id")?), address: ServerAddress::from(address) })
}

fn append(request: AppendEntriesRequest, limits: &Limits) -> Result<Request, Nonsense> {
    let sent_in = term(request.term)?;
    let prev = entry_id(request.prev_log_term, request.prev_log_entry)?;
    let commit = LogIndex(number(request.leader_commit_index, "commit index")?);
    let logs = request.entries.unwrap_or_default();
    // Terms never decrease along a log, and nothing in a leader's log is of a later term than its own.
    let mut last = prev;
    let mut entries = Vec::with_capacity(logs.len());
    for log in logs {
        let expected = last.index.next().0;
        if log.index != expected {
            return Err(Nonsense::Gap { expected, found: log.index });
        }
        let id = entry_id(log.term, log.index)?;
        if id.term < last.term || id.term > sent_in {
            let (index, after) = (log.index, last.term.0);
            return Err(Nonsense::EntryTerm { index, term: log.term, after, limit: sent_in.0 });
        }
        entries.push(entry(id, log, limits)?);
        last = id;
    }
    Ok(Request::Append { term: sent_in, prev, entries, commit })
}

fn entry(id: EntryId, log: Log, limits: &Limits) -> Result<Entry, Nonsense> {
    let data = log.data.unwrap_or_default();
    let (kind, data) = match log.kind {
        0 => (EntryKind::Command, data),
        // A no-op or barrier of Go has no data; if one had, nobody would look at it.
        1 => (EntryKind::Noop, Bytes::new()),
        4 => (EntryKind::Barrier, Bytes::new()),
        5 => (EntryKind::Configuration(decode_configuration(data, limits)?), Bytes::new()),
        // 2 and 3 are changes of members from before protocol version 2; the rest is unknown to Go too.
        kind => return Err(Nonsense::EntryType { kind, index: id.index.0 }),
    };
    Ok(Entry { id, kind, data, extensions: log.extensions.unwrap_or_default() })
}

fn install_snapshot(request: InstallSnapshotRequest, limits: &Limits) -> Result<Request, Nonsense> {
    let size = u64::try_from(request.size).map_err(|_| Nonsense::Size(request.size))?;
    let configuration = match request.snapshot_version {
        0 => decode_voters(request.peers.unwrap_or_else(|| Bytes::from_static(&[0xc0])), limits)?,
        1 => decode_configuration(request.configuration.unwrap_or_default(), limits)?,
        version => return Err(Nonsense::SnapshotVersion(version)),
    };
    let meta = SnapshotMeta {
        last: entry_id(request.last_log_term, request.last_log_index)?,
        configuration,
        configuration_index: LogIndex(number(request.configuration_index, "configuration index")?),
        size,
    };
    Ok(Request::InstallSnapshot { term: term(request.term)?, meta })
}

/// Foreign bytes as one line of text for people.
fn printable(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(NAME_BYTES_MAX)];
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    String::from_utf8_lossy(shown).chars().map(plain).collect()
}

/// What an answer means to the one who asked `asked` for `request`.
///
/// An answer that names another server proves that the address leads to the wrong process (catalogue M12): it counts for
/// nothing. Go servers leave the name out of some answers.
pub(crate) fn read_response(
    frame: ResponseFrame,
    asked: &ServerId,
    pre_vote: Option<Term>,
) -> Result<Response, Nonsense> {
    if !frame.error.is_empty() {
        if let Some(term) = pre_vote
            && frame.error.windows(NO_PRE_VOTE.len()).any(|part| part == NO_PRE_VOTE)
        {
            let incarnation = Incarnation::FOUNDER;
            return Ok(Response::PreVote {
                term: Term(term.0.saturating_sub(1)),
                granted: true,
                incarnation,
            });
        }
        return Err(Nonsense::PeerError(printable(&frame.error)));
    }
    let body = frame.body.ok_or(Nonsense::NoAnswer)?;
    let (header, response) = match body {
        ResponseBody::AppendEntries(body) => {
            let last_log = LogIndex(number(body.last_log, "last index")?);
            let (success, features) = (body.success, Features(body.features));
            let incarnation = Incarnation(body.header.incarnation);
            let term = term(body.term)?;
            (body.header, Response::Append { term, success, last_log, features, incarnation })
        }
        ResponseBody::RequestVote(body) => {
            let incarnation = Incarnation(body.header.incarnation);
            (body.header, Response::Vote { term: term(body.term)?, granted: body.granted, incarnation })
        }
        ResponseBody::RequestPreVote(body) => {
            let incarnation = Incarnation(body.header.incarnation);
            (body.header, Response::PreVote { term: term(body.term)?, granted: body.granted, incarnation })
        }
        ResponseBody::InstallSnapshot(body) => {
            let incarnation = Incarnation(body.header.incarnation);
            let (term, success) = (term(body.term)?, body.success);
            (body.header, Response::InstallSnapshot { term, success, incarnation })
        }
        ResponseBody::TimeoutNow(body) => (body.header, Response::TimeoutNow),
        ResponseBody::ReadIndex(body) => {
            let index = LogIndex(number(body.index, "read index")?);
            let index = body.success.then_some(index);
            (body.header, Response::ReadIndex { term: term(body.term)?, index })
        }
    };
    match header.id {
        Some(id) if !id.is_empty() && id != asked.as_str() => {
            Err(Nonsense::WrongServer { asked: printable(asked.as_str().as_bytes()), found: printable(&id) })
        }
        _ => Ok(response),
    }
}

#[cfg(test)]
mod tests;
