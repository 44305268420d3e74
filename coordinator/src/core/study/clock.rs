//! How long a study has been running, without pauses.

use std::time::Duration;

use crate::core::time::Time;

/// The clock of a study. It stands still while the study does not run, which each method is told.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The running time up to `since`.
    base: Duration,
    since: Time,
}

impl Clock {
    pub(super) fn at(elapsed_ms: u64, now: Time) -> Self {
        Self { base: Duration::from_millis(elapsed_ms), since: now }
    }

    /// Whole milliseconds of running time.
    pub(super) fn elapsed_ms(&self, runs: bool, now: Time) -> u64 {
        u64::try_from(self.elapsed(runs, now).as_millis()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self, runs: bool, now: Time) -> Duration {
        if runs { self.base + now.since(self.since) } else { self.base }
    }

    /// Sets the clock to what a record says; `runs` is how it was before.
    pub(super) fn set(&mut self, runs: bool, elapsed_ms: u64, now: Time) {
        // A record has whole milliseconds. If the clock is there already, it keeps the rest, which
        // would else be lost with every record.
        let exact = self.elapsed(runs, now);
        *self = if self.elapsed_ms(runs, now) == elapsed_ms {
            Self { base: exact, since: now }
        } else {
            Self::at(elapsed_ms, now)
        };
    }

    /// When a clock that runs shows `limit_ms`.
    pub(super) fn shows(&self, limit_ms: f64) -> Time {
        // A hundred years are as good as no limit, and fit every type.
        let limit = Duration::from_millis(limit_ms.ceil().min(3.15e12) as u64);
        self.since.after(limit.saturating_sub(self.base))
    }
}
