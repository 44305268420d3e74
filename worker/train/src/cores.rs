//! The processor's cores, shared by the trainings of a process: decides the number of threads of
//! each training.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use edgesmith_kernels::Threads;

/// The cores of a process. The running trainings share them equally, each with at least one thread;
/// a teacher that all others wait for gets all of them. Each training's batches are made on one
/// more thread, which has little to do.
#[derive(Debug, Clone)]
pub struct Cores(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    count: usize,
    /// `None` for one core.
    helpers: Option<Arc<rayon::ThreadPool>>,
    trainings: AtomicUsize,
}

/// The system cannot start more threads.
#[derive(Debug, thiserror::Error)]
#[error("failed to start {count} threads: {source}")]
pub struct CoresError {
    count: usize,
    source: rayon::ThreadPoolBuildError,
}

/// A running training's claim to cores; released when it is dropped.
#[derive(Debug)]
pub struct Seat(Cores);

impl Cores {
    /// Each training has one thread.
    pub fn one() -> Self {
        Self(Arc::new(Inner { count: 1, helpers: None, trainings: AtomicUsize::new(0) }))
    }

    /// `count` threads, shared by all trainings.
    ///
    /// # Errors
    /// If the system cannot start more threads.
    pub fn new(count: NonZeroUsize) -> Result<Self, CoresError> {
        let count = count.get();
        if count == 1 {
            return Ok(Self::one());
        }
        // The training's own thread is one of them.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count - 1)
            .thread_name(|i| format!("train-{i}"))
            .build()
            .map_err(|source| CoresError { count, source })?;
        let (helpers, trainings) = (Some(Arc::new(pool)), AtomicUsize::new(0));
        Ok(Self(Arc::new(Inner { count, helpers, trainings })))
    }

    /// Registers a training.
    pub(super) fn seat(&self) -> Seat {
        self.0.trainings.fetch_add(1, Ordering::Relaxed);
        Seat(self.clone())
    }
}

impl Seat {
    /// The threads that this training may currently use.
    pub(super) fn threads(&self) -> Threads {
        let Inner { count, helpers, trainings } = &*self.0.0;
        let share = count / trainings.load(Ordering::Relaxed).max(1);
        match helpers {
            Some(helpers) if share > 1 => Threads::with(share, helpers),
            _ => Threads::one(),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.trainings.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trainings_share_the_cores() {
        let cores = Cores::new(NonZeroUsize::new(4).unwrap()).unwrap();
        let share = |seat: &Seat| seat.threads().count();
        let first = cores.seat();
        assert_eq!(share(&first), 4);
        let second = cores.seat();
        assert_eq!((share(&first), share(&second)), (2, 2));
        let third = cores.seat();
        assert_eq!(share(&third), 1);
        let rest: Vec<Seat> = (0..4).map(|_| cores.seat()).collect();
        assert_eq!(share(&first), 1, "at least its own thread");
        drop((second, third, rest));
        assert_eq!(share(&first), 4);
        assert_eq!(share(&Cores::one().seat()), 1);
    }
}
