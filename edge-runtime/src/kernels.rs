//! The arithmetic of single layers on slices, in `fp32` and `int8`. Maps are `[height][width]
//! [channels]` here: every layer sums over the channels of a pixel or runs along them, so they are
//! adjacent in memory. Kernels do not allocate and do not know about models.
//!
//! Every kernel has a portable version. Kernels that are faster with AVX2 have a second version,
//! chosen by an [`Isa`]. Both versions of an integer kernel compute the same bytes.

pub(crate) mod fp32;
pub(crate) mod int8;
mod isa;

pub(crate) use isa::{Isa, for_each_isa};

/// Sizes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Channels of the input.
    pub channels: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step of the kernel.
    pub stride: usize,
    /// Padding on every side, below `kernel`.
    pub padding: usize,
}

impl Geometry {
    pub fn padded_height(&self) -> usize {
        self.height + 2 * self.padding
    }

    pub fn padded_width(&self) -> usize {
        self.width + 2 * self.padding
    }

    pub fn out_height(&self) -> usize {
        (self.padded_height() - self.kernel) / self.stride + 1
    }

    pub fn out_width(&self) -> usize {
        (self.padded_width() - self.kernel) / self.stride + 1
    }

    pub fn out_positions(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Elements of the padded map with `pixel` elements per pixel.
    pub fn padded_elements(&self, pixel: usize) -> usize {
        self.padded_height() * self.padded_width() * pixel
    }

    /// For each output position, the index of the kernel's top left corner in that map.
    fn corners(&self, pixel: usize) -> Vec<u32> {
        let mut corners = Vec::with_capacity(self.out_positions());
        for y in 0..self.out_height() {
            for x in 0..self.out_width() {
                let corner = (y * self.padded_width() + x) * self.stride * pixel;
                // Fits in 32 bits: padded maps have at most 2^24 elements, and widening each pixel
                // to 16 makes them at most 16 times as large.
                corners.push(corner as u32);
            }
        }
        corners
    }
}

/// Copies a map through `convert` into the middle of one that is `padding` larger on every side,
/// with each pixel widened to `pixel` elements. New elements are `T::default()`, a zero.
#[inline(always)]
fn pad<S: Copy, T: Copy + Default>(
    geometry: &Geometry,
    pixel: usize,
    input: &[S],
    output: &mut [T],
    convert: impl Fn(S) -> T,
) {
    let &Geometry { channels, width, padding, .. } = geometry;
    let row = geometry.padded_width() * pixel;
    let (top, rest) = output.split_at_mut(padding * row);
    let (middle, bottom) = rest.split_at_mut(geometry.height * row);
    top.fill(T::default());
    bottom.fill(T::default());
    for (input, output) in input.chunks_exact(width * channels).zip(middle.chunks_exact_mut(row)) {
        let (left, rest) = output.split_at_mut(padding * pixel);
        let (middle, right) = rest.split_at_mut(width * pixel);
        left.fill(T::default());
        right.fill(T::default());
        if pixel == channels {
            for (output, &input) in middle.iter_mut().zip(input) {
                *output = convert(input);
            }
        } else {
            for (input, output) in input.chunks_exact(channels).zip(middle.chunks_exact_mut(pixel))
            {
                let (output, rest) = output.split_at_mut(channels);
                for (output, &input) in output.iter_mut().zip(input) {
                    *output = convert(input);
                }
                rest.fill(T::default());
            }
        }
    }
}

/// Reorders weights from `[out][channels][positions]`, as in models, to
/// `[out][positions][channels]`.
fn channels_last<W: Copy>(weight: &[W], channels: usize, positions: usize) -> Vec<W> {
    let mut permuted = Vec::with_capacity(weight.len());
    for matrix in weight.chunks_exact(channels * positions) {
        for position in 0..positions {
            permuted.extend((0..channels).map(|channel| matrix[channel * positions + position]));
        }
    }
    permuted
}
