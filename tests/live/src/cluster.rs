//! Several servers that belong together.

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{get, request};
use crate::{Agent, wait};

/// A cluster, with its data in a temporary folder that goes when it goes.
#[derive(Debug)]
pub struct Cluster {
    /// The servers, in the order in which they came.
    pub agents: Vec<Agent>,
    folder: TempDir,
    /// The size of the first configuration.
    expect: usize,
}

/// A member of the consensus group, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
}

impl Cluster {
    /// Starts this many servers and waits until all of them are healthy voters.
    ///
    /// # Panics
    /// If they do not come up.
    #[must_use]
    pub fn start(count: usize) -> Self {
        Self::start_placed(count, |_, _| {})
    }

    /// The same, with each server's addresses and namespace as `place` says.
    ///
    /// # Panics
    /// If they do not come up.
    #[must_use]
    pub fn start_placed(count: usize, place: impl Fn(usize, &mut Agent)) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut cluster = Self { agents: Vec::new(), folder, expect: count };
        for number in 1..=count {
            let mut agent = Agent::new(cluster.folder.path(), &format!("n{number}"));
            place(number, &mut agent);
            cluster.agents.push(agent);
            cluster.restart(number - 1);
        }
        cluster.settle();
        cluster
    }

    /// Starts one more server that joins the others.
    pub fn add(&mut self, name: &str, more: &[&str]) -> usize {
        let agent = Agent::new(self.folder.path(), name);
        self.agents.push(agent);
        self.restart_with(self.agents.len() - 1, more);
        self.agents.len() - 1
    }

    /// Starts a server again, at the same addresses and with the same data.
    pub fn restart(&mut self, which: usize) {
        let expect = self.expect.to_string();
        self.restart_with(which, &["--bootstrap-expect", &expect]);
    }

    fn restart_with(&mut self, which: usize, more: &[&str]) {
        let joins: Vec<String> = self
            .agents
            .iter()
            .enumerate()
            .filter(|(n, a)| *n != which && a.is_up())
            .map(|(_, a)| a.gossip.clone())
            .collect();
        let mut arguments = more.to_vec();
        for join in &joins {
            arguments.extend(["--join", join]);
        }
        self.agents[which].start(&arguments);
    }

    /// The folder that holds all data.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The consensus group as one server sees it.
    ///
    /// # Errors
    /// Why it does not say.
    pub fn members(&self, asked: usize) -> Result<Vec<Member>, String> {
        let body = get(&self.agents[asked].url("/v1/operator/raft/configuration"))?.ok()?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        let servers = answer["Servers"].as_array().ok_or("no servers")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(servers
            .iter()
            .map(|server| Member {
                id: text(&server["ID"]),
                voter: server["Voter"] == true,
                leader: server["Leader"] == true,
            })
            .collect())
    }

    /// The servers that run.
    #[must_use]
    pub fn running(&self) -> Vec<usize> {
        (0..self.agents.len()).filter(|n| self.agents[*n].is_up()).collect()
    }

    /// The server that leads.
    ///
    /// # Panics
    /// If none does for too long.
    #[must_use]
    pub fn leader(&self) -> usize {
        wait("a leader", || {
            for asked in self.running() {
                let Ok(members) = self.members(asked) else { continue };
                let leader = members.iter().find(|member| member.leader).map(|member| member.id.clone());
                if let Some(at) =
                    leader.and_then(|id| self.agents.iter().position(|a| a.name == id && a.is_up()))
                {
                    return Ok(at);
                }
            }
            Err("nobody names one that runs".to_owned())
        })
    }

    /// A running voter that does not lead.
    ///
    /// # Panics
    /// If there is none for too long.
    #[must_use]
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        self.running().into_iter().find(|n| *n != leader).expect("another server")
    }

    /// Waits until autopilot finds everything healthy and every running server votes.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn settle(&self) {
        wait("a healthy cluster of voters", || {
            let running = self.running();
            for asked in &running {
                let answer = get(&self.agents[*asked].url("/v1/operator/autopilot/health"))?;
                if answer.json()["Healthy"] != true {
                    return Err(format!("{}: {} {}", self.agents[*asked].name, answer.status, answer.body));
                }
                let voters = self.members(*asked)?.iter().filter(|member| member.voter).count();
                if voters != running.len() {
                    return Err(format!("{voters} of {} vote", running.len()));
                }
            }
            Ok(())
        });
    }

    /// Writes a key through one server.
    ///
    /// # Errors
    /// Why it was not acknowledged. It may have been written.
    pub fn write(&self, through: usize, key: &str, value: &str) -> Result<(), String> {
        let answer = request("PUT", &self.agents[through].url(&format!("/v1/kv/{key}")), value.as_bytes())?;
        let body = answer.ok()?;
        if body.trim() == "true" { Ok(()) } else { Err(body) }
    }

    /// Reads a key from what one server holds itself.
    ///
    /// # Errors
    /// Why there is no value.
    pub fn read_local(&self, from: usize, key: &str) -> Result<String, String> {
        get(&self.agents[from].url(&format!("/v1/kv/{key}?raw&stale")))?.ok()
    }

    /// Checks that the cluster accepts a write and gives it back everywhere.
    ///
    /// # Panics
    /// If it does not.
    pub fn serves(&self, mark: &str) {
        for through in self.running() {
            let key = format!("serves/{}/{through}", mark.replace(' ', "-"));
            wait("a write", || self.write(through, &key, mark));
            for from in self.running() {
                wait("the value", || {
                    let value = self.read_local(from, &key)?;
                    if value == mark { Ok(()) } else { Err(value) }
                });
            }
        }
    }
}
