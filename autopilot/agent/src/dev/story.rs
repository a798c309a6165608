//! `dev --story`: a cluster loses its leader and heals, phase by phase.
//!
//! Every phase has a bound. A phase that does not come about in its bound ends the story with its reason, the last
//! table, the ends of the logs and exit code 1.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::keys::{Acknowledged, Consistency, Writer, lost, write};
use super::observe::{Observation, about_removal, members};
use super::process::StartError;
use super::report::{PhaseReport, Report};
use super::session::{FOUNDERS, Interrupted, Session};
use super::view::Voice;
use super::{INTERRUPTED, JOINERS};
/// How often the cluster is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The same while milliseconds are being measured.
const CLOSE_LOOK: Duration = Duration::from_millis(20);

/// How many keys are written through each server.
const KEYS_PER_SERVER: usize = 20;

/// How long the writer runs before the leader is killed.
const WRITES_BEFORE_KILL: Duration = Duration::from_millis(500);

/// The code of the reason that a server has not been healthy for long enough.
const PROBATION: &str = "probation";

/// How many lines of each log a failure shows.
const LOG_LINES: usize = 15;

/// Why a phase did not come about. The story ends with the first one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PhaseError {
    /// A server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The person wants to end.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// Something did not happen in time.
    #[error("not within {bound:?}: {waiting_for}")]
    NotInTime {
        /// The bound of the phase.
        bound: Duration,
        /// What was missing at the last look.
        waiting_for: String,
    },
    /// A server ended that nobody killed.
    #[error("{0}")]
    Died(String),
    /// Servers became voters and were never seen to wait for it.
    #[error("these servers got a vote without having been seen on probation: {0}")]
    NoProbation(String),
    /// Acknowledged keys are not there.
    #[error(
        "{count} of {total} acknowledged keys are missing or changed on {server} ({read} read), the first is {first}"
    )]
    Lost {
        /// The server asked.
        server: String,
        /// How it was asked.
        read: Consistency,
        /// How many are lost.
        count: usize,
        /// How many there should be.
        total: usize,
        /// One of them.
        first: String,
    },
    /// Servers did not stop well when asked.
    #[error("the shutdown was not clean: {0}")]
    Shutdown(String),
}

/// Bound of one phase.
#[derive(Debug, Clone, Copy)]
struct Bound {
    limit: Duration,
    deadline: Instant,
}

type Phase<'a> = (&'static str, u64, fn(&mut Story<'a>, Bound) -> Result<String, PhaseError>);

/// What one phase leaves for the next.
struct Story<'a> {
    session: &'a mut Session,
    keys: Acknowledged,
    /// The killed leader and when it was gone.
    killed: Option<(String, Instant)>,
    /// The phase that did not come about.
    failed: Option<String>,
}

/// Tells the story and gives the exit code.
pub(crate) fn run(session: &mut Session, json: Option<&Path>) -> ExitCode {
    let mut report = Report::default();
    let begun = Instant::now();
    let mut story = Story { session, keys: Acknowledged::new(), killed: None, failed: None };
    let result = story.phases(&mut report);
    let failed = story.failed.unwrap_or_default();
    let session = story.session;
    report.total = begun.elapsed();
    report.failure = result.as_ref().err().map(|error| format!("{failed}: {error}"));
    let mut code = match &result {
        Ok(()) => ExitCode::SUCCESS,
        Err(PhaseError::Interrupted(_)) => ExitCode::from(INTERRUPTED),
        Err(_) => ExitCode::FAILURE,
    };
    let palette = session.screen.palette();
    session.screen.print(&format!("\n{}", report.text(palette)));
    match &result {
        Err(PhaseError::Interrupted(_)) => {}
        Err(_) => explain(session),
        Ok(()) => {
            if let Some(path) = session.kept_data() {
                session.screen.print(&format!("Data and logs are in {path}\n"));
            }
        }
    }
    if let Some(failure) = &report.failure {
        eprintln!("Error: {failure}");
    }
    if let Some(path) = json
        && let Err(error) = std::fs::write(path, report.json())
    {
        eprintln!("Error: cannot write {}: {error}", path.display());
        code = ExitCode::FAILURE;
    }
    code
}

fn explain(session: &mut Session) {
    let facts = session.facts();
    let table = super::view::table(&facts, session.screen.state()).text(session.screen.palette());
    let logs = session.log_tails(LOG_LINES);
    let kept = session.keep_data();
    session.screen.print(&format!("\nThe last table:\n{table}\nThe ends of the logs:\n{logs}"));
    session.screen.print(&format!("\nData and logs are in {kept}\n"));
}

impl<'a> Story<'a> {
    fn phases(&mut self, report: &mut Report) -> Result<(), PhaseError> {
        let phases: [Phase<'a>; 8] = [
            ("three servers form a cluster", 30, Self::form),
            ("two more join and are promoted", 40, Self::grow),
            ("keys are written through every server", 30, Self::write_keys),
            ("the leader is killed, another takes over", 20, Self::kill_leader),
            ("autopilot removes the dead server", 40, Self::dead_is_removed),
            ("a replacement joins and is promoted", 40, Self::replace),
            ("every key is read from every server", 30, Self::read_keys),
            ("all servers stop when asked", 20, Self::stop),
        ];
        for (number, (name, seconds, body)) in phases.into_iter().enumerate() {
            let limit = Duration::from_secs(seconds);
            let begun = Instant::now();
            self.session.screen.note(Voice::Dev, format!("== {}. {name}", number + 1));
            let result = body(self, Bound { limit, deadline: begun + limit });
            report.phases.push(PhaseReport {
                name,
                took: begun.elapsed(),
                bound: limit,
                seen: result.as_ref().map_or_else(ToString::to_string, Clone::clone),
                ok: result.is_ok(),
            });
            if result.is_err() {
                self.failed = Some(format!("phase {}, {name}", number + 1));
            }
            result?;
            // At the end there is nobody left to be in a table.
            if self.session.sources().is_empty() {
                break;
            }
            self.session.print_table();
        }
        Ok(())
    }

    /// Looks at the cluster until `done`, which says what is still missing.
    fn until(
        &mut self,
        bound: Bound,
        pause: Duration,
        mut done: impl FnMut(&Session, &Observation) -> Result<(), String>,
    ) -> Result<(), PhaseError> {
        loop {
            let (seen, surprises) = self.session.tick(pause)?;
            if !surprises.is_empty() {
                return Err(PhaseError::Died(surprises.join(", ")));
            }
            let Err(waiting_for) = done(self.session, &seen) else { return Ok(()) };
            if Instant::now() >= bound.deadline {
                return Err(PhaseError::NotInTime { bound: bound.limit, waiting_for });
            }
        }
    }

    fn form(&mut self, bound: Bound) -> Result<String, PhaseError> {
        for _ in 0..FOUNDERS {
            self.session.start()?;
        }
        self.until(bound, LOOK, |_, seen| all_voters(seen, FOUNDERS))?;
        let leader = self.session.screen.state().map(|state| state.leader.clone()).unwrap_or_default();
        Ok(format!("{} leads", self.session.name(&leader)))
    }

    fn grow(&mut self, bound: Bound) -> Result<String, PhaseError> {
        let new = (0..JOINERS).map(|_| self.session.start()).collect::<Result<Vec<_>, _>>()?;
        self.promoted(bound, &new, FOUNDERS + JOINERS)
    }

    fn replace(&mut self, bound: Bound) -> Result<String, PhaseError> {
        let new = vec![self.session.start()?];
        self.promoted(bound, &new, FOUNDERS + JOINERS)
    }

    /// Waits until the new servers vote. Each must have been seen without a vote and told to be on probation.
    fn promoted(&mut self, bound: Bound, new: &[String], voters: usize) -> Result<String, PhaseError> {
        let mut reasons = vec![None; new.len()];
        self.until(bound, LOOK, |_, seen| {
            for (id, reason) in new.iter().zip(&mut reasons) {
                if let Some(text) = probation(seen, id) {
                    reason.get_or_insert(text);
                }
            }
            all_voters(seen, voters)
        })?;
        let silent: Vec<String> = new
            .iter()
            .zip(&reasons)
            .filter(|(_, reason)| reason.is_none())
            .map(|(id, _)| self.session.name(id))
            .collect();
        if !silent.is_empty() {
            return Err(PhaseError::NoProbation(silent.join(", ")));
        }
        let names: Vec<String> = new.iter().map(|id| self.session.name(id)).collect();
        let reason = reasons.into_iter().flatten().next().unwrap_or_default();
        Ok(format!("{} waited: {reason}", names.join(" and ")))
    }

    fn write_keys(&mut self, bound: Bound) -> Result<String, PhaseError> {
        for source in self.session.sources() {
            for number in 0..KEYS_PER_SERVER {
                let name = format!("{}/{number:06}", source.name);
                let (key, value) = loop {
                    match write(&source.http, &name) {
                        Ok(written) => break written,
                        Err(error) if Instant::now() >= bound.deadline => {
                            let waiting_for = format!("a write through {}: {error}", source.name);
                            return Err(PhaseError::NotInTime { bound: bound.limit, waiting_for });
                        }
                        // The same key and value again: what an unknown outcome left does no harm.
                        Err(_) => self.session.tick(CLOSE_LOOK)?,
                    };
                };
                self.keys.insert(key, value);
            }
            self.session.tick(Duration::ZERO)?;
        }
        Ok(format!("{} keys acknowledged", self.keys.len()))
    }

    fn kill_leader(&mut self, bound: Bound) -> Result<String, PhaseError> {
        let mut leader = String::new();
        self.until(bound, LOOK, |session, seen| {
            leader = seen.state.as_ref().map(|state| state.leader.clone()).unwrap_or_default();
            if session.running().any(|process| process.id == leader) {
                Ok(())
            } else {
                Err("a leader".to_owned())
            }
        })?;
        let survivors: Vec<String> = self
            .session
            .sources()
            .into_iter()
            .filter(|source| source.id != leader)
            .map(|source| source.http)
            .collect();
        let writer = Writer::start(survivors);
        // From here to the end of the phase the writer must be stopped whatever happens.
        let result = self.take_over(bound, &leader, &writer);
        let written = writer.stop();
        let count = written.len();
        self.keys.extend(written);
        Ok(format!("{}; {count} keys written meanwhile", result?))
    }

    fn take_over(&mut self, bound: Bound, leader: &str, writer: &Writer) -> Result<String, PhaseError> {
        self.session.tick(WRITES_BEFORE_KILL)?;
        let gone = self.session.kill(leader);
        writer.killed_at(gone);
        self.killed = Some((leader.to_owned(), gone));
        // The servers are asked directly: autopilot's own view of the new leader comes a moment later.
        let mut elected = None;
        loop {
            elected = elected.or_else(|| self.session.new_leader().map(|name| (name, gone.elapsed())));
            let waiting_for = match (&elected, writer.first_after()) {
                (Some((name, after)), Some(first)) => {
                    let (after, first) = (after.as_secs_f64(), first.as_secs_f64());
                    let text =
                        format!("{name} leads after {after:.2}s, first write acknowledged after {first:.2}s");
                    self.session.screen.note(Voice::Dev, text.clone());
                    return Ok(text);
                }
                (None, _) => "a new leader",
                (_, None) => "an acknowledged write",
            };
            if Instant::now() >= bound.deadline {
                let waiting_for = waiting_for.to_owned();
                return Err(PhaseError::NotInTime { bound: bound.limit, waiting_for });
            }
            self.session.refresh(CLOSE_LOOK)?;
        }
    }

    fn dead_is_removed(&mut self, bound: Bound) -> Result<String, PhaseError> {
        let (dead, gone) = self.killed.clone().expect("the phase before killed a server");
        self.explain_removal(bound, &dead)?;
        self.until(bound, LOOK, |session, seen| {
            let name = session.name(&dead);
            let Some(state) = &seen.state else { return Err(no_answer(seen)) };
            if state.servers.contains_key(&dead) {
                return Err(format!("{name} is still a member"));
            }
            // The leader's log has the last word.
            let leader = session.running().find(|process| process.id == state.leader);
            let leader = leader.ok_or_else(|| "a leader".to_owned())?;
            let configuration = members(&leader.addresses.http).map_err(|error| error.to_string())?;
            if configuration.servers.iter().any(|server| server.id == dead) {
                return Err(format!("{name} is still in the leader's configuration"));
            }
            Ok(())
        })?;
        Ok(format!(
            "{} removed {:.2}s after the kill",
            self.session.name(&dead),
            gone.elapsed().as_secs_f64()
        ))
    }

    /// Waits until autopilot says why the dead server is still there, or it is gone already, and tells that.
    fn explain_removal(&mut self, bound: Bound, dead: &str) -> Result<(), PhaseError> {
        let mut said = None;
        self.until(bound, LOOK, |session, seen| {
            let Some(state) = &seen.state else { return Err(no_answer(seen)) };
            if !state.servers.contains_key(dead) {
                return Ok(());
            }
            let leader = session.running().find(|process| process.id == state.leader);
            let leader = leader.ok_or_else(|| "a leader".to_owned())?;
            said = about_removal(&leader.addresses.http, dead).map_err(|error| error.to_string())?;
            if said.is_some() { Ok(()) } else { Err("the dead server is not noticed".to_owned()) }
        })?;
        if let Some(text) = said {
            let name = self.session.name(dead);
            self.session.screen.note(Voice::Dev, format!("why is {name} still there? {text}"));
        }
        Ok(())
    }

    fn read_keys(&mut self, bound: Bound) -> Result<String, PhaseError> {
        let sources = self.session.sources();
        for source in &sources {
            for read in [Consistency::Linearizable, Consistency::Stale] {
                self.read_all(bound, &source.name, &source.http, read)?;
            }
        }
        Ok(format!("{} keys on each of {} servers", self.keys.len(), sources.len()))
    }

    /// A linearizable read must have everything at once; a server's own copy may lag until the bound.
    fn read_all(
        &mut self,
        bound: Bound,
        name: &str,
        http: &str,
        read: Consistency,
    ) -> Result<(), PhaseError> {
        loop {
            let late = Instant::now() >= bound.deadline;
            match lost(http, read, &self.keys) {
                Ok(lost) if lost.is_empty() => return Ok(()),
                Ok(lost) if late || read == Consistency::Linearizable => {
                    return Err(PhaseError::Lost {
                        server: name.to_owned(),
                        read,
                        count: lost.len(),
                        total: self.keys.len(),
                        first: lost.into_iter().next().unwrap_or_default(),
                    });
                }
                Err(error) if late => {
                    let waiting_for = format!("a {read} read of all keys from {name}: {error}");
                    return Err(PhaseError::NotInTime { bound: bound.limit, waiting_for });
                }
                Ok(_) | Err(_) => self.session.tick(LOOK)?,
            };
        }
    }

    fn stop(&mut self, bound: Bound) -> Result<String, PhaseError> {
        let count = self.session.sources().len();
        let failures = self.session.stop(bound.deadline);
        if failures.is_empty() {
            Ok(format!("{count} servers ended with exit code 0"))
        } else {
            Err(PhaseError::Shutdown(failures.join(", ")))
        }
    }
}

fn no_answer(seen: &Observation) -> String {
    seen.problem.clone().unwrap_or_else(|| "an answer from the cluster".to_owned())
}

/// Whether the cluster has exactly so many servers, all of them healthy voters, and a leader; otherwise what is missing.
fn all_voters(seen: &Observation, wanted: usize) -> Result<(), String> {
    let Some(state) = &seen.state else { return Err(no_answer(seen)) };
    let mut missing: Vec<String> = Vec::new();
    if state.servers.len() != wanted {
        missing.push(format!("{} of {wanted} servers are members", state.servers.len()));
    }
    for server in state.servers.values() {
        if !server.is_voter() {
            let reason = server.blocked_by.as_ref().map_or("no reason given", |blocked| blocked.sentence());
            missing.push(format!("{} does not vote yet ({reason})", server.name));
        } else if !server.healthy {
            let reason = server.reasons.first().map_or("no reason given", |reason| reason.sentence());
            missing.push(format!("{} is not healthy ({reason})", server.name));
        }
    }
    if !state.servers.contains_key(&state.leader) {
        missing.push("there is no leader".to_owned());
    }
    if missing.is_empty() && !state.healthy {
        missing.push("autopilot calls the cluster unhealthy".to_owned());
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
}

/// What is said about a member that does not vote because it must prove itself first.
fn probation(seen: &Observation, id: &str) -> Option<String> {
    let server = seen.state.as_ref()?.servers.get(id).filter(|server| !server.is_voter())?;
    let blocked = server.blocked_by.as_ref().filter(|blocked| blocked.code == PROBATION)?;
    Some(blocked.sentence().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::wire::{AutopilotState, Reason, ServerState};

    fn member(name: &str, status: &str) -> ServerState {
        ServerState { name: name.into(), status: status.into(), healthy: true, ..ServerState::default() }
    }

    fn seen(members: Vec<ServerState>) -> Observation {
        let leader = members.iter().find(|m| m.status == "leader").map_or(String::new(), |m| m.name.clone());
        let servers = members.into_iter().map(|member| (member.name.clone(), member)).collect();
        let state = AutopilotState { healthy: true, leader, servers, ..AutopilotState::default() };
        Observation { state: Some(state), ..Observation::default() }
    }

    #[test]
    fn a_whole_cluster_is_recognised() {
        assert_eq!(all_voters(&seen(vec![member("n1", "leader"), member("n2", "voter")]), 2), Ok(()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut waiting = member("n2", "non-voter");
        waiting.blocked_by = Some(Reason { code: "probation".into(), text: "2s left".into() });
        let mut sick = member("n1", "leader");
        sick.healthy = false;
        let check = |observation: &Observation, wanted, expected: &str| {
            assert_eq!(all_voters(observation, wanted), Err(expected.to_owned()));
        };
        check(&seen(vec![member("n1", "leader")]), 2, "1 of 2 servers are members");
        check(&seen(vec![member("n1", "leader"), waiting.clone()]), 2, "n2 does not vote yet (2s left)");
        check(&seen(vec![sick, member("n2", "voter")]), 2, "n1 is not healthy (no reason given)");
        check(&seen(vec![member("n1", "voter")]), 1, "there is no leader");
        let mut unhealthy = seen(vec![member("n1", "leader")]);
        unhealthy.state.as_mut().expect("a state").healthy = false;
        check(&unhealthy, 1, "autopilot calls the cluster unhealthy");
        check(&Observation { problem: Some("n1: gone".into()), ..Observation::default() }, 1, "n1: gone");
        assert_eq!(probation(&seen(vec![waiting.clone()]), "n2"), Some("2s left".to_owned()));
        assert_eq!(probation(&seen(vec![member("n2", "voter")]), "n2"), None);
        waiting.blocked_by = Some(Reason { code: "no-contact".into(), text: "silent".into() });
        assert_eq!(probation(&seen(vec![waiting]), "n2"), None);
    }
}
