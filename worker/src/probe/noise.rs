//! Judges from a timing whether other work on the machine disturbed it, and repeats disturbed ones.
//! Times are passed in; nothing here reads a clock.
//!
//! A median is wrong only if at least half of the runs are disturbed. So what counts is how many
//! runs are disturbed and whether medians change during a timing, not how slow the slowest runs
//! are. The limits come from 300 timings of loops of 8 µs to 9 ms on two processors that up to
//! twelve other threads used. Of the 171 timings that are quiet by these limits, all medians were
//! within 13 % of the smallest one for the same loop, although the thread waited for up to 93 % of
//! the time. Of the 129 others, 105 medians were too high by more than 10 %, up to twelve times. A
//! limit on the 95th percentile (1.5 × the median) would have marked 79 medians that were right,
//! and missed 22 that were too high by more than 20 %.

use std::time::Duration;

use edgesmith_common::{Noise, Waiting};

use super::timing::{Timing, percentile};

/// How often a model is timed at most.
pub(super) const MOST_TIMINGS: u32 = 3;

/// Number of parts of a timing whose medians are compared.
const PARTS: usize = 5;
/// Largest spread of a quiet timing. Predictions of latencies count as right within the same 10 %.
const MOST_SPREAD: f64 = 0.1;
/// Most waits per run of a quiet timing. Half as many as could change the median.
pub const MOST_WAITS_PER_RUN: f64 = 0.25;
/// Below this share of waiting, a timing is quiet however often the thread waited. The runs' median
/// delay is at most twice their mean delay, so it is at most 4 % of the time. Long runs need this
/// limit: on a quiet machine, the kernel's own threads interrupt each of them for a moment.
const LEAST_WAITING_SHARE: f64 = 0.02;

/// Times until a timing is quiet, but at most [`MOST_TIMINGS`] times, with `pause` in between.
/// Returns the quietest timing.
///
/// # Errors
/// The first error of `time` or `pause`.
pub(super) fn quietest<E>(
    mut time: impl FnMut() -> Result<Timing, E>,
    mut pause: impl FnMut() -> Result<(), E>,
) -> Result<(Timing, Noise), E> {
    let mut best = time()?;
    let mut timings = 1;
    while excess(&best) > 1.0 && timings < MOST_TIMINGS {
        pause()?;
        let next = time()?;
        timings += 1;
        if excess(&next) < excess(&best) {
            best = next;
        }
    }
    let noisy = excess(&best) > 1.0;
    let noise = Noise { noisy, spread: spread(&best.times), waiting: best.waiting, timings };
    Ok((best, noise))
}

/// How far a timing is above the limits of a quiet one: at most 1 if it is quiet.
fn excess(timing: &Timing) -> f64 {
    let waiting = timing.waiting.map_or(0.0, |Waiting { share, per_run }| {
        f64::min(share / LEAST_WAITING_SHARE, per_run / MOST_WAITS_PER_RUN)
    });
    f64::max(spread(&timing.times) / MOST_SPREAD, waiting)
}

/// By how much the greatest median of [`PARTS`] consecutive parts is above the smallest, as a share
/// of the smallest. 0 if the clock is too coarse to tell.
fn spread(times: &[Duration]) -> f64 {
    let median = |part: usize| {
        let mut sorted =
            times[times.len() * part / PARTS..times.len() * (part + 1) / PARTS].to_vec();
        sorted.sort_unstable();
        (!sorted.is_empty()).then(|| percentile(&sorted, 50).as_secs_f64())
    };
    let medians = || (0..PARTS).filter_map(median);
    let (least, greatest) =
        (medians().fold(f64::INFINITY, f64::min), medians().fold(0.0, f64::max));
    if least > 0.0 && least.is_finite() { greatest / least - 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timing of runs of these microseconds, without a count of waits.
    fn timing(micros: impl IntoIterator<Item = u64>) -> Timing {
        let times = micros.into_iter().map(Duration::from_micros).collect();
        Timing { times, waiting: None, energy_uj: None }
    }

    fn waiting(share: f64, per_run: f64) -> Timing {
        Timing { waiting: Some(Waiting { share, per_run }), ..timing([100; 50]) }
    }

    fn is_quiet(timing: &Timing) -> bool {
        excess(timing) <= 1.0
    }

    /// Runs [`quietest`] on these timings and returns the median, the noise and the pauses.
    fn of(timings: Vec<Timing>) -> (u64, Noise, u32) {
        let mut timings = timings.into_iter();
        let mut pauses = 0;
        let time = || timings.next().ok_or("timed too often");
        let pause = || {
            pauses += 1;
            Ok(())
        };
        let (timing, noise) = quietest(time, pause).unwrap();
        let mut times = timing.times;
        times.sort_unstable();
        (percentile(&times, 50).as_micros() as u64, noise, pauses)
    }

    #[test]
    fn a_few_slow_runs_are_quiet_because_the_median_does_not_feel_them() {
        let slow = (0..50).map(|run| if run % 5 == 0 { 900 } else { 100 + run % 3 });
        assert!(is_quiet(&timing(slow)));
        let steady = timing([100; 50]);
        assert_eq!((spread(&steady.times), excess(&steady)), (0.0, 0.0));
    }

    #[test]
    fn medians_that_change_during_a_timing_are_noise() {
        // Other work began after three fifths.
        let began = timing((0..50).map(|run| if run < 30 { 100 } else { 150 }));
        assert!((spread(&began.times) - 0.5).abs() < 1e-12);
        assert!(!is_quiet(&began));
        assert!(is_quiet(&timing((0..50).map(|run| if run < 30 { 100 } else { 109 }))));
    }

    #[test]
    fn waits_are_noise_if_they_are_many_and_long() {
        // As measured for loops of 0.4 ms beside another thread: the medians were right.
        assert!(is_quiet(&waiting(0.6, 0.12)));
        // And for loops of 9 ms: the medians were twice too high.
        assert!(!is_quiet(&waiting(0.6, 2.4)));
        // Long runs that the kernel interrupts for a moment.
        assert!(is_quiet(&waiting(0.002, 12.0)));
    }

    #[test]
    fn few_runs_and_coarse_clocks_have_no_spread() {
        assert_eq!(spread(&timing([7]).times), 0.0);
        assert_eq!(spread(&timing([0, 0, 0, 0, 9]).times), 0.0);
        assert_eq!(spread(&timing([10, 20]).times), 1.0);
    }

    #[test]
    fn a_quiet_timing_is_not_repeated() {
        let (median, noise, pauses) = of(vec![waiting(0.5, 0.1)]);
        let expected = Some(Waiting { share: 0.5, per_run: 0.1 });
        assert_eq!((median, pauses), (100, 0));
        assert_eq!(noise, Noise { noisy: false, spread: 0.0, waiting: expected, timings: 1 });
    }

    #[test]
    fn a_noisy_timing_is_repeated_until_one_is_quiet() {
        let noisy = timing((0..50).map(|run| 200 + 10 * run));
        let (median, noise, pauses) = of(vec![noisy, timing([100; 50])]);
        assert_eq!((median, noise.noisy, noise.timings, pauses), (100, false, 2, 1));
    }

    #[test]
    fn the_quietest_of_three_noisy_timings_is_kept_and_marked() {
        let rising = |by: u64| timing((0..50).map(move |run| 100 + by * run));
        for order in [[2, 1, 3], [1, 2, 3], [3, 2, 1]] {
            let (median, noise, pauses) = of(order.map(rising).into());
            assert_eq!((median, noise.noisy, noise.timings, pauses), (124, true, 3, 2));
            assert!(noise.spread > MOST_SPREAD && noise.check().is_ok());
        }
    }

    #[test]
    fn a_stop_ends_timings_and_pauses() {
        let noisy = || Ok(timing((0..50).map(|run| 100 + run * run)));
        assert_eq!(quietest(|| Err("stopped"), || Ok(())).unwrap_err(), "stopped");
        assert_eq!(quietest(noisy, || Err("stopped")).unwrap_err(), "stopped");
    }
}
