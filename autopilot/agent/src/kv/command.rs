//! The commands of the replicated state and their bytes.
//!
//! A command is one byte of format version, one byte that names it, then its fields: integers little-endian, text and
//! values behind a 32-bit length. A reader refuses what it does not know, every limit is checked before anything is
//! copied, and trailing bytes are an error, so that all servers agree on what a command is.

use std::time::Duration;

use autopilot::{ChangePolicy, HealthPolicy, RemovalPolicy};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::transaction::{self, Operation};

/// The largest value of a key, in bytes (as in Consul).
pub const VALUE_BYTES_MAX: usize = 512 * 1024;
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// The longest text of the autopilot settings, in bytes.
const TAG_BYTES_MAX: usize = 256;
/// The longest text of the groups of autopilot settings, in bytes.
const GROUPS_BYTES_MAX: usize = 16 * 1024;
/// The largest ledger, in bytes: enough for about a thousand servers.
pub const LEDGER_BYTES_MAX: usize = VALUE_BYTES_MAX;

const FORMAT: u8 = 1;

/// The autopilot configuration that all servers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutopilotSettings {
    /// Remove servers that failed. Default true.
    pub cleanup_dead_servers: bool,
    /// Unhealthy without contact for this long. Default 200 ms.
    pub last_contact_threshold: Duration,
    /// Unhealthy when this many entries behind. Default 250.
    pub max_trailing_logs: u64,
    /// Never remove servers below this number. Default 0.
    pub min_quorum: u64,
    /// Healthy for this long before a server may vote. Default 10 s.
    pub server_stabilization_time: Duration,
    /// Metadata key that names a server's zone; empty: zones are not used.
    pub redundancy_zone_tag: String,
    /// Leave upgrades to the operator. Default false.
    pub disable_upgrade_migration: bool,
    /// Metadata key that names a server's version; empty: the build version.
    pub upgrade_version_tag: String,
    /// What makes health steady.
    pub health: HealthPolicy,
    /// What keeps removals from surprising. The default is [`AutopilotSettings::removal_default`].
    pub removal: RemovalPolicy,
    /// How fast members may be changed.
    pub changes: ChangePolicy,
}

impl AutopilotSettings {
    /// As Consul does, a dead server goes after `server_stabilization_time`, as far as the quorum and `min_quorum`
    /// allow, whether or not another takes its place; but not many at once, and a spare takes its vote in one step.
    #[must_use]
    pub fn removal_default() -> RemovalPolicy {
        let library = RemovalPolicy::default();
        RemovalPolicy {
            swap: library.swap,
            budget: library.budget,
            cool_down: library.cool_down,
            ..RemovalPolicy::reference()
        }
    }
}

impl Default for AutopilotSettings {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Duration::from_millis(200),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Duration::from_secs(10),
            redundancy_zone_tag: String::new(),
            disable_upgrade_migration: false,
            upgrade_version_tag: String::new(),
            health: HealthPolicy::default(),
            removal: Self::removal_default(),
            changes: ChangePolicy::default(),
        }
    }
}

/// The groups of [`AutopilotSettings`], which go through the log as JSON: they may grow.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Groups {
    health: HealthPolicy,
    removal: RemovalPolicy,
    changes: ChangePolicy,
}

/// A change of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Store a value.
    Put {
        /// Where.
        key: String,
        /// What.
        value: Bytes,
        /// An opaque number of the client.
        flags: u64,
        /// Only when the key was last changed at this index; 0: only when there is no such key.
        cas: Option<u64>,
    },
    /// Remove one key.
    Delete {
        /// Which.
        key: String,
        /// Only when the key was last changed at this index.
        cas: Option<u64>,
    },
    /// Remove all keys that start with a prefix.
    DeletePrefix {
        /// The prefix; empty removes everything.
        prefix: String,
    },
    /// Replace the autopilot configuration.
    SetAutopilot {
        /// The new one.
        settings: Box<AutopilotSettings>,
        /// Only when it was last changed at this index; 0: only when there is none yet.
        cas: Option<u64>,
    },
    /// Remember that a person removed a server while it lived: leaders do not take this life of it back in.
    KeepOut {
        /// Which server.
        id: String,
        /// The gossip generation of the life that was removed; 0 forgets the removal.
        generation: u64,
    },
    /// Keep what the leader's autopilot knows, orders included, for the next leader.
    KeepLedger {
        /// The ledger as JSON.
        ledger: Bytes,
        /// When it was made, in milliseconds since 1970 by the clock of the leader.
        unix_ms: u64,
    },
    /// Do several things, or none of them. Answered with a [`TransactionOutcome`](super::TransactionOutcome).
    Transaction(Vec<Operation>),
}

/// What the state machine answers to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The condition held; the change was made.
    Applied,
    /// The condition did not hold; nothing was changed.
    Refused,
    /// This server does not know the command; nothing was changed. Some server runs a newer version.
    Unknown,
}

impl Outcome {
    /// The answer's bytes.
    #[must_use]
    pub const fn encode(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Applied => &[1],
            Self::Refused => &[0],
            Self::Unknown => &[2],
        })
    }

    /// Reads an answer.
    #[must_use]
    pub const fn decode(bytes: &[u8]) -> Self {
        match bytes {
            [1] => Self::Applied,
            [0] => Self::Refused,
            _ => Self::Unknown,
        }
    }
}

/// Why bytes are no command or snapshot. Nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end in the middle of a field")]
    Short,
    /// Bytes are left over.
    #[error("{count} bytes are left over")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A format version or a tag that this version does not know.
    #[error("unknown {what} {value}")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u8,
    },
    /// A length above its limit.
    #[error("{what}: the length is {length}, the limit is {limit}")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// Its length: bytes, or parts.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// Which field.
        what: &'static str,
    },
    /// Text that is not the JSON of this version.
    #[error("{what} cannot be read: {problem}")]
    Malformed {
        /// Which field.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_PREFIX: u8 = 3;
/// Settings without groups, as earlier versions wrote them; still read.
const SET_AUTOPILOT_PLAIN: u8 = 4;
const KEEP_OUT: u8 = 5;
const SET_AUTOPILOT: u8 = 6;
const KEEP_LEDGER: u8 = 7;
const TRANSACTION: u8 = 8;

impl Command {
    /// The command's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(FORMAT);
        match self {
            Self::Put { key, value, flags, cas } => {
                out.reserve(key.len() + value.len());
                out.put_u8(PUT);
                put_bytes(&mut out, key.as_bytes());
                put_bytes(&mut out, value);
                out.put_u64_le(*flags);
                put_cas(&mut out, *cas);
            }
            Self::Delete { key, cas } => {
                out.put_u8(DELETE);
                put_bytes(&mut out, key.as_bytes());
                put_cas(&mut out, *cas);
            }
            Self::DeletePrefix { prefix } => {
                out.put_u8(DELETE_PREFIX);
                put_bytes(&mut out, prefix.as_bytes());
            }
            Self::SetAutopilot { settings, cas } => {
                out.put_u8(SET_AUTOPILOT);
                put_settings(&mut out, settings);
                put_cas(&mut out, *cas);
            }
            Self::KeepOut { id, generation } => {
                out.put_u8(KEEP_OUT);
                put_bytes(&mut out, id.as_bytes());
                out.put_u64_le(*generation);
            }
            Self::KeepLedger { ledger, unix_ms } => {
                out.reserve(ledger.len());
                out.put_u8(KEEP_LEDGER);
                put_bytes(&mut out, ledger);
                out.put_u64_le(*unix_ms);
            }
            Self::Transaction(operations) => {
                out.put_u8(TRANSACTION);
                transaction::put_operations(&mut out, operations);
            }
        }
        out.freeze()
    }

    /// Reads a command. Values share the bytes they are read from.
    ///
    /// # Errors
    /// Whatever makes the bytes something else than one whole command.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes.clone());
        reader.expect("format", FORMAT)?;
        let command = match reader.u8()? {
            PUT => Self::Put {
                key: reader.text("key", KEY_BYTES_MAX)?,
                value: reader.bytes("value", VALUE_BYTES_MAX)?,
                flags: reader.u64()?,
                cas: reader.cas()?,
            },
            DELETE => Self::Delete { key: reader.text("key", KEY_BYTES_MAX)?, cas: reader.cas()? },
            DELETE_PREFIX => Self::DeletePrefix { prefix: reader.text("prefix", KEY_BYTES_MAX)? },
            SET_AUTOPILOT_PLAIN => {
                Self::SetAutopilot { settings: Box::new(reader.plain_settings()?), cas: reader.cas()? }
            }
            SET_AUTOPILOT => {
                Self::SetAutopilot { settings: Box::new(reader.settings()?), cas: reader.cas()? }
            }
            KEEP_LEDGER => {
                Self::KeepLedger { ledger: reader.bytes("ledger", LEDGER_BYTES_MAX)?, unix_ms: reader.u64()? }
            }
            KEEP_OUT => Self::KeepOut { id: reader.text("id", KEY_BYTES_MAX)?, generation: reader.u64()? },
            TRANSACTION => Self::Transaction(transaction::operations(&mut reader)?),
            value => return Err(DecodeError::Unknown { what: "command", value }),
        };
        reader.finish()?;
        Ok(command)
    }
}

pub(super) fn put_bytes(out: &mut impl BufMut, bytes: &[u8]) {
    // Keys and values are limited long before 4 GiB.
    out.put_u32_le(u32::try_from(bytes.len()).expect("fields are limited to less than 4 GiB"));
    out.put_slice(bytes);
}

pub(super) fn put_cas(out: &mut impl BufMut, cas: Option<u64>) {
    match cas {
        Some(index) => {
            out.put_u8(1);
            out.put_u64_le(index);
        }
        None => out.put_u8(0),
    }
}

pub(super) fn put_settings(out: &mut impl BufMut, settings: &AutopilotSettings) {
    put_plain_settings(out, settings);
    let groups = Groups {
        health: settings.health.clone(),
        removal: settings.removal.clone(),
        changes: settings.changes.clone(),
    };
    put_bytes(out, &serde_json::to_vec(&groups).expect("plain numbers and texts are always JSON"));
}

fn put_plain_settings(out: &mut impl BufMut, settings: &AutopilotSettings) {
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    out.put_u8(u8::from(settings.cleanup_dead_servers));
    out.put_u64_le(nanos(settings.last_contact_threshold));
    out.put_u64_le(settings.max_trailing_logs);
    out.put_u64_le(settings.min_quorum);
    out.put_u64_le(nanos(settings.server_stabilization_time));
    put_bytes(out, settings.redundancy_zone_tag.as_bytes());
    out.put_u8(u8::from(settings.disable_upgrade_migration));
    put_bytes(out, settings.upgrade_version_tag.as_bytes());
}

/// Takes fields off the front of some bytes.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(super) const fn new(rest: Bytes) -> Self {
        Self { rest }
    }

    fn take(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        if self.rest.len() < count {
            return Err(DecodeError::Short);
        }
        Ok(self.rest.split_to(count))
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.as_ref().try_into().expect("four bytes were taken")))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.as_ref().try_into().expect("eight bytes were taken")))
    }

    pub(super) fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Unknown { what, value }),
        }
    }

    pub(super) fn expect(&mut self, what: &'static str, expected: u8) -> Result<(), DecodeError> {
        let value = self.u8()?;
        if value == expected { Ok(()) } else { Err(DecodeError::Unknown { what, value }) }
    }

    pub(super) fn bytes(&mut self, what: &'static str, limit: usize) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        if length > limit {
            return Err(DecodeError::TooLong { what, length, limit });
        }
        self.take(length)
    }

    pub(super) fn text(&mut self, what: &'static str, limit: usize) -> Result<String, DecodeError> {
        let bytes = self.bytes(what, limit)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::NotUtf8 { what })
    }

    /// How many parts follow; refused above the limit, before anything is made for them.
    pub(super) fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let length = self.u32()? as usize;
        if length > limit { Err(DecodeError::TooLong { what, length, limit }) } else { Ok(length) }
    }

    pub(super) fn cas(&mut self) -> Result<Option<u64>, DecodeError> {
        if self.flag("condition")? { self.u64().map(Some) } else { Ok(None) }
    }

    pub(super) fn settings(&mut self) -> Result<AutopilotSettings, DecodeError> {
        let plain = self.plain_settings()?;
        let groups = self.bytes("settings", GROUPS_BYTES_MAX)?;
        let Groups { health, removal, changes } = serde_json::from_slice(&groups)
            .map_err(|error| DecodeError::Malformed { what: "settings", problem: error.to_string() })?;
        Ok(AutopilotSettings { health, removal, changes, ..plain })
    }

    pub(super) fn plain_settings(&mut self) -> Result<AutopilotSettings, DecodeError> {
        Ok(AutopilotSettings {
            cleanup_dead_servers: self.flag("cleanup_dead_servers")?,
            last_contact_threshold: Duration::from_nanos(self.u64()?),
            max_trailing_logs: self.u64()?,
            min_quorum: self.u64()?,
            server_stabilization_time: Duration::from_nanos(self.u64()?),
            redundancy_zone_tag: self.text("redundancy_zone_tag", TAG_BYTES_MAX)?,
            disable_upgrade_migration: self.flag("disable_upgrade_migration")?,
            upgrade_version_tag: self.text("upgrade_version_tag", TAG_BYTES_MAX)?,
            ..AutopilotSettings::default()
        })
    }

    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { count: self.rest.len() }) }
    }
}

impl AutopilotSettings {
    /// Checks what the codec would refuse, so that a client hears of it before the command is in the log.
    ///
    /// # Errors
    /// The first field that is out of bounds, by its name in the API.
    pub fn validate(&self) -> Result<(), String> {
        for (name, text) in [
            ("RedundancyZoneTag", &self.redundancy_zone_tag),
            ("UpgradeVersionTag", &self.upgrade_version_tag),
        ] {
            if text.len() > TAG_BYTES_MAX {
                return Err(format!("{name} has {} bytes, the limit is {TAG_BYTES_MAX}", text.len()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Command> {
        let value = Bytes::from_static(b"\x00binary\xff");
        vec![
            Command::Put { key: "a/b".into(), value: value.clone(), flags: u64::MAX, cas: None },
            Command::Put { key: "ü".into(), value: Bytes::new(), flags: 0, cas: Some(0) },
            Command::Put { key: "k".repeat(KEY_BYTES_MAX), value, flags: 7, cas: Some(u64::MAX) },
            Command::Delete { key: "a".into(), cas: None },
            Command::Delete { key: "a".into(), cas: Some(9) },
            Command::DeletePrefix { prefix: String::new() },
            Command::SetAutopilot { settings: Box::default(), cas: Some(3) },
            Command::KeepOut { id: "id-1".into(), generation: 1_795_183_351_665 },
            Command::SetAutopilot {
                settings: Box::new(AutopilotSettings {
                    redundancy_zone_tag: "zone".into(),
                    cleanup_dead_servers: false,
                    removal: RemovalPolicy { only_when_replaced: true, ..RemovalPolicy::default() },
                    ..AutopilotSettings::default()
                }),
                cas: None,
            },
            Command::KeepLedger { ledger: Bytes::from_static(b"{}"), unix_ms: 1_795_183_351_665 },
        ]
    }

    #[test]
    fn commands_survive_their_bytes() {
        for command in samples() {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }

    #[test]
    fn settings_of_earlier_versions_are_read_and_get_the_default_groups() {
        let settings = Box::new(AutopilotSettings { min_quorum: 3, ..AutopilotSettings::default() });
        let mut bytes = BytesMut::from(&[FORMAT, SET_AUTOPILOT_PLAIN][..]);
        put_plain_settings(&mut bytes, &settings);
        put_cas(&mut bytes, Some(7));
        assert_eq!(Command::decode(&bytes.freeze()), Ok(Command::SetAutopilot { settings, cas: Some(7) }));
    }

    #[test]
    fn groups_of_later_versions_are_refused_and_not_half_read() {
        let mut bytes = BytesMut::from(&[FORMAT, SET_AUTOPILOT][..]);
        put_plain_settings(&mut bytes, &AutopilotSettings::default());
        put_bytes(&mut bytes, br#"{"health":{},"removal":{},"changes":{},"later":{}}"#);
        put_cas(&mut bytes, None);
        let refused = Command::decode(&bytes.freeze());
        assert!(matches!(refused, Err(DecodeError::Malformed { .. })), "{refused:?}");
    }

    #[test]
    fn every_cut_and_every_addition_is_refused() {
        for command in samples() {
            let bytes = command.encode();
            for length in 0..bytes.len().min(200) {
                assert!(Command::decode(&bytes.slice(..length)).is_err(), "{command:?} cut to {length}");
            }
            let mut longer = bytes.to_vec();
            longer.push(0);
            assert_eq!(Command::decode(&longer.into()), Err(DecodeError::Trailing { count: 1 }));
        }
    }

    #[test]
    fn lengths_are_limited_before_they_are_believed() {
        let mut bytes = vec![FORMAT, DELETE_PREFIX];
        bytes.extend(u32::MAX.to_le_bytes());
        let refused = Command::decode(&bytes.into());
        assert!(matches!(refused, Err(DecodeError::TooLong { what: "prefix", .. })), "{refused:?}");
    }

    #[test]
    fn unknown_versions_and_commands_are_refused() {
        assert_eq!(
            Command::decode(&Bytes::from_static(&[9, PUT])),
            Err(DecodeError::Unknown { what: "format", value: 9 })
        );
        assert_eq!(
            Command::decode(&Bytes::from_static(&[FORMAT, 99])),
            Err(DecodeError::Unknown { what: "command", value: 99 })
        );
    }
}
