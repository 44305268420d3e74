//! The timing loop and its statistics, with the clock passed in.

use std::time::Duration;

use edgesmith_common::Waiting;

use super::energy::{EnergySource, known};
use super::waits::Waits;

/// How many runs to make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Number of untimed runs before the timed ones.
    pub warmup_runs: u32,
    /// Smallest number of timed runs. At least one is made.
    pub min_runs: u32,
    /// Shortest total time of the timed runs, in seconds.
    pub min_seconds: f64,
}

/// The timed runs of one model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timing {
    /// The time of each run, in order; there is at least one.
    pub times: Vec<Duration>,
    /// How the thread waited for a processor meanwhile; `None` if the system does not count it.
    pub waiting: Option<Waiting>,
    /// Energy that the machine used during all of them, microjoules; `None` if it is not known.
    pub energy_uj: Option<u64>,
}

/// What is read before and after the timed runs.
pub(super) struct Meters<'a, W> {
    /// How this thread waits.
    pub waits: W,
    /// What counts energy.
    pub energy: &'a dyn EnergySource,
}

/// Statistics of the timed runs, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// Fastest.
    pub min_ms: f64,
}

/// Runs and times `run` until both limits are met. `None` if `stopped`, which is called between
/// runs, returns true. `now` is a monotonic clock.
pub(super) fn time_runs(
    limits: Limits,
    mut now: impl FnMut() -> Duration,
    meters: Meters<'_, impl FnMut() -> Option<Waits>>,
    mut run: impl FnMut(),
    stopped: impl Fn() -> bool,
) -> Option<Timing> {
    for _ in 0..limits.warmup_runs {
        if stopped() {
            return None;
        }
        run();
    }
    let Meters { mut waits, energy } = meters;
    // A sensor may have to be waited for. That is no wait of the runs.
    let mut counting = known(energy.begin());
    let waited_before = waits();
    let begin = now();
    let mut times = Vec::new();
    let mut total = Duration::ZERO;
    loop {
        if stopped() {
            return None;
        }
        let before = now();
        run();
        let after = now();
        let time = after.saturating_sub(before);
        times.push(time);
        total += time;
        // A coarse clock may measure 0 for every run. Then the sum never reaches the limit, and the
        // time since the beginning ends the loop.
        let long_enough = total.as_secs_f64() >= limits.min_seconds
            || after.saturating_sub(begin).as_secs_f64() >= 2.0 * limits.min_seconds;
        if times.len() >= limits.min_runs as usize && long_enough {
            let waiting = waits().zip(waited_before);
            let waiting = waiting.map(|(after, before)| after.since(before, total, times.len()));
            let energy_uj = counting.take().and_then(|counting| known(counting.used()));
            return Some(Timing { times, waiting, energy_uj });
        }
    }
}

/// Median, 95th percentile and minimum; there must be at least one run.
pub(super) fn summarize(times: &[Duration]) -> Summary {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Summary {
        p50_ms: ms(percentile(&sorted, 50)),
        p95_ms: ms(percentile(&sorted, 95)),
        min_ms: ms(sorted[0]),
    }
}

/// The nearest-rank percentile of ascending, non-empty values: the smallest value such that at
/// least `percent` percent of the values are not above it. It is always a measured value.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::super::energy::{Counting, NoEnergy};
    use super::*;

    /// A machine that counts nothing.
    struct NoSensors;

    impl EnergySource for NoSensors {
        fn begin(&self) -> Result<Box<dyn Counting>, NoEnergy> {
            Err(NoEnergy::NoSensor)
        }
    }

    fn none() -> Meters<'static, impl FnMut() -> Option<Waits>> {
        Meters { waits: || None, energy: &NoSensors }
    }

    fn millis(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let hundred = millis((1..=100).rev());
        let expected = Summary { p50_ms: 50.0, p95_ms: 95.0, min_ms: 1.0 };
        assert_eq!(summarize(&hundred), expected);
        let five = millis([5, 1, 4, 2, 3]);
        assert_eq!(summarize(&five), Summary { p50_ms: 3.0, p95_ms: 5.0, min_ms: 1.0 });
        let four = millis([4, 3, 2, 1]);
        assert_eq!(summarize(&four).p50_ms, 2.0);
        assert_eq!(summarize(&millis([7])), Summary { p50_ms: 7.0, p95_ms: 7.0, min_ms: 7.0 });
    }

    /// Runs with a clock that only the runs move, by `run_ms` each.
    fn runs_of(run_ms: u64, limits: Limits) -> (u32, Vec<Duration>) {
        let clock = Cell::new(Duration::ZERO);
        let runs = Cell::new(0);
        let times = time_runs(
            limits,
            || clock.get(),
            none(),
            || {
                runs.set(runs.get() + 1);
                clock.set(clock.get() + Duration::from_millis(run_ms));
            },
            || false,
        );
        (runs.get(), times.unwrap().times)
    }

    #[test]
    fn slow_models_end_by_count_and_fast_ones_by_time() {
        let limits = Limits { warmup_runs: 3, min_runs: 50, min_seconds: 0.2 };
        let (runs, times) = runs_of(10, limits);
        assert_eq!((runs, times.len()), (53, 50));
        assert!(times.iter().all(|t| *t == Duration::from_millis(10)));
        let (runs, times) = runs_of(1, limits);
        assert_eq!((runs, times.len()), (203, 200));
    }

    #[test]
    fn a_clock_that_is_too_coarse_still_ends_the_loop() {
        let limits = Limits { warmup_runs: 0, min_runs: 2, min_seconds: 0.2 };
        let readings = Cell::new(0u64);
        // The clock moves between runs, never during one.
        let now = || {
            readings.set(readings.get() + 1);
            Duration::from_millis(readings.get() / 2)
        };
        let times = time_runs(limits, now, none(), || {}, || false).unwrap().times;
        assert!(times.len() >= 399, "{}", times.len());
        assert_eq!(summarize(&times).p95_ms, 0.0);
    }

    #[test]
    fn a_stop_takes_effect_after_the_current_run() {
        let limits = Limits { warmup_runs: 3, min_runs: 50, min_seconds: 0.2 };
        for most in [0, 2, 3, 20] {
            let runs = Cell::new(0);
            let run = || runs.set(runs.get() + 1);
            let times = time_runs(limits, || Duration::ZERO, none(), run, || runs.get() == most);
            assert_eq!((runs.get(), times), (most, None));
        }
    }

    #[test]
    fn waits_of_the_warmup_are_not_counted() {
        let limits = Limits { warmup_runs: 3, min_runs: 50, min_seconds: 0.0 };
        let clock = Cell::new(0);
        // Every run takes 10 ms, 4 of them waiting.
        let timing = time_runs(
            limits,
            || Duration::from_millis(10 * clock.get()),
            Meters {
                waits: || {
                    let waited = Duration::from_millis(4 * clock.get());
                    Some(Waits { waited, starts: clock.get() })
                },
                energy: &NoSensors,
            },
            || clock.set(clock.get() + 1),
            || false,
        );
        let waiting = timing.unwrap().waiting.unwrap();
        assert_eq!((waiting.share, waiting.per_run), (0.4, 1.0));
    }

    /// A machine that uses a microjoule in each run.
    struct Counts(Rc<Cell<u64>>);

    impl EnergySource for Counts {
        fn begin(&self) -> Result<Box<dyn Counting>, NoEnergy> {
            Ok(Box::new(CountsSince(Rc::clone(&self.0), self.0.get())))
        }
    }

    struct CountsSince(Rc<Cell<u64>>, u64);

    impl Counting for CountsSince {
        fn used(self: Box<Self>) -> Result<u64, NoEnergy> {
            Ok(self.0.get() - self.1)
        }
    }

    #[test]
    fn energy_of_the_warmup_is_not_counted() {
        let limits = Limits { warmup_runs: 3, min_runs: 50, min_seconds: 0.0 };
        let runs = Rc::new(Cell::new(0));
        let run = || runs.set(runs.get() + 1);
        let counts = Counts(Rc::clone(&runs));
        let meters = Meters { waits: || None, energy: &counts };
        let timing = time_runs(limits, || Duration::ZERO, meters, run, || false).unwrap();
        assert_eq!(timing.energy_uj, Some(50));
        let timing = time_runs(limits, || Duration::ZERO, none(), || {}, || false).unwrap();
        assert_eq!(timing.energy_uj, None);
    }

    #[test]
    fn at_least_one_run_is_made() {
        let limits = Limits { warmup_runs: 0, min_runs: 0, min_seconds: 0.0 };
        assert_eq!(runs_of(1, limits).1.len(), 1);
    }
}
