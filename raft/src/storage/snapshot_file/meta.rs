//! meta.json as hashicorp/raft writes and reads it.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use raft_types::{Configuration, EntryId, Incarnation, LogIndex, Server, Suffrage, Term};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::shape::NUMBER_LIMIT;
use crate::core::SnapshotMeta;

/// What meta.json says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredMeta {
    pub(super) meta: SnapshotMeta,
    /// Of state.bin; `None` while it is being written.
    pub(super) crc: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenMeta<'a> {
    version: u8,
    #[serde(rename = "ID")]
    id: &'a str,
    index: u64,
    term: u64,
    peers: String,
    configuration: WrittenConfiguration<'a>,
    configuration_index: u64,
    size: u64,
    #[serde(rename = "CRC")]
    crc: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenConfiguration<'a> {
    servers: Vec<WrittenServer<'a>>,
    /// Not known to hashicorp/raft; there only while joint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outgoing: Vec<WrittenServer<'a>>,
    /// Not known to hashicorp/raft; there only after a forced recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenServer<'a> {
    suffrage: u8,
    #[serde(rename = "ID")]
    id: &'a str,
    address: &'a str,
    /// Not known to hashicorp/raft; there only if it is not the founder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<u64>,
}

fn unless_zero(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

/// The addresses of the voters as a msgpack array of raw strings, which old readers want.
fn peers(configuration: &Configuration) -> Vec<u8> {
    // Lengths beyond the largest form cannot occur: a configuration of that size passes no message limit.
    let mut out = Vec::new();
    match u32::try_from(configuration.voters_count()).unwrap_or(u32::MAX) {
        0 => return vec![0xc0],
        count @ 1..16 => out.push(0x90 | count as u8),
        count @ 16..0x1_0000 => {
            out.push(0xdc);
            out.extend_from_slice(&(count as u16).to_be_bytes());
        }
        count => {
            out.push(0xdd);
            out.extend_from_slice(&count.to_be_bytes());
        }
    }
    for voter in configuration.voters() {
        let address = voter.address.as_str();
        match u32::try_from(address.len()).unwrap_or(u32::MAX) {
            length @ 0..32 => out.push(0xa0 | length as u8),
            length @ 32..0x1_0000 => {
                out.push(0xda);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                out.push(0xdb);
                out.extend_from_slice(&length.to_be_bytes());
            }
        }
        out.extend_from_slice(address.as_bytes());
    }
    out
}

fn written(servers: &[Server]) -> Vec<WrittenServer<'_>> {
    let mut all = Vec::with_capacity(servers.len());
    for server in servers {
        all.push(WrittenServer {
            suffrage: u8::from(server.suffrage == Suffrage::Nonvoter),
            id: server.id.as_str(),
            address: server.address.as_str(),
            incarnation: unless_zero(server.incarnation.0),
        });
    }
    all
}

impl StoredMeta {
    /// One line of JSON, escaped as Go's encoder does.
    pub(super) fn encode(&self, id: &str) -> io::Result<Vec<u8>> {
        let Self { meta, crc } = self;
        let written = WrittenMeta {
            version: 1,
            id,
            index: meta.last.index.0,
            term: meta.last.term.0,
            peers: BASE64.encode(peers(&meta.configuration)),
            configuration: WrittenConfiguration {
                servers: written(meta.configuration.servers()),
                outgoing: written(meta.configuration.outgoing()),
                epoch: unless_zero(meta.configuration.epoch()),
            },
            configuration_index: meta.configuration_index.0,
            size: meta.size,
            crc: crc.map(|crc| BASE64.encode(crc.to_be_bytes())),
        };
        // These characters stand inside strings only, so replacing them everywhere is right.
        let text = serde_json::to_string(&written)?
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026")
            .replace('\u{2028}', "\\u2028")
            .replace('\u{2029}', "\\u2029");
        Ok((text + "\n").into_bytes())
    }

    /// Reads it; keys in any case, unknown ones ignored.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let object = Object::of(&value, "the file")?;
        match object.number("Version")? {
            1 => {}
            other => return Err(format!("version {other}; version 1 is known")),
        }
        let configuration = Object::of(object.get("Configuration")?, "Configuration")?;
        let list = |list: &Value| -> Result<Vec<Server>, String> {
            list.as_array().ok_or("Servers is not a list")?.iter().map(server).collect()
        };
        let servers = list(configuration.get("Servers")?)?;
        let outgoing = configuration.get("Outgoing").map_or_else(|_| Ok(Vec::new()), list)?;
        let epoch = configuration.optional("Epoch")?;
        let crc = match object.get("CRC")? {
            Value::Null => return Err("it was never completed".to_owned()),
            Value::String(text) => BASE64.decode(text).map_err(|error| error.to_string())?,
            _ => return Err("CRC is not a string".to_owned()),
        };
        let crc = <[u8; 8]>::try_from(crc).map_err(|_| "CRC has not 8 bytes")?;
        Ok(Self {
            meta: SnapshotMeta {
                last: EntryId {
                    term: Term(object.position("Term")?),
                    index: LogIndex(object.position("Index")?),
                },
                configuration: Configuration::joint(servers, outgoing).in_epoch(epoch),
                configuration_index: LogIndex(object.position("ConfigurationIndex")?),
                size: object.number("Size")?,
            },
            crc: Some(u64::from_be_bytes(crc)),
        })
    }
}

fn server(value: &Value) -> Result<Server, String> {
    let object = Object::of(value, "a server")?;
    let suffrage = match object.number("Suffrage")? {
        0 => Suffrage::Voter,
        // 2 is a staging server of old versions, which does not vote either.
        1 | 2 => Suffrage::Nonvoter,
        other => return Err(format!("suffrage {other}")),
    };
    let incarnation = Incarnation(object.optional("Incarnation")?);
    Ok(Server {
        id: object.text("ID")?.into(),
        address: object.text("Address")?.into(),
        suffrage,
        incarnation,
    })
}

/// A JSON object whose keys are found in any case.
struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    fn of(value: &'a Value, name: &str) -> Result<Self, String> {
        value.as_object().map(Self).ok_or_else(|| format!("{name} is not an object"))
    }

    fn get(&self, key: &str) -> Result<&'a Value, String> {
        let found = self.0.get(key);
        let any_case =
            || self.0.iter().find(|(other, _)| other.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        found.or_else(any_case).ok_or_else(|| format!("{key} is missing"))
    }

    fn number(&self, key: &str) -> Result<u64, String> {
        self.get(key)?.as_u64().ok_or_else(|| format!("{key} is not a number"))
    }

    /// Zero where it is missing.
    fn optional(&self, key: &str) -> Result<u64, String> {
        if self.get(key).is_err() { Ok(0) } else { self.number(key) }
    }

    /// A term or an index.
    fn position(&self, key: &str) -> Result<u64, String> {
        let number = self.number(key)?;
        if number < NUMBER_LIMIT {
            Ok(number)
        } else {
            Err(format!("{key} {number} is beyond any cluster's"))
        }
    }

    fn text(&self, key: &str) -> Result<&'a str, String> {
        self.get(key)?.as_str().ok_or_else(|| format!("{key} is not a string"))
    }
}
