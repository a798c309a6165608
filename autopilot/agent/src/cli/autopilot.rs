//! `operator autopilot`: what autopilot sees and how it is tuned.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::autopilot_hand::{DrainArgs, MaintenanceArgs, OrderArgs, StopArgs};
use super::client::{Client, Method, Request};
use super::render::{Cell, Palette, Table, clean, json};
use super::wire::{AutopilotState, Health, ServerState, Zone};
use super::{
    ClientArgs, Format, FormatArgs, Outcome, VerbError, autopilot_ask, autopilot_events, autopilot_hand,
    duration,
};

/// `operator autopilot`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AutopilotVerb {
    /// Show the configuration
    GetConfig {
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Change parts of the configuration and keep the rest
    #[command(override_usage = "autopilot operator autopilot set-config CHANGE... [OPTIONS]")]
    SetConfig {
        #[command(flatten)]
        changes: Box<ConfigChanges>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show what autopilot knows about every server, and why it does what it does
    State {
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show whether the cluster is healthy; ends with 2 if it is not
    Health {
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Say why a server, or every server, is healthy or not, votes or not, stays or goes
    Explain {
        /// Its id or name; every server without it
        server: Option<String>,
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show the next steps with the failure tolerance before, during and after each, and take none
    Plan {
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take the steps of a plan that are due; ends with 2 if one could not be taken any more
    Apply {
        /// What plan --format json printed; - for standard input
        file: std::path::PathBuf,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show what autopilot did and saw since its leader leads, and who ordered what
    Events(autopilot_events::EventsArgs),
    /// Show the orders that stand
    Orders {
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Give a server neither a vote nor leadership until uncordoned; it keeps what it has
    Cordon {
        /// Its id or name
        server: String,
        #[command(flatten)]
        order: OrderArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Lift cordon and drain: the server may vote and lead again
    Uncordon {
        /// Its id or name
        server: String,
        #[command(flatten)]
        order: OrderArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take leadership and then the vote from a server, as soon as each is safe, and wait until it may be stopped
    Drain(DrainArgs),
    /// Let autopilot change nothing by itself for a while; requests are served
    Pause {
        /// How long; at most 365 days
        #[arg(long = "for", value_name = "DURATION", default_value = "30m", value_parser = duration::checked)]
        lasts: String,
        #[command(flatten)]
        order: OrderArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// End a pause
    Resume {
        #[command(flatten)]
        order: OrderArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Set a time in which what happens to a server, or to everything, is no reason to change anything
    Maintenance(MaintenanceArgs),
    /// Say whether a server may be stopped now: ends with 0 if so, with 1 if not
    SafeToStop(StopArgs),
    /// Show who was removed, by whom and why
    Tombstones {
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Let a removed server back in without a new start
    Readmit {
        /// Its id or name
        server: String,
        #[command(flatten)]
        order: OrderArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Decide recorded rounds again under another configuration; ends with 2 if one would have acted differently
    Replay(autopilot_ask::ReplayArgs),
}

/// The values to change. What is not given stays.
#[derive(Debug, Clone, Default, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ConfigChanges {
    /// Remove dead servers when a replacement is there or quorum allows it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cleanup_dead_servers: Option<bool>,
    /// Longest time without contact to the leader before a server is unhealthy
    #[arg(long, value_name = "DURATION", value_parser = duration::checked)]
    last_contact_threshold: Option<String>,
    /// Most log entries a healthy server may be behind
    #[arg(long, value_name = "COUNT")]
    max_trailing_logs: Option<u64>,
    /// Fewest voters that removals of dead servers must leave
    #[arg(long, value_name = "COUNT")]
    min_quorum: Option<u32>,
    /// How long a new server must be healthy before it is promoted
    #[arg(long, value_name = "DURATION", value_parser = duration::checked)]
    server_stabilization_time: Option<String>,
    /// Metadata key that names a server's redundancy zone; empty for none
    #[arg(long, value_name = "KEY")]
    redundancy_zone_tag: Option<String>,
    /// Leave servers of an older version in place instead of migrating to newer ones
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_upgrade_migration: Option<bool>,
    /// Metadata key that names a server's version for upgrade migration; empty for the server's own version
    #[arg(long, value_name = "KEY")]
    upgrade_version_tag: Option<String>,
    /// Any keys at once, the groups Health, Removal and Changes among them, as a JSON object or @FILE:
    /// '{"Removal": {"Budget": 2}}'
    #[arg(long, value_name = "OBJECT", value_parser = json_object)]
    json: Option<Map<String, Value>>,
}

fn json_object(text: &str) -> Result<Map<String, Value>, String> {
    let read = text
        .strip_prefix('@')
        .map(|file| std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}")));
    let text = read.transpose()?.unwrap_or_else(|| text.to_owned());
    serde_json::from_str(&text).map_err(|error| format!("not a JSON object: {error}"))
}

/// Lays changes over a configuration: objects key by key, anything else as a whole.
fn overlay(config: &mut Map<String, Value>, changes: Map<String, Value>) {
    for (name, change) in changes {
        match (config.get_mut(&name), change) {
            (Some(Value::Object(group)), Value::Object(change)) => overlay(group, change),
            (_, change) => {
                config.insert(name, change);
            }
        }
    }
}

impl ConfigChanges {
    /// The given values under their names in the API.
    fn values(&self) -> Vec<(&'static str, Value)> {
        let given = [
            ("CleanupDeadServers", self.cleanup_dead_servers.map(Value::from)),
            ("LastContactThreshold", self.last_contact_threshold.clone().map(Value::from)),
            ("MaxTrailingLogs", self.max_trailing_logs.map(Value::from)),
            ("MinQuorum", self.min_quorum.map(Value::from)),
            ("ServerStabilizationTime", self.server_stabilization_time.clone().map(Value::from)),
            ("RedundancyZoneTag", self.redundancy_zone_tag.clone().map(Value::from)),
            ("DisableUpgradeMigration", self.disable_upgrade_migration.map(Value::from)),
            ("UpgradeVersionTag", self.upgrade_version_tag.clone().map(Value::from)),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Runs a verb.
pub(crate) fn run(verb: &AutopilotVerb, palette: Palette) -> Result<Outcome, VerbError> {
    match verb {
        AutopilotVerb::GetConfig { format, client } => get_config(&client.client()?, format.format),
        AutopilotVerb::SetConfig { changes, client } => set_config(&client.client()?, changes),
        AutopilotVerb::State { format, client } => state(&client.client()?, format.format),
        AutopilotVerb::Health { format, client } => health(&client.client()?, format.format, palette),
        AutopilotVerb::Explain { server, format, client } => {
            autopilot_ask::explain(&client.client()?, server.as_deref(), format.format)
        }
        AutopilotVerb::Plan { format, client } => autopilot_ask::plan(&client.client()?, format.format),
        AutopilotVerb::Apply { file, client } => autopilot_ask::apply(&client.client()?, file),
        AutopilotVerb::Replay(args) => autopilot_ask::replay_file(args),
        AutopilotVerb::Events(args) => autopilot_events::events(args),
        AutopilotVerb::Orders { format, client } => autopilot_hand::orders(&client.client()?, format.format),
        AutopilotVerb::Cordon { server, order, client } => {
            autopilot_hand::cordon(&client.client()?, server, order)
        }
        AutopilotVerb::Uncordon { server, order, client } => {
            autopilot_hand::uncordon(&client.client()?, server, order)
        }
        AutopilotVerb::Drain(args) => autopilot_hand::drain(args),
        AutopilotVerb::Pause { lasts, order, client } => {
            autopilot_hand::pause(&client.client()?, lasts, order)
        }
        AutopilotVerb::Resume { order, client } => autopilot_hand::resume(&client.client()?, order),
        AutopilotVerb::Maintenance(args) => autopilot_hand::maintenance(args),
        AutopilotVerb::SafeToStop(args) => autopilot_hand::safe_to_stop(args),
        AutopilotVerb::Tombstones { format, client } => {
            autopilot_hand::tombstones(&client.client()?, format.format, palette)
        }
        AutopilotVerb::Readmit { server, order, client } => {
            autopilot_hand::readmit(&client.client()?, server, order)
        }
    }
}

fn configuration_request() -> Request {
    Request::new(Method::Get, "/operator/autopilot/configuration")
}

fn get_config(client: &Client, format: Format) -> Result<Outcome, VerbError> {
    let request = configuration_request();
    let body = client.expect(&request)?;
    let config: Map<String, Value> = client.read(&request, &body)?;
    if format == Format::Json {
        return Ok(Outcome::text(json(&body)));
    }
    let mut text = String::new();
    for (name, quoted) in [
        ("CleanupDeadServers", false),
        ("LastContactThreshold", false),
        ("MaxTrailingLogs", false),
        ("MinQuorum", false),
        ("ServerStabilizationTime", false),
        ("RedundancyZoneTag", true),
        ("DisableUpgradeMigration", false),
        ("UpgradeVersionTag", true),
    ] {
        match config.get(name) {
            Some(Value::String(value)) if !quoted => writeln!(text, "{name} = {}", clean(value)),
            Some(value) => writeln!(text, "{name} = {value}"),
            None if quoted => writeln!(text, "{name} = \"\""),
            None => Ok(()),
        }
        .expect("writing to a String cannot fail");
    }
    for group in ["Health", "Removal", "Changes"] {
        let keys = config.get(group).and_then(Value::as_object).into_iter().flatten();
        for (name, value) in keys {
            let value = value.as_str().map_or_else(|| value.to_string(), clean);
            writeln!(text, "{group}.{} = {value}", clean(name)).expect("writing to a String cannot fail");
        }
    }
    Ok(Outcome::text(text))
}

/// Reads, overlays and writes back only if nobody else wrote in between. Keys this program does not know survive.
fn set_config(client: &Client, changes: &ConfigChanges) -> Result<Outcome, VerbError> {
    let mut config: Map<String, Value> = client.json(&configuration_request())?;
    let read_at = config.get("ModifyIndex").and_then(Value::as_u64).unwrap_or(0);
    overlay(&mut config, changes.json.clone().unwrap_or_default());
    config.extend(changes.values().into_iter().map(|(name, value)| (name.to_owned(), value)));
    let request = Request::new(Method::Put, "/operator/autopilot/configuration")
        .parameter("cas", Some(read_at))
        .body(Value::Object(config).to_string());
    match client.json(&request)? {
        true => Ok(Outcome::line("Configuration updated!")),
        false => Err(VerbError::LostRace),
    }
}

fn state(client: &Client, format: Format) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Get, "/operator/autopilot/state");
    let body = client.expect(&request)?;
    let state: AutopilotState = client.read(&request, &body)?;
    Ok(match format {
        Format::Json => Outcome::text(json(&body)),
        Format::Pretty => Outcome::text(state_text(&state)),
    })
}

/// Lines of `name: value` with the values in one column, and lists below them.
struct Block {
    text: String,
}

impl Block {
    fn field(&mut self, indent: usize, width: usize, name: &str, value: &dyn ToString) {
        let name = format!("{name}:");
        let value = clean(&value.to_string());
        let line = format!("{:indent$}{name:width$}{value}", "");
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn heading(&mut self, indent: usize, name: &str) {
        self.text.push_str(&format!("{:indent$}{}\n", "", clean(name)));
    }

    fn list(&mut self, indent: usize, name: &str, items: &[String]) {
        self.heading(indent, name);
        for item in items {
            self.heading(indent + 3, item);
        }
    }
}

/// Columns before the values of the header block.
const HEADER_WIDTH: usize = 30;
/// Columns before a server's values.
const SERVER_WIDTH: usize = 18;

fn state_text(state: &AutopilotState) -> String {
    let mut block = Block { text: String::new() };
    block.field(0, HEADER_WIDTH, "Healthy", &state.healthy);
    block.field(0, HEADER_WIDTH, "Failure Tolerance", &state.failure_tolerance);
    block.field(0, HEADER_WIDTH, "Optimistic Failure Tolerance", &state.optimistic_failure_tolerance);
    if let Some(domains) = &state.domain_tolerance {
        let range = match domains.worst == domains.best {
            true => domains.worst.to_string(),
            false => format!("{} to {}, by which ones", domains.worst, domains.best),
        };
        block.field(0, HEADER_WIDTH, "Failure Domains To Lose", &range);
    }
    block.field(0, HEADER_WIDTH, "Leader", &state.leader);
    block.list(0, "Voters:", &state.voters);
    if !state.read_replicas.is_empty() {
        block.list(0, "Read Replicas:", &state.read_replicas);
    }
    if let Some(domains) = &state.domain_tolerance {
        block.heading(0, "Failure Domains:");
        for (name, domain) in &domains.domains {
            let (healthy, voters) = (domain.healthy_voters, domain.voters);
            let lost = if domain.expendable { "may be lost" } else { "must not be lost" };
            let spares = domain.standbys;
            let line = format!("{name}: {healthy} of {voters} voters healthy, {spares} standing by; {lost}");
            block.heading(3, &line);
        }
    }
    if !state.redundancy_zones.is_empty() {
        block.heading(0, "Redundancy Zones:");
        for (name, zone) in &state.redundancy_zones {
            zone_text(&mut block, name, zone);
        }
    }
    if let Some(upgrade) = &state.upgrade {
        block.heading(0, "Upgrade:");
        for (name, value) in upgrade {
            upgrade_text(&mut block, name, value);
        }
    }
    block.heading(0, "Servers:");
    for (id, server) in &state.servers {
        server_text(&mut block, id, server);
    }
    block.text
}

fn zone_text(block: &mut Block, name: &str, zone: &Zone) {
    block.heading(3, &format!("{name}:"));
    block.field(6, SERVER_WIDTH + 1, "Failure Tolerance", &zone.failure_tolerance);
    block.list(6, "Voters:", &zone.voters);
    block.list(6, "Servers:", &zone.servers);
}

fn upgrade_text(block: &mut Block, name: &str, value: &Value) {
    match value {
        Value::String(text) => block.field(3, HEADER_WIDTH - 3, name, text),
        Value::Array(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect();
            block.list(3, &format!("{name}:"), &items);
        }
        other => block.field(3, HEADER_WIDTH - 3, name, other),
    }
}

fn server_text(block: &mut Block, id: &str, server: &ServerState) {
    block.heading(3, id);
    let mut field = |name: &str, value: &dyn ToString| {
        block.field(6, SERVER_WIDTH, name, value);
    };
    field("Name", &server.name);
    field("Address", &server.address);
    field("Version", &server.version);
    field("Status", &server.status);
    field("Node Type", &server.node_type);
    field("Node Status", &server.node_status);
    field("Healthy", &server.healthy);
    for reason in &server.reasons {
        field("Unhealthy", &reason.sentence());
    }
    for doubt in &server.doubts {
        field("Doubtful", &doubt.sentence());
    }
    field("Last Contact", &server.last_contact);
    field("Last Term", &server.last_term);
    field("Last Index", &server.last_index);
    if !server.stable_for.is_empty() {
        field("Stable For", &server.stable_for);
    }
    if let Some(blocked) = &server.blocked_by {
        field("Not Voting", &blocked.sentence());
    }
    if !server.redundancy_zone.is_empty() {
        field("Redundancy Zone", &server.redundancy_zone);
    }
    if !server.upgrade_version.is_empty() {
        field("Upgrade Version", &server.upgrade_version);
    }
    if server.read_replica {
        field("Read Replica", &server.read_replica);
    }
    block.heading(6, "Meta");
    for (name, value) in &server.meta {
        block.heading(9, &format!("{name:?}: {value:?}"));
    }
}

fn health(client: &Client, format: Format, palette: Palette) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Get, "/operator/autopilot/health");
    let answer = client.send(&request)?;
    // 429 is how the API says that the cluster is not healthy; the body is the same.
    if !matches!(answer.status, 200 | 429) {
        return Err(client.refused(&request, &answer).into());
    }
    let health: Health = client.read(&request, &answer.body)?;
    let text = match format {
        Format::Json => json(&answer.body),
        Format::Pretty => format!(
            "Healthy:            {}\nFailure Tolerance:  {}\n\n{}",
            health.healthy,
            health.failure_tolerance,
            health_table(&health).text(palette)
        ),
    };
    Ok(Outcome::text(text).with_code(if health.healthy { 0 } else { 2 }))
}

fn health_table(health: &Health) -> Table {
    let mut table = Table::new(&[
        "ID",
        "Name",
        "Address",
        "SerfStatus",
        "Version",
        "Leader",
        "Voter",
        "Healthy",
        "LastContact",
        "LastTerm",
        "LastIndex",
        "StableSince",
    ]);
    for server in &health.servers {
        table.row([
            (&server.id).into(),
            (&server.name).into(),
            (&server.address).into(),
            (&server.serf_status).into(),
            (&server.version).into(),
            server.leader.to_string().into(),
            server.voter.to_string().into(),
            Cell::verdict(server.healthy),
            (&server.last_contact).into(),
            server.last_term.to_string().into(),
            server.last_index.to_string().into(),
            (&server.stable_since).into(),
        ]);
    }
    table
}

#[cfg(test)]
#[path = "autopilot_tests.rs"]
mod tests;
