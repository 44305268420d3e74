//! Integer convolutions and sums for any processor, in loops of fixed length that compilers turn into
//! vector code.

use super::super::isa::for_each_isa;
use super::{IntAdd, IntConv, IntDepthwise, LANES, WIDE_LANES};

for_each_isa! {
    /// `input` is the widened, padded map.
    fn conv(conv: &IntConv, input: &[i16], output: &mut [u8]) = conv_body
}

#[inline(always)]
fn conv_body<const FMA: bool>(conv: &IntConv, input: &[i16], output: &mut [u8]) {
    let positions = conv.corners.len();
    for group in 0..conv.bias.len() / LANES {
        let mut position = 0;
        while position + 4 <= positions {
            conv_tile::<4>(conv, input, group, position, output);
            position += 4;
        }
        while position < positions {
            conv_tile::<1>(conv, input, group, position, output);
            position += 1;
        }
    }
}

/// `M` positions by one group of channels.
#[inline(always)]
fn conv_tile<const M: usize>(
    conv: &IntConv,
    input: &[i16],
    group: usize,
    position: usize,
    output: &mut [u8],
) {
    let kernel = conv.geometry.kernel;
    let (line, pairs) = (conv.line(), conv.pairs);
    let first = group * LANES;
    let mut bias = [0; LANES];
    bias.copy_from_slice(&conv.bias[first..first + LANES]);
    let mut sums = [bias; M];
    for row in 0..kernel {
        let pixels: [&[[i16; 2]]; M] = std::array::from_fn(|m| {
            let start = conv.corners[position + m] as usize + row * line;
            input[start..start + 2 * pairs].as_chunks().0
        });
        let start = (group * kernel + row) * pairs * LANES * 2;
        let weights = conv.weight[start..start + pairs * LANES * 2].as_chunks::<{ LANES * 2 }>().0;
        for (pair, weights) in weights.iter().enumerate() {
            for m in 0..M {
                let [a, b] = pixels[m][pair].map(i32::from);
                for lane in 0..LANES {
                    let products =
                        a * i32::from(weights[2 * lane]) + b * i32::from(weights[2 * lane + 1]);
                    sums[m][lane] = sums[m][lane].wrapping_add(products);
                }
            }
        }
    }
    let count = LANES.min(conv.out_channels - first);
    for (m, sums) in sums.iter().enumerate() {
        let start = (position + m) * conv.out_channels + first;
        for (lane, output) in output[start..start + count].iter_mut().enumerate() {
            *output = conv.rescale.byte(first + lane, sums[lane]);
        }
    }
}

for_each_isa! {
    /// `input` is the widened, padded map.
    fn depthwise(conv: &IntDepthwise, input: &[i16], output: &mut [u8]) = depthwise_body
}

#[inline(always)]
fn depthwise_body<const FMA: bool>(conv: &IntDepthwise, input: &[i16], output: &mut [u8]) {
    let channels = conv.geometry.channels;
    for (&corner, output) in conv.corners.iter().zip(output.chunks_exact_mut(channels)) {
        for (group, output) in output.chunks_mut(WIDE_LANES).enumerate() {
            let first = group * WIDE_LANES;
            let mut sums = [0i32; WIDE_LANES];
            sums.copy_from_slice(&conv.bias[first..first + WIDE_LANES]);
            let weights = conv.weight[first..].chunks(conv.pixel);
            for (&tap, weights) in conv.taps.iter().zip(weights) {
                let start = corner as usize + tap as usize + first;
                let pixels = &input[start..start + WIDE_LANES];
                let weights = &weights[..WIDE_LANES];
                for lane in 0..WIDE_LANES {
                    let product = i32::from(pixels[lane]) * i32::from(weights[lane]);
                    sums[lane] = sums[lane].wrapping_add(product);
                }
            }
            for (lane, output) in output.iter_mut().enumerate() {
                *output = conv.rescale.byte(first + lane, sums[lane]);
            }
        }
    }
}

/// By tables of the scaled sides.
pub(super) fn add(add: &IntAdd, left: &[u8], right: &[u8], output: &mut [u8]) {
    let [left_table, right_table] = &add.tables;
    for ((output, &left), &right) in output.iter_mut().zip(left).zip(right) {
        // Neither is above 2^28.
        let sum = left_table[usize::from(left)] + right_table[usize::from(right)];
        *output = add.rescale.byte(0, sum);
    }
}
