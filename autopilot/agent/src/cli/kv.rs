//! `kv`: the replicated key-value store.

use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};

use super::client::{Client, Method, Request, encode};
use super::render::{clean, json};
use super::wire::KeyValue;
use super::{ClientArgs, Format, FormatArgs, Outcome, VerbError};

/// Largest value read from a file or standard input. Servers refuse values above 512 KiB; reading more than
/// a little above would only fill the memory before the refusal.
const VALUE_BYTES_MAX: u64 = 8 << 20;

/// `kv`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KvVerb {
    /// Print a value, or everything below a prefix
    Get(GetArgs),
    /// Write a value
    Put(PutArgs),
    /// Delete a key, or everything below a prefix
    Delete(DeleteArgs),
}

/// Arguments of `kv get`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GetArgs {
    /// The key, or the prefix with --recurse and --keys
    #[arg(default_value = "")]
    key: String,
    /// Show when the key was written, its flags and its session too
    #[arg(long)]
    detailed: bool,
    /// Show every key below the prefix with its value
    #[arg(long, conflicts_with = "keys")]
    recurse: bool,
    /// Show only the names of the keys below the prefix
    #[arg(long)]
    keys: bool,
    /// With --keys: cut names after this text and show each rest once; empty shows every key
    #[arg(long, default_value = "/", requires = "keys")]
    separator: String,
    /// Print values in base64, for values that are not text
    #[arg(long, conflicts_with = "keys")]
    base64: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// Arguments of `kv put`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PutArgs {
    /// The key
    key: String,
    /// The value, @FILE to read it from a file, or - to read it from standard input
    #[arg(default_value = "", allow_hyphen_values = false)]
    value: String,
    /// The value is given in base64
    #[arg(long)]
    base64: bool,
    /// A number kept with the key, for the application's own use
    #[arg(long, value_name = "NUMBER")]
    flags: Option<u64>,
    #[command(flatten)]
    compare: CompareArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// Arguments of `kv delete`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeleteArgs {
    /// The key, or the prefix with --recurse
    key: String,
    /// Delete every key below the prefix
    #[arg(long, conflicts_with = "cas")]
    recurse: bool,
    #[command(flatten)]
    compare: CompareArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// Compare and set.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompareArgs {
    /// Do it only if the key has not changed since --modify-index; 0 means that it must not exist
    #[arg(long, requires = "modify_index")]
    cas: bool,
    /// The key's ModifyIndex, as kv get --detailed shows it
    #[arg(long, value_name = "INDEX", requires = "cas")]
    modify_index: Option<u64>,
}

/// Runs a verb.
pub(crate) fn run(verb: &KvVerb) -> Result<Outcome, VerbError> {
    match verb {
        KvVerb::Get(args) => get(&args.client.client()?, args),
        KvVerb::Put(args) => {
            let value = value(args, &mut io::stdin().lock())?;
            put(&args.client.client()?, args, value)
        }
        KvVerb::Delete(args) => delete(&args.client.client()?, args),
    }
}

/// The path of a key. A leading slash is dropped as Consul's command line does, since no key begins with one.
fn path(key: &str) -> String {
    format!("/kv/{}", encode(key.trim_start_matches('/'), "/"))
}

fn get(client: &Client, args: &GetArgs) -> Result<Outcome, VerbError> {
    let separator = args.keys.then_some(args.separator.as_str()).filter(|separator| !separator.is_empty());
    let request = Request::new(Method::Get, path(&args.key))
        .flag("recurse", args.recurse)
        .flag("keys", args.keys)
        .parameter("separator", separator);
    let answer = client.send(&request)?;
    match answer.status {
        200 => {}
        // An empty listing is an answer; a single missing key is not.
        404 if (args.recurse || args.keys) && answer.body.is_empty() => {
            return Ok(Outcome::text(if args.format.format == Format::Json { "[]\n" } else { "" }));
        }
        404 if answer.body.is_empty() => return Err(VerbError::NoKey(args.key.clone())),
        _ => return Err(client.refused(&request, &answer).into()),
    }
    if args.format.format == Format::Json {
        return Ok(Outcome::text(json(&answer.body)));
    }
    if args.keys {
        let keys: Vec<String> = client.read(&request, &answer.body)?;
        return Ok(Outcome::text(keys.iter().flat_map(|key| [key.as_str(), "\n"]).collect::<String>()));
    }
    let entries: Vec<KeyValue> = client.read(&request, &answer.body)?;
    let mut out = Vec::new();
    for (position, entry) in entries.iter().enumerate() {
        if args.detailed {
            if position > 0 {
                out.push(b'\n');
            }
            out.extend(detailed(entry, args.base64)?);
        } else {
            if args.recurse {
                write!(out, "{}:", entry.key).expect("writing to memory cannot fail");
            }
            out.extend(shown(entry, args.base64)?);
            out.push(b'\n');
        }
    }
    Ok(Outcome { out, ..Outcome::default() })
}

/// The value as stored, or in base64 as it came.
fn shown(entry: &KeyValue, base64: bool) -> Result<Vec<u8>, VerbError> {
    let encoded = entry.value.as_deref().unwrap_or("");
    if base64 {
        return Ok(encoded.as_bytes().to_vec());
    }
    STANDARD.decode(encoded).map_err(|error| VerbError::Base64 {
        what: format!("the value that the server sent for {:?}", entry.key),
        problem: error.to_string(),
    })
}

/// A key with everything the store knows about it; the value last, since it may be anything.
fn detailed(entry: &KeyValue, base64: bool) -> Result<Vec<u8>, VerbError> {
    let session = if entry.session.is_empty() { "-" } else { &entry.session };
    let mut out = Vec::new();
    for (name, text) in [
        ("CreateIndex", entry.create_index.to_string().as_str()),
        ("Flags", &entry.flags.to_string()),
        ("Key", &clean(&entry.key)),
        ("LockIndex", &entry.lock_index.to_string()),
        ("ModifyIndex", &entry.modify_index.to_string()),
        ("Session", session),
        ("Value", ""),
    ] {
        let end = if name == "Value" { "" } else { "\n" };
        write!(out, "{name:<17}{text}{end}").expect("writing to memory cannot fail");
    }
    out.extend(shown(entry, base64)?);
    out.push(b'\n');
    Ok(out)
}

fn value(args: &PutArgs, stdin: &mut dyn Read) -> Result<Vec<u8>, VerbError> {
    let (what, value) = if args.value == "-" {
        ("standard input".to_owned(), limited(stdin))
    } else if let Some(file) = args.value.strip_prefix('@') {
        (file.to_owned(), std::fs::File::open(file).and_then(|mut file| limited(&mut file)))
    } else {
        ("the value".to_owned(), Ok(args.value.clone().into_bytes()))
    };
    let value = value.map_err(|error| VerbError::Input { what: what.clone(), error })?;
    if !args.base64 {
        return Ok(value);
    }
    STANDARD
        .decode(value.trim_ascii())
        .map_err(|error| VerbError::Base64 { what, problem: error.to_string() })
}

fn limited(source: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    source.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value)?;
    if value.len() as u64 > VALUE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is larger than any value may be (512 KiB)",
        ));
    }
    Ok(value)
}

fn put(client: &Client, args: &PutArgs, value: Vec<u8>) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Put, path(&args.key))
        .parameter("flags", args.flags)
        .parameter("cas", args.compare.modify_index)
        .body(value);
    match client.json(&request)? {
        true => Ok(Outcome::line(format!("Success! Data written to: {}", args.key))),
        false => Err(VerbError::KeyChanged { verb: "write", key: args.key.clone() }),
    }
}

fn delete(client: &Client, args: &DeleteArgs) -> Result<Outcome, VerbError> {
    let request = Request::new(Method::Delete, path(&args.key))
        .flag("recurse", args.recurse)
        .parameter("cas", args.compare.modify_index);
    match client.json(&request)? {
        true if args.recurse => Ok(Outcome::line(format!("Success! Deleted keys with prefix: {}", args.key))),
        true => Ok(Outcome::line(format!("Success! Deleted key: {}", args.key))),
        false => Err(VerbError::KeyChanged { verb: "delete", key: args.key.clone() }),
    }
}

#[cfg(test)]
#[path = "kv_tests.rs"]
mod tests;
