//! Keeps the process quiet for measurements: while a model is timed, no other task computes.
//!
//! Tasks that compute hold a [`Busy`] guard and call [`Busy::pause_point`] between short pieces of
//! work. A measurement calls [`QuietGate::quiet`], which waits until every busy task is at such a
//! point and holds them there. Measurements take turns.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pause between two checks whether a waiting measurement is stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The gate that all tasks of a process share.
#[derive(Debug, Default)]
pub struct QuietGate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Number of tasks that compute now.
    busy: usize,
    /// Number of measurements that wait or run. While it is above 0, no task starts to compute.
    quiet_wanted: usize,
    /// Whether one of these measurements runs.
    quiet: bool,
}

/// Held by a task that computes.
#[derive(Debug)]
pub struct Busy<'a>(&'a QuietGate);

/// Held by a measurement. While it exists, nothing else computes.
#[derive(Debug)]
pub struct Quiet<'a>(&'a QuietGate);

impl QuietGate {
    /// Starts to compute, after all measurements have ended.
    pub fn busy(&self) -> Busy<'_> {
        self.enter(self.lock());
        Busy(self)
    }

    /// Waits until nothing computes, and keeps it that way. `None` if `stopped` returned true
    /// first.
    pub fn quiet(&self, stopped: impl Fn() -> bool) -> Option<Quiet<'_>> {
        let mut state = self.lock();
        state.quiet_wanted += 1;
        while state.busy > 0 || state.quiet {
            if stopped() {
                state.quiet_wanted -= 1;
                drop(state);
                self.changed.notify_all();
                return None;
            }
            // A stop does not wake this thread, so it checks from time to time.
            let waited = self.changed.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.quiet = true;
        Some(Quiet(self))
    }

    fn enter(&self, mut state: MutexGuard<'_, State>) {
        while state.quiet_wanted > 0 {
            state = self.wait(state);
        }
        state.busy += 1;
    }

    // A panicking task leaves correct counters, because the guards restore them. So a poisoned
    // mutex is safe to use.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy<'_> {
    /// Lets waiting measurements run first.
    pub fn pause_point(&self) {
        let mut state = self.0.lock();
        if state.quiet_wanted > 0 {
            state.busy -= 1;
            self.0.changed.notify_all();
            self.0.enter(state);
        }
    }
}

impl<'a> Busy<'a> {
    /// Stops to compute, and keeps the process quiet until what it returns is dropped; then it
    /// computes again. `None` if `stopped` returned true first; then it computes at once.
    pub fn quiet(&self, stopped: impl Fn() -> bool) -> Option<Rest<'a>> {
        self.0.lock().busy -= 1;
        self.0.changed.notify_all();
        let quiet = self.0.quiet(stopped);
        // It enters again in any case.
        let rest = Rest { quiet, gate: self.0 };
        if rest.quiet.is_some() { Some(rest) } else { None }
    }
}

/// Held by a task that measures instead of computing.
#[derive(Debug)]
pub struct Rest<'a> {
    quiet: Option<Quiet<'a>>,
    gate: &'a QuietGate,
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        // Otherwise it would wait for its own measurement.
        drop(self.quiet.take());
        self.gate.enter(self.gate.lock());
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.quiet = false;
        state.quiet_wanted -= 1;
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_measurement_runs_alone() {
        let gate = QuietGate::default();
        let (computing, measuring) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let busy = gate.busy();
                    for _ in 0..200 {
                        computing.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(measuring.load(Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        computing.fetch_sub(1, Ordering::SeqCst);
                        busy.pause_point();
                    }
                });
            }
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let quiet = gate.quiet(|| false).unwrap();
                        assert_eq!(measuring.fetch_add(1, Ordering::SeqCst), 0);
                        assert_eq!(computing.load(Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(computing.load(Ordering::SeqCst), 0);
                        measuring.fetch_sub(1, Ordering::SeqCst);
                        drop(quiet);
                    }
                });
            }
        });
    }

    #[test]
    fn a_task_that_computes_may_measure() {
        let gate = QuietGate::default();
        let (computing, measuring) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let busy = gate.busy();
                    for _ in 0..50 {
                        computing.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(measuring.load(Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        computing.fetch_sub(1, Ordering::SeqCst);
                        let rest = busy.quiet(|| false).unwrap();
                        assert_eq!(measuring.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(computing.load(Ordering::SeqCst), 0);
                        measuring.fetch_sub(1, Ordering::SeqCst);
                        drop(rest);
                    }
                });
            }
        });
        // One that is stopped while it waits computes on, so the counts are right.
        let (busy, other) = (gate.busy(), gate.busy());
        assert!(busy.quiet(|| true).is_none());
        drop((busy, other));
        assert!(gate.quiet(|| false).is_some());
    }

    #[test]
    fn measurements_continue_after_a_task_panics() {
        let gate = QuietGate::default();
        let panicked = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _busy = gate.busy();
                    std::panic::panic_any("stop");
                })
                .join()
        });
        assert!(panicked.is_err());
        drop(gate.quiet(|| false).unwrap());
        drop(gate.busy());
    }

    #[test]
    fn a_measurement_that_is_stopped_while_it_waits_blocks_no_task() {
        let gate = QuietGate::default();
        let busy = gate.busy();
        assert!(gate.quiet(|| true).is_none());
        busy.pause_point();
        drop(busy);
        assert!(gate.quiet(|| true).is_some(), "nothing to wait for");
    }
}
