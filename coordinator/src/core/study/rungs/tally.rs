//! Counts the elementary steps of the rungs' data structures, so that a test can bound them without
//! a clock. Outside tests nothing is counted.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Adds `steps`, each the comparison of two points or a visit to a node.
#[cfg(test)]
pub(super) fn count(steps: usize) {
    STEPS.with(|counted| counted.set(counted.get() + steps as u64));
}

#[cfg(not(test))]
#[inline(always)]
pub(super) fn count(_steps: usize) {}

/// The steps that were counted on this thread since the last call.
#[cfg(test)]
pub(super) fn take() -> u64 {
    STEPS.with(std::cell::Cell::take)
}
