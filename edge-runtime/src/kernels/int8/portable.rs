//! Integer convolutions and sums for any processor, in loops of fixed length that compilers turn
//! into vector code.

use super::super::fp32::POSITIONS;
use super::{LANES, PreparedAdd, PreparedConv, PreparedDepthwise, WIDE_LANES};

/// `input` is the widened, padded input map.
pub(super) fn conv(conv: &PreparedConv, input: &[i16], output: &mut [u8]) {
    assert_eq!(conv.unit, 1);
    let positions = conv.corners.len();
    for group in 0..conv.bias.len() / LANES {
        let mut position = 0;
        while position + POSITIONS <= positions {
            conv_tile::<POSITIONS>(conv, input, group, position, output);
            position += POSITIONS;
        }
        while position < positions {
            conv_tile::<1>(conv, input, group, position, output);
            position += 1;
        }
    }
}

/// Computes `M` positions of one group of channels.
#[inline(always)]
fn conv_tile<const M: usize>(
    conv: &PreparedConv,
    input: &[i16],
    group: usize,
    position: usize,
    output: &mut [u8],
) {
    let (kernel, line, run) = (conv.geometry.kernel[0], conv.line(), conv.steps);
    let first = group * LANES;
    let mut bias = [0; LANES];
    bias.copy_from_slice(&conv.bias[first..first + LANES]);
    let mut sums = [bias; M];
    for row in 0..kernel {
        let mut pixels = [[].as_slice(); M];
        for (pixels, &corner) in pixels.iter_mut().zip(&conv.corners[position..]) {
            *pixels = &input[corner as usize + row * line..][..run];
        }
        let weights = &conv.weight[(group * kernel + row) * run * LANES..][..run * LANES];
        // Same length as the pixels, so that the loop needs no bounds checks.
        let weights = &weights.as_chunks::<LANES>().0[..run];
        for index in 0..run {
            let weights = weights[index];
            for m in 0..M {
                let pixel = i32::from(pixels[m][index]);
                for lane in 0..LANES {
                    let product = pixel * i32::from(weights[lane]);
                    sums[m][lane] = sums[m][lane].wrapping_add(product);
                }
            }
        }
    }
    let count = LANES.min(conv.out_channels - first);
    for (m, sums) in sums.into_iter().enumerate() {
        let start = (position + m) * conv.out_channels + first;
        for (lane, output) in output[start..start + count].iter_mut().enumerate() {
            *output = conv.rescale.byte(first + lane, sums[lane]);
        }
    }
}

/// `input` is the widened, padded input map.
pub(super) fn depthwise(conv: &PreparedDepthwise, input: &[i16], output: &mut [u8]) {
    let channels = conv.geometry.channels;
    for (&corner, output) in conv.corners.iter().zip(output.chunks_exact_mut(channels)) {
        for (group, output) in output.chunks_mut(WIDE_LANES).enumerate() {
            let first = group * WIDE_LANES;
            let mut sums = [0i32; WIDE_LANES];
            sums.copy_from_slice(&conv.bias[first..first + WIDE_LANES]);
            for (index, &tap) in conv.taps.iter().enumerate() {
                let start = corner as usize + tap as usize + first;
                let pixels = lanes(&input[start..]);
                let weights = lanes(&conv.weight[index * conv.pixel + first..]);
                // Fits in 16 bits: at most 255 * 128.
                let products: [i16; WIDE_LANES] =
                    std::array::from_fn(|lane| pixels[lane].wrapping_mul(weights[lane]));
                for (sum, product) in sums.iter_mut().zip(products) {
                    *sum = sum.wrapping_add(i32::from(product));
                }
            }
            for (lane, output) in output.iter_mut().enumerate() {
                *output = conv.rescale.byte(first + lane, sums[lane]);
            }
        }
    }
}

/// Looks the scaled sides up in tables.
pub(super) fn add(add: &PreparedAdd, left: &[u8], right: &[u8], output: &mut [u8]) {
    let [left_table, right_table] = &add.tables;
    for ((output, &left), &right) in output.iter_mut().zip(left).zip(right) {
        // Neither is above 2^28, so the sum fits.
        let sum = left_table[usize::from(left)] + right_table[usize::from(right)];
        *output = add.rescale.byte(0, sum);
    }
}

/// A copy of the first sixteen values, which lets the compiler keep them in registers.
#[inline(always)]
fn lanes(values: &[i16]) -> [i16; WIDE_LANES] {
    let mut lanes = [0; WIDE_LANES];
    lanes.copy_from_slice(&values[..WIDE_LANES]);
    lanes
}
