//! What one server is told at its start: defaults, then the TOML file, then flags, each overriding the one before.
//!
//! [`Settings`] is read from both sources, so a flag and a key always have the same name (`raft_addr` and
//! `--raft-addr`, `[autopilot] min_quorum` and `--autopilot-min-quorum`). [`AgentConfig`] is the checked result.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use autopilot::{ChangePolicy, HealthPolicy, RemovalPolicy};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::kv::AutopilotSettings;

/// The largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The longest name, id, zone or datacenter, in bytes: all of them travel in each gossip datagram.
const NAME_BYTES_MAX: usize = 64;
/// All metadata together, in bytes, for the same reason.
const META_BYTES_MAX: usize = 256;
/// The most servers that can be expected at bootstrap; a larger number is a typing error.
const BOOTSTRAP_EXPECT_MAX: u32 = 99;

/// A duration as people write it: `200ms`, `10s`, `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| format!("{text:?} is not a duration; write one such as 200ms, 10s or 1m30s"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Which policy proposes promotions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PromoterKind {
    /// Every stable server becomes a voter.
    #[default]
    Stable,
    /// The same, except for servers started with `read_replica`, which never vote.
    ReadReplicas,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what needs a person.
    Error,
    /// Also what may need one soon.
    Warn,
    /// Also what changed.
    #[default]
    Info,
    /// Also why.
    Debug,
    /// Everything.
    Trace,
}

/// The arguments of `autopilot agent`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AgentArgs {
    /// Read settings from this TOML file; flags override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Everything that can stand in the file too.
    #[command(flatten)]
    pub settings: Settings,
}

/// What can stand in the file and on the command line. Absent means: the other source, else the default.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Name shown to people [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Identity for life [default: made once and kept in the data directory]
    #[arg(long, value_name = "ID")]
    pub node_id: Option<String>,
    /// Where the log, snapshots and identity are kept [default: autopilot-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address that the three ports are opened on when they name none [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub bind: Option<IpAddr>,
    /// Address that the other servers are told; needed when binding to all interfaces
    #[arg(long, value_name = "IP")]
    pub advertise: Option<IpAddr>,
    /// Raft over TCP; port 0 picks a free one [default: BIND:8300]
    #[arg(long, value_name = "IP:PORT")]
    pub raft_addr: Option<SocketAddr>,
    /// HTTP [default: BIND:8500]
    #[arg(long, value_name = "IP:PORT")]
    pub http_addr: Option<SocketAddr>,
    /// Gossip over UDP [default: BIND:8301]
    #[arg(long, value_name = "IP:PORT")]
    pub gossip_addr: Option<SocketAddr>,
    /// Form a new cluster once this many servers with the same number see each other [default: 0, join only]
    #[arg(long, value_name = "N")]
    pub bootstrap_expect: Option<u32>,
    /// Gossip address of a server to join; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    pub join: Option<Vec<String>>,
    /// Failure domain of this server
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Never vote (needs the promoter read-replicas)
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub read_replica: Option<bool>,
    /// Metadata of this server; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    #[serde(deserialize_with = "pairs_of_table")]
    pub meta: Option<Vec<(String, String)>>,
    /// Name of the datacenter; servers of different ones do not form a cluster [default: dc1]
    #[arg(long, value_name = "NAME")]
    pub datacenter: Option<String>,
    /// Policy that proposes promotions [default: stable]
    #[arg(long, value_enum)]
    pub promoter: Option<PromoterKind>,
    /// How much is logged [default: info]
    #[arg(long, value_enum)]
    pub log_level: Option<LogLevel>,
    /// `[autopilot]`
    #[command(flatten)]
    pub autopilot: AutopilotSection,
    /// `[raft]`
    #[command(flatten)]
    pub raft: RaftSection,
}

/// `[autopilot]`: seeds the replicated configuration when the cluster is formed; later changes go through the API.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct AutopilotSection {
    /// Remove servers that failed [default: true]
    #[arg(
        long = "autopilot-cleanup-dead-servers",
        value_name = "BOOL",
        id = "autopilot_cleanup_dead_servers"
    )]
    pub cleanup_dead_servers: Option<bool>,
    /// Unhealthy without contact for this long [default: 200ms]
    #[arg(
        long = "autopilot-last-contact-threshold",
        value_name = "DURATION",
        id = "autopilot_last_contact_threshold"
    )]
    pub last_contact_threshold: Option<Span>,
    /// Unhealthy when this many entries behind [default: 250]
    #[arg(long = "autopilot-max-trailing-logs", value_name = "N", id = "autopilot_max_trailing_logs")]
    pub max_trailing_logs: Option<u64>,
    /// Never remove servers below this number [default: 0]
    #[arg(long = "autopilot-min-quorum", value_name = "N", id = "autopilot_min_quorum")]
    pub min_quorum: Option<u64>,
    /// Healthy for this long before a server may vote [default: 10s]
    #[arg(
        long = "autopilot-server-stabilization-time",
        value_name = "DURATION",
        id = "autopilot_server_stabilization_time"
    )]
    pub server_stabilization_time: Option<Span>,
    /// What makes health steady, as a table; a key left out takes its default
    #[arg(skip)]
    #[serde(deserialize_with = "health_table")]
    pub health: Option<HealthPolicy>,
    /// What keeps removals from surprising, as a table; a key left out takes its default
    #[arg(skip)]
    #[serde(deserialize_with = "removal_table")]
    pub removal: Option<RemovalPolicy>,
    /// How fast members may be changed, as a table; a key left out takes its default
    #[arg(skip)]
    #[serde(deserialize_with = "changes_table")]
    pub changes: Option<ChangePolicy>,
    /// How often health is assessed [default: 2s]
    #[arg(long = "autopilot-update-interval", value_name = "DURATION", id = "autopilot_update_interval")]
    pub update_interval: Option<Span>,
    /// How often members are changed [default: 10s]
    #[arg(
        long = "autopilot-reconcile-interval",
        value_name = "DURATION",
        id = "autopilot_reconcile_interval"
    )]
    pub reconcile_interval: Option<Span>,
}

/// `[raft]`: consensus tunables; the same on every server.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct RaftSection {
    /// How often a leader says that it lives [default: 50ms]
    #[arg(long = "raft-heartbeat-interval", value_name = "DURATION", id = "raft_heartbeat_interval")]
    pub heartbeat_interval: Option<Span>,
    /// Silence after which a follower campaigns [default: 400ms]
    #[arg(long = "raft-election-timeout", value_name = "DURATION", id = "raft_election_timeout")]
    pub election_timeout: Option<Span>,
    /// Let the leader answer default reads by its lease; needs clocks that run evenly [default: true]
    #[arg(long = "raft-lease-reads", value_name = "BOOL", id = "raft_lease_reads")]
    pub lease_reads: Option<bool>,
    /// Entries between snapshots [default: 16384]
    #[arg(long = "raft-snapshot-threshold", value_name = "N", id = "raft_snapshot_threshold")]
    pub snapshot_threshold: Option<u64>,
    /// Entries kept behind a snapshot [default: 10240]
    #[arg(long = "raft-trailing-logs", value_name = "N", id = "raft_trailing_logs")]
    pub trailing_logs: Option<u64>,
}

/// Everything one server needs to start, checked.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Name shown to people; 1 to 64 bytes without control characters.
    pub node_name: String,
    /// Identity for life; `None`: the one in the data directory, made at the first start.
    pub node_id: Option<String>,
    /// Where the log, snapshots and identity are kept.
    pub data_dir: PathBuf,
    /// What the others are told instead of the bound address.
    pub advertise: Option<IpAddr>,
    /// Where Raft listens (TCP). Port 0 picks a free one.
    pub raft_addr: SocketAddr,
    /// Where HTTP listens. Port 0 picks a free one.
    pub http_addr: SocketAddr,
    /// Where gossip listens (UDP). Port 0 picks a free one.
    pub gossip_addr: SocketAddr,
    /// Form a new cluster once this many servers see each other; 0: only join one.
    pub bootstrap_expect: u32,
    /// Gossip addresses to join, `host:port`.
    pub join: Vec<String>,
    /// Failure domain; empty when there is none.
    pub zone: String,
    /// Never vote.
    pub read_replica: bool,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// Name of the datacenter.
    pub datacenter: String,
    /// Policy that proposes promotions.
    pub promoter: PromoterKind,
    /// How much is logged.
    pub log_level: LogLevel,
    /// Seeds the replicated autopilot configuration.
    pub autopilot: AutopilotSettings,
    /// How often health is assessed.
    pub update_interval: Duration,
    /// How often members are changed.
    pub reconcile_interval: Duration,
    /// Consensus tunables. The default is the library's, with leases.
    pub raft: raft::Config,
}

impl Default for AgentConfig {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            node_name: host_name(),
            node_id: None,
            data_dir: PathBuf::from("autopilot-data"),
            advertise: None,
            raft_addr: local(8300),
            http_addr: local(8500),
            gossip_addr: local(8301),
            bootstrap_expect: 0,
            join: Vec::new(),
            zone: String::new(),
            read_replica: false,
            meta: BTreeMap::new(),
            datacenter: "dc1".to_owned(),
            promoter: PromoterKind::default(),
            log_level: LogLevel::default(),
            autopilot: AutopilotSettings::default(),
            update_interval: Duration::from_secs(2),
            reconcile_interval: Duration::from_secs(10),
            raft: raft::Config { lease_reads: true, ..raft::Config::default() },
        }
    }
}

/// Why the settings cannot be used. Nothing was started or written; the person who wrote them should act.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {cause}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said. Part of the text, so not a source that would repeat it.
        cause: std::io::Error,
    },
    /// The file is larger than any real one.
    #[error("the configuration file {} is larger than {FILE_BYTES_MAX} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what is expected.
    #[error("{}:{line}: {message}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, naming the key.
        message: String,
    },
    /// A value is out of bounds, wherever it came from.
    #[error("{key}: {message}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

impl AgentConfig {
    /// Merges the defaults, the file named by `args` and the flags in `args`.
    ///
    /// # Errors
    /// An unreadable file, an unknown key, a value of the wrong kind, and every bound that does not hold.
    pub fn load(args: &AgentArgs) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = &args.config {
            config.overlay(read_file(path)?);
        }
        config.overlay(args.settings.clone());
        config.validate()?;
        Ok(config)
    }

    /// Overlays `settings`, keeping what it does not say.
    fn overlay(&mut self, settings: Settings) {
        if let Some(ip) = settings.bind {
            for address in [&mut self.raft_addr, &mut self.http_addr, &mut self.gossip_addr] {
                address.set_ip(ip);
            }
        }
        set(&mut self.node_name, settings.node_name);
        self.node_id = settings.node_id.or_else(|| self.node_id.take());
        set(&mut self.data_dir, settings.data_dir);
        self.advertise = settings.advertise.or(self.advertise);
        set(&mut self.raft_addr, settings.raft_addr);
        set(&mut self.http_addr, settings.http_addr);
        set(&mut self.gossip_addr, settings.gossip_addr);
        set(&mut self.bootstrap_expect, settings.bootstrap_expect);
        set(&mut self.join, settings.join);
        set(&mut self.zone, settings.zone);
        set(&mut self.read_replica, settings.read_replica);
        self.meta.extend(settings.meta.into_iter().flatten());
        set(&mut self.datacenter, settings.datacenter);
        set(&mut self.promoter, settings.promoter);
        set(&mut self.log_level, settings.log_level);

        let autopilot = settings.autopilot;
        set(&mut self.autopilot.cleanup_dead_servers, autopilot.cleanup_dead_servers);
        set(&mut self.autopilot.last_contact_threshold, autopilot.last_contact_threshold.map(|s| s.0));
        set(&mut self.autopilot.max_trailing_logs, autopilot.max_trailing_logs);
        set(&mut self.autopilot.min_quorum, autopilot.min_quorum);
        set(&mut self.autopilot.server_stabilization_time, autopilot.server_stabilization_time.map(|s| s.0));
        set(&mut self.autopilot.health, autopilot.health);
        set(&mut self.autopilot.removal, autopilot.removal);
        set(&mut self.autopilot.changes, autopilot.changes);
        set(&mut self.update_interval, autopilot.update_interval.map(|s| s.0));
        set(&mut self.reconcile_interval, autopilot.reconcile_interval.map(|s| s.0));

        set(&mut self.raft.heartbeat_interval, settings.raft.heartbeat_interval.map(|s| s.0));
        set(&mut self.raft.election_timeout, settings.raft.election_timeout.map(|s| s.0));
        set(&mut self.raft.lease_reads, settings.raft.lease_reads);
        set(&mut self.raft.snapshot_threshold, settings.raft.snapshot_threshold);
        set(&mut self.raft.trailing_logs, settings.raft.trailing_logs);
    }

    /// Checks every bound. [`AgentConfig::load`] has done so already; for configurations made in code.
    ///
    /// # Errors
    /// The first bound that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_name("node_name", &self.node_name)?;
        if let Some(id) = &self.node_id {
            check_name("node_id", id)?;
        }
        check_name("datacenter", &self.datacenter)?;
        if !self.zone.is_empty() {
            check_name("zone", &self.zone)?;
        }
        let mut meta_bytes = 0;
        for (key, value) in &self.meta {
            check_name("meta", key)?;
            if value.chars().any(char::is_control) {
                return wrong("meta", format!("the value of {key:?} has a control character"));
            }
            meta_bytes += key.len() + value.len();
        }
        if meta_bytes > META_BYTES_MAX {
            return wrong(
                "meta",
                format!("keys and values have {meta_bytes} bytes, the limit is {META_BYTES_MAX}"),
            );
        }
        if self.bootstrap_expect > BOOTSTRAP_EXPECT_MAX {
            return wrong("bootstrap_expect", format!("must be at most {BOOTSTRAP_EXPECT_MAX}"));
        }
        if self.read_replica && self.bootstrap_expect > 0 {
            return wrong(
                "read_replica",
                "a read replica cannot help to form a cluster; leave bootstrap_expect out and join one"
                    .to_owned(),
            );
        }
        for address in &self.join {
            if !address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            {
                return wrong("join", format!("{address:?} is not HOST:PORT, such as 10.0.0.1:8301"));
            }
        }
        self.validate_addresses()?;
        self.validate_durations()
    }

    fn validate_addresses(&self) -> Result<(), ConfigError> {
        if self.advertise.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast()) {
            return wrong("advertise", "must be an address that the other servers can reach".to_owned());
        }
        for (key, address) in
            [("raft_addr", self.raft_addr), ("http_addr", self.http_addr), ("gossip_addr", self.gossip_addr)]
        {
            if address.ip().is_unspecified() && self.advertise.is_none() {
                return wrong(
                    key,
                    format!("{address} binds to all interfaces; say with advertise which one the others use"),
                );
            }
        }
        if self.advertise.is_some() && self.raft_addr.port() == 0 {
            return wrong("raft_addr", "port 0 cannot be advertised; choose a port".to_owned());
        }
        if self.raft_addr == self.http_addr && self.raft_addr.port() != 0 {
            return wrong(
                "http_addr",
                format!("{} is raft_addr too; they need different ports", self.http_addr),
            );
        }
        Ok(())
    }

    fn validate_durations(&self) -> Result<(), ConfigError> {
        let least = Duration::from_millis(10);
        for (key, value) in [
            ("autopilot.update_interval", self.update_interval),
            ("autopilot.reconcile_interval", self.reconcile_interval),
            ("autopilot.last_contact_threshold", self.autopilot.last_contact_threshold),
        ] {
            if value < least {
                return wrong(key, "must be at least 10ms".to_owned());
            }
        }
        crate::integration::config_of(&self.autopilot)
            .validate()
            .map_err(|error| ConfigError::Value { key: "autopilot", message: error.to_string() })?;
        self.raft.validate().map_err(|error| ConfigError::Value { key: "raft", message: error.to_string() })
    }
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn wrong(key: &'static str, message: String) -> Result<(), ConfigError> {
    Err(ConfigError::Value { key, message })
}

/// Names go into gossip, logs and tables: short, printable, not empty.
fn check_name(key: &'static str, name: &str) -> Result<(), ConfigError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return wrong(key, format!("must have 1 to {NAME_BYTES_MAX} bytes, has {}", name.len()));
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return wrong(key, format!("{name:?} has a blank or a control character"));
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse_file(path, &text)
}

/// Turns the parser's several lines into one that names the file, the line and the key.
fn parse_file(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text[..start].matches('\n').count();
        let key = text.lines().nth(line).and_then(|l| l.split_once('=')).map(|(key, _)| key.trim());
        let message = error.message().replace('\n', " ");
        let message = match key {
            Some(key) if !message.contains(key) => format!("{key}: {message}"),
            _ => message,
        };
        ConfigError::File { path: path.to_owned(), line: line + 1, message }
    })
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE"))
}

fn pairs_of_table<'de, D>(deserializer: D) -> Result<Option<Vec<(String, String)>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let table = BTreeMap::<String, String>::deserialize(deserializer)?;
    Ok(Some(table.into_iter().collect()))
}

fn health_table<'de, D: serde::Deserializer<'de>>(table: D) -> Result<Option<HealthPolicy>, D::Error> {
    laid_over(AutopilotSettings::default().health, table).map(Some)
}

fn removal_table<'de, D: serde::Deserializer<'de>>(table: D) -> Result<Option<RemovalPolicy>, D::Error> {
    laid_over(AutopilotSettings::default().removal, table).map(Some)
}

fn changes_table<'de, D: serde::Deserializer<'de>>(table: D) -> Result<Option<ChangePolicy>, D::Error> {
    laid_over(AutopilotSettings::default().changes, table).map(Some)
}

/// A group of settings in which the keys of a table take the place of the defaults.
fn laid_over<'de, T, D>(base: T, table: D) -> Result<T, D::Error>
where
    T: Serialize + serde::de::DeserializeOwned,
    D: serde::Deserializer<'de>,
{
    let mut keys = BTreeMap::<String, serde_json::Value>::new();
    for value in [serde_json::to_value(base), serde_json::Value::deserialize(table).map(Ok)?] {
        let value = value.map_err(serde::de::Error::custom)?;
        keys.extend(value.as_object().cloned().ok_or_else(|| serde::de::Error::custom("expected a table"))?);
    }
    let keys = serde_json::Value::Object(keys.into_iter().collect());
    serde_json::from_value(keys).map_err(serde::de::Error::custom)
}

/// The host name, cut to what a node name may be; `server` when the system tells none.
fn host_name() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let name = read("/proc/sys/kernel/hostname").or_else(|| read("/etc/hostname")).unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_graphic()).take(NAME_BYTES_MAX).collect();
    if name.is_empty() { "server".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: AgentArgs,
    }

    fn load(file: &str, flags: &[&str]) -> Result<AgentConfig, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, file).expect("write the file");
        let path = path.to_str().expect("a UTF-8 path");
        let cli = Cli::try_parse_from(["agent", "--config", path].iter().chain(flags))
            .map_err(|error| error.to_string())?;
        AgentConfig::load(&cli.args).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_override_the_file_which_overrides_defaults() {
        let file = r#"
            node_name = "from-file"
            zone = "a"
            bootstrap_expect = 3
            join = ["10.0.0.1:8301"]
            [meta]
            rack = "7"
            [autopilot]
            min_quorum = 3
            server_stabilization_time = "1m30s"
            [raft]
            election_timeout = "1s"
            lease_reads = false
        "#;
        let flags = [
            "--node-name",
            "from-flag",
            "--autopilot-min-quorum",
            "5",
            "--meta",
            "disk=ssd",
            "--http-addr",
            "127.0.0.1:0",
        ];
        let config = load(file, &flags).expect("valid");
        assert_eq!(config.node_name, "from-flag");
        assert_eq!(config.zone, "a");
        assert_eq!(config.bootstrap_expect, 3);
        assert_eq!(config.join, ["10.0.0.1:8301"]);
        assert_eq!(config.autopilot.min_quorum, 5);
        assert_eq!(config.autopilot.server_stabilization_time, Duration::from_secs(90));
        assert_eq!(config.autopilot.max_trailing_logs, 250, "the default");
        assert_eq!(config.raft.election_timeout, Duration::from_secs(1));
        assert!(!config.raft.lease_reads && AgentConfig::default().raft.lease_reads);
        assert_eq!(config.http_addr.port(), 0);
        assert_eq!(config.raft_addr.port(), 8300, "the default");
        assert_eq!(config.meta.len(), 2, "tables and flags add up: {:?}", config.meta);
    }

    #[test]
    fn groups_are_tables_over_the_defaults() {
        let file =
            "[autopilot]\nremoval = { budget = 2, voter_after = \"1m\" }\n[autopilot.health]\nsamples = 5\n";
        let config = load(file, &[]).expect("valid");
        let removal = AutopilotSettings::removal_default();
        let voter_after = Some(Duration::from_secs(60));
        assert_eq!(config.autopilot.removal, RemovalPolicy { budget: 2, voter_after, ..removal });
        assert_eq!(config.autopilot.health, HealthPolicy { samples: 5, ..HealthPolicy::default() });
        check_error("[autopilot]\nremoval = { budgt = 2 }", &[], &["agent.toml:2", "budgt"]);
        check_error("[autopilot.health]\nsamples = 33", &[], &["health.samples", "from 1 to 32"]);
    }

    #[test]
    fn bind_sets_the_address_of_all_ports_and_a_full_address_wins() {
        let config = load("bind = \"10.1.1.1\"", &["--raft-addr", "10.2.2.2:9"]).expect("valid");
        assert_eq!(config.gossip_addr, "10.1.1.1:8301".parse().expect("address"));
        assert_eq!(config.http_addr, "10.1.1.1:8500".parse().expect("address"));
        assert_eq!(config.raft_addr, "10.2.2.2:9".parse().expect("address"));
    }

    fn check_error(file: &str, flags: &[&str], expected: &[&str]) {
        let error = load(file, flags).expect_err("refused");
        for part in expected {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        check_error("node_name = \"a\"\nnode_nam = \"b\"", &[], &["agent.toml:2", "node_nam"]);
        check_error(
            "[autopilot]\nlast_contact_threshold = \"10 parsecs\"",
            &[],
            &["agent.toml:2", "last_contact_threshold", "10 parsecs", "200ms"],
        );
        check_error("bootstrap_expect = \"three\"", &[], &["agent.toml:1", "bootstrap_expect"]);
        check_error("raft_addr = \"8300\"", &[], &["raft_addr"]);
        check_error("promoter = \"bold\"", &[], &["promoter", "bold"]);
        check_error("zone = ", &[], &["agent.toml:1"]);
        check_error("", &["--raft-election-timeout", "soon"], &["raft-election-timeout", "soon"]);
    }

    #[test]
    fn values_out_of_bounds_are_refused_with_what_to_do() {
        check_error("bind = \"0.0.0.0\"", &[], &["raft_addr", "advertise"]);
        check_error("join = [\"nobody\"]", &[], &["join", "nobody", "HOST:PORT"]);
        check_error("node_name = \"two words\"", &[], &["node_name"]);
        check_error("bootstrap_expect = 1000", &[], &["bootstrap_expect", "99"]);
        check_error("read_replica = true\nbootstrap_expect = 1", &[], &["read_replica"]);
        check_error("[raft]\nheartbeat_interval = \"1s\"", &[], &["raft", "election_timeout"]);
        check_error("raft_addr = \"127.0.0.1:8500\"", &[], &["http_addr"]);
        let long = format!("[meta]\nkey = \"{}\"", "x".repeat(300));
        check_error(&long, &[], &["meta", "256"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let args = AgentArgs { config: Some("/nowhere/agent.toml".into()), settings: Settings::default() };
        let error = AgentConfig::load(&args).expect_err("refused").to_string();
        assert!(error.contains("/nowhere/agent.toml"), "{error}");
    }
}
