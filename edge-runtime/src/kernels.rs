//! The arithmetic of single layers on slices, in `fp32` and `int8`. Maps are `[height][width]
//! [channels]` here: every layer sums over the channels of a pixel or runs along them, so they are
//! adjacent in memory. Kernels do not allocate and do not know about models.
//!
//! Every kernel has a portable version. Kernels that are faster with AVX2 have a second version,
//! chosen by an [`Isa`]. Both versions of an integer kernel compute the same bytes.

pub(crate) mod fp32;
pub(crate) mod int8;
mod isa;
pub(crate) mod window;

#[cfg(target_arch = "x86_64")]
pub(crate) use isa::Dot;
pub(crate) use isa::{Isa, for_each_isa};

/// Sizes of a convolution over rows and columns. Pairs are for rows and for columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Channels of the input.
    pub channels: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Sides of the kernel.
    pub kernel: [usize; 2],
    /// Steps of the kernel.
    pub stride: [usize; 2],
    /// Steps between two taps of the kernel.
    pub dilation: [usize; 2],
    /// Padding above and left.
    pub before: [usize; 2],
    /// Padding below and right.
    pub after: [usize; 2],
}

impl Geometry {
    pub fn padded_height(&self) -> usize {
        self.height + self.before[0] + self.after[0]
    }

    pub fn padded_width(&self) -> usize {
        self.width + self.before[1] + self.after[1]
    }

    pub fn is_padded(&self) -> bool {
        self.before != [0; 2] || self.after != [0; 2]
    }

    /// Rows or columns that the kernel covers, with the gaps between its taps.
    fn extent(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    pub fn out_height(&self) -> usize {
        (self.padded_height() - self.extent(0)) / self.stride[0] + 1
    }

    pub fn out_width(&self) -> usize {
        (self.padded_width() - self.extent(1)) / self.stride[1] + 1
    }

    pub fn out_positions(&self) -> usize {
        self.out_height() * self.out_width()
    }

    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
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
                let corner =
                    (y * self.stride[0] * self.padded_width() + x * self.stride[1]) * pixel;
                // Fits in 32 bits: padded maps have at most 2^24 elements, and widening each pixel
                // to 16 makes them at most 16 times as large.
                corners.push(corner as u32);
            }
        }
        corners
    }

    /// Offset of each tap from the kernel's corner in that map.
    fn tap_offsets(&self, pixel: usize) -> Vec<u32> {
        let ([rows, columns], [down, across]) = (self.kernel, self.dilation);
        (0..rows)
            .flat_map(|y| (0..columns).map(move |x| (y, x)))
            .map(|(y, x)| ((y * down * self.padded_width() + x * across) * pixel) as u32)
            .collect()
    }

    /// Bytes of the table of corners.
    pub fn corner_bytes(&self) -> u64 {
        self.out_positions() as u64 * size_of::<u32>() as u64
    }

    /// Bytes of the table of taps.
    pub fn tap_bytes(&self) -> u64 {
        self.taps() as u64 * size_of::<u32>() as u64
    }
}

/// Copies a map through `convert` into one with padding around it,
/// with each pixel widened to `pixel` elements. New elements are `T::default()`, a zero.
#[inline(always)]
fn pad<S: Copy, T: Copy + Default>(
    geometry: &Geometry,
    pixel: usize,
    input: &[S],
    output: &mut [T],
    convert: impl Fn(S) -> T,
) {
    let &Geometry { channels, width, before, .. } = geometry;
    let row = geometry.padded_width() * pixel;
    let (top, rest) = output.split_at_mut(before[0] * row);
    let (middle, bottom) = rest.split_at_mut(geometry.height * row);
    top.fill(T::default());
    bottom.fill(T::default());
    for (input, output) in input.chunks_exact(width * channels).zip(middle.chunks_exact_mut(row)) {
        let (left, rest) = output.split_at_mut(before[1] * pixel);
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
