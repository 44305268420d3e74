//! Shares the memory that trainings may use among the tasks of a process. A training that does not
//! fit beside those that run waits for them; the others behind it wait too, so that none waits
//! forever. Whether a training fits at all depends on the limit alone, and not on what else runs.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pause between two checks whether a waiting task should pause or stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The memory of all trainings of a process.
#[derive(Debug, Default)]
pub struct TrainingMemory {
    /// Bytes; `None` if they are not limited.
    limit: Option<u64>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of the trainings that run.
    taken: u64,
    /// The trainings that wait, the first one first.
    waiting: VecDeque<u64>,
    /// Number of the next one that waits.
    next: u64,
}

/// Held by a training while it runs.
#[derive(Debug)]
pub struct Share<'a> {
    of: &'a TrainingMemory,
    bytes: u64,
}

impl TrainingMemory {
    /// At most so many bytes for all trainings together.
    pub fn limited(limit: Option<u64>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Bytes that one training may use when it is alone.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Takes so many bytes, at most the limit, when they are free. `pause` is called while it
    /// waits, and may block. `None` if it breaks.
    pub fn take(
        &self,
        bytes: u64,
        pause: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Option<Share<'_>> {
        let Some(limit) = self.limit else { return Some(Share { of: self, bytes: 0 }) };
        let mut state = self.lock();
        let own = state.next;
        state.next += 1;
        state.waiting.push_back(own);
        while state.waiting.front() != Some(&own) || state.taken > limit.saturating_sub(bytes) {
            let waited = self.changed.wait_timeout(state, LOOK_EVERY);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            // Without the lock, because others may have to go on before this returns.
            let stopped = pause().is_break();
            state = self.lock();
            if stopped {
                state.waiting.retain(|other| *other != own);
                drop(state);
                self.changed.notify_all();
                return None;
            }
        }
        state.waiting.pop_front();
        state.taken += bytes;
        drop(state);
        self.changed.notify_all();
        Some(Share { of: self, bytes })
    }

    // A training that panics gives its share back, so a poisoned mutex is safe to use.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        state.taken -= self.bytes;
        drop(state);
        self.of.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread::scope;

    use super::*;

    /// Long enough on any machine; only a failing test waits this long.
    const LONG: Duration = Duration::from_secs(60);

    fn go_on() -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn trainings_that_do_not_fit_wait_in_order() {
        let memory = TrainingMemory::limited(Some(10));
        let first = memory.take(6, &mut go_on).unwrap();
        let (sender, taken) = channel();
        scope(|scope| {
            let take = |bytes: u64| {
                let (sender, memory) = (sender.clone(), &memory);
                scope.spawn(move || {
                    let share = memory.take(bytes, &mut go_on).unwrap();
                    sender.send(bytes).unwrap();
                    drop(share);
                });
                while memory.lock().waiting.is_empty() {
                    std::thread::yield_now();
                }
            };
            take(10);
            // It would fit, but is behind the large one.
            let behind = scope.spawn(|| drop(memory.take(4, &mut go_on)));
            while memory.lock().waiting.len() < 2 {
                std::thread::yield_now();
            }
            assert!(taken.try_recv().is_err());
            drop(first);
            assert_eq!(taken.recv_timeout(LONG), Ok(10));
            behind.join().unwrap();
        });
        assert_eq!(memory.lock().taken, 0);
    }

    #[test]
    fn one_that_is_stopped_leaves_the_queue() {
        let memory = TrainingMemory::limited(Some(10));
        let first = memory.take(6, &mut go_on).unwrap();
        let mut asked = 0;
        let stopped = memory.take(5, &mut || {
            asked += 1;
            if asked < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert!(stopped.is_none() && asked == 2);
        let second = memory.take(4, &mut go_on).unwrap();
        assert_eq!(memory.lock().taken, 10);
        drop((first, second));
        assert!(TrainingMemory::limited(None).take(u64::MAX, &mut go_on).is_some());
    }
}
