//! A hash of the inputs of a round, the same on every machine and for every run.

use std::hash::{Hash, Hasher};

use super::inputs::Inputs;
use crate::model::InputsHash;

/// FNV-1a with 64 bits: short, without state of the process, and good enough to tell a few thousand records apart.
struct Fnv(u64);

impl Fnv {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(Self::PRIME);
        }
    }

    // The order of bytes and the width must not be the machine's.
    fn write_u16(&mut self, value: u16) {
        self.write(&value.to_le_bytes());
    }

    fn write_u32(&mut self, value: u32) {
        self.write(&value.to_le_bytes());
    }

    fn write_u64(&mut self, value: u64) {
        self.write(&value.to_le_bytes());
    }

    fn write_usize(&mut self, value: usize) {
        self.write(&(value as u64).to_le_bytes());
    }

    fn write_isize(&mut self, value: isize) {
        self.write(&(value as i64).to_le_bytes());
    }
}

/// A hash of anything, the same everywhere.
pub(super) fn stable_hash(value: &impl Hash) -> u64 {
    let mut hasher = Fnv(Fnv::OFFSET);
    value.hash(&mut hasher);
    hasher.finish()
}

impl Inputs {
    /// The hash that an [`Event`](crate::Event) carries: it finds the record of the round that decided it.
    #[must_use]
    pub fn hash_of_all(&self) -> InputsHash {
        InputsHash(stable_hash(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_published_function() {
        let mut hasher = Fnv(Fnv::OFFSET);
        hasher.write(b"foobar");
        assert_eq!(hasher.finish(), 0x8594_4171_f739_67e8);
        assert_ne!(stable_hash(&1_u32), stable_hash(&2_u32));
    }
}
