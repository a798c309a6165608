//! Snapshots as bytes on a socket: refused in the middle, cut at any place, mixed with another leader's, and begun anew after
//! a restart (catalogue P10, P15).
#![cfg(feature = "tokio")]
#![allow(clippy::disallowed_methods, reason = "tests may start tasks")]
#![allow(missing_docs, reason = "a test")]

mod cluster_support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cluster_support::Journal;
use raft::storage::{DataDirectory, LogOptions, StorageError};
use raft::transport::wire::{
    self, AppendEntriesRequest, Call, FrameBuffer, Header, InstallSnapshotRequest, Limits, RequestFrame,
    RequestPreVoteRequest, ResponseBody, ResponseFrame, TimeFormat,
};
use raft::transport::{TcpOptions, TcpTransport};
use raft::{Config, Configuration, LogIndex, Raft, Server, Term};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// Nothing here takes this long; a test that waits for it fails.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    raft: Raft,
    journal: Journal,
}

impl Node {
    /// A server over real files and a real socket; the others dial `advertise`, if it is given.
    async fn start(id: &str, folder: &Path, at: &str, advertise: Option<String>) -> Self {
        let journal = Journal::default();
        let mut directory = Self::directory(&folder.join(id)).await;
        let options = TcpOptions { advertise: advertise.map(Into::into), ..TcpOptions::default() };
        let config = Config { trailing_logs: 0, ..Config::default() };
        let raft = Raft::builder(id, journal.clone())
            .config(config)
            .log_store(directory.log(LogOptions::default()).expect("a log"))
            .snapshots(directory.snapshots(2).expect("snapshots"))
            .transport(TcpTransport::bind(at, options).await.expect("the port is free"))
            .start()
            .await
            .expect("a server starts");
        Self { raft, journal }
    }

    /// Opens it, once whatever an earlier life was still reading of a connection has let go of it.
    async fn directory(path: &Path) -> DataDirectory {
        let opening = async {
            loop {
                match DataDirectory::open(path) {
                    Ok(directory) => return directory,
                    Err(StorageError::Locked { .. }) => sleep(Duration::from_millis(5)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        timeout(PATIENCE, opening).await.expect("the earlier life ends")
    }

    async fn leading_alone(id: &str, folder: &Path) -> Self {
        let node = Self::start(id, folder, "127.0.0.1:0", None).await;
        let one = Configuration::new(vec![Server::voter(id, node.raft.address().clone())]);
        node.raft.bootstrap(one).await.expect("a fresh cluster");
        node.until("it leads", |metrics| metrics.ready).await;
        node
    }

    async fn until(&self, what: &str, holds: impl FnMut(&Arc<raft::Metrics>) -> bool) {
        let mut metrics = self.raft.metrics();
        let waited = timeout(PATIENCE, metrics.wait_for(holds)).await;
        waited.unwrap_or_else(|_| panic!("{what}: never")).expect("the server runs");
    }

    /// Sends a snapshot until it is taken, as a leader does: while another one comes in there is no answer.
    async fn install(&self, head: &[u8], state: &str) {
        let sending = async {
            loop {
                let parts = [head, state.as_bytes()];
                let (answers, more) = talk(&self.address(), &parts, &[Call::InstallSnapshot]).await;
                assert_eq!(more, 0);
                match installed(&answers) {
                    Some((success, _)) => return assert!(success, "it is refused"),
                    None => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(PATIENCE, sending).await.expect("the snapshot is taken");
    }

    fn lines(&self) -> Vec<String> {
        self.journal.0.lock().expect("not poisoned").iter().map(cluster_support::text).collect()
    }

    fn address(&self) -> String {
        self.raft.address().to_string()
    }
}

/// A state as a journal writes it: `count` lines that begin with `name`.
fn state(name: &str, count: usize) -> String {
    (0..count).map(|n| format!("{name} {n} {}\n", "x".repeat(500))).collect()
}

fn header(from: &str, to: &str) -> Header {
    let text = |text: &str| Some(Bytes::from(text.to_owned()));
    let addr = text(&format!("{from}:1"));
    Header { protocol_version: 3, id: text(from), addr, to: text(to), ..Header::default() }
}

fn encoded(frame: &RequestFrame) -> Bytes {
    let mut out = BytesMut::new();
    frame.encode(TimeFormat::Legacy, &mut out);
    out.freeze()
}

/// The head of a snapshot of voters `a` and `c`, of whom one sends it, with `to` as their non-voter.
fn snapshot(from: &str, to: &str, term: u64, last: (u64, u64), size: usize) -> Bytes {
    let member = |id: &str, suffrage| wire::Server {
        suffrage,
        id: Bytes::from(id.to_owned()),
        address: Bytes::from(format!("{id}:1")),
        incarnation: 0,
    };
    let members = vec![member("a", 0), member("c", 0), member(to, 1)];
    let configuration = wire::Configuration { servers: Some(members), ..wire::Configuration::default() };
    encoded(&RequestFrame::InstallSnapshot(InstallSnapshotRequest {
        header: header(from, to),
        snapshot_version: 1,
        term,
        leader: Some(Bytes::from(format!("{from}:1"))),
        last_log_term: last.0,
        last_log_index: last.1,
        peers: Some(wire::encode_peers(Some(&[]))),
        configuration: Some(configuration.encode()),
        configuration_index: 1,
        size: i64::try_from(size).expect("small"),
    }))
}

/// A request that means nothing to a server that went on, and is answered all the same.
fn stale_pre_vote(to: &str) -> Bytes {
    encoded(&RequestFrame::RequestPreVote(RequestPreVoteRequest {
        header: header("x", to),
        term: 1,
        last_log_index: 1,
        last_log_term: 1,
    }))
}

async fn dial(address: &str) -> TcpStream {
    TcpStream::connect(address).await.expect("the server listens")
}

/// Everything that comes up to the end of a connection.
async fn rest_of(stream: &mut TcpStream) -> BytesMut {
    let mut got = BytesMut::new();
    // A connection closed with unread bytes ends in a reset, which is as good an end.
    let reading = async { while matches!(stream.read_buf(&mut got).await, Ok(read) if read > 0) {} };
    timeout(PATIENCE, reading).await.expect("the connection is closed");
    got
}

/// Sends this on a connection of its own, half-closes it and gives back what was answered to these calls, and how many bytes
/// came after that.
async fn talk(address: &str, parts: &[&[u8]], calls: &[Call]) -> (Vec<ResponseFrame>, usize) {
    let mut stream = dial(address).await;
    for part in parts {
        // The server may close while this is being sent.
        let _ = stream.write_all(part).await;
    }
    let _ = stream.shutdown().await;
    answers(&mut stream, calls).await
}

async fn answers(stream: &mut TcpStream, calls: &[Call]) -> (Vec<ResponseFrame>, usize) {
    let got = rest_of(stream).await;
    let mut frames = FrameBuffer::new(Limits::default());
    frames.space().extend_from_slice(&got);
    let mut answers = Vec::new();
    for call in calls {
        match frames.take_response(*call).expect("an answer of that kind") {
            Some(answer) => answers.push(answer),
            None => break,
        }
    }
    (answers, frames.len())
}

fn installed(answers: &[ResponseFrame]) -> Option<(bool, u64)> {
    match answers.first()?.body.as_ref()? {
        ResponseBody::InstallSnapshot(body) => Some((body.success, body.term)),
        other => panic!("no answer to a snapshot: {other:?}"),
    }
}

/// The body of a refused snapshot consists of requests. None of them is read as one: it is drained to its last byte, or the
/// connection ends.
#[tokio::test]
async fn p10_a_snapshot_that_is_refused_in_the_middle_of_its_body_spoils_no_framing() {
    let folder = tempfile::tempdir().expect("a directory");
    let node = Node::leading_alone("b", folder.path()).await;
    let command = stale_pre_vote("b");
    for (copies, drained) in
        [(1, true), (2_000, true), ((10 << 20) / command.len(), true), ((20 << 20) / command.len(), false)]
    {
        let body = command.repeat(copies);
        let head = snapshot("x", "b", 0, (1, 1 << 40), body.len());
        let calls = [Call::InstallSnapshot, Call::RequestPreVote];
        let (answers, more) = talk(&node.address(), &[&head, &body, &command], &calls).await;
        assert_eq!(more, 0, "{copies} copies: one answer for each request");
        if drained {
            assert_eq!(answers.len(), 2, "{copies} copies: the connection goes on");
            assert!(matches!(installed(&answers), Some((false, _))), "{:?}", answers[0]);
            assert!(matches!(&answers[1].body, Some(ResponseBody::RequestPreVote(body)) if !body.granted));
        } else {
            assert!(answers.len() <= 1, "{copies} copies: too much to be read away, so the connection ends");
            assert!(!matches!(installed(&answers), Some((true, _))));
        }
        node.raft.propose(format!("after {copies}")).await.expect("a leader");
    }
    assert_eq!(node.lines().len(), 4, "nothing of it was taken for a command");
    assert_eq!(node.raft.stats().last_snapshot.index, LogIndex(0));
    node.raft.shutdown().await;
}

/// What a proxy does with the next connections that carry a snapshot.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Only so many bytes reach the receiver.
    After(u64),
    /// All of it arrives, and no answer comes back.
    Answer,
}

/// Stands before `target`: cuts the first snapshots as told, passes everything else on.
async fn proxy(listener: TcpListener, target: String, cuts: Vec<Cut>, done: Arc<AtomicUsize>) {
    loop {
        let Ok((from, _)) = listener.accept().await else { return };
        let (target, cuts, done) = (target.clone(), cuts.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let Ok(mut to) = TcpStream::connect(&target).await else { return };
            let mut from = from;
            let mut kind = [0];
            if from.peek(&mut kind).await.is_err() {
                return;
            }
            // The type byte of InstallSnapshot; each has a connection of its own.
            let cut = if kind[0] == 2 { cuts.get(done.fetch_add(1, Ordering::SeqCst)) } else { None };
            let (mut reads, mut writes) = from.split();
            match cut {
                None => drop(tokio::io::copy_bidirectional(&mut from, &mut to).await),
                Some(Cut::After(bytes)) => {
                    let _ = tokio::io::copy(&mut (&mut reads).take(*bytes), &mut to).await;
                }
                Some(Cut::Answer) => {
                    let (mut answers, mut onward) = to.split();
                    let mut answer = [0; 16];
                    tokio::select! {
                        _ = tokio::io::copy(&mut reads, &mut onward) => {}
                        _ = answers.read(&mut answer) => {}
                    }
                    let _ = writes.shutdown().await;
                }
            }
        });
    }
}

#[tokio::test]
async fn p10_a_snapshot_that_is_cut_anywhere_is_sent_again_until_it_is_there() {
    let folder = tempfile::tempdir().expect("a directory");
    let leader = Node::leading_alone("a", folder.path()).await;
    let mut expected = Vec::new();
    for n in 0..300 {
        let line = format!("{n} {}", "x".repeat(5_000));
        leader.raft.propose(line.clone()).await.expect("a leader");
        expected.push(line);
    }
    leader.raft.snapshot().await.expect("something new");

    let front = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = front.local_addr().expect("bound").to_string();
    let behind = TcpListener::bind("127.0.0.1:0").await.and_then(|l| l.local_addr()).expect("a free port");
    let behind = behind.to_string();
    let member = Node::start("d", folder.path(), &behind, Some(address.clone())).await;
    let done = Arc::new(AtomicUsize::new(0));
    let cuts = vec![Cut::After(1), Cut::After(150), Cut::After(70_000), Cut::After(1_400_000), Cut::Answer];
    let planned = cuts.len();
    tokio::spawn(proxy(front, behind, cuts, Arc::clone(&done)));
    leader.raft.add_nonvoter("d".into(), address.into(), None).await.expect("a leader");
    expected.push("the last".to_owned());
    let last = leader.raft.propose("the last").await.expect("a leader").id.index;
    member.until("it has everything", |metrics| metrics.applied_index >= last).await;
    assert!(done.load(Ordering::SeqCst) >= planned, "every cut was made");
    assert_eq!(member.lines(), expected);
    // And from its own disk.
    member.raft.shutdown().await;
    drop(member);
    let member = Node::start("d", folder.path(), "127.0.0.1:0", None).await;
    member.until("it starts", |metrics| metrics.snapshot_index > LogIndex(0)).await;
    assert_eq!(member.lines()[..300], expected[..300]);
    for node in [&leader, &member] {
        node.raft.shutdown().await;
    }
}

/// Two leaders of different terms send their snapshots at the same time, each to its end. Every stream has a connection of
/// its own, so that no piece of one is taken for a piece of the other.
#[tokio::test]
async fn p15_streams_of_two_leaders_do_not_mix() {
    let folder = tempfile::tempdir().expect("a directory");
    let node = Node::start("f", folder.path(), "127.0.0.1:0", None).await;
    let (old, new) = (state("old", 900), state("new", 700));
    let (begun, rest) = old.as_bytes().split_at(old.len() / 2);
    let mut older = dial(&node.address()).await;
    older.write_all(&snapshot("a", "f", 5, (4, 50), old.len())).await.expect("sent");
    older.write_all(begun).await.expect("sent");
    sleep(Duration::from_millis(100)).await;
    let newer = snapshot("c", "f", 6, (6, 60), new.len());
    let calls = [Call::InstallSnapshot];
    let (early, more) = talk(&node.address(), &[&newer, new.as_bytes()], &calls).await;
    assert_eq!(more, 0);
    // The newer leader is heard, whether its snapshot was taken or is to be sent again.
    let heartbeat = AppendEntriesRequest {
        header: header("c", "f"),
        term: 6,
        leader: Some(Bytes::from_static(b"c:1")),
        prev_log_entry: 0,
        prev_log_term: 0,
        entries: None,
        leader_commit_index: 0,
        features: 0,
    };
    let heartbeat = encoded(&RequestFrame::AppendEntries(heartbeat));
    talk(&node.address(), &[&heartbeat], &[Call::AppendEntries]).await;
    node.until("it follows the newer leader", |metrics| metrics.term == Term(6)).await;
    older.write_all(rest).await.expect("sent");
    older.shutdown().await.expect("open");
    let (late, more) = answers(&mut older, &calls).await;
    assert_eq!((installed(&late), more), (Some((false, 6)), 0), "whose term is over installs nothing");

    if installed(&early) != Some((true, 6)) {
        node.install(&newer, &new).await;
    }
    node.until("it is restored", |metrics| metrics.applied_index == LogIndex(60)).await;
    assert_eq!(node.lines(), new.lines().collect::<Vec<_>>(), "the newer state and nothing of the older");
    // Once more from the older one, whole.
    let again = snapshot("a", "f", 5, (5, 90), old.len());
    let (answers, _) = talk(&node.address(), &[&again, old.as_bytes()], &calls).await;
    assert_eq!(installed(&answers), Some((false, 6)));
    restarts_as(node, folder.path(), 60, &new).await.raft.shutdown().await;
}

/// A receiver that stops in the middle of a snapshot keeps nothing of it, and takes no rest of it from where it was: only the
/// whole, from the beginning.
#[tokio::test]
async fn p15_a_stream_does_not_go_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a directory");
    let node = Node::start("f", folder.path(), "127.0.0.1:0", None).await;
    let (first, second) = (state("first", 300), state("second", 900));
    let calls = [Call::InstallSnapshot];
    let head = snapshot("c", "f", 6, (6, 60), first.len());
    node.install(&head, &first).await;

    let head = snapshot("c", "f", 6, (6, 80), second.len());
    let (begun, rest) = second.as_bytes().split_at(second.len() / 3);
    let mut stream = dial(&node.address()).await;
    stream.write_all(&head).await.expect("sent");
    stream.write_all(begun).await.expect("sent");
    sleep(Duration::from_millis(100)).await;
    let node = restarts_as(node, folder.path(), 60, &first).await;
    let (done, more) = talk(&node.address(), &[rest], &calls).await;
    assert_eq!((done.len(), more), (0, 0), "the rest of a snapshot is no request");
    // The head once more, and then only the rest: not all of the state.
    let (done, _) = talk(&node.address(), &[&head, rest], &calls).await;
    assert_eq!(installed(&done), None, "what is short is not answered");
    assert_eq!(node.lines(), first.lines().collect::<Vec<_>>());
    assert_eq!(node.raft.stats().last_snapshot.index, LogIndex(60));
    node.install(&head, &second).await;
    node.until("it is restored", |metrics| metrics.applied_index == LogIndex(80)).await;
    restarts_as(node, folder.path(), 80, &second).await.raft.shutdown().await;
}

/// Starts a server again from its files, and sees what it finds there.
async fn restarts_as(node: Node, folder: &Path, index: u64, state: &str) -> Node {
    let id = node.raft.id().to_string();
    node.raft.shutdown().await;
    drop(node);
    let node = Node::start(&id, folder, "127.0.0.1:0", None).await;
    node.until("it is restored", |metrics| metrics.applied_index == LogIndex(index)).await;
    assert_eq!(node.lines(), state.lines().collect::<Vec<_>>());
    node
}
