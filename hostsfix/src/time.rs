//! Instants as the hosts file shows them: RFC 3339, UTC, whole seconds.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z, at most the end of the year 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

/// 9999-12-31T23:59:59Z: the last instant that has a four-digit year.
const LAST: u64 = 253_402_300_799;

impl Instant {
    /// The instant `seconds` after the epoch.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Self {
        Self(seconds.min(LAST))
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn unix(self) -> u64 {
        self.0
    }

    /// The wall clock. A clock before 1970 counts as 1970.
    #[must_use]
    pub fn now() -> Self {
        Self::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
    }

    /// This instant and `seconds` more.
    #[must_use]
    pub fn plus(self, seconds: u32) -> Self {
        Self::from_unix(self.0.saturating_add(seconds.into()))
    }

    /// Seconds from `earlier` to this instant; 0 if this is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0 / 86_400);
        let s = self.0 % 86_400;
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
    }
}

impl FromStr for Instant {
    type Err = ();

    /// Accepts exactly what `Display` prints.
    fn from_str(text: &str) -> Result<Self, ()> {
        let b = text.as_bytes();
        if b.len() != 20 || !text.is_ascii() {
            return Err(());
        }
        let number = |from: usize, to: usize| text[from..to].parse::<u64>().map_err(|_| ());
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(());
        }
        let instant =
            Self::from_unix(days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second);
        // Refuses wrong separators, 31 February, 25 o'clock and signs in one go.
        if instant.to_string() == text { Ok(instant) } else { Err(()) }
    }
}

/// Proleptic Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that
/// the leap day is the last day of its year, in eras of 400 years (146 097 days).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`], for years from 1970 on.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Instant::from_unix(unix).to_string(), text);
            assert_eq!(text.parse(), Ok(Instant::from_unix(unix)));
        }
        assert_eq!(Instant::from_unix(u64::MAX).unix(), LAST);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "1970-01-01T00:00:00",
            "1970-01-01 00:00:00Z",
            "2001-02-29T00:00:00Z",
            "2001-13-01T00:00:00Z",
            "2001-01-01T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "+001-01-01T00:00:00Z",
            "2001-01-01T00:00:0éZ",
        ] {
            assert_eq!(bad.parse::<Instant>(), Err(()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(seconds in 0..=LAST) {
            let instant = Instant::from_unix(seconds);
            prop_assert_eq!(instant.to_string().parse(), Ok(instant));
        }

        #[test]
        fn never_panics(text in ".{0,24}") {
            let _ = text.parse::<Instant>();
        }
    }
}
