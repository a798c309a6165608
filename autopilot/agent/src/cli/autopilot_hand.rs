//! `operator autopilot cordon|uncordon|drain|pause|resume|maintenance|orders|safe-to-stop|tombstones|readmit`: the
//! operator's hand.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;

use super::client::{Client, Method, Request, RequestError};
use super::render::{Palette, Table, clean, json};
use super::wire::{Given, Orders, Reason, StopAnswer, Tombstone};
use super::{ClientArgs, Format, FormatArgs, Outcome, VerbError, duration, http_client};

/// How often a drain is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long one request of a drain may take: longer than a server looks for a leader.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who orders, and why; both are kept with the order and told in events.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OrderArgs {
    /// Why, in your words
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    why: String,
    /// In whose name
    #[arg(long, value_name = "NAME", default_value = "operator")]
    by: String,
}

/// `drain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DrainArgs {
    /// Its id or name
    server: String,
    #[command(flatten)]
    order: OrderArgs,
    /// Give the order and do not wait
    #[arg(long)]
    no_wait: bool,
    /// The HTTP address of any server, as HOST:PORT or http://HOST:PORT
    /// [env: AUTOPILOT_HTTP_ADDR, then CONSUL_HTTP_ADDR] [default: http://127.0.0.1:8500]
    #[arg(long, value_name = "ADDRESS")]
    http_addr: Option<String>,
    /// How long to wait until it is drained
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    timeout: Duration,
}

/// `maintenance`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MaintenanceArgs {
    /// Its id or name; the whole cluster without it
    server: Option<String>,
    /// How long it lasts; at most 365 days
    #[arg(long = "for", value_name = "DURATION", default_value = "30m", value_parser = duration::checked)]
    lasts: String,
    /// When it begins, from now
    #[arg(long = "in", value_name = "DURATION", default_value = "0s", value_parser = duration::checked)]
    starts_in: String,
    /// Take all its windows back instead
    #[arg(long, conflicts_with_all = ["lasts", "starts_in", "why"])]
    end: bool,
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// `safe-to-stop`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StopArgs {
    /// Its id or name
    server: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    client: ClientArgs,
}

fn request(method: Method, what: &str, server: Option<&str>, order: &OrderArgs) -> Request {
    Request::new(method, format!("/operator/autopilot/{what}"))
        .parameter("server", server)
        .parameter("by", Some(&order.by).filter(|by| !by.is_empty()))
        .parameter("why", Some(&order.why).filter(|why| !why.is_empty()))
}

pub(super) fn cordon(client: &Client, server: &str, order: &OrderArgs) -> Result<Outcome, VerbError> {
    client.expect(&request(Method::Put, "cordon", Some(server), order))?;
    Ok(Outcome::line(format!("Cordoned: {}", clean(server))))
}

/// Lifts both orders that keep a server from voting.
pub(super) fn uncordon(client: &Client, server: &str, order: &OrderArgs) -> Result<Outcome, VerbError> {
    client.expect(&request(Method::Delete, "drain", Some(server), order))?;
    // By its id, the server may be known by its order alone, which the request before lifted.
    match client.expect(&request(Method::Delete, "cordon", Some(server), order)) {
        Ok(_) | Err(RequestError::Refused { status: 404, .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Outcome::line(format!("Uncordoned: {}", clean(server))))
}

pub(super) fn pause(client: &Client, lasts: &str, order: &OrderArgs) -> Result<Outcome, VerbError> {
    client.expect(&request(Method::Put, "pause", None, order).parameter("for", Some(lasts)))?;
    Ok(Outcome::line(format!("Paused for {lasts}; it goes on by itself, or with: operator autopilot resume")))
}

pub(super) fn resume(client: &Client, order: &OrderArgs) -> Result<Outcome, VerbError> {
    client.expect(&request(Method::Delete, "pause", None, order))?;
    Ok(Outcome::line("Resumed"))
}

pub(super) fn maintenance(args: &MaintenanceArgs) -> Result<Outcome, VerbError> {
    let client = args.client.client()?;
    let server = args.server.as_deref();
    let whom = clean(server.unwrap_or("the whole cluster"));
    if args.end {
        client.expect(&request(Method::Delete, "maintenance", server, &args.order))?;
        return Ok(Outcome::line(format!("No maintenance of {whom} any more")));
    }
    let request = request(Method::Put, "maintenance", server, &args.order)
        .parameter("for", Some(&args.lasts))
        .parameter("in", Some(&args.starts_in));
    client.expect(&request)?;
    Ok(Outcome::line(format!("Maintenance of {whom} in {}, for {}", args.starts_in, args.lasts)))
}

pub(super) fn orders(client: &Client, format: Format) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Get, "/operator/autopilot/orders");
    let body = client.expect(&request)?;
    let orders: Orders = client.read(&request, &body)?;
    Ok(match format {
        Format::Json => Outcome::text(json(&body)),
        Format::Pretty => Outcome::text(orders_text(&orders)),
    })
}

fn orders_text(orders: &Orders) -> String {
    let mut lines = Vec::new();
    let short = |text: &str| duration::parse(text).map_or_else(|_| text.to_owned(), duration::short);
    if let Some(pause) = &orders.paused {
        lines.push(format!("Paused for {} more{}", short(&pause.left), given(&pause.given)));
    }
    for (word, list) in [("Cordoned", &orders.cordoned), ("Drained", &orders.drained)] {
        lines.extend(list.iter().map(|order| format!("{word}: {}{}", order.server, given(&order.given))));
    }
    for window in &orders.maintenance {
        let whom = if window.server.is_empty() { "the whole cluster" } else { &window.server };
        let begun = duration::parse(&window.starts_in).is_ok_and(|starts| starts.is_zero());
        let when = match begun {
            true => format!("for {} more", short(&window.left)),
            false => format!("from in {} to in {}", short(&window.starts_in), short(&window.left)),
        };
        lines.push(format!("Maintenance of {whom} {when}{}", given(&window.given)));
    }
    for leaving in &orders.leaving {
        let left = short(&leaving.left);
        lines.push(format!("Told that it may stop: {}, counts as gone for {left} more", leaving.server));
    }
    if lines.is_empty() {
        lines.push("No orders stand".to_owned());
    }
    lines.iter().map(|line| clean(line) + "\n").collect()
}

fn given(order: &Given) -> String {
    let why = if order.why.is_empty() { String::new() } else { format!(": {}", order.why) };
    format!(", by {} at {}{why}", order.by, order.since)
}

fn ask_stop(client: &Client, server: &str, by: &OrderArgs) -> Result<(StopAnswer, Vec<u8>), RequestError> {
    let request = request(Method::Put, "safe-to-stop", Some(server), by);
    let answer = client.send(&request)?;
    // 409 is how the API says no; the body is the same.
    if !matches!(answer.status, 200 | 409) {
        return Err(client.refused(&request, &answer));
    }
    Ok((client.read(&request, &answer.body)?, answer.body))
}

/// Ends with 0 if the server may be stopped and with 1 if not.
pub(super) fn safe_to_stop(args: &StopArgs) -> Result<Outcome, VerbError> {
    let (answer, body) = ask_stop(&args.client.client()?, &args.server, &OrderArgs::default())?;
    let text = match args.format.format {
        Format::Json => json(&body),
        Format::Pretty if answer.safe => {
            let tolerance = answer.failure_tolerance;
            format!("Safe: {} may be stopped; {tolerance} more may fail then\n", clean(&answer.server))
        }
        Format::Pretty => {
            let reasons: String = answer.reasons.iter().map(|reason| sentence(reason) + "\n").collect();
            format!("Not safe: {} must not be stopped now\n{reasons}", clean(&answer.server))
        }
    };
    Ok(Outcome::text(text).with_code(u8::from(!answer.safe)))
}

fn sentence(reason: &Reason) -> String {
    format!("   {} [{}]", clean(reason.sentence()), clean(&reason.code))
}

pub(super) fn drain(args: &DrainArgs) -> Result<Outcome, VerbError> {
    let client = http_client(args.http_addr.as_deref(), PATIENCE)?;
    drain_at(&client, args, &mut std::io::stdout().lock())
}

/// Gives the order, tells what is still in the way, and returns when the server may be stopped.
fn drain_at(client: &Client, args: &DrainArgs, progress: &mut dyn Write) -> Result<Outcome, VerbError> {
    let deadline = Instant::now() + args.timeout;
    let name = clean(&args.server);
    client.expect(&request(Method::Put, "drain", Some(&args.server), &args.order))?;
    if args.no_wait {
        return Ok(Outcome::line(format!("Draining: {name}")));
    }
    // Who reads it may have gone away, which is no reason to stop waiting.
    let mut tell = |text: &str| drop(writeln!(progress, "{text}").and_then(|()| progress.flush()));
    tell(&format!("Draining: {name}"));
    let mut told = String::new();
    loop {
        let waiting = match ask_stop(client, &args.server, &args.order) {
            Ok((StopAnswer { safe: true, failure_tolerance, .. }, _)) => {
                return Ok(Outcome::line(format!(
                    "Drained: {name} may be stopped; {failure_tolerance} more may fail then"
                )));
            }
            Ok((answer, _)) => answer.reasons.iter().map(sentence).collect::<Vec<_>>().join("\n"),
            Err(error @ RequestError::Refused { status: 400..500, .. }) => return Err(error.into()),
            // Leadership is on its way to another server.
            Err(error) => format!("   {error}"),
        };
        if waiting != told {
            tell(&waiting);
            told.clone_from(&waiting);
        }
        if Instant::now() >= deadline {
            let waiting = waiting.trim().replace('\n', ",");
            return Err(VerbError::NotDrained { server: name, after: args.timeout, waiting });
        }
        std::thread::sleep(LOOK);
    }
}

pub(super) fn tombstones(client: &Client, format: Format, palette: Palette) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Get, "/operator/autopilot/tombstones");
    let body = client.expect(&request)?;
    let stones: Vec<Tombstone> = client.read(&request, &body)?;
    if format == Format::Json {
        return Ok(Outcome::text(json(&body)));
    }
    if stones.is_empty() {
        return Ok(Outcome::line("Nobody was removed"));
    }
    let mut table = Table::new(&["ID", "Removed", "By", "Reason"]);
    for stone in &stones {
        table.row([
            (&stone.id).into(),
            (&stone.since).into(),
            (&stone.by).into(),
            stone.reason.sentence().into(),
        ]);
    }
    Ok(Outcome::text(table.text(palette)))
}

pub(super) fn readmit(client: &Client, server: &str, order: &OrderArgs) -> Result<Outcome, VerbError> {
    client.expect(&request(Method::Delete, "tombstones", Some(server), order))?;
    Ok(Outcome::line(format!("Let in again: {}", clean(server))))
}

#[cfg(test)]
#[path = "autopilot_hand_tests.rs"]
mod tests;
