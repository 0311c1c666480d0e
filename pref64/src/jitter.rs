//! Jitter: no two machines of a fleet do the same thing at the same time.

use std::time::Duration;

/// A small pseudo-random generator (SplitMix64) for timers. Not for secrets.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// A generator from a seed: the operating system's randomness, or a constant in tests.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration from zero up to, but not including, `limit`.
    pub fn below(&mut self, limit: Duration) -> Duration {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        // The high half of the product: uniform enough for timers, and no division by zero.
        let scaled = (u128::from(self.next()) * u128::from(limit)) >> 64;
        Duration::from_nanos(scaled as u64)
    }

    /// `middle` give or take a tenth (RFC 7559 §2 and RFC 8415 §15 use the same factor).
    pub fn around(&mut self, middle: Duration) -> Duration {
        middle - middle / 10 + self.below(middle / 5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_in_range_and_spreads() {
        let mut jitter = Jitter::new(1);
        let second = Duration::from_secs(1);
        let values: Vec<Duration> = (0..1000).map(|_| jitter.below(second)).collect();
        assert!(values.iter().all(|value| *value < second));
        let below_half = values.iter().filter(|value| **value < second / 2).count();
        assert!((400..600).contains(&below_half), "{below_half}");
        assert_eq!(jitter.below(Duration::ZERO), Duration::ZERO);
        for _ in 0..1000 {
            let value = jitter.around(second);
            assert!(value >= second * 9 / 10 && value < second * 11 / 10);
        }
        let _ = jitter.below(Duration::MAX);
    }
}
