//! What the servers say about the cluster, asked often and with little patience.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use autopilot::Proposal;

use crate::cli::client::{Client, Method, Request, RequestError};
use crate::cli::duration;
use crate::cli::wire::{AutopilotState, Event, Explained, RaftConfiguration, ServerState};

/// How long one answer may take. A paused server must not freeze the table for longer.
const PATIENCE: Duration = Duration::from_millis(600);

/// Most servers asked in one look.
const ASKED_MAX: usize = 2;

/// A server that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its identity.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its HTTP address.
    pub(crate) http: String,
}

/// One look at the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    /// What autopilot sees, from the first server that answered; `None` when none did.
    pub(crate) state: Option<AutopilotState>,
    /// Why there is no state.
    pub(crate) problem: Option<String>,
    /// What autopilot did since the last look.
    pub(crate) events: Vec<Event>,
    /// What it would do next, if it was asked in this look.
    pub(crate) plan: Option<Vec<String>>,
}

/// Looks at the cluster through whichever server answers.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    /// Who answered last, and is asked first.
    preferred: Option<String>,
    /// The last event seen of each server that was asked for events.
    seen: BTreeMap<String, u64>,
    /// When the plan was asked for last.
    planned: Option<Instant>,
}

/// How often the plan is asked for: the leader looks at everybody to make one.
const PLAN_PAUSE: Duration = Duration::from_secs(1);

/// Most steps of a plan that are shown.
const STEPS_MAX: usize = 3;

impl Observer {
    /// Asks for the state, and the leader for its events. Takes at most a small multiple of a second.
    pub(crate) fn look(&mut self, sources: &[Source]) -> Observation {
        let mut order: Vec<&Source> = sources.iter().collect();
        order.sort_by_key(|source| Some(&source.id) != self.preferred.as_ref());
        let mut problem = None;
        for source in order.into_iter().take(ASKED_MAX) {
            match state(&source.http) {
                Ok(state) if state.servers.is_empty() => {
                    problem = Some("the leader is new and has not looked at the servers yet".to_owned());
                    break;
                }
                Ok(state) => {
                    self.preferred = Some(source.id.clone());
                    let leader = sources.iter().find(|source| source.id == state.leader);
                    let events = leader.map_or_else(Vec::new, |leader| self.events(leader));
                    let plan = leader.and_then(|leader| self.plan(leader, &state));
                    return Observation { state: Some(state), problem: None, events, plan };
                }
                Err(error) => {
                    problem.get_or_insert_with(|| why_not(&source.name, &error));
                }
            }
        }
        // The next look begins with somebody else.
        let next = sources
            .iter()
            .position(|source| Some(&source.id) == self.preferred.as_ref())
            .map_or(0, |at| at + 1);
        self.preferred = sources.get(next % sources.len().max(1)).map(|source| source.id.clone());
        Observation { state: None, problem, events: Vec::new(), plan: None }
    }

    /// The next steps with names in place of ids, at most every [`PLAN_PAUSE`].
    fn plan(&mut self, leader: &Source, state: &AutopilotState) -> Option<Vec<String>> {
        if self.planned.is_some_and(|at| at.elapsed() < PLAN_PAUSE) {
            return None;
        }
        self.planned = Some(Instant::now());
        let request = Request::new(Method::Get, "/operator/autopilot/plan");
        let plan: Proposal = Client::new(&leader.http, PATIENCE).ok()?.json(&request).ok()?;
        Some(steps(&plan, state))
    }

    fn events(&mut self, leader: &Source) -> Vec<Event> {
        let seen = self.seen.entry(leader.id.clone()).or_insert(0);
        let request = Request::new(Method::Get, "/agent/autopilot/events").parameter("index", Some(*seen));
        let answer =
            Client::new(&leader.http, PATIENCE).and_then(|client| client.json::<Vec<Event>>(&request));
        // Events are a courtesy: the table does not depend on them.
        let mut events = answer.unwrap_or_default();
        events.retain(|event| event.index > *seen);
        *seen = events.iter().map(|event| event.index).max().unwrap_or(*seen);
        events.sort_by_key(|event| event.index);
        events
    }
}

fn steps(plan: &Proposal, state: &AutopilotState) -> Vec<String> {
    let mut lines = Vec::new();
    for step in plan.steps.iter().take(STEPS_MAX) {
        let when = match step.wait {
            Duration::ZERO => "now".to_owned(),
            wait => format!("in {}", duration::short(wait)),
        };
        let mut text = format!("{} {when}: {}", step.planned.step, step.planned.reason);
        for (id, server) in state.servers.iter().filter(|(_, server)| !server.name.is_empty()) {
            text = text.replace(id.as_str(), &server.name);
        }
        lines.push(text);
    }
    if plan.steps.len() > STEPS_MAX {
        lines.push(format!("and {} more", plan.steps.len() - STEPS_MAX));
    }
    lines
}

/// A few words for the headline.
fn why_not(name: &str, error: &RequestError) -> String {
    match error {
        RequestError::NoLeader { .. } => format!("{name} knows none"),
        // A server that knows no leader waits for one before it answers.
        RequestError::TimedOut { .. } => format!("{name} is looking for one"),
        RequestError::Unreachable { .. } => format!("{name} cannot be reached"),
        other => format!("{name}: {other}"),
    }
}

fn state(http: &str) -> Result<AutopilotState, RequestError> {
    Client::new(http, PATIENCE)?.json(&Request::new(Method::Get, "/operator/autopilot/state"))
}

/// The members as the leader's log has them.
///
/// # Errors
///
/// [`RequestError`] when the server does not say.
pub(crate) fn members(http: &str) -> Result<RaftConfiguration, RequestError> {
    Client::new(http, PATIENCE)?.json(&Request::new(Method::Get, "/operator/raft/configuration"))
}

/// What autopilot says about the removal of a server: a sentence, and whether it is a reason at all yet.
///
/// # Errors
///
/// [`RequestError`] when the server does not say, or it is no member.
pub(crate) fn about_removal(http: &str, id: &str) -> Result<Option<String>, RequestError> {
    let request = Request::new(Method::Get, "/operator/autopilot/explain").parameter("server", Some(id));
    let explained: Vec<Explained> = Client::new(http, PATIENCE)?.json(&request)?;
    let mut facts = explained.into_iter().flat_map(|server| server.facts);
    let fact = facts.find(|fact| fact.topic == "removal" && fact.code != "not-dead");
    Ok(fact.map(|fact| fact.text))
}

/// The raft address of the leader that a server follows, as far as it knows itself; empty when it knows none.
///
/// # Errors
///
/// [`RequestError`] when the server does not say.
pub(crate) fn followed(http: &str) -> Result<String, RequestError> {
    Client::new(http, PATIENCE)?.json(&Request::new(Method::Get, "/status/leader"))
}

/// Something that a person wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The kind of event with which autopilot itself tells the same, if it does.
    pub(crate) kind: Option<&'static str>,
    /// About whom.
    pub(crate) server: String,
    /// In a sentence.
    pub(crate) text: String,
}

impl Change {
    /// Whether one of these events says the same, and its reason besides.
    pub(crate) fn is_told_by(&self, events: &[Event]) -> bool {
        events.iter().any(|event| Some(event.kind.as_str()) == self.kind && event.server == self.server)
    }
}

/// What changed between two looks.
pub(crate) fn changes(before: Option<&AutopilotState>, now: &AutopilotState) -> Vec<Change> {
    let empty = AutopilotState::default();
    let before = before.unwrap_or(&empty);
    let mut out = Vec::new();
    let mut tell = |kind, server: &str, text| out.push(Change { kind, server: server.to_owned(), text });
    if now.leader != before.leader {
        let text = now.servers.get(&now.leader);
        let text = text.map_or_else(
            || "there is no leader".to_owned(),
            |leader| format!("{} is the leader", leader.name),
        );
        tell(None, &now.leader, text);
    }
    for (id, server) in &now.servers {
        let name = &server.name;
        let earlier = before.servers.get(id);
        match (earlier.map(ServerState::is_voter), server.is_voter()) {
            (None, true) => tell(None, id, format!("{name} is a voter")),
            (None, false) => tell(Some("added"), id, format!("{name} is a member without a vote")),
            (Some(false), true) => tell(Some("promoted"), id, format!("{name} was promoted to voter")),
            (Some(true), false) => tell(Some("demoted"), id, format!("{name} lost its vote")),
            _ => {}
        }
        let was_blocked = earlier.and_then(|server| server.blocked_by.as_ref());
        if let Some(blocked) = &server.blocked_by
            && was_blocked.is_none_or(|was| was.code != blocked.code)
        {
            tell(None, id, format!("{name} is not promoted yet: {}", blocked.sentence()));
        }
    }
    for (id, server) in &before.servers {
        if !now.servers.contains_key(id) {
            tell(Some("removed"), id, format!("{} is not a member any more", server.name));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::Fake;
    use crate::cli::wire::Reason;

    fn server(name: &str, status: &str) -> ServerState {
        ServerState {
            id: format!("id-{name}"),
            name: name.to_owned(),
            status: status.to_owned(),
            healthy: true,
            ..ServerState::default()
        }
    }

    fn cluster(servers: &[&ServerState]) -> AutopilotState {
        AutopilotState {
            leader: servers.iter().find(|s| s.status == "leader").map_or_else(String::new, |s| s.id.clone()),
            servers: servers.iter().map(|server| (server.id.clone(), (*server).clone())).collect(),
            ..AutopilotState::default()
        }
    }

    fn check<const B: usize, const N: usize>(
        before: [&ServerState; B],
        now: [&ServerState; N],
        expected: &[&str],
    ) {
        let told = changes(Some(&cluster(&before)), &cluster(&now));
        assert_eq!(told.iter().map(|change| change.text.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn changes_are_told_once() {
        let (leader, voter) = (server("n1", "leader"), server("n2", "voter"));
        let mut waiting = server("n3", "non-voter");
        waiting.blocked_by = Some(Reason { code: "probation".into(), text: "probation, 2s left".into() });
        let mut still_waiting = waiting.clone();
        still_waiting.blocked_by =
            Some(Reason { code: "probation".into(), text: "probation, 1s left".into() });

        check([&leader], [&leader, &voter], &["n2 is a voter"]);
        check(
            [&leader],
            [&leader, &waiting],
            &["n3 is a member without a vote", "n3 is not promoted yet: probation, 2s left"],
        );
        check([&leader, &waiting], [&leader, &still_waiting], &[]);
        check([&leader, &waiting], [&leader, &server("n3", "voter")], &["n3 was promoted to voter"]);
        check(
            [&leader, &voter],
            [&server("n2", "leader")],
            &["n2 is the leader", "n1 is not a member any more"],
        );
        check([&leader], [&voter], &["there is no leader", "n2 is a voter", "n1 is not a member any more"]);
    }

    #[test]
    fn autopilots_own_words_replace_the_same_change() {
        let (waiting, voter) = (server("n1", "non-voter"), server("n1", "voter"));
        let told = changes(Some(&cluster(&[&waiting])), &cluster(&[&voter]));
        let event =
            |kind: &str, server: &str| Event { kind: kind.into(), server: server.into(), ..Event::default() };
        assert!(told[0].is_told_by(&[event("removed", "id-n1"), event("promoted", "id-n1")]));
        assert!(!told[0].is_told_by(&[event("promoted", "id-n2"), event("removed", "id-n1")]));
        let leads = changes(None, &cluster(&[&server("n1", "leader")]));
        assert!(leads.iter().all(|change| !change.is_told_by(&[event("", "id-n1")])));
    }

    fn source(name: &str, http: String) -> Source {
        Source { id: format!("id-{name}"), name: name.to_owned(), http }
    }

    #[test]
    fn a_dead_server_is_passed_over_and_events_come_once() {
        let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let gone = source("n0", dead.local_addr().expect("an address").to_string());
        drop(dead);
        let fake = Fake::start(|request| match request.target.as_str() {
            "/v1/operator/autopilot/state" => {
                (200, r#"{"Leader":"id-n1","Servers":{"id-n1":{"ID":"id-n1","Name":"n1"}}}"#.into())
            }
            _ => (
                200,
                r#"[{"Index":1,"Kind":"promoted","Server":"id-n1","Text":"a"},{"Index":2,"Text":"b"}]"#
                    .into(),
            ),
        });
        let sources = [gone, source("n1", fake.address())];
        let mut observer = Observer::default();
        let first = observer.look(&sources);
        assert_eq!(first.state.expect("the second server answers").leader, "id-n1");
        assert_eq!(first.events.iter().map(|event| event.index).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(observer.look(&sources).events, []);
        assert_eq!(observer.preferred.as_deref(), Some("id-n1"));
    }

    #[test]
    fn the_plan_names_servers_and_says_when() {
        let situation = autopilot::testing::Situation::new("id-n1").voter("id-n2").voter("id-n3");
        let mut inputs = situation.failed("id-n3").inputs;
        inputs.config = Some(autopilot::Config::reference());
        let plan = Proposal::compute(&inputs, &autopilot::StablePromoter);
        let members = [server("n1", "leader"), server("n2", "voter"), server("n3", "voter")];
        let lines = steps(&plan, &cluster(&members.each_ref()));
        assert!(!lines.is_empty() && lines.iter().all(|line| !line.contains("id-")), "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("now: ") || line.contains(" in ")), "{lines:?}");
    }

    #[test]
    fn when_nobody_answers_the_reason_is_given() {
        let fake = Fake::start(|_| (500, "No cluster leader".into()));
        let sources = [source("n1", fake.address())];
        let look = Observer::default().look(&sources);
        assert_eq!(look.state, None);
        assert_eq!(look.problem.as_deref(), Some("n1 knows none"));
        assert_eq!(Observer::default().look(&[]), Observation::default());
    }
}
