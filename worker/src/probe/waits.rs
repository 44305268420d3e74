//! Counts how a thread waits for a processor, as Linux reports it. Other systems do not say.

use std::fs;
use std::time::Duration;

use edgesmith_common::Waiting;

/// How the calling thread has waited for a processor since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waits {
    /// Time.
    pub waited: Duration,
    /// How often it was given a processor.
    pub starts: u64,
}

impl Waits {
    /// Those of the calling thread so far. `None` if the system does not count them.
    pub(super) fn so_far() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
    }

    /// What was added after `before`, for runs that took `took` together.
    pub(super) fn since(self, before: Self, took: Duration, runs: usize) -> Waiting {
        let waited = self.waited.saturating_sub(before.waited).as_secs_f64();
        let share = if took.is_zero() { 0.0 } else { (waited / took.as_secs_f64()).min(1.0) };
        let starts = self.starts.saturating_sub(before.starts);
        Waiting { share, per_run: starts as f64 / runs.max(1) as f64 }
    }

    /// Reads `time on processors, time waiting, number of starts`, with times in nanoseconds. A
    /// kernel that does not count writes zeros.
    fn parse(schedstat: &str) -> Option<Self> {
        let mut numbers = schedstat.split_whitespace().skip(1).map(str::parse::<u64>);
        let (waited, starts) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        (starts > 0).then_some(Self { waited: Duration::from_nanos(waited), starts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counts_are_read() {
        let waits = Waits::parse("2038412 644926 31\n").unwrap();
        assert_eq!(waits, Waits { waited: Duration::from_nanos(644_926), starts: 31 });
        for unknown in ["", "0 0 0\n", "1 2", "a b c"] {
            assert_eq!(Waits::parse(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn waiting_is_a_share_of_the_time_and_a_number_per_run() {
        let at = |millis, starts| Waits { waited: Duration::from_millis(millis), starts };
        let took = Duration::from_millis(200);
        let waiting = at(60, 25).since(at(10, 5), took, 50);
        assert_eq!(waiting, Waiting { share: 0.25, per_run: 0.4 });
        assert_eq!(at(500, 5).since(at(0, 5), took, 50), Waiting { share: 1.0, per_run: 0.0 });
        let nothing = Waiting { share: 0.0, per_run: 0.0 };
        assert_eq!(at(10, 5).since(at(10, 5), Duration::ZERO, 0), nothing);
    }
}
