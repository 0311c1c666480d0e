//! A token bucket for ICMP errors (RFC 4443 §2.4 f).

/// Limits the errors that a translator sends: on average `per_second`, in bursts of up to `burst`.
///
/// The caller brings the clock: milliseconds of any monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimiter {
    burst: u32,
    per_second: u32,
    /// Thousandths of an error that may be sent now.
    millitokens: u64,
    last_ms: u64,
}

impl RateLimiter {
    /// A full bucket. With `burst` 0 nothing is ever allowed.
    #[must_use]
    pub const fn new(burst: u32, per_second: u32) -> Self {
        Self { burst, per_second, millitokens: burst as u64 * 1000, last_ms: 0 }
    }

    /// Takes one token if there is one at `now_ms`. A clock that runs backwards adds nothing.
    pub const fn allow(&mut self, now_ms: u64) -> bool {
        let elapsed = now_ms.saturating_sub(self.last_ms);
        if elapsed > 0 {
            self.last_ms = now_ms;
        }
        // One millisecond earns `per_second` thousandths of a token.
        let earned = elapsed.saturating_mul(self.per_second as u64);
        let full = self.burst as u64 * 1000;
        let filled = self.millitokens.saturating_add(earned);
        self.millitokens = if filled < full { filled } else { full };
        if self.millitokens < 1000 {
            return false;
        }
        self.millitokens -= 1000;
        true
    }
}

impl Default for RateLimiter {
    /// Ten errors per second in bursts of ten: what RFC 4443 §2.4 f suggests for a small device.
    fn default() -> Self {
        Self::new(10, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_a_burst_and_then_the_rate() {
        let mut limiter = RateLimiter::default();
        let burst = (0..100).filter(|_| limiter.allow(5)).count();
        assert_eq!(burst, 10);
        assert!(!limiter.allow(104));
        assert!(limiter.allow(105));
        assert!(!limiter.allow(105));
        // A clock that jumps back neither adds tokens nor stops the flow for good.
        assert!(!limiter.allow(3));
        assert!(limiter.allow(205));
        // A long silence fills the bucket, no more.
        assert_eq!((0..100).filter(|_| limiter.allow(u64::MAX)).count(), 10);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut limiter = RateLimiter::new(u32::MAX, u32::MAX);
        assert!(limiter.allow(0));
        assert!(limiter.allow(u64::MAX));
        assert!(!RateLimiter::new(0, u32::MAX).allow(u64::MAX));
    }
}
