//! A rate of data: `10M`, in bits per second, as it is written, remembered and shown. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::shown;
use crate::error::{Error, Kind, Result};

/// Suffixes with what they stand for; powers of ten, as in ITU-T and `tc`'s "bit" units.
const UNITS: [(char, u64); 3] = [('G', 1_000_000_000), ('M', 1_000_000), ('k', 1_000)];

/// Frames of a device per time, their headers included; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Rate(u64);

impl Rate {
    /// A full frame of Ethernet takes three quarters of a second.
    const LEAST: u64 = 16_000;
    /// Above this the programs would compute too coarsely.
    const MOST: u64 = 1_000_000_000_000;

    /// Bytes per second, rounded down.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0 / 8
    }

    /// Bytes in so many milliseconds, rounded down.
    #[must_use]
    pub fn bytes_in(self, milliseconds: u64) -> u64 {
        self.bytes().saturating_mul(milliseconds) / 1000
    }

    /// How long so many bytes take, in nanoseconds.
    #[must_use]
    pub fn nanoseconds(self, bytes: u64) -> u64 {
        let time = u128::from(bytes) * 8_000_000_000 / u128::from(self.0);
        u64::try_from(time).unwrap_or(u64::MAX)
    }
}

impl TryFrom<u64> for Rate {
    type Error = Error;

    /// Of bits per second.
    fn try_from(bits: u64) -> Result<Self> {
        if (Self::LEAST..=Self::MOST).contains(&bits) {
            return Ok(Self(bits));
        }
        let (least, most) = (Self(Self::LEAST), Self(Self::MOST));
        let message = format!("{bits} bits per second is not between {least} and {most}");
        Err(Error::new(Kind::BadInput, message))
    }
}

impl From<Rate> for u64 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 % unit == 0) {
            Some((suffix, unit)) => write!(f, "{}{suffix}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut units = UNITS.iter();
        let (digits, unit) = units
            .find_map(|(suffix, unit)| Some((text.strip_suffix(*suffix)?, *unit)))
            .unwrap_or((text, 1));
        let bits = if digits.bytes().all(|b| b.is_ascii_digit()) {
            digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit))
        } else {
            None
        };
        let bits = bits.ok_or_else(|| {
            let message = format!("{} is no rate in bits per second", shown(text));
            Error::new(Kind::BadInput, message)
                .with_hint("a whole number with k, M or G behind it, such as 500k, 10M or 1G")
        })?;
        Self::try_from(bits).map_err(|e| e.with_context(shown(text)))
    }
}

/// What an endpoint may send and receive; `None` = as much as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// The container sends.
    pub egress: Option<Rate>,
    /// The container receives.
    pub ingress: Option<Rate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn is_shown_as_it_is_written() {
        for text in ["16k", "500k", "10M", "2500M", "1G", "1000G", "16001"] {
            assert_eq!(rate(text).to_string(), text);
        }
        assert_eq!(rate("10000000").to_string(), "10M");
        assert_eq!(u64::from(rate("10M")), 10_000_000);
    }

    #[test]
    fn bytes_and_times_are_of_eight_bits() {
        assert_eq!(rate("80M").bytes(), 10_000_000);
        assert_eq!(rate("80M").bytes_in(20), 200_000);
        assert_eq!(rate("80M").nanoseconds(1), 100);
        assert_eq!(rate("16k").nanoseconds(1 << 20), 524_288_000_000);
    }

    #[test]
    fn what_is_no_rate_is_refused_with_the_form() {
        for text in [
            "", "M", "10m", "10K", "10MM", "1.5G", "-1M", "+1M", "10 M", "10Mbit",
        ] {
            let e = text.parse::<Rate>().unwrap_err();
            assert!(e.to_string().contains("is no rate"), "{text}: {e}");
            assert!(e.hint().unwrap().contains("500k"), "{text}");
        }
        for text in ["0", "15k", "1001G", "18446744073709551615"] {
            let e = text.parse::<Rate>().unwrap_err().to_string();
            assert!(e.contains("is not between 16k and 1000G"), "{text}: {e}");
        }
        let e = "18446744073709551615G".parse::<Rate>().unwrap_err();
        assert!(e.to_string().contains("is no rate"), "{e}");
    }
}
