use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft_types::{Configuration, EntryId, Incarnation, LogIndex, Term};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::core::{Entry, EntryKind, Features, Regard, Response, SnapshotMeta};
use crate::transport::Responder;

/// Nothing here takes this long; a test that waits for it fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    transport: TcpTransport,
    peer: Peer,
    inbox: mpsc::Receiver<Incoming>,
    next: u64,
}

/// An incarnation of its own, so that it is seen to travel.
const LIFE: Incarnation = Incarnation(0xfeed_0000_0000_0007);

impl Node {
    async fn start(id: &str, options: TcpOptions) -> Self {
        Self::start_at(id, "127.0.0.1:0", options).await
    }

    async fn start_at(id: &str, address: &str, options: TcpOptions) -> Self {
        let transport = TcpTransport::bind(address, options).await.expect("the port is free");
        let peer = Peer { id: id.into(), address: transport.local_address() };
        let (sender, inbox) = mpsc::channel(1024);
        transport.start(peer.clone(), sender);
        Self { transport, peer, inbox, next: 0 }
    }

    fn send(&mut self, to: &Peer, request: Request) -> Sequence {
        self.next += 1;
        self.transport.send(to, Sequence(self.next), request, Regard::default());
        Sequence(self.next)
    }

    fn send_snapshot(&mut self, to: &Peer, size: u64, state: Vec<u8>) -> Sequence {
        self.next += 1;
        let meta = SnapshotMeta { size, ..snapshot_meta() };
        let request = Request::InstallSnapshot { term: Term(3), meta };
        let state = Box::new(io::Cursor::new(state));
        self.transport.send_snapshot(to, Sequence(self.next), request, Regard::default(), state);
        Sequence(self.next)
    }

    async fn next(&mut self) -> Incoming {
        timeout(PATIENCE, self.inbox.recv()).await.expect("something arrives").expect("the transport runs")
    }

    async fn request(&mut self) -> (Peer, Request, Responder) {
        match self.next().await {
            Incoming::Request { from, request, responder, .. } => (from, request, responder),
            other => panic!("no request: {other:?}"),
        }
    }

    async fn snapshot(&mut self) -> (SnapshotMeta, mpsc::Receiver<io::Result<Bytes>>, Responder) {
        match self.next().await {
            Incoming::Snapshot { meta, state, responder, .. } => (meta, state, responder),
            other => panic!("no snapshot: {other:?}"),
        }
    }

    async fn response(&mut self) -> (Sequence, Response) {
        match self.next().await {
            Incoming::Response { sequence, response, .. } => (sequence, response),
            other => panic!("no response: {other:?}"),
        }
    }

    async fn failure(&mut self) -> (Sequence, SendError) {
        match self.next().await {
            Incoming::SendFailed { sequence, reason, .. } => (sequence, reason),
            other => panic!("no failure: {other:?}"),
        }
    }
}

async fn pair() -> (Node, Node) {
    (Node::start("a", TcpOptions::default()).await, Node::start("b", TcpOptions::default()).await)
}

/// Quick limits, for tests that want them to strike.
fn hasty() -> TcpOptions {
    TcpOptions {
        io_timeout: Duration::from_millis(200),
        rate_min: 64 << 20,
        append_timeout: Duration::from_millis(200),
        control_timeout: Duration::from_millis(200),
        snapshot_timeout: Duration::from_millis(200),
        ..TcpOptions::default()
    }
}

fn configuration() -> Configuration {
    Configuration::new(vec![raft_types::Server::voter("a", "a:1"), raft_types::Server::nonvoter("b", "b:1")])
}

fn snapshot_meta() -> SnapshotMeta {
    SnapshotMeta {
        last: EntryId::new(2, 9),
        configuration: configuration(),
        configuration_index: LogIndex(4),
        size: 0,
    }
}

fn append(prev: u64) -> Request {
    let kinds =
        [EntryKind::Command, EntryKind::Noop, EntryKind::Barrier, EntryKind::Configuration(configuration())];
    let mut entries: Vec<Entry> = (prev + 1..)
        .zip(kinds)
        .map(|(index, kind)| Entry::new(EntryId::new(1, index), kind, Bytes::new()))
        .collect();
    entries[0].data = Bytes::from(vec![prev as u8; 256]);
    entries[0].extensions = Bytes::from_static(b"beside");
    Request::Append { term: Term(1), prev: EntryId::new(1, prev), entries, commit: LogIndex(prev) }
}

const fn appended(last_log: u64) -> Response {
    Response::Append {
        term: Term(1),
        success: true,
        last_log: LogIndex(last_log),
        features: Features::OURS,
        incarnation: LIFE,
    }
}

async fn dial(node: &Node) -> TcpStream {
    TcpStream::connect(node.transport.bound_address()).await.expect("the node listens")
}

/// Reads to the end of the connection and returns what came.
async fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    // A connection closed with unread bytes ends in a reset, which is as good an end.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut got)).await.expect("the connection is closed");
    got
}

async fn still_serves(node: &mut Node) {
    let mut other = Node::start("probe", TcpOptions::default()).await;
    let sequence = other.send(&node.peer, Request::Heartbeat { term: Term(5), features: Features(0) });
    node.request().await.2.respond(appended(0));
    assert_eq!(other.response().await, (sequence, appended(0)));
}

#[tokio::test]
async fn every_kind_of_request_is_carried_and_answered() {
    let (mut a, mut b) = pair().await;
    let last = EntryId::new(2, 8);
    let term = Term(3);
    let calls = [
        (Request::PreVote { term, last }, Response::PreVote { term, granted: true, incarnation: LIFE }),
        (
            Request::Vote { term, last, transfer: true },
            Response::Vote { term, granted: false, incarnation: LIFE },
        ),
        (append(7), appended(11)),
        (
            Request::Append { term, prev: last, entries: Vec::new(), commit: LogIndex(8) },
            Response::Append {
                term,
                success: false,
                last_log: LogIndex(2),
                features: Features(0),
                incarnation: LIFE,
            },
        ),
        (Request::Heartbeat { term, features: Features(0) }, appended(3)),
        (Request::TimeoutNow { term: None }, Response::TimeoutNow),
        (Request::TimeoutNow { term: Some(term) }, Response::TimeoutNow),
        (Request::Heartbeat { term, features: Features::OURS }, appended(3)),
        (Request::ReadIndex, Response::ReadIndex { term, index: Some(LogIndex(9)) }),
        (Request::ReadIndex, Response::ReadIndex { term, index: None }),
    ];
    for (request, response) in calls {
        let sequence = a.send(&b.peer, request.clone());
        let (from, arrived, responder) = b.request().await;
        assert_eq!((from, arrived), (a.peer.clone(), request));
        responder.respond(response);
        assert_eq!(a.response().await, (sequence, response));
    }
}

#[tokio::test]
async fn pipelined_requests_arrive_before_the_first_is_answered_and_are_answered_in_order() {
    let (mut a, mut b) = pair().await;
    let sent: Vec<_> = (0..40).map(|n| a.send(&b.peer, append(n * 4))).collect();
    let mut responders = Vec::new();
    for n in 0..40 {
        let (_, request, responder) = b.request().await;
        assert_eq!(request, append(n * 4));
        responders.push((n, responder));
    }
    for (n, responder) in responders.into_iter().rev() {
        responder.respond(appended(n));
    }
    for (n, sequence) in (0..).zip(sent) {
        assert_eq!(a.response().await, (sequence, appended(n)));
    }
}

#[tokio::test]
async fn votes_do_not_wait_behind_a_read_that_a_quorum_has_to_confirm() {
    let (mut a, mut b) = pair().await;
    let read = a.send(&b.peer, Request::ReadIndex);
    let (_, _, unconfirmed) = b.request().await;
    let (term, last) = (Term(3), EntryId::new(2, 8));
    let vote = a.send(&b.peer, Request::PreVote { term, last });
    let (_, _, responder) = b.request().await;
    responder.respond(Response::PreVote { term, granted: true, incarnation: LIFE });
    assert_eq!(a.response().await, (vote, Response::PreVote { term, granted: true, incarnation: LIFE }));
    unconfirmed.respond(Response::ReadIndex { term, index: None });
    assert_eq!(a.response().await, (read, Response::ReadIndex { term, index: None }));
}

#[tokio::test]
async fn heartbeats_and_votes_do_not_wait_behind_entries() {
    let (mut a, mut b) = pair().await;
    a.send(&b.peer, append(0));
    let (_, _, entries) = b.request().await;
    let heartbeat = a.send(&b.peer, Request::Heartbeat { term: Term(1), features: Features(0) });
    let (_, request, responder) = b.request().await;
    assert_eq!(request, Request::Heartbeat { term: Term(1), features: Features(0) });
    responder.respond(appended(0));
    assert_eq!(a.response().await.0, heartbeat);
    entries.respond(appended(4));
    a.response().await;
}

#[tokio::test]
async fn a_restarted_peer_is_reached_again_at_the_same_port() {
    let (mut a, mut b) = pair().await;
    a.send(&b.peer, append(0));
    b.request().await.2.respond(appended(4));
    a.response().await;
    let address = b.peer.address.clone();
    b.transport.shutdown();
    TcpTransport::bind(address.as_str(), TcpOptions::default()).await.expect("the port is free at once");
    timeout(PATIENCE, b.transport.stopped()).await.expect("all tasks end");
    assert!(timeout(PATIENCE, b.inbox.recv()).await.expect("the inbox is dropped").is_none());
    let lost = a.send(&b.peer, append(4));
    assert_eq!(a.failure().await.0, lost);

    let mut b = Node::start_at("b", address.as_str(), TcpOptions::default()).await;
    let sequence = a.send(&b.peer, append(4));
    b.request().await.2.respond(appended(8));
    assert_eq!(a.response().await, (sequence, appended(8)));
}

#[tokio::test]
async fn requests_in_flight_fail_once_each_when_the_peer_stops() {
    let (mut a, mut b) = pair().await;
    let sent: Vec<_> = (0..10).map(|n| a.send(&b.peer, append(n))).collect();
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(b.request().await.2);
    }
    b.transport.shutdown();
    for sequence in sent {
        assert_eq!(a.failure().await.0, sequence);
    }
    assert!(a.inbox.try_recv().is_err());
}

#[tokio::test]
async fn an_unreachable_peer_fails_each_request_once() {
    let mut a = Node::start("a", TcpOptions::default()).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let nobody = Peer { id: "x".into(), address: free.to_string().into() };
    for _ in 0..5 {
        let sequence = a.send(&nobody, Request::Heartbeat { term: Term(1), features: Features(0) });
        let (failed, reason) = a.failure().await;
        assert_eq!(failed, sequence);
        assert!(matches!(reason, SendError::Unreachable { .. }), "{reason}");
    }
}

#[tokio::test]
async fn a_peer_is_followed_to_its_new_address() {
    let (mut a, mut old) = pair().await;
    a.send(&old.peer, append(0));
    old.request().await.2.respond(appended(4));
    a.response().await;
    let mut new = Node::start("b", TcpOptions::default()).await;
    let sequence = a.send(&new.peer, append(4));
    // The request may have been on the old connection already.
    let sequence = tokio::select! {
        (_, _, responder) = new.request() => { responder.respond(appended(8)); sequence }
        _ = a.failure() => {
            let again = a.send(&new.peer, append(4));
            new.request().await.2.respond(appended(8));
            again
        }
    };
    assert_eq!(a.response().await, (sequence, appended(8)));
}

#[tokio::test]
async fn a_request_for_another_server_is_refused_by_whoever_has_its_address() {
    let (mut a, mut b) = pair().await;
    let mistaken = Peer { id: "c".into(), address: b.peer.address.clone() };
    for request in [append(0), Request::TimeoutNow { term: Some(Term(1)) }] {
        let sequence = a.send(&mistaken, request);
        let (failed, reason) = a.failure().await;
        assert_eq!(failed, sequence);
        assert!(reason.to_string().contains("this is server b, not c"), "{reason}");
    }
    a.next += 1;
    let meta = SnapshotMeta { size: 3, ..snapshot_meta() };
    let request = Request::InstallSnapshot { term: Term(3), meta };
    let state = Box::new(io::Cursor::new(vec![1, 2, 3]));
    a.transport.send_snapshot(&mistaken, Sequence(a.next), request, Regard::default(), state);
    assert!(a.failure().await.1.to_string().contains("this is server b, not c"));
    assert!(b.inbox.try_recv().is_err(), "nothing of it reached the server");
    let sequence = a.send(&b.peer, append(0));
    b.request().await.2.respond(appended(4));
    assert_eq!(a.response().await, (sequence, appended(4)), "what is meant for it does");
}

#[tokio::test]
async fn a_dropped_request_closes_the_connection_without_an_answer() {
    let (mut a, mut b) = pair().await;
    let sequence = a.send(&b.peer, append(0));
    drop(b.request().await);
    let (failed, reason) = a.failure().await;
    assert_eq!(failed, sequence);
    assert!(matches!(reason, SendError::Broken(_)), "{reason}");
}

#[tokio::test]
async fn a_server_that_is_no_member_any_more_is_forgotten() {
    let (mut a, mut b) = pair().await;
    let sequence = a.send(&b.peer, append(0));
    let (_, _, _held) = b.request().await;
    a.transport.retain(&["other".into()]);
    assert_eq!(a.failure().await.0, sequence);
    assert!(a.transport.state().peers.is_empty());
}

#[tokio::test]
async fn a_request_without_an_answer_times_out() {
    let mut a = Node::start("a", hasty()).await;
    let mut b = Node::start("b", TcpOptions::default()).await;
    for request in [append(0), Request::Vote { term: Term(2), last: EntryId::new(1, 1), transfer: false }] {
        let sequence = a.send(&b.peer, request);
        let (_, _, _held) = b.request().await;
        let (failed, reason) = a.failure().await;
        assert_eq!(failed, sequence);
        assert!(matches!(reason, SendError::TimedOut), "{reason}");
    }
}

#[tokio::test]
async fn entries_change_connections_when_heartbeats_get_no_answer() {
    let options = TcpOptions { control_timeout: Duration::from_millis(200), ..TcpOptions::default() };
    let mut a = Node::start("a", TcpOptions { append_timeout: 2 * PATIENCE, ..options }).await;
    let mut b = Node::start("b", TcpOptions::default()).await;
    let entries = a.send(&b.peer, append(0));
    let _held = b.request().await;
    let heartbeat = a.send(&b.peer, Request::Heartbeat { term: Term(1), features: Features(0) });
    let _held_too = b.request().await;
    let mut failed = BTreeMap::from([a.failure().await, a.failure().await]);
    assert!(matches!(failed.remove(&heartbeat), Some(SendError::TimedOut)), "{failed:?}");
    assert!(matches!(failed.remove(&entries), Some(SendError::Broken(_))), "{failed:?}");
    let again = a.send(&b.peer, append(0));
    b.request().await.2.respond(appended(4));
    assert_eq!(a.response().await, (again, appended(4)));
}

#[tokio::test]
async fn a_full_queue_fails_what_it_cannot_take_and_every_request_ends_once() {
    let options = TcpOptions { queue_max: 4, pipeline_max: 2, ..hasty() };
    let mut a = Node::start("a", options).await;
    let mut b = Node::start("b", TcpOptions::default()).await;
    let mut open: BTreeMap<Sequence, ()> = (0..100).map(|n| (a.send(&b.peer, append(n)), ())).collect();
    let (mut full, mut other) = (0, 0);
    let mut held = Vec::new();
    while !open.is_empty() {
        tokio::select! {
            request = b.request() => held.push(request),
            (sequence, reason) = a.failure() => {
                assert!(open.remove(&sequence).is_some(), "{sequence:?} ended twice");
                if matches!(reason, SendError::QueueFull { .. }) { full += 1 } else { other += 1 }
            }
        }
    }
    assert!(full >= 90 && other >= 1, "{full} found the queue full, {other} were sent");
}

#[tokio::test]
async fn a_full_inbox_loses_nothing() {
    let transport = TcpTransport::bind("127.0.0.1:0", TcpOptions::default()).await.expect("bound");
    let peer = Peer { id: "a".into(), address: transport.local_address() };
    let (sender, mut inbox) = mpsc::channel(1);
    transport.start(peer, sender);
    let mut b = Node::start("b", TcpOptions::default()).await;
    for n in 0..20 {
        transport.send(&b.peer, Sequence(n), append(n), Regard::default());
    }
    for n in 0..20 {
        b.request().await.2.respond(appended(n));
    }
    for n in 0..20 {
        let arrived = timeout(PATIENCE, inbox.recv()).await.expect("in time").expect("open");
        assert!(matches!(arrived, Incoming::Response { sequence: Sequence(s), .. } if s == n), "{arrived:?}");
    }
}

fn state(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn a_snapshot_of_some_mib_arrives_whole() {
    let (mut a, mut b) = pair().await;
    let sent = state((5 << 20) + 123);
    let sequence = a.send_snapshot(&b.peer, sent.len() as u64, sent.clone());
    let (meta, mut chunks, responder) = b.snapshot().await;
    assert_eq!(meta, SnapshotMeta { size: sent.len() as u64, ..snapshot_meta() });
    let mut got = Vec::new();
    while let Some(chunk) = timeout(PATIENCE, chunks.recv()).await.expect("in time") {
        got.extend_from_slice(&chunk.expect("the stream is whole"));
    }
    assert!(got == sent, "{} bytes of {} arrived, or others", got.len(), sent.len());
    let response = Response::InstallSnapshot { term: Term(3), success: true, incarnation: LIFE };
    responder.respond(response);
    assert_eq!(a.response().await, (sequence, response));
}

#[tokio::test]
async fn an_unwanted_snapshot_is_answered_and_does_not_spoil_what_follows() {
    for size in [0, 100, 10 << 20] {
        let (mut a, mut b) = pair().await;
        let sequence = a.send_snapshot(&b.peer, size as u64, state(size));
        let (_, chunks, responder) = b.snapshot().await;
        let response = Response::InstallSnapshot { term: Term(9), success: false, incarnation: LIFE };
        responder.respond(response);
        drop(chunks);
        assert_eq!(a.response().await, (sequence, response));
        still_serves(&mut b).await;
    }
}

#[tokio::test]
async fn a_snapshot_that_ends_early_fails_on_both_sides() {
    let (mut a, mut b) = pair().await;
    let sequence = a.send_snapshot(&b.peer, 1 << 20, state(200_000));
    let (_, mut chunks, _responder) = b.snapshot().await;
    let (failed, reason) = a.failure().await;
    assert_eq!(failed, sequence);
    assert!(matches!(reason, SendError::Broken(_)), "{reason}");
    let mut end = None;
    while let Some(chunk) = timeout(PATIENCE, chunks.recv()).await.expect("in time") {
        end = Some(chunk);
    }
    assert!(end.expect("some bytes came").is_err(), "the receiver must see that the state is cut off");
    still_serves(&mut b).await;
}

#[tokio::test]
async fn a_second_snapshot_to_the_same_peer_waits_for_no_one() {
    let (mut a, mut b) = pair().await;
    let first = a.send_snapshot(&b.peer, 10, state(10));
    let second = a.send_snapshot(&b.peer, 10, state(10));
    assert_eq!(a.failure().await.0, second);
    let (_, chunks, responder) = b.snapshot().await;
    drop(chunks);
    responder.respond(Response::InstallSnapshot { term: Term(3), success: true, incarnation: LIFE });
    assert_eq!(a.response().await.0, first);
}

#[tokio::test]
async fn foreign_bytes_close_the_connection_without_an_answer() {
    let mut b = Node::start("b", TcpOptions::default()).await;
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x05\x80",
        b"\x01\x05",
        b"\x01\x81\xa4Term\xc1",
        // A request that announces 4 GiB.
        b"\x00\x81\xa7Entries\xdd\xff\xff\xff\xff",
    ];
    for bytes in garbage {
        let mut stream = dial(&b).await;
        stream.write_all(bytes).await.expect("sent");
        assert_eq!(until_closed(stream).await, b"", "{bytes:x?} got an answer");
    }
    still_serves(&mut b).await;
}

#[tokio::test]
async fn clients_that_stall_are_closed() {
    let mut b = Node::start("b", hasty()).await;
    let silent = dial(&b).await;
    let mut halfway = dial(&b).await;
    halfway.write_all(b"\x00\x89\xa4Addr").await.expect("sent");
    let mut body = dial(&b).await;
    let mut head = BytesMut::new();
    let meta = SnapshotMeta { size: 1 << 40, ..snapshot_meta() };
    let leader = Peer { id: "l".into(), address: "l:1".into() };
    let request = Request::InstallSnapshot { term: Term(1), meta };
    let regard = Regard::default();
    Local::new(&leader).encode_request_to(&"b".into(), &request, regard, TimeFormat::Legacy, &mut head);
    body.write_all(&head).await.expect("sent");
    let (_, mut chunks, _responder) = b.snapshot().await;
    for stream in [silent, halfway, body] {
        assert_eq!(until_closed(stream).await, b"");
    }
    let end = timeout(PATIENCE, chunks.recv()).await.expect("in time");
    assert!(matches!(end, Some(Err(_))), "{end:?}");
    // A byte now and then does not keep a connection alive either.
    let mut drip = dial(&b).await;
    drip.write_all(b"\x00\x81\xa2ID\xdb\x00\x10\x00\x00").await.expect("sent");
    let dripping = async {
        while drip.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("the dripping connection is closed");
    still_serves(&mut b).await;
}

#[tokio::test]
async fn large_requests_pass_after_others_never_finished_theirs() {
    let mut a = Node::start("a", TcpOptions::default()).await;
    let mut b = Node::start("b", hasty()).await;
    // More than may be under way at once; each has 1 MiB of 32 MiB here, and then stalls.
    let head = b"\x00\x81\xa2ID\xdb\x02\x00\x00\x00";
    let mut stalled = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut stream = dial(&b).await;
        stalled.spawn(async move {
            // The server does not read all of it: the connection is closed under this write.
            let _ = stream.write_all(&[&head[..], &vec![b'x'; 1 << 20]].concat()).await;
            until_closed(stream).await
        });
    }
    while let Some(answer) = stalled.join_next().await {
        assert_eq!(answer.expect("no panic"), b"");
    }
    let Request::Append { term, prev, mut entries, commit } = append(0) else { unreachable!() };
    entries[0].data = Bytes::from(state(8 << 20));
    let large = Request::Append { term, prev, entries, commit };
    let sequence = a.send(&b.peer, large.clone());
    let (_, request, responder) = b.request().await;
    assert!(request == large, "a large request arrives whole");
    responder.respond(appended(4));
    assert_eq!(a.response().await.0, sequence);
}

#[tokio::test]
async fn silent_connections_give_way_to_peers() {
    let options = TcpOptions { connections_max: 3, ..TcpOptions::default() };
    let mut b = Node::start("b", options).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(dial(&b).await);
    }
    still_serves(&mut b).await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_answered_with_the_reason() {
    let mut b = Node::start("b", TcpOptions::default()).await;
    let mut stream = dial(&b).await;
    let vote =
        |version: &[u8]| [b"\x01\x83\xa4Addr\xa3a:1\xafProtocolVersion", version, b"\xa4Term\x05"].concat();
    // Version 1, then a log entry of type 2, then a proper request on the same connection.
    stream.write_all(&vote(b"\x01")).await.expect("sent");
    let entry = b"\x00\x84\xa4Addr\xa3a:1\xafProtocolVersion\x03\xa4Term\x05\xa7Entries\x91\x83\xa5Index\x01\xa4Term\x05\xa4Type\x02";
    stream.write_all(entry).await.expect("sent");
    stream.write_all(&vote(b"\x03")).await.expect("sent");
    let (from, request, responder) = b.request().await;
    assert_eq!((from.id.as_str(), request.term()), ("a:1", Some(Term(5))));
    responder.respond(Response::Vote { term: Term(5), granted: true, incarnation: LIFE });
    let mut frames = FrameBuffer::new(Limits::default());
    let mut errors = Vec::new();
    for call in [Call::RequestVote, Call::AppendEntries, Call::RequestVote] {
        let answer = timeout(PATIENCE, next_answer(&mut stream, &mut frames, call)).await;
        let answer = answer.expect("in time").expect("an answer");
        assert_eq!(answer.body.is_none(), !answer.error.is_empty());
        errors.push(String::from_utf8(answer.error.to_vec()).expect("text"));
    }
    assert_eq!(
        errors,
        [
            "operation not supported with current protocol version",
            "log entry type 2 at index 1 is not supported",
            "",
        ],
    );
}

#[tokio::test]
async fn a_wildcard_needs_an_address_to_advertise() {
    let refused = TcpTransport::bind("0.0.0.0:0", TcpOptions::default()).await;
    assert_eq!(refused.expect_err("nobody can dial it").kind(), io::ErrorKind::InvalidInput);
    let advertise = Some("node.example:8300".into());
    let bound = TcpTransport::bind("0.0.0.0:0", TcpOptions { advertise, ..TcpOptions::default() }).await;
    assert_eq!(bound.expect("bound").local_address().as_str(), "node.example:8300");
}
