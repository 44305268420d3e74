//! Which pixels of a feature map a square convolution combines. It handles border and stride
//! and does not read values.

use std::ops::Range;

/// A square kernel of odd size that moves over a feature map padded by half its size on every side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sweep {
    pub kernel: usize,
    pub stride: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
}

/// One product: the factor at kernel position `tap` times the pixel at `place`. Places count along
/// rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub tap: usize,
    pub place: usize,
    /// Index of the pixel in a [`Reads::window`].
    pub slot: usize,
}

/// For each pixel of a feature map, the products that add up to it.
#[derive(Debug)]
pub(crate) struct Reads {
    size: [usize; 2],
    source: [usize; 2],
    window: usize,
    /// For each computed row, the source rows that it reads.
    rows: Vec<Range<usize>>,
    taps: usize,
    reads: Vec<Read>,
    /// End of each pixel's products.
    ends: Vec<usize>,
}

impl Sweep {
    /// Height and width of the output.
    pub(crate) fn output(&self) -> [usize; 2] {
        self.input.map(|side| side.div_ceil(self.stride))
    }

    /// Number of kernel positions.
    pub(crate) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// For each output pixel, the products with input pixels that add up to it. Products outside
    /// the input are left out.
    pub(crate) fn forward(&self) -> Reads {
        let axis = |to: usize, side: usize| {
            let pairs = (0..self.kernel).map(move |k| (k, to * self.stride + k));
            pairs.filter_map(move |(k, at)| {
                let from = at.checked_sub(self.padding())?;
                (from < side).then_some((k, from))
            })
        };
        Reads::new(self.kernel, self.output(), self.input, axis)
    }

    /// For each input pixel, the products with output pixels that add up to its gradient.
    pub(crate) fn backward(&self) -> Reads {
        let axis = |to: usize, side: usize| {
            let pairs = (0..self.kernel).map(move |k| (k, to + self.padding()));
            pairs.filter_map(move |(k, at)| {
                let from = at.checked_sub(k)?;
                let strided = from.is_multiple_of(self.stride);
                (strided && from / self.stride < side).then_some((k, from / self.stride))
            })
        };
        Reads::new(self.kernel, self.input, self.output(), axis)
    }

    /// Along axis 0 (rows) or 1 (columns): the output pixels for which kernel position `k` lies
    /// inside the input.
    pub(crate) fn outputs(&self, axis: usize, k: usize) -> Range<usize> {
        let (side, outputs) = (self.input[axis], self.output()[axis]);
        let first = self.padding().saturating_sub(k).div_ceil(self.stride);
        let end = (side + self.padding()).saturating_sub(k).div_ceil(self.stride);
        first..end.clamp(first, outputs.max(first))
    }

    /// The input pixel along an axis that kernel position `k` reads for output pixel `to`, which is
    /// one of [`Sweep::outputs`].
    pub(crate) fn source(&self, to: usize, k: usize) -> usize {
        to * self.stride + k - self.padding()
    }

    fn padding(&self) -> usize {
        (self.kernel - 1) / 2
    }
}

impl Reads {
    /// `axis` yields the kernel positions and source pixels of one axis, given the computed pixel
    /// and the number of source pixels.
    fn new<I: Iterator<Item = (usize, usize)>>(
        kernel: usize,
        size: [usize; 2],
        source: [usize; 2],
        axis: impl Fn(usize, usize) -> I,
    ) -> Self {
        let side = |axis_of: usize| -> Vec<Vec<(usize, usize)>> {
            (0..size[axis_of]).map(|at| axis(at, source[axis_of]).collect()).collect()
        };
        let (down, across) = (side(0), side(1));
        let hull = |pairs: &Vec<(usize, usize)>| {
            let first = pairs.iter().map(|pair| pair.1).min().unwrap_or(0);
            first..pairs.iter().map(|pair| pair.1 + 1).max().unwrap_or(first)
        };
        let rows: Vec<Range<usize>> = down.iter().map(hull).collect();
        let window = rows.iter().map(Range::len).max().unwrap_or(0);
        let mut reads = Vec::with_capacity(size[0] * size[1] * kernel * kernel);
        let mut ends = Vec::with_capacity(size[0] * size[1]);
        for down in &down {
            for across in &across {
                for &(ky, row) in down {
                    reads.extend(across.iter().map(|&(kx, column)| Read {
                        tap: ky * kernel + kx,
                        place: row * source[1] + column,
                        slot: row % window * source[1] + column,
                    }));
                }
                ends.push(reads.len());
            }
        }
        let (sources, taps) = (source[0] * source[1], kernel * kernel);
        assert!(
            reads.iter().all(|read| read.place < sources && read.tap < taps),
            "reads stay inside"
        );
        Self { size, source, window, rows, taps, reads, ends }
    }

    /// Height and width of the feature map that is computed.
    pub(crate) fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Height and width of the feature maps that are read; all places are inside.
    pub(crate) fn source(&self) -> [usize; 2] {
        self.source
    }

    /// Number of source rows that one row depends on. A buffer of this many rows is enough: source
    /// row `r` is kept at row `r % window`.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Number of kernel positions; all taps are below it.
    pub(crate) fn taps(&self) -> usize {
        self.taps
    }

    /// Number of computed pixels.
    pub(crate) fn places(&self) -> usize {
        self.ends.len()
    }

    /// Number of pixels of a source feature map.
    pub(crate) fn sources(&self) -> usize {
        self.source[0] * self.source[1]
    }

    /// The source rows that a row reads.
    pub(crate) fn rows(&self, row: usize) -> Range<usize> {
        self.rows[row].clone()
    }

    /// The products of one computed pixel.
    pub(crate) fn of(&self, place: usize) -> &[Read] {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.reads[start..self.ends[place]]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_three_views_have_the_same_products() {
        for (height, width, stride, kernel) in [
            (4, 4, 1, 3),
            (5, 3, 1, 5),
            (6, 5, 2, 3),
            (4, 7, 2, 5),
            (1, 1, 1, 5),
            (2, 3, 2, 1),
            (7, 2, 2, 7),
            (1, 5, 2, 7),
            (5, 5, 3, 3),
        ] {
            let sweep = Sweep { kernel, stride, input: [height, width] };
            let [rows, columns] = sweep.output();
            let padding = (kernel - 1) / 2;
            // (output pixel, tap, input pixel), computed from the definition.
            let mut expected = BTreeSet::new();
            for (oy, ox) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                for (ky, kx) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                    let (y, x) = (oy * stride + ky, ox * stride + kx);
                    let inside = (padding..padding + height).contains(&y)
                        && (padding..padding + width).contains(&x);
                    if inside {
                        let input = (y - padding) * width + x - padding;
                        expected.insert((oy * columns + ox, ky * kernel + kx, input));
                    }
                }
            }
            let forward = sweep.forward();
            let backward = sweep.backward();
            assert_eq!(forward.size(), [rows, columns]);
            assert_eq!(backward.size(), [height, width]);
            let made = |reads: &Reads| -> Vec<(usize, Read)> {
                let places = 0..reads.places();
                places.flat_map(|to| reads.of(to).iter().map(move |read| (to, *read))).collect()
            };
            let forward: Vec<_> =
                made(&forward).into_iter().map(|(to, read)| (to, read.tap, read.place)).collect();
            assert_eq!(forward.len(), expected.len());
            assert_eq!(BTreeSet::from_iter(forward), expected);
            let backward: Vec<_> =
                made(&backward).into_iter().map(|(to, read)| (read.place, read.tap, to)).collect();
            assert_eq!(backward.len(), expected.len());
            assert_eq!(BTreeSet::from_iter(backward), expected);
            let mut ranges = BTreeSet::new();
            for (ky, kx) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                for (oy, ox) in
                    sweep.outputs(0, ky).flat_map(|y| sweep.outputs(1, kx).map(move |x| (y, x)))
                {
                    let input = sweep.source(oy, ky) * width + sweep.source(ox, kx);
                    ranges.insert((oy * columns + ox, ky * kernel + kx, input));
                }
            }
            assert_eq!(ranges, expected);
        }
    }
}
