//! What flags say in a form of their own: times such as `200us`, rates such as `1.5M`, addresses.

use std::{net::SocketAddr, time::Duration};

use crate::search::RATE_MAX;

/// Least rate of any flag, per second: one in 11 days. The time to the next message is then one that a `Duration` holds.
pub const RATE_MIN: f64 = 1e-6;

/// Most shards of a node: a byte of each datagram names one (docs/LIMITS.md).
const SHARDS_MAX: usize = 255;

/// A time: a number and ns, us, ms or s.
///
/// # Errors
///
/// What is wrong with the text.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?}: give a time such as 200us, 1.5ms or 2s");
    let unit = text.find(|letter: char| letter.is_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let time = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
    if time.is_zero() { Err(wrong()) } else { Ok(time) }
}

/// A rate per second from [`RATE_MIN`] to [`RATE_MAX`], with k or M for 10^3 or 10^6. Every rate of a flag or a plan is read by this.
///
/// # Errors
///
/// What is wrong with the text.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let wrong = || {
        format!("{text:?}: give a rate from {RATE_MIN} to {RATE_MAX}, such as 500000, 500k or 1.5M")
    };
    let (number, unit) = match text.strip_suffix('k') {
        Some(number) => (number, 1e3),
        None => text.strip_suffix('M').map_or((text, 1.0), |number| (number, 1e6)),
    };
    let rate = number.parse::<f64>().map_err(|_| wrong())? * unit;
    if (RATE_MIN..=RATE_MAX).contains(&rate) { Ok(rate) } else { Err(wrong()) }
}

/// Rates from one to another, both included, in equal steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    /// The first rate.
    pub from: f64,
    /// The last one.
    pub to: f64,
    /// How many there are.
    pub steps: u32,
}

impl Ramp {
    /// The rates.
    pub fn rates(&self) -> Vec<f64> {
        let last = f64::from(self.steps - 1);
        let step = |index| self.from + (self.to - self.from) * f64::from(index) / last;
        (0..self.steps).map(step).collect()
    }
}

/// A ramp: `FROM..TO/STEPS`, from 2 to 1,000 steps.
///
/// # Errors
///
/// What is wrong with the text.
pub fn parse_ramp(text: &str) -> Result<Ramp, String> {
    let wrong = || format!("{text:?}: give FROM..TO/STEPS such as 100k..2M/20");
    let (range, steps) = text.split_once('/').ok_or_else(wrong)?;
    let (from, to) = range.split_once("..").ok_or_else(wrong)?;
    let steps = steps.parse().ok().filter(|steps| (2..=1_000).contains(steps)).ok_or_else(wrong)?;
    Ok(Ramp { from: parse_rate(from)?, to: parse_rate(to)?, steps })
}

/// How many shards a node has.
///
/// # Errors
///
/// What is wrong with the text.
pub fn parse_shards(text: &str) -> Result<usize, String> {
    let shards = text.parse().ok().filter(|shards| (1..=SHARDS_MAX).contains(shards));
    shards.ok_or_else(|| format!("give a number from 1 to {SHARDS_MAX}"))
}

/// An address: an IP address and a port.
///
/// # Errors
///
/// What to give instead.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "give an IP address and a port up to 65535, such as 192.0.2.1:7530 or [::1]:7530; names of hosts are not looked up"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    //! Goal: units are read as they are meant, and nonsense is refused.
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("200us"), Ok(Duration::from_micros(200)));
        assert_eq!(parse_time("1.5ms"), Ok(Duration::from_micros(1_500)));
        for wrong in ["200", "us", "-1s", "0s", "5m", ""] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_numbers() {
        assert_eq!(parse_address("[::1]:7530").map(|address| address.port()), Ok(7530));
        for wrong in ["localhost:7530", "127.0.0.1", "127.0.0.1:80000", "::1:7530", ""] {
            assert!(parse_address(wrong).unwrap_err().contains("names of hosts"), "{wrong}");
        }
    }

    #[test]
    fn rates_and_ramps_are_read() {
        assert_eq!(parse_rate("1.5M"), Ok(1.5e6));
        assert_eq!((parse_rate("500k"), parse_rate("7")), (Ok(5e5), Ok(7.0)));
        for wrong in ["0", "1e-20", "-1", "2000M", "inf", "nan", "x"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!((parse_shards("1"), parse_shards("255")), (Ok(1), Ok(255)));
        assert!(["0", "256", "-1", "x"].iter().all(|wrong| parse_shards(wrong).is_err()));
        let ramp = parse_ramp("100..200/3").unwrap();
        assert_eq!(ramp.rates(), [100.0, 150.0, 200.0]);
        assert!(parse_ramp("100..200").is_err() && parse_ramp("100..200/1").is_err());
    }
}
