//! The arithmetic of one layer each, on plain slices: `fp32` and `int8`. Maps are `[height][width]
//! [channels]` here, so that the channels of a pixel, which every layer sums over or runs along, lie
//! side by side. Kernels neither allocate nor know of models.
//!
//! Every kernel exists for any processor, and what pays also with AVX2, chosen by an [`Isa`]. The
//! integer kernels give the same bytes either way.

pub(crate) mod fp32;
pub(crate) mod int8;
mod isa;

pub(crate) use isa::Isa;

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
    /// Border on every side, below `kernel`.
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

    /// Elements of the padded map when each pixel takes `pixel` elements.
    pub fn padded_elements(&self, pixel: usize) -> usize {
        self.padded_height() * self.padded_width() * pixel
    }

    /// Where in that map the kernel's top left corner is, by output position.
    fn corners(&self, pixel: usize) -> Vec<u32> {
        let mut corners = Vec::with_capacity(self.out_positions());
        for y in 0..self.out_height() {
            for x in 0..self.out_width() {
                let corner = (y * self.padded_width() + x) * self.stride * pixel;
                // Padded maps are below 2^24 elements, and pixels of 16 make them 16 times as large at most.
                corners.push(corner as u32);
            }
        }
        corners
    }
}

/// Copies a map into the middle of one that is `padding` larger on every side, each pixel widened to
/// `pixel` elements, through `convert`; what is new is `T::default()`, a zero.
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

/// Weights `[out][channels][positions]`, as models have them, as `[out][positions][channels]`.
fn channels_last<W: Copy>(weight: &[W], channels: usize, positions: usize) -> Vec<W> {
    let mut permuted = Vec::with_capacity(weight.len());
    for matrix in weight.chunks_exact(channels * positions) {
        for position in 0..positions {
            permuted.extend((0..channels).map(|channel| matrix[channel * positions + position]));
        }
    }
    permuted
}
