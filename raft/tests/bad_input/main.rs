//! Bad input against running servers: whatever arrives on the Raft port, nothing panics, memory stays bounded, and the
//! cluster commits.
//!
//! Every test has three servers over TCP with a client that keeps proposing, attacks each of them, and then waits for more
//! commits. The tests run one after the other, so that what a test does to the process's memory is its own.

#![cfg(all(feature = "tokio", unix))]
#![allow(clippy::disallowed_methods, reason = "tests may start tasks and read the clock")]

mod cluster;
mod logged;
mod message;

use std::net::SocketAddr;
use std::time::Duration;

use raft::transport::TcpOptions;
use raft::transport::wire::{Call, Limits, ResponseBody, ResponseFrame};
use raft::{ChangeError, Config, ProposeError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use cluster::{Cluster, PATIENCE, read_to_end, talk};
use message::{CALLS, Message};

/// Twice the largest message: what the catalogue allows an attack to cost.
const MEMORY: u64 = 2 * (64 << 20);

/// Sends each of these on a connection of its own, half-closes it and reads to its end; a few at the same time.
async fn talk_all(address: SocketAddr, inputs: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut inputs = inputs.into_iter().enumerate();
    let mut open = JoinSet::new();
    let mut answers = Vec::new();
    loop {
        while open.len() < 16
            && let Some((number, input)) = inputs.next()
        {
            open.spawn(async move { (number, talk(address, &input).await) });
        }
        let Some(done) = open.join_next().await else { break };
        answers.push(done.expect("no panic"));
    }
    answers.sort_unstable_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// A value that says it has 2^32-1 bytes or items, in every form that can.
const BOMBS: [&[u8]; 5] = [
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x05",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announced_lengths_and_deep_nesting_cost_nothing() {
    let cluster = Cluster::start(TcpOptions::default(), Config::default()).await;
    let mut bombs = Vec::new();
    for (_, kind) in CALLS {
        for bomb in BOMBS {
            for key in [&b"\xa1x"[..], b"\xa2ID", b"\xa7Entries", b"\xa4Term"] {
                bombs.push([&[kind, 0x81][..], key, bomb].concat());
            }
        }
        bombs.push([&[kind, 0x81][..], b"\xa1x", &vec![0x91; 1_000_000]].concat());
        bombs.push([&[kind][..], &vec![0x81; 1_000_000]].concat());
    }
    for address in cluster.addresses() {
        // Lengths within the limit, announced by many, and nothing behind them.
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let mut stream = TcpStream::connect(address).await.expect("the server listens");
            stream.write_all(b"\x00\x81\xa2ID\xdb\x03\xf0\x00\x00").await.expect("sent");
            waiting.push(stream);
        }
        for answer in talk_all(address, bombs.clone()).await {
            assert_eq!(answer, b"", "no bomb is answered");
        }
        cluster.still_commits().await;
    }
    cluster.finish(MEMORY).await;
}

/// One message of each call that says nothing new: of an old term, about an entry that is committed.
fn messages() -> Vec<Message> {
    (0..CALLS.len()).map(|kind| Message::stale(kind, "x")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_cut_off_or_with_a_flipped_byte_harm_nobody() {
    let cluster = Cluster::start(TcpOptions::default(), Config::default()).await;
    // So that an index of one byte stays below what is committed.
    cluster.commit(300).await;
    for (number, address) in cluster.addresses().into_iter().enumerate() {
        for message in messages() {
            let bytes = message.encode();
            let cut: Vec<_> = (0..bytes.len()).map(|end| bytes[..end].to_vec()).collect();
            for (end, answer) in talk_all(address, cut).await.into_iter().enumerate() {
                assert_eq!(answer, b"", "{message:?} was answered after {end} bytes");
            }
            // Each server gets its own kind of flip, the first gets two.
            let masks: &[u8] = [&[0x01, 0x80][..], &[0x20], &[0xff]][number];
            let flip = |at: usize, mask: u8| {
                let mut bytes = bytes.clone();
                bytes[at] ^= mask;
                bytes
            };
            let flipped = (0..bytes.len()).flat_map(|at| masks.iter().map(move |mask| flip(at, *mask)));
            talk_all(address, flipped.collect()).await;
        }
        cluster.still_commits().await;
    }
    cluster.finish(MEMORY).await;
}

/// Values of every kind, none of which fits everywhere.
const VALUES: [&[u8]; 16] = [
    b"\xc0",
    b"\xc3",
    b"\x00",
    b"\xff",
    b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00",
    b"\xa4text",
    b"\xc4\x02ab",
    b"\x90",
    b"\x92\x01\xc0",
    b"\x81\x01\x01",
    b"\xd4\x05\x00",
    b"\xd6\xff\x00\x00\x00\x00",
    b"\xcf\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xa2\xff\xfe",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_of_wrong_types_and_repeated_unknown_or_missing_ones_are_survived() {
    let cluster = Cluster::start(TcpOptions::default(), Config::default()).await;
    cluster.commit(300).await;
    let mut inputs = Vec::new();
    for message in messages() {
        for (at, (key, _)) in message.fields.iter().enumerate() {
            for value in VALUES {
                let mut wrong = message.clone();
                wrong.fields[at].1 = value.to_vec();
                inputs.push(wrong.encode());
            }
            let mut missing = message.clone();
            missing.fields.remove(at);
            inputs.push(missing.encode());
            let mut twice = message.clone();
            twice.fields.push((key, b"\xc0".to_vec()));
            inputs.push(twice.encode());
        }
        let mut unknown = message.clone();
        unknown.fields.push(("Unknown", [&b"\x93"[..], b"\x01", b"\xa1x", b"\x81\x01\x90"].concat()));
        inputs.push(unknown.encode());
        inputs.push([&[message.type_byte()][..], b"\xc0"].concat());
        inputs.push([&[message.type_byte()][..], b"\x80"].concat());
        inputs.push([&[message.type_byte()][..], b"\x9f", &[0xc0; 15]].concat());
    }
    for address in cluster.addresses() {
        talk_all(address, inputs.clone()).await;
        cluster.still_commits().await;
    }
    cluster.finish(MEMORY).await;
}

fn decoded(kind: usize, answer: Vec<u8>) -> Option<ResponseFrame> {
    let calls = [
        Call::AppendEntries,
        Call::RequestVote,
        Call::InstallSnapshot,
        Call::TimeoutNow,
        Call::RequestPreVote,
        Call::ReadIndex,
    ];
    (!answer.is_empty())
        .then(|| ResponseFrame::decode(calls[kind], answer.into(), &Limits::default()).expect("an answer"))
}

/// Not accepted: closed without an answer, or answered with an error, or with a plain no.
fn refused(kind: usize, answer: Vec<u8>) -> bool {
    let Some(frame) = decoded(kind, answer) else { return true };
    !frame.error.is_empty()
        || match frame.body {
            Some(ResponseBody::AppendEntries(body)) => !body.success,
            Some(ResponseBody::RequestVote(body)) => !body.granted,
            Some(ResponseBody::RequestPreVote(body)) => !body.granted,
            Some(ResponseBody::InstallSnapshot(body)) => !body.success,
            Some(ResponseBody::ReadIndex(body)) => !body.success,
            Some(ResponseBody::TimeoutNow(_)) | None => false,
        }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_beyond_any_cluster_and_entries_that_do_not_follow_are_refused() {
    let cluster = Cluster::start(TcpOptions::default(), Config::default()).await;
    cluster.commit(300).await;
    let term = cluster.term();
    let mut forged = Vec::new();
    for message in messages() {
        for (at, (key, _)) in message.fields.iter().enumerate() {
            if !["Term", "PrevLogEntry", "PrevLogTerm", "LeaderCommitIndex", "LastLogIndex", "LastLogTerm"]
                .contains(key)
            {
                continue;
            }
            for value in [1 << 63, u64::MAX] {
                let mut high = message.clone().with("Term", message::number(term));
                high.fields[at].1 = message::number(value);
                forged.push(high);
            }
        }
    }
    let entry = |index, of| message::entry(index, of, 0, b"forged");
    let append = |prev: u64, entries: Vec<Vec<u8>>| {
        Message::stale(0, "x")
            .with("Term", message::number(term))
            .with("PrevLogEntry", message::number(prev))
            .with("PrevLogTerm", message::number(term))
            .with("Entries", message::list(&entries))
    };
    forged.push(append((1 << 63) - 1, vec![entry(1 << 63, term)]));
    forged.push(append(u64::MAX, vec![entry(0, term)]));
    forged.push(append(5, vec![entry(6, term), entry(8, term)]));
    forged.push(append(5, vec![entry(5, term)]));
    forged.push(append(5, vec![entry(6, term), entry(6, term)]));
    forged.push(append(5, vec![entry(6, term + 1)]));
    forged.push(append(5, vec![entry(6, 0)]));
    forged.push(append(5, vec![message::entry(6, term, 2, b"old membership change")]));
    forged.push(append(5, vec![message::entry(6, term, 5, b"no configuration")]));
    for address in cluster.addresses() {
        let inputs = forged.iter().map(Message::encode).collect();
        for (message, answer) in forged.iter().zip(talk_all(address, inputs).await) {
            assert!(refused(message.kind, answer.clone()), "{message:?} was accepted: {answer:x?}");
        }
        cluster.still_commits().await;
    }
    assert!(cluster.term() < term + 100, "no forged term was taken over");
    cluster.finish(MEMORY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_protocols_are_turned_away() {
    let cluster = Cluster::start(TcpOptions::default(), Config::default()).await;
    let mut inputs: Vec<Vec<u8>> =
        (5..=u8::MAX).filter(|kind| *kind != 128).map(|kind| [&[kind][..], b"\x80"].concat()).collect();
    inputs.push(b"GET / HTTP/1.1\r\nHost: raft\r\n\r\n".to_vec());
    inputs.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
    inputs.push([&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 512]].concat());
    inputs.push(vec![0; 100_000]);
    inputs.push(vec![0xff; 100_000]);
    for address in cluster.addresses() {
        for (input, answer) in inputs.iter().zip(talk_all(address, inputs.clone()).await) {
            assert_eq!(answer, b"", "{:x?} was answered", &input[..2]);
        }
        cluster.still_commits().await;
    }
    cluster.finish(MEMORY).await;
}

/// Sends this, then a byte at a time, until the server has enough of it.
async fn drip(address: SocketAddr, head: Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(&head).await.expect("sent");
    let dripping = async {
        while stream.write_all(b"\x00").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("a dripping connection is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_idle_and_short_lived_connections_keep_nobody_out() {
    let options = TcpOptions {
        io_timeout: Duration::from_millis(500),
        rate_min: 1 << 20,
        connections_max: 100,
        ..TcpOptions::default()
    };
    let cluster = Cluster::start(options, Config::default()).await;
    let snapshot = Message::stale(2, "x")
        .with("Term", message::number(cluster.term()))
        .with("Size", message::number(1 << 20));
    let mut slow = JoinSet::new();
    for address in cluster.addresses() {
        slow.spawn(drip(address, Vec::new()));
        slow.spawn(drip(address, b"\x00\x8f\xa4".to_vec()));
        slow.spawn(drip(address, b"\x00\x81\xa2ID\xdb\x00\x10\x00\x00".to_vec()));
        slow.spawn(drip(address, snapshot.encode()));
    }
    // More than may be open at the same time, on each server; they never say anything.
    let mut idle = Vec::new();
    for address in cluster.addresses() {
        for _ in 0..300 {
            idle.push(TcpStream::connect(address).await.expect("the server listens"));
        }
    }
    cluster.still_commits().await;
    for address in cluster.addresses() {
        for _ in 0..1000 {
            drop(TcpStream::connect(address).await.expect("the server listens"));
        }
    }
    cluster.still_commits().await;
    while let Some(done) = slow.join_next().await {
        done.expect("every slow connection was closed");
    }
    for stream in idle {
        assert_eq!(read_to_end(stream).await, b"", "an idle connection is closed in the end");
    }
    cluster.finish(MEMORY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_that_lie_change_nothing() {
    let options = TcpOptions { io_timeout: Duration::from_millis(500), ..TcpOptions::default() };
    let cluster = Cluster::start(options, Config::default()).await;
    cluster.commit(50).await;
    let snapshot = |size: i64, version: i64, body: usize| {
        let message = Message::stale(2, "x")
            .with("Term", message::number(cluster.term()))
            .with("LastLogIndex", message::number(1 << 40))
            .with("LastLogTerm", message::number(1))
            .with("Size", message::signed(size))
            .with("SnapshotVersion", message::signed(version));
        [message.encode(), vec![b'x'; body]].concat()
    };
    let inputs = vec![
        snapshot(1 << 62, 1, 1 << 20),
        snapshot(i64::MAX, 1, 10),
        snapshot(-1, 1, 10),
        snapshot(i64::MIN, 1, 10),
        snapshot(100, 1, 10),
        snapshot(1 << 20, 1, (1 << 20) - 1),
        snapshot(10, 2, 10),
        snapshot(10, -1, 100),
        // Bytes beyond the announced size of a refused snapshot are the next request.
        snapshot(10, 7, 1000),
    ];
    for address in cluster.addresses() {
        for (number, answer) in talk_all(address, inputs.clone()).await.into_iter().enumerate() {
            assert!(refused(2, answer), "snapshot {number} was accepted");
        }
        cluster.still_commits().await;
    }
    for node in &cluster.nodes {
        let stored = node.stored_snapshot();
        assert!(stored.is_none(), "nothing of it was kept: {stored:?}");
    }
    // One that is whole, but of a leader whose term is over, is read away.
    let stale =
        Message::stale(2, "x").with("Term", message::number(0)).with("Size", message::number(3 << 20));
    for address in cluster.addresses() {
        let answer = talk(address, &[stale.encode(), vec![b'x'; 3 << 20]].concat()).await;
        assert!(refused(2, answer), "a snapshot of an old term was accepted");
    }
    cluster.finish(MEMORY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_win_no_votes_and_depose_nobody() {
    // Long, so that a follower that got no processor for a while still hears its leader.
    let config = Config { election_timeout: Duration::from_secs(3), ..Config::default() };
    let cluster = Cluster::start(TcpOptions::default(), config).await;
    cluster.commit(20).await;
    let (leader, term) = (cluster.leader().await, cluster.term());
    let long_log = |message: Message| {
        message.with("LastLogIndex", message::number(1 << 40)).with("LastLogTerm", message::number(1 << 40))
    };
    let mut forged = Vec::new();
    for id in ["stranger", ""] {
        for claimed in [term + 1, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX] {
            for kind in [1, 4] {
                forged.push(long_log(Message::stale(kind, id)).with("Term", message::number(claimed)));
            }
        }
        forged.push(Message::stale(3, id));
        forged.push(Message::stale(3, id).with("Term", message::number(term)));
        // No name at all, and nothing in its place.
        let nameless = long_log(Message::stale(1, "")).with("Addr", b"\xa0".to_vec());
        forged.push(nameless.with("Candidate", b"\xa0".to_vec()).with("Term", message::number(1 << 62)));
    }
    for address in cluster.addresses() {
        let inputs = forged.iter().map(Message::encode).collect();
        for (message, answer) in forged.iter().zip(talk_all(address, inputs).await) {
            assert!(refused(message.kind, answer), "{message:?} was granted");
        }
    }
    // Another leader of the same term, at the leader itself: there is only one.
    let rival = Message::stale(0, "rival")
        .with("Term", message::number(term))
        .with("PrevLogEntry", message::number(0))
        .with("PrevLogTerm", message::number(0))
        .with("Entries", message::list(&[message::entry(1, term, 0, b"forged")]));
    let answer = talk(cluster.addresses()[leader], &rival.encode()).await;
    assert!(refused(0, answer), "the leader followed a rival");
    cluster.still_commits().await;
    assert_eq!((cluster.leader().await, cluster.term()), (leader, term), "the leader was not disturbed");
    cluster.finish(MEMORY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_and_countless_proposals_are_refused_or_served() {
    let config = Config { proposal_queue: 256, ..Config::default() };
    let cluster = Cluster::start(TcpOptions::default(), config).await;
    let leader = cluster.nodes[cluster.leader().await].raft.clone();
    let size = 100 << 20;
    let refused = leader.propose(vec![0_u8; size]).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { size: s, .. }) if s == size), "{refused:?}");
    let mut clients = JoinSet::new();
    for _ in 0..1000 {
        let raft = leader.clone();
        clients.spawn(async move {
            let (mut applied, mut overloaded) = (0, 0);
            for _ in 0..100 {
                match raft.propose(&b"x"[..]).await {
                    Ok(_) => applied += 1,
                    Err(ProposeError::Overloaded) => overloaded += 1,
                    Err(ProposeError::NotLeader { .. } | ProposeError::OutcomeUnknown) => {}
                    Err(other) => panic!("{other}"),
                }
                tokio::task::yield_now().await;
            }
            (applied, overloaded)
        });
    }
    let (mut applied, mut overloaded) = (0, 0);
    while let Some(done) = clients.join_next().await {
        let (some, refused) = done.expect("no panic");
        applied += some;
        overloaded += refused;
    }
    assert!(applied >= 256, "{applied} of 100000 proposals were applied");
    assert!(overloaded > 0, "1000 clients filled no queue of 256");
    cluster.finish(MEMORY + size as u64).await;
}

/// What must not reach a log as it is, a second line or a terminal's control sequence; and a name that is only unusual.
const NAMES: [&str; 4] =
    ["a\n2026-01-01 ERROR forged", "b\r\x1b[2J\x1b[31m", "c\u{2028}\u{85}d", "ü漢 \"<&>"];

/// Adds a member, under whatever leader there is. False if there can be no such member.
async fn add(cluster: &Cluster, id: &str, address: &str) -> bool {
    loop {
        let leader = &cluster.nodes[cluster.leader().await].raft;
        match leader.add_nonvoter(id.into(), address.into(), None).await {
            Ok(_) => return true,
            Err(ChangeError::Invalid(_)) => return false,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn remove(cluster: &Cluster, id: &str) {
    loop {
        let leader = &cluster.nodes[cluster.leader().await].raft;
        match leader.remove_server(id.into(), None).await {
            Ok(_) | Err(ChangeError::Invalid(_)) => return,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_put_no_lines_into_the_log() {
    let lines = logged::start();
    let cluster = Cluster::start(TcpOptions::default(), Config::default()).await;
    let term = cluster.term();
    let long = "n".repeat(4096);
    for name in NAMES.into_iter().chain([long.as_str()]) {
        let forged = |kind| {
            let message = Message::stale(kind, name).with("Addr", message::text(name));
            message.with("Term", message::number(term)).encode()
        };
        let mut inputs: Vec<_> = (0..CALLS.len()).map(forged).collect();
        let suffrage = Message::stale(0, name).with(
            "Entries",
            message::list(&[message::entry(1, 1, 5, &message::configuration(name, name, 9))]),
        );
        inputs.push(suffrage.encode());
        for address in cluster.addresses() {
            talk_all(address, inputs.clone()).await;
        }
        // No such member either: nobody could replicate the entry that says so.
        for (id, address) in [(name, "127.0.0.1:1"), ("d", name)] {
            if add(&cluster, id, address).await {
                assert_eq!(name, NAMES[3], "this name is no member's");
                remove(&cluster, id).await;
            }
        }
        cluster.still_commits().await;
    }
    cluster.finish(MEMORY).await;
    let lines = lines.taken();
    assert!(!lines.is_empty(), "something was logged");
    for line in lines {
        let plain = |c: char| !c.is_control() && c != '\u{2028}';
        assert!(line.chars().all(plain), "a name reached the log as it is: {line:?}");
        assert!(line.len() < 6000, "a line of {} bytes", line.len());
    }
}

/// A snapshot that brings nothing new is not stored: as the newest by its term it would be what a restart finds, and push the
/// real ones out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_what_is_committed_here_is_not_stored() {
    let cluster = Cluster::start(TcpOptions::default(), Config::default()).await;
    cluster.commit(50).await;
    let forged = Message::stale(2, "x")
        .with("Term", message::number(cluster.term()))
        .with("LastLogIndex", message::number(1))
        .with("LastLogTerm", message::number(1 << 40))
        .with("Size", message::number(5));
    for address in cluster.addresses() {
        talk(address, &[&forged.encode()[..], b"state"].concat()).await;
        cluster.still_commits().await;
    }
    for node in &cluster.nodes {
        let stored = node.stored_snapshot();
        assert!(stored.is_none(), "{} kept {stored:?}", node.raft.id());
    }
    cluster.finish(MEMORY).await;
}

/// Whoever sends a snapshot without end must not keep the leader's out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_snapshot_does_not_keep_others_out() {
    let cluster = Cluster::start(TcpOptions::default(), Config::default()).await;
    cluster.commit(50).await;
    let leader = cluster.leader().await;
    let leader_id = cluster.nodes[leader].raft.id().as_str();
    let victim = cluster.addresses()[(leader + 1) % 3];
    let snapshot = |id: &str, size: u64| {
        let message = Message::stale(2, id).with("Term", message::number(cluster.term()));
        message.with("Size", message::number(size)).encode()
    };
    let mut endless = TcpStream::connect(victim).await.expect("the server listens");
    endless.write_all(&[&snapshot("x", 1 << 62)[..], &[0; 1 << 17]].concat()).await.expect("sent");
    sleep(Duration::from_millis(100)).await;
    let answer = talk(victim, &[&snapshot(leader_id, 5)[..], b"state"].concat()).await;
    assert!(decoded(2, answer).is_some(), "the leader's snapshot was turned away without an answer");
    drop(endless);
    cluster.finish(MEMORY).await;
}
