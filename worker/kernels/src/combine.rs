//! Feature maps that are weighted sums of the pixels of other feature maps: the output of a
//! convolution, and the gradient with respect to its input.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::lanes::{Lanes, WIDTH, dispatch};
use crate::taps::Reads;

/// Feature maps that are weighted sums of the pixels of other feature maps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Combination<'a> {
    /// For each output pixel, the source pixels that are added up.
    pub reads: &'a Reads,
    /// `[channels][pixels][lanes]`
    pub source: &'a [f32],
    pub channels: usize,
    pub lanes: usize,
    pub factors: Factors<'a>,
}

/// Factors by row, channel and tap. The taps of a row and channel are adjacent in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factors<'a> {
    pub values: &'a [f32],
    /// Distance between rows, in values.
    pub row: usize,
    /// Distance between channels, in values.
    pub channel: usize,
}

/// `out[r][pixel][lane] = Σ factors[r][channel][tap] · source[channel][place][lane]` over the
/// channels and the pixel's reads, for the given `rows`. Writes all of `out`.
///
/// # Panics
/// If sizes do not agree.
pub(crate) fn combine(
    combination: &Combination<'_>,
    rows: Range<usize>,
    out: &mut [MaybeUninit<f32>],
) {
    let task = &Combine::new(combination, rows);
    dispatch!(run(task: &Combine<'_>, out: &mut [MaybeUninit<f32>]));
}

/// [`Combine::run`] as a function.
#[inline(always)]
fn run<L: Lanes>(token: L, task: &Combine<'_>, out: &mut [MaybeUninit<f32>]) {
    task.run(token, out);
}

/// Some rows of a checked [`Combination`].
struct Combine<'a> {
    of: &'a Combination<'a>,
    rows: Range<usize>,
}

/// Largest number of rows that share the loads of a pixel. With two vectors each, they need twelve
/// accumulators.
const GROUP: usize = 6;

/// The output of one [`Combine::block`]: a pixel's lanes from `lane` on, in a group of rows.
#[derive(Clone)]
struct Part {
    rows: Range<usize>,
    place: usize,
    lane: usize,
}

/// The memory that a combination reads its pixels from: some rows of all channels.
#[derive(Clone, Copy)]
struct Window<'a> {
    values: &'a [f32],
    /// Distance between pixels, in values.
    pixel: usize,
    /// Distance between channels, in values.
    channel: usize,
    /// Distance between a pixel's first channel and its last.
    reach: usize,
    /// The first lane in the window.
    lane: usize,
    /// Whether a pixel is at its slot; otherwise it is at its place.
    slots: bool,
}

impl<'a> Combine<'a> {
    /// # Panics
    /// If sizes do not agree.
    fn new(of: &'a Combination<'a>, rows: Range<usize>) -> Self {
        let Combination { reads, source, channels, lanes, factors } = *of;
        assert!(lanes.is_multiple_of(WIDTH), "whole vectors");
        assert!(is_product(source.len(), [channels, reads.sources(), lanes]), "sizes agree");
        if !rows.is_empty() && channels > 0 {
            let last =
                (rows.end - 1) * factors.row + (channels - 1) * factors.channel + reads.taps();
            assert!(last <= factors.values.len(), "factors for all rows and channels");
        }
        Self { of, rows }
    }

    /// Writes all of `out`.
    ///
    /// # Panics
    /// If its size does not agree.
    #[inline(always)]
    fn run<L: Lanes>(&self, token: L, out: &mut [MaybeUninit<f32>]) {
        let Combination { reads, channels, lanes, .. } = *self.of;
        assert!(is_product(out.len(), [self.rows.len(), reads.places(), lanes]), "sizes agree");
        if out.is_empty() || channels == 0 {
            return out.fill(MaybeUninit::new(0.0));
        }
        let factors = self.packed();
        if channels == 1 || reads.taps() == 1 {
            self.directly(token, &factors, out);
        } else {
            self.gathered(token, &factors, out);
        }
    }

    /// Reads directly from the source. This is faster if each pixel is read only once.
    #[inline(always)]
    fn directly<L: Lanes>(&self, token: L, factors: &[f32], out: &mut [MaybeUninit<f32>]) {
        let Combination { reads, source, lanes, .. } = *self.of;
        let channel = reads.sources() * lanes;
        let reach = self.reach(channel);
        let window = Window { values: source, pixel: lanes, channel, reach, lane: 0, slots: false };
        // A single row needs more lanes at a time to keep the same number of sums in flight.
        let step = if self.rows.len() == 1 { 8 * WIDTH } else { 4 * WIDTH };
        for row in 0..reads.size()[0] {
            for lane in (0..lanes).step_by(step) {
                self.row(token, &window, factors, row, lane..lanes.min(lane + step), out);
            }
        }
    }

    /// Reads from copies of the needed rows, with some lanes of all channels together. Without
    /// copies, the channels of a feature map are often a power of two apart, so that only few of
    /// them stay in the caches at once.
    #[inline(always)]
    fn gathered<L: Lanes>(&self, token: L, factors: &[f32], out: &mut [MaybeUninit<f32>]) {
        let Combination { reads, source, channels, lanes, .. } = *self.of;
        let width = reads.source()[1];
        let step = lanes.min(2 * WIDTH);
        let mut copies = vec![0.0; reads.window() * width * channels * step];
        for lane in (0..lanes).step_by(step) {
            let count = step.min(lanes - lane);
            let mut copied = 0;
            for row in 0..reads.size()[0] {
                let needed = reads.rows(row);
                for from in needed.start.max(copied)..needed.end {
                    let slots = from % reads.window() * width * channels * step;
                    for channel in 0..channels {
                        let at = (channel * reads.sources() + from * width) * lanes + lane;
                        for column in 0..width {
                            let to = slots + (column * channels + channel) * step;
                            copy(&source[at + column * lanes..], &mut copies[to..], count);
                        }
                    }
                }
                copied = copied.max(needed.end);
                let (pixel, channel, reach) = (channels * step, step, self.reach(step));
                let window = Window { values: &copies, pixel, channel, reach, lane, slots: true };
                self.row(token, &window, factors, row, lane..lane + count, out);
            }
        }
    }

    /// Computes some lanes of a row of pixels, whose neighbourhoods are in the window.
    #[inline(always)]
    fn row<L: Lanes>(
        &self,
        token: L,
        window: &Window<'_>,
        factors: &[f32],
        row: usize,
        lanes: Range<usize>,
        out: &mut [MaybeUninit<f32>],
    ) {
        let groups = self.rows.len().div_ceil(GROUP);
        let width = self.of.reads.size()[1];
        for place in row * width..(row + 1) * width {
            for group in 0..groups {
                let part = Part { rows: self.group(group, groups), place, lane: lanes.start };
                match part.rows.len() {
                    6 => self.span::<L, 6, 2>(token, window, factors, part, lanes.end, out),
                    5 => self.span::<L, 5, 2>(token, window, factors, part, lanes.end, out),
                    4 => self.span::<L, 4, 2>(token, window, factors, part, lanes.end, out),
                    3 => self.span::<L, 3, 2>(token, window, factors, part, lanes.end, out),
                    2 => self.span::<L, 2, 2>(token, window, factors, part, lanes.end, out),
                    _ => self.span::<L, 1, 8>(token, window, factors, part, lanes.end, out),
                }
            }
        }
    }

    /// The rows of a group, counted from the first row. Group sizes differ by at most one.
    #[inline(always)]
    fn group(&self, group: usize, groups: usize) -> Range<usize> {
        let rows = self.rows.len();
        group * rows / groups..(group + 1) * rows / groups
    }

    /// The factors of each group as `[taps][channels][rows]`, one group after the other.
    fn packed(&self) -> Cow<'_, [f32]> {
        let Combination { reads, channels, factors, .. } = *self.of;
        if self.rows.len() == 1 && channels == 1 {
            return Cow::Borrowed(&factors.values[self.rows.start * factors.row..][..reads.taps()]);
        }
        let mut packed = Vec::with_capacity(self.rows.len() * channels * reads.taps());
        let groups = self.rows.len().div_ceil(GROUP);
        for group in (0..groups).map(|group| self.group(group, groups)) {
            let rows = self.rows.start + group.start..self.rows.start + group.end;
            for tap in 0..reads.taps() {
                for channel in 0..channels {
                    let at = channel * factors.channel + tap;
                    packed.extend(rows.clone().map(|row| factors.values[row * factors.row + at]));
                }
            }
        }
        Cow::Owned(packed)
    }

    /// Computes the lanes up to `end`.
    #[inline(always)]
    fn span<L: Lanes, const ROWS: usize, const VECTORS: usize>(
        &self,
        token: L,
        window: &Window<'_>,
        factors: &[f32],
        mut part: Part,
        end: usize,
        out: &mut [MaybeUninit<f32>],
    ) {
        let each = self.of.channels * self.of.reads.taps();
        let factors = &factors[part.rows.start * each..part.rows.end * each];
        while part.lane + VECTORS * WIDTH <= end {
            self.block::<L, ROWS, VECTORS>(token, window, factors, &part, out);
            part.lane += VECTORS * WIDTH;
        }
        while part.lane < end {
            self.block::<L, ROWS, 1>(token, window, factors, &part, out);
            part.lane += WIDTH;
        }
    }

    /// Computes `ROWS` rows of `VECTORS` vectors of a pixel's lanes.
    #[inline(always)]
    fn block<L: Lanes, const ROWS: usize, const VECTORS: usize>(
        &self,
        token: L,
        window: &Window<'_>,
        factors: &[f32],
        part: &Part,
        out: &mut [MaybeUninit<f32>],
    ) {
        let Combination { reads, channels, lanes, .. } = *self.of;
        let mut sums = [[token.splat(0.0); VECTORS]; ROWS];
        let needed = window.reach.saturating_add(VECTORS * WIDTH);
        let limit = window.values.len().checked_sub(needed);
        for read in reads.of(part.place) {
            let place = if window.slots { read.slot } else { read.place };
            let first = place * window.pixel + part.lane - window.lane;
            assert!(limit.is_some_and(|limit| first <= limit), "reads stay inside");
            // SAFETY: the window has `needed` values from `first` on.
            let mut from = unsafe { window.values.as_ptr().add(first) };
            let factors = &factors[read.tap * channels * ROWS..][..channels * ROWS];
            for factors in factors.chunks_exact(ROWS) {
                let mut values = [token.splat(0.0); VECTORS];
                for (v, value) in values.iter_mut().enumerate() {
                    // SAFETY: this is at most the last channel, because there are `ROWS` factors
                    // for each. So it is at most `reach` behind `first`, where the window still has
                    // `VECTORS` vectors. Arrays of f32 have the alignment of f32.
                    let from = unsafe { &*from.add(v * WIDTH).cast::<[f32; WIDTH]>() };
                    *value = token.load(from);
                }
                from = from.wrapping_add(window.channel);
                for (sums, &factor) in sums.iter_mut().zip(factors) {
                    let factor = token.splat(factor);
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = token.mul_add(value, factor, *sum);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let at = ((part.rows.start + r) * reads.places() + part.place) * lanes + part.lane;
            let (to, _) = out[at..at + VECTORS * WIDTH].as_chunks_mut::<WIDTH>();
            for (&sum, to) in sums.iter().zip(to) {
                token.store(sum, to);
            }
        }
    }

    /// The distance between the first channel and the last, from that between two.
    fn reach(&self, channel: usize) -> usize {
        (self.of.channels - 1).saturating_mul(channel)
    }
}

/// Whether a count is the product of three factors.
fn is_product(count: usize, [a, b, c]: [usize; 3]) -> bool {
    a.checked_mul(b).and_then(|ab| ab.checked_mul(c)) == Some(count)
}

/// Copies `count` values. The usual number needs no call.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32], count: usize) {
    if count == 2 * WIDTH
        && let (Some(from), Some(to)) = (from.first_chunk(), to.first_chunk_mut::<{ 2 * WIDTH }>())
    {
        *to = *from;
    } else {
        to[..count].copy_from_slice(&from[..count]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::Portable;
    use crate::testing::{cases, close, noise};

    proptest! {
        #[test]
        fn rows_equal_the_sums_of_the_definition(case in cases()) {
            let (channels, lanes, taps) = (case.channels, case.lanes, case.sweep.taps());
            let source = noise(channels * case.inputs() * lanes, case.seed);
            let values = noise(case.weights(), case.seed ^ 1);
            let size = case.outputs() * lanes;
            let mut expected = vec![0.0f64; case.rows * size];
            case.for_products(|weight, from, to| {
                expected[to] += f64::from(values[weight]) * f64::from(source[from]);
            });
            let factors = Factors { values: &values, row: channels * taps, channel: taps };
            let reads = case.sweep.forward();
            let combination =
                Combination { reads: &reads, source: &source, channels, lanes, factors };
            // Only the second half of the rows, with the processor's vectors and without.
            let rows = case.rows / 2..case.rows;
            for vectors in [false, true] {
                let mut out = vec![MaybeUninit::new(f32::NAN); rows.len() * size];
                if vectors {
                    combine(&combination, rows.clone(), &mut out);
                } else {
                    Combine::new(&combination, rows.clone()).run(Portable, &mut out);
                }
                // SAFETY: all values were set to NaN above.
                let out: Vec<f32> = out.iter().map(|v| unsafe { v.assume_init() }).collect();
                prop_assert!(close(&out, &expected[rows.start * size..]));
            }
        }
    }
}
