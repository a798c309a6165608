//! Random numbers: named streams of one seed, so that a new use of one stream leaves the others as they were.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// One stream.
pub type Random = Xoshiro256PlusPlus;

/// The stream of this name under this seed.
#[must_use]
pub fn stream(seed: u64, name: &str) -> Random {
    Random::seed_from_u64(fold(fold(0, &seed.to_le_bytes()), name.as_bytes()))
}

/// True that many times in a thousand.
pub fn chance(random: &mut Random, per_mille: u32) -> bool {
    random.random_range(0..1000) < per_mille
}

/// A duration between two bounds, both included.
pub fn between(random: &mut Random, low: Duration, high: Duration) -> Duration {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random.random_range(nanos(low)..=nanos(high).max(nanos(low))))
}

/// How fast a clock runs that may be off by this much either way: in half of the cases as much as it may.
pub fn drift(random: &mut Random, most: i64) -> i64 {
    if chance(random, 500) {
        return [-most, most][random.random_range(0..2)];
    }
    random.random_range(-most..=most)
}

/// Continues a 64-bit FNV-1a hash; its own code because results must be equal on every machine and in every release.
#[must_use]
pub fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Continues a hash with one number.
#[must_use]
pub const fn fold_number(hash: u64, number: u64) -> u64 {
    let mixed = (hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}
