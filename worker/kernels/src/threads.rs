//! The threads that share the work of one training, and memory that they fill together.
//!
//! Work is split by channels. Every value is computed by one thread, in the order in which one
//! thread alone would compute it, so results do not depend on the number of threads.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

/// The calling thread, and helper threads if the count is above one.
#[derive(Clone)]
pub struct Threads {
    count: usize,
    /// Shared with other trainings; `None` for one thread.
    helpers: Option<Arc<rayon::ThreadPool>>,
}

impl Threads {
    /// The calling thread alone.
    pub fn one() -> Self {
        Self { count: 1, helpers: None }
    }

    /// The calling thread and `count - 1` of the helpers.
    pub fn with(count: usize, helpers: &Arc<rayon::ThreadPool>) -> Self {
        Self { count, helpers: Some(Arc::clone(helpers)) }
    }

    /// The calling thread and `count - 1` new helpers.
    #[cfg(test)]
    pub(crate) fn new(count: usize) -> Self {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count.max(2) - 1).build().unwrap();
        Self::with(count, &Arc::new(pool))
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Splits `0..items` into ranges whose sizes differ by at most one: one per thread, or fewer
    /// if there are fewer items.
    pub(crate) fn ranges(&self, items: usize) -> Vec<Range<usize>> {
        let parts = self.count.min(items).max(1);
        (0..parts).map(|part| part * items / parts..(part + 1) * items / parts).collect()
    }

    /// Runs all jobs, the first one on this thread, and returns when all are done.
    pub(crate) fn run<P: Send>(&self, parts: Vec<P>, job: impl Fn(P) + Sync) {
        let Some(helpers) = self.helpers.as_ref().filter(|_| parts.len() > 1) else {
            return parts.into_iter().for_each(job);
        };
        let job = &job;
        helpers.in_place_scope(|scope| {
            let mut parts = parts.into_iter();
            let own = parts.next();
            for part in parts {
                scope.spawn(move |_| job(part));
            }
            own.into_iter().for_each(job);
        });
    }

    /// A vector of `channels` times `size` values. Each thread writes the values of a range of
    /// channels.
    pub(crate) fn build(
        &self,
        channels: usize,
        size: usize,
        fill: impl Fn(Range<usize>, &mut Filling<'_>) + Sync,
    ) -> Vec<f32> {
        let nothing = vec![(); self.ranges(channels).len()];
        self.build_with(channels, size, nothing, |range, (), filling| fill(range, filling))
    }

    /// [`Threads::build`] with an extra argument for each of the [`Threads::ranges`].
    pub(crate) fn build_with<E: Send>(
        &self,
        channels: usize,
        size: usize,
        extras: Vec<E>,
        fill: impl Fn(Range<usize>, E, &mut Filling<'_>) + Sync,
    ) -> Vec<f32> {
        let mut values = Vec::with_capacity(channels * size);
        let mut rest = &mut values.spare_capacity_mut()[..channels * size];
        let mut parts = Vec::new();
        for (range, extra) in self.ranges(channels).into_iter().zip(extras) {
            let (own, behind) = rest.split_at_mut(range.len() * size);
            rest = behind;
            parts.push((range, extra, own));
        }
        assert!(rest.is_empty(), "one extra argument per range");
        self.run(parts, |(range, extra, own)| {
            let mut filling = Filling { to: own, at: 0 };
            fill(range, extra, &mut filling);
            assert!(filling.at == filling.to.len(), "every value is written");
        });
        // SAFETY: each part is full, and together the parts are all values.
        unsafe { values.set_len(channels * size) };
        values
    }

    /// Splits `values`, `size` per item, at the ends of the [`Threads::ranges`] of its items.
    pub(crate) fn cut<'a, T>(&self, values: &'a mut [T], size: usize) -> Vec<&'a mut [T]> {
        let mut rest = values;
        let runs = rest.len() / size;
        let mut parts = Vec::new();
        for range in self.ranges(runs) {
            let (own, behind) = std::mem::take(&mut rest).split_at_mut(range.len() * size);
            rest = behind;
            parts.push(own);
        }
        parts
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Threads").field(&self.count).finish()
    }
}

/// Memory that is written once, from front to back.
pub(crate) struct Filling<'a> {
    to: &'a mut [MaybeUninit<f32>],
    at: usize,
}

impl Filling<'_> {
    /// Fills the next `count` values with `write`.
    ///
    /// # Safety
    /// `write` must write every value.
    pub(crate) unsafe fn raw(&mut self, count: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) {
        write(&mut self.to[self.at..self.at + count]);
        self.at += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once() {
        for (count, items) in [(1, 5), (2, 5), (3, 2), (4, 0), (2, 1)] {
            let ranges = Threads::new(count).ranges(items);
            assert!(ranges.len() <= count);
            let all: Vec<usize> = ranges.into_iter().flatten().collect();
            assert_eq!(all, (0..items).collect::<Vec<_>>());
        }
    }

    #[test]
    fn several_threads_put_every_channel_at_the_same_place_as_one() {
        let fill = |range: Range<usize>, filling: &mut Filling| {
            for channel in range {
                // SAFETY: all three values are written.
                unsafe {
                    filling.raw(3, |to| {
                        to.write_copy_of_slice(&[channel as f32, 0.0, 0.5]);
                    });
                }
            }
        };
        let alone = Threads::one().build(5, 3, fill);
        assert_eq!(alone[..6], [0.0, 0.0, 0.5, 1.0, 0.0, 0.5]);
        assert_eq!(Threads::new(3).build(5, 3, fill), alone);
        assert_eq!(Threads::new(8).build(5, 3, fill), alone);
    }

    #[test]
    #[should_panic(expected = "every value is written")]
    fn a_part_that_is_not_filled_panics() {
        Threads::one().build(2, 2, |_, filling| {
            // SAFETY: the value is written.
            unsafe { filling.raw(1, |to| _ = to[0].write(1.0)) }
        });
    }
}
