//! Convolutions in fp32 for any processor. The loops over output channels are what compilers turn into
//! vector code; sums go through memory, which is slower than registers and works everywhere.

use super::{FloatConv, FloatDepthwise, LANES, clamp, multiply_add};

/// Whether fused multiplication is part of the processor; elsewhere it may be a slow call.
const FMA: bool = cfg!(target_arch = "aarch64");

/// `input` is the padded map.
pub(super) fn conv(conv: &FloatConv, input: &[f32], output: &mut [f32]) {
    let (kernel, line, run) = (conv.geometry.kernel, conv.line(), conv.run());
    let groups = conv.bias.len() / LANES;
    let outputs = output.chunks_exact_mut(conv.out_channels);
    for (&corner, output) in conv.corners.iter().zip(outputs) {
        for group in 0..groups {
            let first = group * LANES;
            let mut sums = [0.0f32; LANES];
            sums.copy_from_slice(&conv.bias[first..first + LANES]);
            for row in 0..kernel {
                let pixels = &input[corner as usize + row * line..][..run];
                let weights = &conv.weight[(group * kernel + row) * run * LANES..][..run * LANES];
                for (&pixel, weights) in pixels.iter().zip(weights.as_chunks::<LANES>().0) {
                    for lane in 0..LANES {
                        sums[lane] = multiply_add::<FMA>(pixel, weights[lane], sums[lane]);
                    }
                }
            }
            let count = LANES.min(conv.out_channels - first);
            for (output, sum) in output[first..first + count].iter_mut().zip(sums) {
                *output = clamp(sum, conv.range);
            }
        }
    }
}

/// `input` is the padded map.
pub(super) fn depthwise(conv: &FloatDepthwise, input: &[f32], output: &mut [f32]) {
    let channels = conv.geometry.channels;
    for (&corner, output) in conv.corners.iter().zip(output.chunks_exact_mut(channels)) {
        for (group, output) in output.chunks_mut(LANES).enumerate() {
            let first = group * LANES;
            let mut sums = [0.0f32; LANES];
            sums.copy_from_slice(&conv.bias[first..first + LANES]);
            let weights = conv.weight[first..].chunks(conv.pixel);
            for (&tap, weights) in conv.taps.iter().zip(weights) {
                let start = corner as usize + tap as usize + first;
                let pixels = &input[start..start + LANES];
                let weights = &weights[..LANES];
                for lane in 0..LANES {
                    sums[lane] = multiply_add::<FMA>(pixels[lane], weights[lane], sums[lane]);
                }
            }
            for (output, sum) in output.iter_mut().zip(sums) {
                *output = clamp(sum, conv.range);
            }
        }
    }
}
