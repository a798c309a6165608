//! Network namespaces: one for each server, joined by a bridge that the test sits at too.

use std::process::Command;

use live_tests::Agent;

/// How the names of everything begin; the process id follows.
const PREFIX: &str = "aplin";

/// The namespaces of one test. They go when it goes.
#[derive(Debug)]
pub(crate) struct Namespaces {
    names: Vec<String>,
    bridge: String,
    /// The first three numbers of all addresses.
    network: String,
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }
}

impl Namespaces {
    /// Makes this many, after removing what a test that was killed left behind.
    ///
    /// # Errors
    /// Why this machine does not let it; nothing is left then.
    pub(crate) fn create(count: usize) -> Result<Self, String> {
        remove_leftovers()?;
        let process = std::process::id();
        let network = format!("10.{}.{}", 64 + process / 250 % 128, 1 + process % 250);
        let mut made = Self { names: Vec::new(), bridge: format!("{PREFIX}{process}"), network };
        made.make(count)?;
        Ok(made)
    }

    fn make(&mut self, count: usize) -> Result<(), String> {
        ip(&["link", "add", &self.bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}.254/24", self.network), "dev", &self.bridge])?;
        ip(&["link", "set", &self.bridge, "up"])?;
        for number in 1..=count {
            let name = format!("{}-{number}", self.bridge);
            ip(&["netns", "add", &name])?;
            self.names.push(name.clone());
            // Names of devices have at most 15 characters.
            let outside = format!("{}v{number}", self.bridge);
            ip(&["link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["link", "set", &outside, "master", &self.bridge])?;
            ip(&["link", "set", &outside, "up"])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", self.address(number)), "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// The address of a server, which are counted from 1.
    fn address(&self, number: usize) -> String {
        format!("{}.{number}", self.network)
    }

    /// Puts a server into its namespace.
    pub(crate) fn place(&self, number: usize, agent: &mut Agent) {
        let address = self.address(number);
        agent.http = format!("{address}:8500");
        agent.raft = format!("{address}:8300");
        agent.gossip = format!("{address}:8301");
        agent.namespace = Some(self.names[number - 1].clone());
    }

    /// Lets nothing pass from one server to another; servers are counted from 0.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        let address = self.address(to + 1);
        ip(&["-n", &self.names[from], "route", "replace", "blackhole", &address])
            .expect("a route can be set");
    }

    /// Ends all cuts.
    pub(crate) fn heal(&self) {
        for name in &self.names {
            ip(&["-n", name, "route", "flush", "type", "blackhole"]).expect("routes can be removed");
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "delete", name]);
        }
        let _ = ip(&["link", "delete", &self.bridge]);
    }
}

/// Removes the namespaces and bridges of processes that are gone.
fn remove_leftovers() -> Result<(), String> {
    let gone = |name: &str| {
        let process = name.strip_prefix(PREFIX)?.split(['-', 'v']).next()?.parse::<u32>().ok()?;
        (!std::path::Path::new(&format!("/proc/{process}")).exists()).then_some(process)
    };
    for line in ip(&["netns", "list"])?.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if gone(name).is_some() {
            ip(&["netns", "delete", name])?;
        }
    }
    for line in ip(&["-o", "link", "show", "type", "bridge"])?.lines() {
        let name = line.split_whitespace().nth(1).unwrap_or_default().trim_end_matches(':');
        if gone(name).is_some() {
            ip(&["link", "delete", name])?;
        }
    }
    Ok(())
}
