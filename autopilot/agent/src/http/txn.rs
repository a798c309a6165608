//! `/v1/txn`: several operations on keys at one place in the log, all or none.
//!
//! Unlike in Consul, a transaction that only reads goes through the log as well.

use std::fmt;
use std::sync::Arc;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::call::{Call, READ_BY, Reply};
use super::error::ApiError;
use super::kv;
use super::read::ReadBy;
use super::wire::KvEntry;
use super::with_freshness;
use crate::app::App;
use crate::kv::command::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::kv::transaction::{Failure, Found, OPERATIONS_MAX};
use crate::kv::{Command, Operation, TransactionOutcome};

/// The largest body: a largest value in base64, and room for others beside it.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// The operations as they come. Not read further than the limit.
#[derive(Debug)]
struct Wanted(Vec<WantedOperation>);

/// One of them. Only keys and values can be changed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct WantedOperation {
    #[serde(rename = "KV")]
    kv: Option<WantedKv>,
    node: Option<IgnoredAny>,
    service: Option<IgnoredAny>,
    check: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct WantedKv {
    verb: String,
    #[serde(default)]
    key: String,
    /// Base64.
    value: Option<String>,
    #[serde(default)]
    flags: u64,
    #[serde(default)]
    index: u64,
    session: Option<String>,
}

/// Consul's answer: either list is null.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    results: Option<Vec<ResultEntry>>,
    errors: Option<Vec<ErrorEntry>>,
}

#[derive(Debug, Serialize)]
struct ResultEntry {
    #[serde(rename = "KV")]
    kv: KvEntry,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorEntry {
    op_index: usize,
    what: String,
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Few;

        impl<'de> Visitor<'de> for Few {
            type Value = Wanted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of up to {OPERATIONS_MAX} operations")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Wanted, A::Error> {
                let mut operations = Vec::new();
                while let Some(operation) = list.next_element()? {
                    if operations.len() == OPERATIONS_MAX {
                        return Err(A::Error::custom(format!("more than {OPERATIONS_MAX} operations")));
                    }
                    operations.push(operation);
                }
                Ok(Wanted(operations))
            }
        }

        deserializer.deserialize_seq(Few)
    }
}

/// Does everything that the body asks for, or nothing.
pub(super) async fn run(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let command = Command::Transaction(parse(&call.body)?);
    let answer = app.replicate(&command).await?;
    let outcome = TransactionOutcome::decode(&answer).map_err(|error| {
        ApiError::Failed(format!("the change was made, but its answer is damaged: {error}"))
    })?;
    let (status, body) = match outcome {
        TransactionOutcome::Done(found) => {
            let results =
                found.into_iter().map(|Found { key, entry }| ResultEntry { kv: kv::wire(key, &entry) });
            (StatusCode::OK, Answer { results: Some(results.collect()), errors: None })
        }
        TransactionOutcome::RolledBack(failures) => {
            let errors = failures
                .into_iter()
                .map(|Failure { operation, why }| ErrorEntry { op_index: operation, what: why });
            (StatusCode::CONFLICT, Answer { results: None, errors: Some(errors.collect()) })
        }
        TransactionOutcome::DoneWithoutAnswer => {
            let text =
                "the transaction was done, but too much was read at once to answer; read what you need again";
            return Err(ApiError::Failed(text.to_owned()));
        }
        TransactionOutcome::Unknown => {
            let text =
                "this server does not know transactions, and did nothing; other servers may have: read first";
            return Err(ApiError::Failed(text.to_owned()));
        }
    };
    let reply = Reply::json(&call, &body).with_status(status).with_header(READ_BY, ReadBy::Log);
    Ok(with_freshness(&app, reply))
}

fn parse(body: &[u8]) -> Result<Vec<Operation>, ApiError> {
    let wanted: Wanted = serde_json::from_slice(body)
        .map_err(|error| ApiError::Bad(format!("Failed to parse the transaction: {error}")))?;
    if wanted.0.is_empty() {
        return Err(ApiError::Bad("Failed to parse the transaction: no operations".to_owned()));
    }
    let checked = wanted.0.into_iter().enumerate().map(|(at, wanted)| {
        operation(wanted).map_err(|error| match error {
            ApiError::Bad(text) => ApiError::Bad(format!("operation {at}: {text}")),
            other => other,
        })
    });
    checked.collect()
}

fn operation(wanted: WantedOperation) -> Result<Operation, ApiError> {
    let bad = |text: String| Err(ApiError::Bad(text));
    let WantedOperation { kv: Some(wanted), node: None, service: None, check: None } = wanted else {
        return bad("only KV is supported: there is no catalog here".to_owned());
    };
    let WantedKv { verb, key, value, flags, index, session } = wanted;
    if session.is_some_and(|session| !session.is_empty())
        || matches!(verb.as_str(), "lock" | "unlock" | "check-session")
    {
        return bad(format!("{verb} is not supported with sessions: there are none here; use cas"));
    }
    if key.len() > KEY_BYTES_MAX {
        return bad(format!("the key has {} bytes, the limit is {KEY_BYTES_MAX}", key.len()));
    }
    if key.is_empty() && !matches!(verb.as_str(), "get-tree" | "delete-tree") {
        return bad("Missing key name".to_owned());
    }
    Ok(match verb.as_str() {
        "set" => Operation::Set { key, value: decoded(value)?, flags, cas: None },
        "cas" => Operation::Set { key, value: decoded(value)?, flags, cas: Some(index) },
        "delete" => Operation::Delete { key, cas: None },
        "delete-cas" => Operation::Delete { key, cas: Some(index) },
        "delete-tree" => Operation::DeleteTree { prefix: key },
        "get" => Operation::Get { key, required: true },
        "get-or-empty" => Operation::Get { key, required: false },
        "get-tree" => Operation::GetTree { prefix: key },
        "check-index" => Operation::CheckIndex { key, index },
        "check-not-exists" => Operation::CheckNotExists { key },
        _ => return bad(format!("unknown verb {verb:?}")),
    })
}

fn decoded(value: Option<String>) -> Result<Bytes, ApiError> {
    let value = BASE64
        .decode(value.unwrap_or_default())
        .map_err(|error| ApiError::Bad(format!("the value is not base64: {error}")))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(ApiError::TooLarge { limit: VALUE_BYTES_MAX });
    }
    Ok(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_read() {
        let body = br#"[
            {"KV": {"Verb": "set", "Key": "a", "Value": "aGVsbG8=", "Flags": 7}, "Node": null},
            {"KV": {"Verb": "cas", "Key": "a", "Value": null, "Index": 3, "Session": ""}},
            {"KV": {"Verb": "delete", "Key": "a"}},
            {"KV": {"Verb": "delete-cas", "Key": "a", "Index": 4}},
            {"KV": {"Verb": "delete-tree", "Key": ""}},
            {"KV": {"Verb": "get", "Key": "a"}},
            {"KV": {"Verb": "get-or-empty", "Key": "a"}},
            {"KV": {"Verb": "get-tree", "Key": "a/"}},
            {"KV": {"Verb": "check-index", "Key": "a", "Index": 5}},
            {"KV": {"Verb": "check-not-exists", "Key": "a"}}
        ]"#;
        let key = || "a".to_owned();
        let expected = vec![
            Operation::Set { key: key(), value: "hello".into(), flags: 7, cas: None },
            Operation::Set { key: key(), value: Bytes::new(), flags: 0, cas: Some(3) },
            Operation::Delete { key: key(), cas: None },
            Operation::Delete { key: key(), cas: Some(4) },
            Operation::DeleteTree { prefix: String::new() },
            Operation::Get { key: key(), required: true },
            Operation::Get { key: key(), required: false },
            Operation::GetTree { prefix: "a/".into() },
            Operation::CheckIndex { key: key(), index: 5 },
            Operation::CheckNotExists { key: key() },
        ];
        assert_eq!(parse(body), Ok(expected));
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        let one = |kv: &str| format!(r#"[{{"KV": {{"Verb": "get", "Key": "a"}}}}, {{"KV": {kv}}}]"#);
        let long = format!(r#"{{"Verb": "get", "Key": "{}"}}"#, "k".repeat(KEY_BYTES_MAX + 1));
        let many = format!("[{}{{}}]", "{},".repeat(OPERATIONS_MAX));
        for (body, said) in [
            ("[".to_owned(), "EOF"),
            ("{}".to_owned(), "a list of up to 128 operations"),
            ("[]".to_owned(), "no operations"),
            (many, "more than 128 operations"),
            ("[{}]".to_owned(), "operation 0: only KV"),
            (r#"[{"Node": {"Verb": "get"}}]"#.to_owned(), "operation 0: only KV"),
            (one(r#"{"Key": "a"}"#), "Verb"),
            (one(r#"{"Verb": "gett", "Key": "a"}"#), "operation 1: unknown verb \"gett\""),
            (one(r#"{"Verb": "lock", "Key": "a"}"#), "operation 1: lock is not supported"),
            (one(r#"{"Verb": "set", "Key": "a", "Session": "x"}"#), "operation 1: set is not supported"),
            (one(r#"{"Verb": "get", "Key": ""}"#), "operation 1: Missing key name"),
            (one(r#"{"Verb": "set", "Key": "a", "Value": "?"}"#), "operation 1: the value is not base64"),
            (one(r#"{"Verb": "set", "Key": "a", "Index": -1}"#), "-1"),
            (one(r#"{"Verb": "set", "Key": "a", "Ttl": 1}"#), "Ttl"),
            (one(&long), "1024"),
        ] {
            let Err(ApiError::Bad(text)) = parse(body.as_bytes()) else { panic!("{body} passed") };
            assert!(text.contains(said), "{body}: {text}");
        }
        let large = BASE64.encode(vec![7; VALUE_BYTES_MAX + 1]);
        let large = one(&format!(r#"{{"Verb": "set", "Key": "a", "Value": "{large}"}}"#));
        assert_eq!(parse(large.as_bytes()), Err(ApiError::TooLarge { limit: VALUE_BYTES_MAX }));
    }
}
