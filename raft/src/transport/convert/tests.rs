use proptest::prelude::*;

use super::*;
use crate::core::Features;
use crate::transport::wire::{Call, FrameBuffer};

fn peer() -> Peer {
    Peer { id: "n1".into(), address: "10.0.0.1:8300".into() }
}

fn local() -> Local {
    Local::new(&peer())
}

fn configuration() -> Configuration {
    Configuration::new(vec![Server::voter("n1", "10.0.0.1:8300"), Server::nonvoter("n2", "10.0.0.2:8300")])
}

#[test]
fn identities_in_a_configuration_arrive_and_are_absent_where_there_are_none() {
    let plain = encode_configuration(&configuration());
    assert!(
        !plain.windows(11).any(|part| part == b"Incarnation")
            && !plain.windows(5).any(|part| part == b"Epoch")
    );
    let named = Server { incarnation: Incarnation(u64::MAX - 7), ..Server::voter("n3", "10.0.0.3:8300") };
    let joint = Configuration::joint(vec![named.clone()], vec![named, Server::voter("n1", "10.0.0.1:8300")]);
    for configuration in [configuration(), joint.clone(), joint.in_epoch(99)] {
        let read = decode_configuration(encode_configuration(&configuration), &Limits::default());
        assert_eq!(read, Ok(configuration));
    }
}

/// Through the wire and back, byte by byte lengths included.
fn through(request: &Request, format: TimeFormat) -> Asked {
    let mut out = BytesMut::new();
    local().encode_request(request, format, &mut out);
    let mut buffer = FrameBuffer::new(Limits::default());
    buffer.space().extend_from_slice(&out);
    let frame = buffer.take_request().expect("our own frames are valid").expect("and complete");
    assert!(buffer.is_empty());
    read_request(frame, &Limits::default()).expect("and make sense")
}

fn append_frame() -> AppendEntriesRequest {
    let log = |index, term| Log { index, term, data: Some(Bytes::from_static(b"x")), ..Log::default() };
    AppendEntriesRequest {
        header: local().header,
        term: 7,
        prev_log_entry: 3,
        prev_log_term: 2,
        entries: Some(vec![log(4, 2), log(5, 7)]),
        ..AppendEntriesRequest::default()
    }
}

fn meaning(request: AppendEntriesRequest) -> Result<Request, Nonsense> {
    read_request(RequestFrame::AppendEntries(request), &Limits::default()).map(|asked| asked.request)
}

#[test]
fn entries_that_do_not_follow_one_another_are_refused() {
    assert!(meaning(append_frame()).is_ok());
    let spoil = |change: &dyn Fn(&mut AppendEntriesRequest)| {
        let mut request = append_frame();
        change(&mut request);
        meaning(request).expect_err("this must be refused")
    };
    let log = |request: &mut AppendEntriesRequest, at: usize, change: &dyn Fn(&mut Log)| {
        change(&mut request.entries.as_mut().expect("there are entries")[at]);
    };
    let gap = spoil(&|r| log(r, 1, &|l| l.index = 6));
    assert_eq!(gap, Nonsense::Gap { expected: 5, found: 6 });
    let not_after_prev = spoil(&|r| r.prev_log_entry = 4);
    assert_eq!(not_after_prev, Nonsense::Gap { expected: 5, found: 4 });
    assert!(matches!(spoil(&|r| log(r, 1, &|l| l.term = 8)), Nonsense::EntryTerm { term: 8, limit: 7, .. }));
    assert!(matches!(spoil(&|r| log(r, 0, &|l| l.term = 1)), Nonsense::EntryTerm { after: 2, .. }));
    assert!(matches!(spoil(&|r| r.prev_log_entry = u64::MAX), Nonsense::Number { .. }));
    assert!(matches!(spoil(&|r| r.term = NUMBER_LIMIT), Nonsense::Number { .. }));
    for kind in [2, 3, 6, 255] {
        assert_eq!(spoil(&|r| log(r, 0, &|l| l.kind = kind)), Nonsense::EntryType { kind, index: 4 });
    }
    // The bytes "x" are no configuration.
    assert!(matches!(spoil(&|r| log(r, 0, &|l| l.kind = 5)), Nonsense::Configuration(_)));
}

#[test]
fn versions_other_than_two_and_three_are_refused_except_in_heartbeats() {
    let version = |protocol_version, entries: bool| {
        let mut request = append_frame();
        request.header.protocol_version = protocol_version;
        if !entries {
            request =
                AppendEntriesRequest { header: request.header, term: 7, ..AppendEntriesRequest::default() };
        }
        meaning(request)
    };
    for refused in [-1, 0, 1, 4, i64::MAX] {
        assert_eq!(version(refused, true), Err(Nonsense::Protocol));
        assert_eq!(version(refused, false), Ok(Request::Heartbeat { term: Term(7), features: Features(0) }));
    }
    assert!(version(2, true).is_ok() && version(3, true).is_ok());
}

#[test]
fn a_heartbeat_is_what_hashicorp_takes_for_one() {
    let heartbeat =
        || AppendEntriesRequest { header: local().header, term: 7, ..AppendEntriesRequest::default() };
    let is = |change: &dyn Fn(&mut AppendEntriesRequest)| {
        let mut request = heartbeat();
        change(&mut request);
        is_heartbeat(&request)
    };
    assert!(is(&|_| {}));
    assert!(is(&|r| r.entries = Some(Vec::new())));
    assert!(is(&|r| {
        r.header.addr = None;
        r.leader = Some(Bytes::new());
    }));
    assert!(!is(&|r| r.header.addr = None));
    assert!(!is(&|r| r.term = 0));
    assert!(!is(&|r| r.leader_commit_index = 1));
    assert!(!is(&|r| r.prev_log_entry = 1));
    assert!(!is(&|r| r.entries = Some(vec![Log::default()])));
}

#[test]
fn a_sender_without_an_id_is_known_by_its_address() {
    let sent_by = |id: Option<&'static [u8]>, addr: Option<&'static [u8]>, older: &'static [u8]| {
        let bytes = |b: &'static [u8]| Bytes::from_static(b);
        let (id, addr) = (id.map(bytes), addr.map(bytes));
        let header = Header { protocol_version: 3, id, addr, ..Header::default() };
        sender(&header, Some(&bytes(older)))
    };
    let known = |id: &str, address: &str| Ok(Peer { id: id.into(), address: address.into() });
    assert_eq!(sent_by(Some(b"n1"), Some(b"a:1"), b"old:1"), known("n1", "a:1"));
    assert_eq!(sent_by(None, Some(b"a:1"), b"old:1"), known("a:1", "a:1"));
    assert_eq!(sent_by(Some(b""), None, b"old:1"), known("old:1", "old:1"));
    assert_eq!(sent_by(None, None, b""), Err(Nonsense::NoSender));
    assert!(matches!(sent_by(Some(b"\xff\xfe"), None, b""), Err(Nonsense::Name { .. })));
    assert!(matches!(sent_by(Some(&[b'n'; 4096]), None, b""), Err(Nonsense::Name { .. })));
}

#[test]
fn snapshots_of_both_versions_are_read() {
    let request = |snapshot_version| InstallSnapshotRequest {
        header: local().header,
        snapshot_version,
        term: 3,
        last_log_index: 10,
        last_log_term: 2,
        peers: Some(wire::encode_peers(Some(&[Bytes::from_static(b"a:1")]))),
        configuration: Some(encode_configuration(&configuration())),
        configuration_index: 5,
        size: 9,
        ..InstallSnapshotRequest::default()
    };
    let read =
        |request| match read_request(RequestFrame::InstallSnapshot(request), &Limits::default())?.request {
            Request::InstallSnapshot { meta, .. } => Ok(meta),
            other => panic!("{other:?}"),
        };
    assert_eq!(read(request(1)).expect("version 1").configuration, configuration());
    let voters = Configuration::new(vec![Server::voter("a:1", "a:1")]);
    assert_eq!(read(request(0)).expect("version 0").configuration, voters);
    assert_eq!(read(request(2)), Err(Nonsense::SnapshotVersion(2)));
    assert_eq!(read(InstallSnapshotRequest { size: -1, ..request(1) }), Err(Nonsense::Size(-1)));
}

#[test]
fn staging_servers_do_not_vote() {
    let staging = |suffrage| {
        let id = Bytes::from_static(b"s");
        let servers = vec![wire::Server { suffrage, address: id.clone(), id, incarnation: 0 }];
        decode_configuration(
            wire::Configuration { servers: Some(servers), ..wire::Configuration::default() }.encode(),
            &Limits::default(),
        )
    };
    assert_eq!(staging(2), Ok(Configuration::new(vec![Server::nonvoter("s", "s")])));
    assert_eq!(staging(3), Err(Nonsense::Suffrage(3)));
}

#[test]
fn a_server_without_pre_vote_consents() {
    let frame = || ResponseFrame::refused("raft: unexpected command");
    let consent = read_response(frame(), &"n2".into(), Some(Term(5)));
    assert_eq!(
        consent,
        Ok(Response::PreVote { term: Term(4), granted: true, incarnation: Incarnation::FOUNDER })
    );
    assert!(matches!(read_response(frame(), &"n2".into(), None), Err(Nonsense::PeerError(_))));
}

#[test]
fn an_answer_of_another_server_counts_for_nothing() {
    let response = Response::Append {
        term: Term(1),
        success: true,
        last_log: LogIndex(9),
        features: Features::OURS,
        incarnation: Incarnation::FOUNDER,
    };
    assert_eq!(read_response(local().response(&response), &"n1".into(), None), Ok(response));
    let wrong = read_response(local().response(&response), &"n2".into(), None);
    assert!(matches!(wrong, Err(Nonsense::WrongServer { .. })), "{wrong:?}");
}

#[test]
fn timeout_now_without_a_term_has_the_bytes_of_go() {
    let mut ours = BytesMut::new();
    local().encode_request(&Request::TimeoutNow { term: None }, TimeFormat::Legacy, &mut ours);
    assert_eq!(ours, &b"\x03\x83\xa4Addr\xad10.0.0.1:8300\xa2ID\xa2n1\xafProtocolVersion\x03"[..]);
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, (0..63_u32).prop_map(|bits| (1 << bits) - 1), 0..NUMBER_LIMIT - 1000]
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        prop_oneof![Just(31), Just(32), Just(255), Just(256), Just(65_535), Just(65_536)]
            .prop_map(|len| vec![7; len]),
    ]
    .prop_map(Bytes::from)
}

fn any_kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        Just(EntryKind::Command),
        Just(EntryKind::Noop),
        Just(EntryKind::Barrier),
        Just(EntryKind::Configuration(configuration())),
    ]
}

prop_compose! {
    fn any_append()(
        prev_term in any_number(),
        prev_index in any_number(),
        steps in proptest::collection::vec((0..3_u64, any_kind(), any_bytes(), any_bytes()), 1..20),
        ahead in 0..9_u64,
        commit in any_number(),
    ) -> Request {
        let (mut term, mut index) = (prev_term, prev_index);
        let mut entries = Vec::new();
        for (step, kind, data, extensions) in steps {
            term += step;
            index += 1;
            let data = if kind == EntryKind::Command { data } else { Bytes::new() };
            entries.push(Entry { id: EntryId::new(term, index), kind, data, extensions });
        }
        let prev = EntryId::new(prev_term, prev_index);
        Request::Append { term: Term(term + ahead), prev, entries, commit: LogIndex(commit) }
    }
}

fn any_request() -> impl Strategy<Value = Request> {
    let id = || (any_number(), any_number()).prop_map(|(term, index)| EntryId::new(term, index));
    let term = || any_number().prop_map(Term);
    prop_oneof![
        (term(), id()).prop_map(|(term, last)| Request::PreVote { term, last }),
        (term(), id(), any::<bool>()).prop_map(|(term, last, transfer)| Request::Vote {
            term,
            last,
            transfer
        }),
        any_append(),
        (1..9_u64, 0..4_u64).prop_map(|(term, features)| Request::Heartbeat {
            term: Term(term),
            features: Features(features)
        }),
        Just(Request::ReadIndex),
        proptest::option::of(term()).prop_map(|term| Request::TimeoutNow { term }),
        (term(), id(), any_number(), any_number()).prop_map(|(term, last, index, size)| {
            let configuration_index = LogIndex(index);
            let meta = SnapshotMeta { last, configuration: configuration(), configuration_index, size };
            Request::InstallSnapshot { term, meta }
        }),
    ]
}

fn any_response() -> impl Strategy<Value = (Call, Response)> {
    let incarnation = any::<u64>().prop_map(Incarnation);
    let last_log = any_number().prop_map(LogIndex);
    (any_number().prop_map(Term), any::<bool>(), last_log, 0..6, incarnation).prop_map(
        |(term, yes, last_log, kind, incarnation)| match kind {
            0 => (
                Call::AppendEntries,
                Response::Append {
                    term,
                    success: yes,
                    last_log,
                    features: Features(term.0 % 2),
                    incarnation,
                },
            ),
            1 => (Call::RequestVote, Response::Vote { term, granted: yes, incarnation }),
            2 => (Call::RequestPreVote, Response::PreVote { term, granted: yes, incarnation }),
            3 => (Call::InstallSnapshot, Response::InstallSnapshot { term, success: yes, incarnation }),
            4 => (Call::ReadIndex, Response::ReadIndex { term, index: yes.then_some(last_log) }),
            _ => (Call::TimeoutNow, Response::TimeoutNow),
        },
    )
}

proptest! {
    #[test]
    fn requests_arrive_as_they_were_sent(request in any_request(), legacy in any::<bool>()) {
        let format = if legacy { TimeFormat::Legacy } else { TimeFormat::Timestamp };
        let asked = through(&request, format);
        prop_assert_eq!(&asked.from, &peer());
        prop_assert_eq!(&asked.request, &request);
        prop_assert_eq!(&asked.regard, &None);
        prop_assert!(local().check_target(asked).is_ok(), "a Go server does not say whom it means");
    }

    #[test]
    fn what_a_request_says_of_its_receiver_arrives(
        request in any_request(), incarnation in any::<u64>(), held in any_number(), epoch in any::<u64>()
    ) {
        let regard = Regard { incarnation: Incarnation(incarnation), held: LogIndex(held), epoch };
        let mut buffer = FrameBuffer::new(Limits::default());
        local().encode_request_to(&"n2".into(), &request, regard, TimeFormat::Legacy, buffer.space());
        let frame = buffer.take_request().expect("valid").expect("complete");
        let asked = read_request(frame, &Limits::default()).expect("sense");
        prop_assert_eq!((&asked.regard, &asked.request), (&Some(regard), &request));
        let refused = local().check_target(asked).expect_err("it is for n2");
        prop_assert_eq!(refused.to_string(), "this is server n1, not n2");
    }

    #[test]
    fn responses_arrive_as_they_were_sent((call, response) in any_response()) {
        let mut buffer = FrameBuffer::new(Limits::default());
        local().response(&response).encode(buffer.space());
        let frame = buffer.take_response(call).expect("valid").expect("complete");
        prop_assert_eq!(read_response(frame, &"n1".into(), None), Ok(response));
    }

    #[test]
    fn a_request_cut_anywhere_is_incomplete(request in any_request(), cut in any::<prop::sample::Index>()) {
        let mut out = BytesMut::new();
        local().encode_request(&request, TimeFormat::Legacy, &mut out);
        out.truncate(cut.index(out.len()));
        let mut buffer = FrameBuffer::new(Limits::default());
        buffer.space().extend_from_slice(&out);
        prop_assert!(matches!(buffer.take_request(), Ok(None)));
    }

    #[test]
    fn damaged_requests_never_panic(request in any_request(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut out = BytesMut::new();
        local().encode_request(&request, TimeFormat::Legacy, &mut out);
        let at = at.index(out.len());
        out[at] = to;
        let mut buffer = FrameBuffer::new(Limits::default());
        buffer.space().extend_from_slice(&out);
        if let Ok(Some(frame)) = buffer.take_request() {
            let _ = read_request(frame, &Limits::default());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in prop_oneof![0..5_u8, Just(128)]) {
        let mut buffer = FrameBuffer::new(Limits::default());
        buffer.space().extend_from_slice(&[kind]);
        buffer.space().extend_from_slice(&bytes);
        if let Ok(Some(frame)) = buffer.take_request() {
            let _ = read_request(frame, &Limits::default());
        }
        let mut buffer = FrameBuffer::new(Limits::default());
        buffer.space().extend_from_slice(&bytes);
        let _ = buffer.take_response(Call::AppendEntries);
    }
}
