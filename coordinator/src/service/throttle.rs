//! Tells who sends wrong tokens to wait, and limits the log lines about it. For each address, some
//! wrong tokens are only called wrong, and after that one a second. Right tokens never wait, or
//! else whoever sends wrong ones could lock out others with the same address. Addresses that have
//! not sent a wrong token for long are forgotten.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong tokens that an address may send before it has to wait.
const BURST: f64 = 20.0;
/// Wrong tokens a second after that.
const RATE: f64 = 1.0;
/// Most addresses that are remembered. The one that was wrong the longest time ago makes place.
const MOST_ADDRESSES: usize = 1024;
/// Least time between two log lines about one address.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The wrong tokens of each address.
#[derive(Debug, Default)]
pub struct Throttle(HashMap<IpAddr, Guesses>);

#[derive(Debug)]
struct Guesses {
    /// Wrong tokens, less those that time has made up for.
    level: f64,
    last: Instant,
    logged: Option<Instant>,
    /// Wrong tokens since the last log line.
    unlogged: u32,
}

impl Throttle {
    /// How long to wait with another wrong token from `address`; `None` if there is no need.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let level = self.0.get(&network(address))?.level_at(now);
        let excess = level + 1.0 - BURST;
        (excess > 0.0).then(|| Duration::from_secs_f64(excess / RATE))
    }

    /// Notes a wrong token. Returns how many there were since the last log line, if it is time for
    /// one.
    pub fn wrong(&mut self, address: IpAddr, now: Instant) -> Option<u32> {
        let address = network(address);
        if !self.0.contains_key(&address) && self.0.len() >= MOST_ADDRESSES {
            let oldest = self.0.iter().min_by_key(|(_, guesses)| guesses.last).map(|(a, _)| *a);
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        let fresh = Guesses { level: 0.0, last: now, logged: None, unlogged: 0 };
        let guesses = self.0.entry(address).or_insert(fresh);
        // Those that come too early do not make the wait longer.
        guesses.level = (guesses.level_at(now) + 1.0).min(BURST);
        guesses.last = now;
        guesses.unlogged += 1;
        let due = guesses.logged.is_none_or(|logged| now - logged >= LOG_INTERVAL);
        due.then(|| {
            guesses.logged = Some(now);
            std::mem::take(&mut guesses.unlogged)
        })
    }
}

impl Guesses {
    fn level_at(&self, now: Instant) -> f64 {
        (self.level - now.saturating_duration_since(self.last).as_secs_f64() * RATE).max(0.0)
    }
}

/// The address, or for IPv6 its network: one host usually has a whole network of 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_of_wrong_tokens_an_address_has_to_wait_and_others_do_not() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        let [here, there]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        for _ in 0..20 {
            assert_eq!(throttle.wait(here, start), None);
            throttle.wrong(here, start);
        }
        assert!(throttle.wait(here, start).is_some());
        assert_eq!(throttle.wait(there, start), None);
        let later = start + Duration::from_millis(1500);
        assert_eq!(throttle.wait(here, later), None);
        throttle.wrong(here, later);
        assert!(throttle.wait(here, later).is_some());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        for last in 0..20 {
            throttle.wrong(format!("2001:db8::{last:x}").parse().unwrap(), start);
        }
        assert!(throttle.wait("2001:db8::ffff".parse().unwrap(), start).is_some());
        assert_eq!(throttle.wait("2001:db8:0:1::1".parse().unwrap(), start), None);
    }

    #[test]
    fn the_log_gets_one_line_per_address_and_interval() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        let here = "10.0.0.1".parse().unwrap();
        assert_eq!(throttle.wrong(here, start), Some(1));
        assert_eq!(throttle.wrong(here, start), None);
        assert_eq!(throttle.wrong(here, start + Duration::from_secs(5)), None);
        assert_eq!(throttle.wrong(here, start + Duration::from_secs(11)), Some(3));
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        for at in 0..5000_u32 {
            throttle.wrong(IpAddr::V4(at.into()), start + Duration::from_millis(at.into()));
        }
        assert_eq!(throttle.0.len(), MOST_ADDRESSES);
        assert!(throttle.0.contains_key(&IpAddr::V4(4999.into())));
    }
}
