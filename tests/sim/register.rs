//! What commands do to the simulated state machine: they write, condition and delete a few registers that many clients
//! share.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::linearizable::history::{after, explains};
use crate::linearizable::{Action, Answer, Key, Value};

/// The registers of one state machine; an absent one holds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers(BTreeMap<Key, Value>);

impl FromIterator<(Key, Value)> for Registers {
    fn from_iter<I: IntoIterator<Item = (Key, Value)>>(held: I) -> Self {
        Self(held.into_iter().collect())
    }
}

impl Registers {
    /// What a register holds.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<Value> {
        self.0.get(&key).copied()
    }

    /// The registers that hold something, each with what it holds.
    pub fn iter(&self) -> impl Iterator<Item = (Key, Value)> {
        self.0.iter().map(|(key, value)| (*key, *value))
    }

    /// Carries an action out and says what its client is told.
    pub fn apply(&mut self, key: Key, action: Action) -> Answer {
        let held = self.get(key);
        match after(action, held) {
            Some(value) => self.0.insert(key, value),
            None => self.0.remove(&key),
        };
        let possible = [Answer::Done, Answer::Found(held), Answer::Held(true), Answer::Held(false)];
        let told = possible.into_iter().find(|answer| explains(action, held, *answer));
        told.expect("every action has an answer")
    }
}

/// A command: its unique value, which is also what it writes, then the action, then padding.
#[must_use]
pub fn encode(value: Value, key: Key, action: Action, padding: usize) -> Bytes {
    let (kind, expected) = match action {
        Action::Put(_) => (1_u8, 0),
        Action::CompareAndSet(Some(expected), _) => (2, expected),
        Action::CompareAndSet(None, _) => (3, 0),
        Action::Delete => (4, 0),
        Action::Get => (0, 0),
    };
    let mut data = value.to_le_bytes().to_vec();
    data.push(kind);
    data.extend(key.to_le_bytes());
    data.extend(expected.to_le_bytes());
    data.resize(data.len() + padding, 7);
    data.into()
}

/// The key and the action of a command; `None` if it holds none.
#[must_use]
pub fn decode(data: &[u8]) -> Option<(Key, Action)> {
    let value = u64::from_le_bytes(*data.first_chunk()?);
    let kind = *data.get(8)?;
    let key = u32::from_le_bytes(*data.get(9..)?.first_chunk()?);
    let expected = u64::from_le_bytes(*data.get(13..)?.first_chunk()?);
    let action = match kind {
        1 => Action::Put(value),
        2 => Action::CompareAndSet(Some(expected), value),
        3 => Action::CompareAndSet(None, value),
        4 => Action::Delete,
        _ => return None,
    };
    Some((key, action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_survive_their_way_through_the_log() {
        for action in [
            Action::Put(7),
            Action::CompareAndSet(Some(3), 7),
            Action::CompareAndSet(None, 7),
            Action::Delete,
        ] {
            assert_eq!(decode(&encode(7, 5, action, 11)), Some((5, action)));
        }
        assert_eq!(decode(&encode(7, 5, Action::Get, 0)), None);
        assert_eq!(decode(b"short"), None);
    }

    #[test]
    fn registers_do_what_they_are_told() {
        let mut registers = Registers::default();
        assert_eq!(registers.apply(1, Action::CompareAndSet(None, 2)), Answer::Held(true));
        assert_eq!(registers.apply(1, Action::CompareAndSet(None, 3)), Answer::Held(false));
        assert_eq!(registers.get(1), Some(2));
        assert_eq!(registers.apply(1, Action::Delete), Answer::Done);
        assert_eq!(registers.get(1), None);
        assert_eq!(registers.apply(1, Action::Put(4)), Answer::Done);
        assert_eq!((registers.get(1), registers.get(2)), (Some(4), None));
    }
}
