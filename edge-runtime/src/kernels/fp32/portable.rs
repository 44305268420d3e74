//! Convolutions in fp32 for any processor, in loops of fixed length over output channels, which
//! compilers turn into vector code.

use super::{LANES, PreparedConv, PreparedDepthwise, clamp, multiply_add};

/// Whether every processor of the target has fused multiply-add; otherwise it may be a slow library
/// call.
const FMA: bool = cfg!(target_arch = "aarch64");

/// Positions that a convolution computes together. With more than one, LLVM 22 generates scalar
/// code for aarch64.
pub(in super::super) const POSITIONS: usize = if cfg!(target_arch = "aarch64") { 1 } else { 4 };

/// `input` is the padded input map.
pub(super) fn conv(conv: &PreparedConv, input: &[f32], output: &mut [f32]) {
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
    input: &[f32],
    group: usize,
    position: usize,
    output: &mut [f32],
) {
    let (kernel, line, run) = (conv.geometry.kernel[0], conv.line(), conv.run());
    let first = group * LANES;
    let mut bias = [0.0; LANES];
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
                let pixel = pixels[m][index];
                for lane in 0..LANES {
                    sums[m][lane] = multiply_add::<FMA>(pixel, weights[lane], sums[m][lane]);
                }
            }
        }
    }
    let count = LANES.min(conv.out_channels - first);
    for (m, sums) in sums.into_iter().enumerate() {
        let start = (position + m) * conv.out_channels + first;
        for (output, sum) in output[start..start + count].iter_mut().zip(sums) {
            *output = clamp(sum, conv.range);
        }
    }
}

/// `input` is the padded input map.
pub(super) fn depthwise(conv: &PreparedDepthwise, input: &[f32], output: &mut [f32]) {
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
