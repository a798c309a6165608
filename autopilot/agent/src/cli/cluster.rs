//! `join` and `leave`: a server's own membership.

use clap::Args;

use super::client::{Client, Method, Request, encode};
use super::{ClientArgs, Outcome, VerbError};

/// Arguments of `join`.
#[derive(Debug, Clone, Args)]
pub(crate) struct JoinArgs {
    /// Gossip addresses of servers of the cluster to join, as HOST:PORT
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Arguments of `leave`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LeaveArgs {
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs `join`.
pub(crate) fn join(args: &JoinArgs) -> Result<Outcome, VerbError> {
    join_through(&args.client.client()?, &args.addresses)
}

/// One address that answers is enough: the servers of a cluster know each other. The first error is given
/// only when none does.
fn join_through(client: &Client, addresses: &[String]) -> Result<Outcome, VerbError> {
    let mut joined = 0;
    let mut first_error = None;
    for address in addresses {
        let request = Request::new(Method::Put, format!("/agent/join/{}", encode(address, ":[]")));
        match client.expect(&request) {
            Ok(_) => joined += 1,
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) if joined == 0 => Err(error.into()),
        first_error => Ok(Outcome {
            complaint: first_error.map(|error| format!("Warning: {error}")),
            ..Outcome::line(format!("Successfully joined cluster by contacting {joined} nodes."))
        }),
    }
}

/// Runs `leave`.
pub(crate) fn leave(args: &LeaveArgs) -> Result<Outcome, VerbError> {
    args.client.client()?.expect(&Request::new(Method::Put, "/agent/leave"))?;
    Ok(Outcome::line("Graceful leave complete"))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn join(addresses: &[&str]) -> (Result<Outcome, VerbError>, Vec<String>) {
        let fake = Fake::start(|request| {
            if request.target.ends_with("bad:1") { (500, "no route".into()) } else { (200, String::new()) }
        });
        let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
        (join_through(&fake.client(), &addresses), fake.requests())
    }

    #[test]
    fn every_address_is_tried() {
        let (outcome, requests) = join(&["a:1", "[::1]:2"]);
        assert_eq!(
            outcome.expect("joined"),
            Outcome::line("Successfully joined cluster by contacting 2 nodes.")
        );
        assert_eq!(requests, ["PUT /v1/agent/join/a:1", "PUT /v1/agent/join/[::1]:2"]);
    }

    #[test]
    fn one_good_address_is_enough() {
        let outcome = join(&["bad:1", "a:1"]).0.expect("joined through the second");
        assert!(outcome.complaint.expect("a warning").contains("no route"));
    }

    #[test]
    fn no_good_address_is_an_error() {
        let error = join(&["bad:1"]).0.expect_err("nobody to join").to_string();
        assert!(error.ends_with("500 no route"), "{error}");
    }
}
