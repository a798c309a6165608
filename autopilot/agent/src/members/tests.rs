use super::*;

async fn start(name: &str, join: &[SocketAddr], dir: &Path) -> Members {
    let socket = GossipSocket::bind("127.0.0.1:0".parse().expect("address"), None).await.expect("bind");
    let profile = Profile {
        id: format!("id-{name}"),
        name: name.to_owned(),
        datacenter: "dc1".into(),
        zone: "a".into(),
        expect: 3,
        ..Profile::default()
    };
    let join: Vec<String> = join.iter().map(ToString::to_string).collect();
    Members::start(socket, profile, &join, &dir.join(name)).await.expect("start")
}

/// Waits until `observer` sees exactly these members in this state of life. The limit only ends a failing test.
async fn sees(observer: &Members, expected: &[(&str, Liveness)]) {
    let mut list = observer.watch();
    let matches = |list: &MemberList| {
        list.iter().map(|m| (m.profile.name.clone(), m.liveness)).collect::<Vec<_>>()
            == expected.iter().map(|(name, liveness)| ((*name).to_owned(), *liveness)).collect::<Vec<_>>()
    };
    let waiting = list.wait_for(matches);
    if tokio::time::timeout(Duration::from_secs(60), waiting).await.is_err() {
        panic!("{} sees {:#?}, expected {expected:?}", observer.own_id(), observer.list());
    }
}

#[tokio::test]
async fn members_join_fail_leave_and_return() {
    use Liveness::{Alive, Failed, Left};
    let dir = tempfile::tempdir().expect("a temporary directory");
    let a = start("a", &[], dir.path()).await;
    let b = start("b", &[a.address()], dir.path()).await;
    let c = start("c", &[a.address()], dir.path()).await;
    for observer in [&a, &b, &c] {
        sees(observer, &[("a", Alive), ("b", Alive), ("c", Alive)]).await;
    }
    assert_eq!(a.member("id-b").expect("known").profile.zone, "a", "metadata travels");

    c.stop().await;
    sees(&a, &[("a", Alive), ("b", Alive), ("c", Failed)]).await;
    sees(&b, &[("a", Alive), ("b", Alive), ("c", Failed)]).await;

    assert!(a.force_leave("id-c"));
    assert!(!a.force_leave("id-b"), "it lives");
    sees(&b, &[("a", Alive), ("b", Alive), ("c", Left)]).await;

    let c = start("c", &[b.address()], dir.path()).await;
    sees(&a, &[("a", Alive), ("b", Alive), ("c", Alive)]).await;

    b.leave().await;
    sees(&a, &[("a", Alive), ("b", Left), ("c", Alive)]).await;
    sees(&c, &[("a", Alive), ("b", Left), ("c", Alive)]).await;
}

#[tokio::test]
async fn a_changed_profile_reaches_the_others_without_a_failure() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let a = start("a", &[], dir.path()).await;
    let b = start("b", &[a.address()], dir.path()).await;
    sees(&b, &[("a", Liveness::Alive), ("b", Liveness::Alive)]).await;
    let mut list = b.watch();
    a.set_bootstrapped();
    loop {
        let seen = list.borrow_and_update().iter().find(|m| m.profile.name == "a").cloned();
        let seen = seen.expect("never forgotten");
        assert_eq!(seen.liveness, Liveness::Alive);
        if seen.profile.bootstrapped {
            break;
        }
        list.changed().await.expect("gossip runs");
    }
}

#[tokio::test]
async fn joining_nobody_or_oneself_is_refused_and_joining_someone_works() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let a = start("a", &[], dir.path()).await;
    let b = start("b", &[], dir.path()).await;
    let closed =
        GossipSocket::bind("127.0.0.1:0".parse().expect("address"), None).await.expect("bind").address();
    let refused = a.join(&closed.to_string()).await.expect_err("nobody there").to_string();
    assert!(refused.contains(&closed.to_string()), "{refused}");
    assert!(matches!(a.join(&a.address().to_string()).await, Err(JoinError::Own { .. })));
    assert!(matches!(a.join("no port").await, Err(JoinError::Unresolvable { .. })));
    let other_family = a.join("[::1]:8301").await.expect_err("unreachable").to_string();
    assert!(other_family.contains("IPv4"), "{other_family}");
    assert_eq!(a.join(&b.address().to_string()).await, Ok(b.address()));
}

#[tokio::test]
async fn an_identity_that_does_not_fit_and_an_unknown_host_are_refused_at_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bind = || GossipSocket::bind("127.0.0.1:0".parse().expect("address"), None);
    let meta = (0..3).map(|n| (format!("key{n}"), "x".repeat(250))).collect();
    let profile = Profile { id: "a".into(), meta, ..Profile::default() };
    let file = dir.path().join("generation");
    let large = Members::start(bind().await.expect("bind"), profile, &[], &file).await;
    assert!(matches!(large, Err(GossipError::TooLarge { .. })), "{large:?}");
    let join = ["name.invalid:8301".to_owned()];
    let unknown = Members::start(bind().await.expect("bind"), Profile::default(), &join, &file).await;
    assert!(matches!(unknown, Err(GossipError::Unresolvable { .. })), "{unknown:?}");
}

#[test]
fn generations_only_grow() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("generation");
    std::fs::write(&file, format!("{}", u64::MAX / 2)).expect("write");
    let first = next_generation(&file).expect("writable");
    let second = next_generation(&file).expect("writable");
    assert!(first > u64::MAX / 2 && second > first);
}
