//! Forms a new cluster once the expected number of servers see each other.
//!
//! Only the server with the smallest id writes the first configuration; the others receive it as a log. A server that
//! has Raft state, or sees one that is part of a cluster, never forms another. More candidates than expected means
//! that somebody made a mistake, and picking some of them would hide it: nothing happens until it is mended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raft::{Configuration, Server};

use crate::app::App;
use crate::members::{Liveness, MemberView};

/// How long the same candidates must be seen, so that a late one is not left out.
const SETTLE: Duration = Duration::from_secs(1);
/// The same for a server that would form a cluster alone although it was told whom to join: they may be part of a
/// cluster already, and have to get the chance to say so.
const SETTLE_ALONE: Duration = Duration::from_secs(5);
/// How often to look.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the log says what is missing.
const SAY_INTERVAL: Duration = Duration::from_secs(5);

/// What the members mean for forming a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outlook {
    /// One of them is part of a cluster already.
    ClusterExists,
    /// These ids, sorted, are the expected ones.
    Ready(Vec<String>),
    /// Fewer are there than expected.
    Waiting { seen: usize },
    /// More are there than expected.
    TooMany { seen: usize },
    /// Some expect another number.
    Disagree { name: String, expect: u32 },
}

fn outlook(members: &[MemberView], own_id: &str, expect: u32) -> Outlook {
    let alive = || members.iter().filter(|member| member.liveness == Liveness::Alive);
    if alive().any(|member| member.profile.bootstrapped && member.profile.id != own_id) {
        return Outlook::ClusterExists;
    }
    let candidates = || alive().filter(|member| member.profile.expect > 0 && !member.profile.read_replica);
    if let Some(other) = candidates().find(|member| member.profile.expect != expect) {
        return Outlook::Disagree { name: other.profile.name.clone(), expect: other.profile.expect };
    }
    let mut ids: Vec<String> =
        candidates().filter(|member| member.profile.raft.is_some()).map(|m| m.profile.id.clone()).collect();
    ids.sort();
    match ids.len().cmp(&(expect as usize)) {
        std::cmp::Ordering::Less => Outlook::Waiting { seen: ids.len() },
        std::cmp::Ordering::Greater => Outlook::TooMany { seen: ids.len() },
        std::cmp::Ordering::Equal => Outlook::Ready(ids),
    }
}

/// Runs until this server is part of a cluster, whoever formed it.
pub(crate) async fn run(app: Arc<App>) {
    let expect = app.config.bootstrap_expect;
    if expect > 0 && !app.raft.has_state() {
        tokio::select! {
            () = form(&app, expect) => {}
            () = member_of_a_cluster(&app) => {}
            () = app.stopping.cancelled() => return,
        }
    }
    tokio::select! {
        () = member_of_a_cluster(&app) => {}
        () = app.stopping.cancelled() => return,
    }
    // The flag may be lost when too much is asked of gossip at once; it is set until it shows.
    while !app.stopping.is_cancelled()
        && app.members.member(app.id.as_str()).is_some_and(|own| !own.profile.bootstrapped)
    {
        app.members.set_bootstrapped();
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn member_of_a_cluster(app: &App) {
    let mut metrics = app.raft.metrics();
    // An error means that Raft has stopped; the caller is about to be told.
    if metrics.wait_for(|metrics| !metrics.configuration.is_empty()).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn form(app: &App, expect: u32) {
    let settle = match (expect, app.config.join.is_empty()) {
        (1, true) => Duration::ZERO,
        (1, false) => SETTLE_ALONE,
        _ => SETTLE,
    };
    let mut seen: Option<(Outlook, Instant)> = None;
    let mut said: Option<(Outlook, Instant)> = None;
    loop {
        let now = outlook(&app.members.list(), app.id.as_str(), expect);
        let since = match &seen {
            Some((before, since)) if *before == now => *since,
            _ => Instant::now(),
        };
        seen = Some((now.clone(), since));
        if said.as_ref().is_none_or(|(before, at)| *before != now || at.elapsed() >= SAY_INTERVAL) {
            say(&now, expect);
            said = Some((now.clone(), Instant::now()));
        }
        match now {
            Outlook::ClusterExists => return,
            Outlook::Ready(ids)
                if since.elapsed() >= settle && ids.first().is_some_and(|id| id == app.id.as_str()) =>
            {
                write_first_configuration(app, &ids).await;
                return;
            }
            _ => {}
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn say(outlook: &Outlook, expect: u32) {
    match outlook {
        Outlook::ClusterExists => tracing::info!("a cluster exists already; waiting to be added to it"),
        Outlook::Ready(ids) => tracing::info!(?ids, "the expected servers are here"),
        Outlook::Waiting { seen } => {
            tracing::info!(seen, expect, "waiting for more servers before a cluster is formed");
        }
        Outlook::TooMany { seen } => tracing::error!(
            seen,
            expect,
            "more servers want to form a cluster than expected; none is formed until some are stopped or restarted without bootstrap_expect"
        ),
        Outlook::Disagree { name, expect: other } => tracing::error!(
            expect,
            other,
            server = %name,
            "servers expect different numbers; none forms a cluster until bootstrap_expect is the same everywhere"
        ),
    }
}

async fn write_first_configuration(app: &App, ids: &[String]) {
    let list = app.members.list();
    let servers = ids.iter().filter_map(|id| {
        let member = list.iter().find(|member| member.profile.id == *id)?;
        Some(Server::voter(id.as_str(), member.profile.raft?.to_string()))
    });
    let configuration = Configuration::new(servers.collect());
    match app.raft.bootstrap(configuration).await {
        Ok(()) => tracing::info!(servers = ?ids, "formed a new cluster"),
        Err(error) => tracing::error!(%error, "cannot form a cluster"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::Profile;

    fn member(id: &str, expect: u32) -> MemberView {
        MemberView {
            gossip: "127.0.0.1:1".parse().expect("address"),
            generation: 1,
            liveness: Liveness::Alive,
            since: Instant::now(),
            profile: Profile {
                id: id.into(),
                name: id.into(),
                expect,
                raft: "127.0.0.1:2".parse().ok(),
                ..Profile::default()
            },
        }
    }

    #[test]
    fn exactly_the_expected_servers_form_a_cluster() {
        let (a, b, c) = (member("a", 3), member("b", 3), member("c", 3));
        let look = |members: &[MemberView]| outlook(members, "a", 3);
        assert_eq!(look(&[a.clone(), b.clone()]), Outlook::Waiting { seen: 2 });
        let three = [c.clone(), a.clone(), b.clone()];
        assert_eq!(look(&three), Outlook::Ready(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(look(&[three.as_slice(), &[member("d", 3)]].concat()), Outlook::TooMany { seen: 4 });
        let joiner = member("d", 0);
        assert!(
            matches!(look(&[three.as_slice(), &[joiner]].concat()), Outlook::Ready(_)),
            "a joiner does not count"
        );
        let other = Outlook::Disagree { name: "d".into(), expect: 5 };
        assert_eq!(look(&[three.as_slice(), &[member("d", 5)]].concat()), other);
        let mut failed = c;
        failed.liveness = Liveness::Failed;
        assert_eq!(look(&[a, b, failed]), Outlook::Waiting { seen: 2 });
    }

    #[test]
    fn no_second_cluster_is_formed_beside_one_that_exists() {
        let mut old = member("z", 0);
        old.profile.bootstrapped = true;
        let members = [member("a", 1), old];
        assert_eq!(outlook(&members, "a", 1), Outlook::ClusterExists);
    }
}
