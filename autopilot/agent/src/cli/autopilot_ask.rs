//! `operator autopilot explain|plan|apply|replay`: why, what next, and what if.

use std::io::Read;
use std::path::{Path, PathBuf};

use autopilot::{ApplyReport, Config, Promoter, Proposal, Record, ReplayedRound, StablePromoter, replay};
use clap::Args;
use promoter_plugins::ReadReplicas;

use super::client::{Client, Method, Request};
use super::render::{clean, json};
use super::wire::Explained;
use super::{Format, Outcome, VerbError, duration};
use autopilot_agent::config::PromoterKind;

pub(super) fn explain(client: &Client, server: Option<&str>, format: Format) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Get, "/operator/autopilot/explain").parameter("server", server);
    let body = client.expect(&request)?;
    if format == Format::Json {
        return Ok(Outcome::text(json(&body)));
    }
    let explained: Vec<Explained> = client.read(&request, &body)?;
    let mut text = String::new();
    for server in explained {
        text.push_str(&format!("{} ({})\n", clean(&server.id), clean(&server.name)));
        for fact in server.facts {
            text.push_str(&format!("   {} [{}]\n", clean(&fact.text), clean(&fact.code)));
        }
    }
    Ok(Outcome::text(text))
}

pub(super) fn plan(client: &Client, format: Format) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Get, "/operator/autopilot/plan");
    let body = client.expect(&request)?;
    if format == Format::Json {
        return Ok(Outcome::text(json(&body)));
    }
    let proposal: Proposal = client.read(&request, &body)?;
    Ok(Outcome::text(lines(&proposal.to_string())))
}

/// The text with control characters replaced, lines kept.
fn lines(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}

pub(super) fn apply(client: &Client, file: &Path) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Put, "/operator/autopilot/plan").body(read(file)?);
    let report: ApplyReport = client.json(&request)?;
    let mut text = String::new();
    for performed in &report.performed {
        text.push_str(&format!("Done: {}\n", performed.step));
    }
    if let Some(reason) = &report.stopped {
        text.push_str(&format!("Stopped: {reason} [{}]\n", reason.code()));
    }
    text.push_str(&format!("{} done, {} left\n", report.performed.len(), report.left));
    Ok(Outcome::text(lines(&text)).with_code(if report.stopped.is_some() { 2 } else { 0 }))
}

/// The configuration to replay under. What is not given is as it was recorded in the first round.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReplayArgs {
    /// Records, as GET /v1/operator/autopilot/inputs gives them; - for standard input
    file: PathBuf,
    /// Remove dead servers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cleanup_dead_servers: Option<bool>,
    /// Longest time without contact to the leader before a server is unhealthy
    #[arg(long, value_name = "DURATION", value_parser = duration::checked)]
    last_contact_threshold: Option<String>,
    /// Most log entries a healthy server may be behind
    #[arg(long, value_name = "COUNT")]
    max_trailing_logs: Option<u64>,
    /// Fewest voters that steps must leave
    #[arg(long, value_name = "COUNT")]
    min_quorum: Option<u32>,
    /// How long a new server must be healthy before it is promoted
    #[arg(long, value_name = "DURATION", value_parser = duration::checked)]
    server_stabilization_time: Option<String>,
    /// The policy
    #[arg(long, value_enum, default_value = "stable")]
    promoter: PromoterKind,
}

impl ReplayArgs {
    fn config(&self, recorded: &Config) -> Config {
        let mut config = recorded.clone();
        let time = |text: &Option<String>| text.as_deref().and_then(|text| duration::parse(text).ok());
        config.cleanup_dead_servers = self.cleanup_dead_servers.unwrap_or(config.cleanup_dead_servers);
        config.last_contact_threshold =
            time(&self.last_contact_threshold).unwrap_or(config.last_contact_threshold);
        config.max_trailing_logs = self.max_trailing_logs.unwrap_or(config.max_trailing_logs);
        if let Some(min_quorum) = self.min_quorum {
            config.min_quorum = usize::try_from(min_quorum).unwrap_or(usize::MAX);
        }
        config.server_stabilization_time =
            time(&self.server_stabilization_time).unwrap_or(config.server_stabilization_time);
        config
    }
}

/// Decides recorded rounds again. Ends with 2 if one of them would have done something else.
pub(super) fn replay_file(args: &ReplayArgs) -> Result<Outcome, VerbError> {
    let text = read(&args.file)?;
    let text = String::from_utf8_lossy(&text);
    let mut records: Vec<Record> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        records.push(serde_json::from_str(line).map_err(|error| VerbError::Input {
            what: format!("line {} of {}", number + 1, args.file.display()),
            error: error.into(),
        })?);
    }
    let recorded = records.iter().find_map(|record| record.inputs.config.clone()).unwrap_or_default();
    let config = args.config(&recorded);
    let promoter: &dyn Promoter = match args.promoter {
        PromoterKind::Stable => &StablePromoter,
        PromoterKind::ReadReplicas => &<ReadReplicas>::default(),
    };
    let rounds = replay(&records, Some(&config), promoter);
    let text = rounds.iter().filter(|round| round.differs()).map(difference).collect::<String>();
    let differ = rounds.iter().filter(|round| round.differs()).count();
    let summary = format!("{} rounds, {differ} would have done something else\n", rounds.len());
    Ok(Outcome::text(lines(&(text + &summary))).with_code(if differ > 0 { 2 } else { 0 }))
}

fn difference(round: &ReplayedRound) -> String {
    let step = |planned: &Option<autopilot::PlannedStep>| {
        planned.as_ref().map_or_else(|| String::from("nothing"), |planned| planned.step.to_string())
    };
    let at = duration::short(round.at.since(autopilot::Time::ZERO));
    let mut text = format!("{at}: then {}, now {}\n", step(&round.then), step(&round.replayed));
    for decision in &round.decisions {
        text.push_str(&format!("   {decision}\n"));
    }
    text
}

fn read(file: &Path) -> Result<Vec<u8>, VerbError> {
    let what = || file.display().to_string();
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        return read.map(|_| bytes).map_err(|error| VerbError::Input { what: what(), error });
    }
    std::fs::read(file).map_err(|error| VerbError::Input { what: what(), error })
}

#[cfg(test)]
#[path = "autopilot_ask_tests.rs"]
mod tests;
