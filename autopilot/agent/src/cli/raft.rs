//! `operator raft`: the members of the consensus group.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};

use super::client::{Client, Method, Request};
use super::render::{Cell, Palette, Style, Table, json};
use super::wire::{Health, RaftConfiguration, RaftServer};
use super::{ClientArgs, Format, FormatArgs, Outcome, VerbError};

/// `operator raft`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RaftVerb {
    /// List the members and how far each one is
    ListPeers {
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Remove a member, for example one that will never come back
    RemovePeer {
        #[command(flatten)]
        peer: PeerArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Hand leadership to another voter
    TransferLeader {
        /// Which one; without it the leader picks the most up-to-date voter
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Names one member.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PeerArgs {
    /// Its server id, as list-peers shows it
    #[arg(long)]
    id: Option<String>,
    /// Its raft address, as list-peers shows it
    #[arg(long)]
    address: Option<String>,
}

/// Runs a verb.
pub(crate) fn run(verb: &RaftVerb, palette: Palette) -> Result<Outcome, VerbError> {
    match verb {
        RaftVerb::ListPeers { format, client } => list(&client.client()?, format.format, palette),
        RaftVerb::RemovePeer { peer, client } => remove(&client.client()?, peer),
        RaftVerb::TransferLeader { id, client } => transfer(&client.client()?, id.as_deref()),
    }
}

fn list(client: &Client, format: Format, palette: Palette) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Get, "/operator/raft/configuration");
    let body = client.expect(&request)?;
    if format == Format::Json {
        return Ok(Outcome::text(json(&body)));
    }
    let configuration: RaftConfiguration = client.read(&request, &body)?;
    let indexes = if configuration.servers.iter().all(|server| server.last_index.is_some()) {
        BTreeMap::new()
    } else {
        indexes_from_health(client)
    };
    Ok(Outcome::text(table(&configuration.servers, &indexes).text(palette)))
}

/// The last index of every server, from the health report. Older servers report it only there; without
/// a leader nobody knows it, which is no reason to hide the members.
fn indexes_from_health(client: &Client) -> BTreeMap<String, u64> {
    let request = Request::new(Method::Get, "/operator/autopilot/health");
    let answer = client.send(&request).ok().filter(|answer| matches!(answer.status, 200 | 429));
    let health: Option<Health> = answer.and_then(|answer| client.read(&request, &answer.body).ok());
    health
        .into_iter()
        .flat_map(|health| health.servers)
        .map(|server| (server.id, server.last_index))
        .collect()
}

fn table(servers: &[RaftServer], indexes: &BTreeMap<String, u64>) -> Table {
    let index = |server: &RaftServer| server.last_index.or_else(|| indexes.get(&server.id).copied());
    let leader_index = servers.iter().find(|server| server.leader).and_then(index);
    let header =
        ["Node", "ID", "Address", "State", "Voter", "RaftProtocol", "Commit Index", "Trails Leader By"];
    let mut table = Table::new(&header);
    for server in servers {
        let own = index(server);
        let trails = match (server.leader, leader_index, own) {
            (true, ..) => "_".to_owned(),
            (false, Some(leader), Some(own)) => trails(leader, own),
            _ => "unknown".to_owned(),
        };
        table.row([
            (&server.node).into(),
            (&server.id).into(),
            (&server.address).into(),
            if server.leader { Cell::styled("leader", Style::Strong) } else { "follower".into() },
            server.voter.to_string().into(),
            (&server.protocol_version).into(),
            own.map_or_else(|| "unknown".to_owned(), |own| own.to_string()).into(),
            trails.into(),
        ]);
    }
    table
}

/// A follower sampled after the leader can be ahead of it; that is not trailing.
fn trails(leader: u64, own: u64) -> String {
    match leader.saturating_sub(own) {
        few @ (0 | 1) => format!("{few} commit"),
        many => format!("{many} commits"),
    }
}

fn remove(client: &Client, peer: &PeerArgs) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Delete, "/operator/raft/peer")
        .parameter("id", peer.id.as_ref())
        .parameter("address", peer.address.as_ref());
    client.expect(&request)?;
    Ok(Outcome::line(match (&peer.id, &peer.address) {
        (Some(id), _) => format!("Removed peer with id {id:?}"),
        (None, address) => format!("Removed peer with address {:?}", address.as_deref().unwrap_or_default()),
    }))
}

fn transfer(client: &Client, id: Option<&str>) -> Result<Outcome, VerbError> {
    client.expect(&Request::new(Method::Post, "/operator/raft/transfer-leader").parameter("id", id))?;
    Ok(Outcome::line("Success"))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const CONFIGURATION: &str = r#"{"Index":9,"Servers":[
        {"ID":"id-1","Node":"n1","Address":"127.0.0.1:8300","Leader":false,"ProtocolVersion":"3","Voter":true,"LastIndex":1168},
        {"ID":"id-2","Node":"n2","Address":"127.0.0.2:8300","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":1167},
        {"ID":"id-3","Node":"(unknown)","Address":"127.0.0.3:8300","Leader":false,"ProtocolVersion":"unknown","Voter":false,"LastIndex":1100}]}"#;

    fn listed(fake: &Fake, format: Format) -> String {
        String::from_utf8(list(&fake.client(), format, Palette::PLAIN).expect("an answer").out).expect("text")
    }

    #[test]
    fn list_peers_has_consuls_columns_and_clamps() {
        let fake = Fake::start(|_| (200, CONFIGURATION.into()));
        assert_eq!(
            listed(&fake, Format::Pretty),
            "\
Node       ID    Address         State     Voter  RaftProtocol  Commit Index  Trails Leader By
n1         id-1  127.0.0.1:8300  follower  true   3             1168          0 commit
n2         id-2  127.0.0.2:8300  leader    true   3             1167          _
(unknown)  id-3  127.0.0.3:8300  follower  false  unknown       1100          67 commits
"
        );
        assert_eq!(fake.requests(), ["GET /v1/operator/raft/configuration"]);
    }

    #[test]
    fn indexes_come_from_the_health_report_where_needed() {
        let fake = Fake::start(|request| match request.target.as_str() {
            "/v1/operator/raft/configuration" => (200, CONFIGURATION.replace(r#","LastIndex":1168"#, "")),
            _ => (429, r#"{"Healthy":false,"Servers":[{"ID":"id-1","LastIndex":1165}]}"#.into()),
        });
        assert!(listed(&fake, Format::Pretty).contains("3             1165          2 commits\n"));
    }

    #[test]
    fn without_a_health_report_members_are_still_listed() {
        let fake = Fake::start(|request| match request.target.as_str() {
            "/v1/operator/raft/configuration?stale" => (200, CONFIGURATION.replace("LastIndex", "Other")),
            _ => (500, "No cluster leader".into()),
        });
        let outcome = list(&fake.client().stale(true), Format::Pretty, Palette::PLAIN).expect("an answer");
        let text = String::from_utf8(outcome.out).expect("text");
        assert!(
            text.contains(
                "n1         id-1  127.0.0.1:8300  follower  true   3             unknown       unknown\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn json_is_the_servers_answer() {
        let fake = Fake::start(|_| (200, CONFIGURATION.into()));
        let text = listed(&fake, Format::Json);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value, serde_json::from_str::<serde_json::Value>(CONFIGURATION).expect("JSON"));
    }

    #[test]
    fn remove_peer_and_transfer_leader_send_the_id() {
        let fake = Fake::start(|request| match request.method.as_str() {
            "POST" => (200, r#"{"Success":true}"#.into()),
            _ => (200, String::new()),
        });
        let client = fake.client();
        let by_id = PeerArgs { id: Some("a b".into()), address: None };
        let by_address = PeerArgs { id: None, address: Some("h:1".into()) };
        assert_eq!(remove(&client, &by_id).expect("done"), Outcome::line("Removed peer with id \"a b\""));
        assert_eq!(
            remove(&client, &by_address).expect("done"),
            Outcome::line("Removed peer with address \"h:1\"")
        );
        assert_eq!(transfer(&client, Some("id-3")).expect("done"), Outcome::line("Success"));
        assert_eq!(transfer(&client, None).expect("done"), Outcome::line("Success"));
        assert_eq!(
            fake.requests(),
            [
                "DELETE /v1/operator/raft/peer?id=a%20b",
                "DELETE /v1/operator/raft/peer?address=h%3A1",
                "POST /v1/operator/raft/transfer-leader?id=id-3",
                "POST /v1/operator/raft/transfer-leader",
            ]
        );
    }
}
