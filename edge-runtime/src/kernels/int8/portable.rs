//! Integer convolutions and sums for any processor, in loops of fixed length that compilers turn into
//! vector code.

use super::{IntAdd, IntConv, IntDepthwise, LANES, WIDE_LANES};

/// `input` is the widened, padded map.
pub(super) fn conv(conv: &IntConv, input: &[i16], output: &mut [u8]) {
    assert_eq!(conv.unit, 1);
    let (kernel, line, run) = (conv.geometry.kernel, conv.line(), conv.steps);
    let groups = conv.bias.len() / LANES;
    let outputs = output.chunks_exact_mut(conv.out_channels);
    for (&corner, output) in conv.corners.iter().zip(outputs) {
        for group in 0..groups {
            let first = group * LANES;
            let mut sums = [0; LANES];
            sums.copy_from_slice(&conv.bias[first..first + LANES]);
            for row in 0..kernel {
                let pixels = &input[corner as usize + row * line..][..run];
                let weights = &conv.weight[(group * kernel + row) * run * LANES..][..run * LANES];
                for (&pixel, &weights) in pixels.iter().zip(weights.as_chunks::<LANES>().0) {
                    let products = weights.map(|weight| i32::from(pixel) * i32::from(weight));
                    for (sum, product) in sums.iter_mut().zip(products) {
                        *sum = sum.wrapping_add(product);
                    }
                }
            }
            let count = LANES.min(conv.out_channels - first);
            for (lane, output) in output[first..first + count].iter_mut().enumerate() {
                *output = conv.rescale.byte(first + lane, sums[lane]);
            }
        }
    }
}

/// `input` is the widened, padded map.
pub(super) fn depthwise(conv: &IntDepthwise, input: &[i16], output: &mut [u8]) {
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
                // Exact in 16 bits: at most 255 * 128.
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

/// By tables of the scaled sides.
pub(super) fn add(add: &IntAdd, left: &[u8], right: &[u8], output: &mut [u8]) {
    let [left_table, right_table] = &add.tables;
    for ((output, &left), &right) in output.iter_mut().zip(left).zip(right) {
        // Neither is above 2^28.
        let sum = left_table[usize::from(left)] + right_table[usize::from(right)];
        *output = add.rescale.byte(0, sum);
    }
}

/// The first sixteen values, copied, which lets compilers keep them in registers.
#[inline(always)]
fn lanes(values: &[i16]) -> [i16; WIDE_LANES] {
    let mut lanes = [0; WIDE_LANES];
    lanes.copy_from_slice(&values[..WIDE_LANES]);
    lanes
}
