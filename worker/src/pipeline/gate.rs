//! Quiet for measurements: while one model is timed, no other task of this process computes.
//!
//! Tasks that compute hold a [`Busy`] guard and call [`Busy::pause_point`] between short pieces of
//! work; a measurement takes [`QuietGate::quiet`], which waits until every busy task stands at such a
//! point and holds them there. Measurements take turns.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pauses between two looks at whether a waiting measurement is stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Shared by all tasks of a process.
#[derive(Debug, Default)]
pub struct QuietGate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Tasks that compute right now.
    busy: usize,
    /// Measurements that wait or run; while there are any, no task begins to compute.
    quiet_wanted: usize,
    /// Whether one of them runs.
    quiet: bool,
}

/// Held by a task that computes.
#[derive(Debug)]
pub struct Busy<'a>(&'a QuietGate);

/// Held by a measurement; nothing else computes.
#[derive(Debug)]
pub struct Quiet<'a>(&'a QuietGate);

impl QuietGate {
    /// Begins to compute, after any measurement.
    pub fn busy(&self) -> Busy<'_> {
        self.enter(self.lock());
        Busy(self)
    }

    /// Waits until nothing computes, and keeps it so; `None` where it was told to stop before.
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
            // Nobody wakes whoever is stopped, so it looks from time to time.
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

    // A panicking task leaves the counters right, because guards restore them; so poison is no harm.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy<'_> {
    /// Lets a waiting measurement go first.
    pub fn pause_point(&self) {
        let mut state = self.0.lock();
        if state.quiet_wanted > 0 {
            state.busy -= 1;
            self.0.changed.notify_all();
            self.0.enter(state);
        }
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
    fn nothing_computes_and_nothing_else_measures_during_a_measurement() {
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
    fn a_panicking_task_lets_measurements_go_on() {
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
    fn a_measurement_that_is_stopped_while_it_waits_holds_nobody_up() {
        let gate = QuietGate::default();
        let busy = gate.busy();
        assert!(gate.quiet(|| true).is_none());
        busy.pause_point();
        drop(busy);
        assert!(gate.quiet(|| true).is_some(), "nothing to wait for");
    }
}
