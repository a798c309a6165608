//! A cluster of child processes together with the eyes on it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::directory::Directory;
use super::interrupt::Interrupt;
use super::observe::{Observation, Observer, Source, changes, followed};
use super::process::{ServerProcess, Spec, StartError};
use super::screen::Screen;
use super::view::{Facts, Fate, Voice};
use crate::cli::wire::Event;

/// How long a new server must be healthy before it is promoted: long enough to be seen, short enough to be watched.
const STABILIZATION: &str = "3s";

/// Settings of every server, quicker than the defaults so that a person does not have to wait.
const SETTINGS: [&str; 6] = [
    "--autopilot-server-stabilization-time",
    STABILIZATION,
    "--autopilot-update-interval",
    "500ms",
    "--autopilot-reconcile-interval",
    "1s",
];

/// How many servers form the cluster.
pub(crate) const FOUNDERS: usize = 3;

/// A person, or the system, wants the program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// One server and what this process did to it.
#[derive(Debug)]
struct Child {
    process: ServerProcess,
    /// Killed by this process, so that its end is no surprise.
    killed: bool,
    /// Asked to stop by this process.
    asked: bool,
    /// Its end was told in the timeline.
    told: bool,
}

impl Child {
    fn fate(&mut self) -> Fate {
        match self.process.ended() {
            None => Fate::Running,
            Some(_) if self.killed => Fate::Killed,
            Some(status) if self.asked && status.success() => Fate::Stopped,
            Some(status) => Fate::Ended(status.to_string()),
        }
    }
}

/// The running cluster. Dropping it kills the servers, then removes their data.
#[derive(Debug)]
pub(crate) struct Session {
    // Before the directory: the servers must be gone before their data is.
    children: Vec<Child>,
    directory: Directory,
    program: PathBuf,
    settings: Vec<String>,
    observer: Observer,
    pub(crate) screen: Screen,
    pub(crate) interrupt: Interrupt,
}

impl Session {
    /// No servers yet.
    pub(crate) fn new(directory: Directory, program: PathBuf, screen: Screen, interrupt: Interrupt) -> Self {
        Self {
            children: Vec::new(),
            directory,
            program,
            settings: SETTINGS.map(str::to_owned).to_vec(),
            observer: Observer::default(),
            screen,
            interrupt,
        }
    }

    /// Starts one more server and gives its id. The first [`FOUNDERS`] form the cluster; any further one joins it.
    ///
    /// # Errors
    ///
    /// [`StartError`] when it does not get ready; the others are not touched.
    pub(crate) fn start(&mut self) -> Result<String, StartError> {
        let name = format!("n{}", self.children.len() + 1);
        let id = format!("{name}-{:08x}", rand::random::<u32>());
        let join = self.running().next().map(|process| process.addresses.gossip.clone());
        let process = ServerProcess::start(&Spec {
            program: &self.program,
            name: &name,
            id: &id,
            directory: self.directory.path(),
            join: join.as_deref(),
            bootstrap_expect: (self.children.len() < FOUNDERS).then_some(FOUNDERS),
            settings: &self.settings,
        })?;
        self.screen.note(Voice::Dev, format!("{name} started: http://{}", process.addresses.http));
        self.children.push(Child { process, killed: false, asked: false, told: false });
        Ok(id)
    }

    /// Kills a server with SIGKILL and says when it was gone.
    pub(crate) fn kill(&mut self, id: &str) -> Instant {
        let child = self.children.iter_mut().find(|child| child.process.id == id);
        let child = child.expect("only servers that were started are killed");
        child.killed = true;
        child.told = true;
        child.process.kill();
        let gone = Instant::now();
        self.screen.note(Voice::Dev, format!("{} killed with SIGKILL", child.process.name));
        gone
    }

    /// The servers whose process this process did not see end.
    pub(crate) fn running(&self) -> impl Iterator<Item = &ServerProcess> {
        self.children.iter().filter(|child| !child.killed && !child.told).map(|child| &child.process)
    }

    /// The servers that can be asked.
    pub(crate) fn sources(&self) -> Vec<Source> {
        self.running()
            .map(|process| Source {
                id: process.id.clone(),
                name: process.name.clone(),
                http: process.addresses.http.clone(),
            })
            .collect()
    }

    /// What this process knows about every server it started.
    pub(crate) fn facts(&mut self) -> Vec<Facts> {
        let facts = self.children.iter_mut().map(|child| Facts {
            fate: child.fate(),
            name: child.process.name.clone(),
            id: child.process.id.clone(),
            http: child.process.addresses.http.clone(),
            pid: child.process.pid(),
        });
        facts.collect()
    }

    /// The name of a server.
    pub(crate) fn name(&self, id: &str) -> String {
        let known = self.children.iter().find(|child| child.process.id == id);
        known.map_or_else(|| id.to_owned(), |child| child.process.name.clone())
    }

    /// Looks at the cluster, tells what changed, draws, and then waits for `pause`.
    ///
    /// The names of servers that ended without having been killed from here come along.
    ///
    /// # Errors
    ///
    /// [`Interrupted`] as soon as the person wants to end.
    pub(crate) fn tick(&mut self, pause: Duration) -> Result<(Observation, Vec<String>), Interrupted> {
        let surprises = self.notice_ends();
        let seen = self.observer.look(&self.sources());
        if let Some(state) = &seen.state {
            for change in changes(self.screen.state(), state) {
                if !change.is_told_by(&seen.events) {
                    self.screen.note(Voice::Dev, change.text);
                }
            }
        }
        for event in &seen.events {
            self.screen.note(Voice::Autopilot, event_text(self, event));
        }
        self.screen.learn(&seen);
        let facts = self.facts();
        self.screen.draw(&facts);
        if self.interrupt.wait(pause) { Err(Interrupted) } else { Ok((seen, surprises)) }
    }

    /// Draws without looking, where looking would take longer than what is being measured.
    ///
    /// # Errors
    ///
    /// [`Interrupted`] as soon as the person wants to end.
    pub(crate) fn refresh(&mut self, pause: Duration) -> Result<(), Interrupted> {
        let facts = self.facts();
        self.screen.draw(&facts);
        if self.interrupt.wait(pause) { Err(Interrupted) } else { Ok(()) }
    }

    /// The name of the leader that any running server follows, if that leader runs too.
    pub(crate) fn new_leader(&self) -> Option<String> {
        let followed = self.running().find_map(|process| {
            let address = followed(&process.addresses.http).ok()?;
            self.running().find(|leader| leader.addresses.raft == address)
        });
        followed.map(|leader| leader.name.clone())
    }

    fn notice_ends(&mut self) -> Vec<String> {
        let mut surprises = Vec::new();
        for child in self.children.iter_mut().filter(|child| !child.told) {
            if let Some(status) = child.process.ended() {
                child.told = true;
                surprises.push(format!("{} ended by itself ({status})", child.process.name));
            }
        }
        for surprise in &surprises {
            self.screen.note(Voice::Dev, surprise.clone());
        }
        surprises
    }

    /// Writes the table where there is no terminal to draw it on.
    pub(crate) fn print_table(&mut self) {
        let facts = self.facts();
        self.screen.print_table(&facts);
    }

    /// Asks every running server to stop and waits until all have, or the deadline. Names those that did not end
    /// well, with how they ended.
    pub(crate) fn stop(&mut self, deadline: Instant) -> Vec<String> {
        let mut failures = Vec::new();
        for child in self.children.iter_mut().filter(|child| !child.told) {
            child.asked = true;
            child.process.ask_to_stop();
        }
        for child in self.children.iter_mut().filter(|child| !child.told) {
            child.told = true;
            match child.process.wait_until(deadline) {
                Some(status) if status.success() => {}
                Some(status) => failures.push(format!("{} ended with {status}", child.process.name)),
                None => failures.push(format!("{} still runs", child.process.name)),
            }
        }
        failures
    }

    /// Leaves data and logs in place and says where.
    pub(crate) fn keep_data(&mut self) -> String {
        self.directory.keep();
        self.directory.path().display().to_string()
    }

    /// Where data and logs are, if they are left in place.
    pub(crate) fn kept_data(&self) -> Option<String> {
        self.directory.is_kept().then(|| self.directory.path().display().to_string())
    }

    /// The end of every server's log, for a report.
    pub(crate) fn log_tails(&self, lines: usize) -> String {
        let mut out = String::new();
        for child in &self.children {
            let process = &child.process;
            out.push_str(&format!("--- {} ({})\n", process.name, process.log.display()));
            for line in process.log_tail(lines) {
                out.push_str(&line);
                out.push('\n');
            }
        }
        out
    }
}

/// An event as a sentence, with the server's name in place of its id.
fn event_text(session: &Session, event: &Event) -> String {
    format!("{} {}: {}", session.name(&event.server), event.kind.replace('-', " "), event.text)
}
