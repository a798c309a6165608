//! `members`: who gossip knows.

use std::cmp::Reverse;

use clap::Args;

use super::client::{Client, Method, Request};
use super::render::{Cell, Palette, Style, Table, json};
use super::wire::Member;
use super::{ClientArgs, Format, FormatArgs, Outcome, VerbError};

/// Arguments of `members`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MembersArgs {
    /// Show every tag instead of the usual columns
    #[arg(long)]
    detailed: bool,
    /// Show only servers in these states: alive, leaving, left or failed, separated by |
    #[arg(long, value_name = "STATES", value_parser = states)]
    status: Option<States>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// A set of gossip states.
#[derive(Debug, Clone, PartialEq, Eq)]
struct States(Vec<String>);

/// Reads `alive|failed`; the `^` and `$` that Consul's users put around a regular expression do no harm.
fn states(text: &str) -> Result<States, String> {
    let names = text.trim_start_matches('^').trim_end_matches('$').split('|').map(str::trim);
    names
        .map(|name| match name {
            "alive" | "leaving" | "left" | "failed" | "none" => Ok(name.to_owned()),
            other => {
                Err(format!("{other:?} is not a state; give alive, leaving, left or failed, separated by |"))
            }
        })
        .collect::<Result<_, _>>()
        .map(States)
}

/// Runs the verb.
pub(crate) fn run(args: &MembersArgs, palette: Palette) -> Result<Outcome, VerbError> {
    list(&args.client.client()?, args, palette)
}

fn list(client: &Client, args: &MembersArgs, palette: Palette) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Get, "/agent/members");
    let body = client.expect(&request)?;
    let mut members: Vec<Member> = client.read(&request, &body)?;
    if let Some(States(wanted)) = &args.status {
        members.retain(|member| wanted.iter().any(|name| name == member.status_name()));
    }
    if members.is_empty() {
        let complaint = Some("no server matches".to_owned());
        return Ok(Outcome { complaint, ..Outcome::default() }.with_code(2));
    }
    members.sort_by_cached_key(|member| (Reverse(kind(member) == "server"), member.name.clone()));
    Ok(match args.format.format {
        // The filter must hold for the JSON too, so what was filtered is taken out of the raw answer.
        Format::Json => Outcome::text(json(&filtered(&body, args.status.as_ref(), &members))),
        Format::Pretty if args.detailed => Outcome::text(detailed(&members).text(palette)),
        Format::Pretty => Outcome::text(usual(&members).text(palette)),
    })
}

fn filtered(body: &[u8], status: Option<&States>, members: &[Member]) -> Vec<u8> {
    let Ok(serde_json::Value::Array(mut all)) = serde_json::from_slice(body) else { return body.to_vec() };
    if status.is_some() {
        all.retain(|value| {
            serde_json::from_value::<Member>(value.clone()).is_ok_and(|member| members.contains(&member))
        });
    }
    serde_json::Value::Array(all).to_string().into_bytes()
}

fn usual(members: &[Member]) -> Table {
    let mut table =
        Table::new(&["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"]);
    for member in members {
        let tag = |name: &str| member.tags.get(name).map_or("", String::as_str);
        let build = tag("build");
        table.row([
            (&member.name).into(),
            address(member).into(),
            status(member),
            kind(member).into(),
            build.split_once(':').map_or(build, |(version, _)| version).into(),
            if tag("vsn").is_empty() { member.protocol_cur.to_string().into() } else { tag("vsn").into() },
            tag("dc").into(),
            or(tag("ap"), "default").into(),
            or(tag("segment"), if kind(member) == "server" { "<all>" } else { "<default>" }).into(),
        ]);
    }
    table
}

fn detailed(members: &[Member]) -> Table {
    let mut table = Table::new(&["Node", "Address", "Status", "Tags"]);
    for member in members {
        let tags: Vec<String> = member.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        table.row([(&member.name).into(), address(member).into(), status(member), tags.join(",").into()]);
    }
    table
}

fn address(member: &Member) -> String {
    if member.addr.contains(':') && !member.addr.starts_with('[') {
        format!("[{}]:{}", member.addr, member.port)
    } else {
        format!("{}:{}", member.addr, member.port)
    }
}

fn kind(member: &Member) -> &'static str {
    match member.tags.get("role").map(String::as_str) {
        Some("consul" | "server") => "server",
        Some("node") => "client",
        _ => "unknown",
    }
}

fn status(member: &Member) -> Cell {
    let style = match member.status_name() {
        "alive" => Style::Good,
        "failed" => Style::Bad,
        _ => Style::Waiting,
    };
    Cell::styled(member.status_name(), style)
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: MembersArgs,
    }

    const BODY: &str = r#"[
        {"Name":"n2","Addr":"127.0.0.1","Port":8302,"Status":4,"Tags":{"role":"consul","dc":"dc1","build":"0.1.0:abc","vsn":"2"}},
        {"Name":"n1","Addr":"::1","Port":8301,"Status":1,"Tags":{"role":"consul","dc":"dc1","build":"0.1.0","vsn":"2"}}]"#;

    fn check(line: &[&str]) -> Outcome {
        let fake = Fake::start(|_| (200, BODY.into()));
        let Line { args } = Line::try_parse_from([&["members"], line].concat()).expect("a good command line");
        list(&fake.client(), &args, Palette::PLAIN).expect("an answer")
    }

    #[test]
    fn table_has_consuls_columns() {
        assert_eq!(
            String::from_utf8(check(&[]).out).expect("text"),
            "\
Node  Address         Status  Type    Build  Protocol  DC   Partition  Segment
n1    [::1]:8301      alive   server  0.1.0  2         dc1  default    <all>
n2    127.0.0.1:8302  failed  server  0.1.0  2         dc1  default    <all>
"
        );
    }

    #[test]
    fn detailed_shows_tags() {
        let text = String::from_utf8(check(&["--detailed"]).out).expect("text");
        assert!(
            text.contains("n1    [::1]:8301      alive   build=0.1.0,dc=dc1,role=consul,vsn=2\n"),
            "{text}"
        );
    }

    #[test]
    fn states_filter_table_and_json() {
        let text = String::from_utf8(check(&["--status", "^failed$"]).out).expect("text");
        assert!(text.contains("n2 ") && !text.contains("n1 "), "{text}");
        let json = check(&["--status", "failed", "--format", "json"]).out;
        let json: Vec<Member> = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(json.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["n2"]);
    }

    #[test]
    fn nothing_matching_is_exit_2() {
        let outcome = check(&["--status", "left"]);
        assert_eq!((outcome.code, outcome.complaint.as_deref()), (2, Some("no server matches")));
    }

    #[test]
    fn unknown_states_are_usage_errors() {
        let error = Line::try_parse_from(["members", "--status", "dead"]).expect_err("not a state");
        assert!(error.to_string().contains("\"dead\" is not a state"), "{error}");
    }
}
