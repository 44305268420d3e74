//! Convolutions in fp32 with AVX2 and FMA.

use std::arch::x86_64::*;

use super::{LANES, PreparedConv, PreparedDepthwise};

/// `input` is the padded input map.
#[target_feature(enable = "avx2,fma")]
pub(super) fn conv(conv: &PreparedConv, input: &[f32], output: &mut [f32]) {
    let (kernel, run) = (conv.geometry.kernel[0], conv.run());
    let positions = conv.corners.len();
    let groups = conv.bias.len() / LANES;
    // Checks the unchecked reads of `conv_tile`: corners ascend, so the last one is enough.
    let last_corner = conv.corners.last().map_or(0, |&corner| corner as usize);
    assert!(last_corner + (kernel - 1) * conv.line() + run <= input.len());
    assert!(groups * kernel * run * LANES <= conv.weight.len());
    let mut group = 0;
    while group < groups {
        let mut position = 0;
        if group + 1 < groups {
            while position + 4 <= positions {
                // SAFETY: reads were checked above; two groups are left.
                unsafe { conv_tile::<4, 2>(conv, input, group, position, output) };
                position += 4;
            }
            while position < positions {
                // SAFETY: as above.
                unsafe { conv_tile::<1, 2>(conv, input, group, position, output) };
                position += 1;
            }
            group += 2;
        } else {
            while position + 8 <= positions {
                // SAFETY: reads were checked above; one group is left.
                unsafe { conv_tile::<8, 1>(conv, input, group, position, output) };
                position += 8;
            }
            while position + 4 <= positions {
                // SAFETY: as above.
                unsafe { conv_tile::<4, 1>(conv, input, group, position, output) };
                position += 4;
            }
            while position < positions {
                // SAFETY: as above.
                unsafe { conv_tile::<1, 1>(conv, input, group, position, output) };
                position += 1;
            }
            group += 1;
        }
    }
}

/// Computes `M` positions by `V` groups of channels, all in registers.
///
/// # Safety
/// From each position's corner, `kernel` lines of `run` elements must be inside `input`, and the
/// packed weights must hold `V` groups from `group` on.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn conv_tile<const M: usize, const V: usize>(
    conv: &PreparedConv,
    input: &[f32],
    group: usize,
    position: usize,
    output: &mut [f32],
) {
    let (kernel, line, run) = (conv.geometry.kernel[0], conv.line(), conv.run());
    let first = group * LANES;
    let corners = &conv.corners[position..position + M];
    let mut sums = [[_mm256_setzero_ps(); V]; M];
    for v in 0..V {
        let bias = load8(&conv.bias, first + v * LANES);
        for sums in &mut sums {
            sums[v] = bias;
        }
    }
    for row in 0..kernel {
        // SAFETY: by this function's contract, these and the reads below stay inside.
        let (pixels, weights): ([*const f32; M], [*const f32; V]) = unsafe {
            (
                std::array::from_fn(|m| input.as_ptr().add(corners[m] as usize + row * line)),
                std::array::from_fn(|v| {
                    conv.weight.as_ptr().add(((group + v) * kernel + row) * run * LANES)
                }),
            )
        };
        for index in 0..run {
            let mut weight = [_mm256_setzero_ps(); V];
            for v in 0..V {
                // SAFETY: as above.
                weight[v] = unsafe { _mm256_loadu_ps(weights[v].add(index * LANES)) };
            }
            for m in 0..M {
                // SAFETY: as above.
                let pixel = _mm256_set1_ps(unsafe { *pixels[m].add(index) });
                for v in 0..V {
                    sums[m][v] = _mm256_fmadd_ps(pixel, weight[v], sums[m][v]);
                }
            }
        }
    }
    for (m, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            let channel = first + v * LANES;
            let count = LANES.min(conv.out_channels - channel);
            let start = (position + m) * conv.out_channels + channel;
            store(clamp(sum, conv.range), &mut output[start..start + count]);
        }
    }
}

/// `input` is the padded input map.
#[target_feature(enable = "avx2,fma")]
pub(super) fn depthwise(conv: &PreparedDepthwise, input: &[f32], output: &mut [f32]) {
    let channels = conv.geometry.channels;
    // Checks the unchecked reads below: corners and taps ascend, so the last ones are enough.
    let last_corner = conv.corners.last().map_or(0, |&corner| corner as usize);
    let last_tap = conv.taps.last().map_or(0, |&tap| tap as usize);
    assert!(last_corner + last_tap + conv.pixel <= input.len());
    assert!(conv.taps.len() * conv.pixel <= conv.weight.len());
    for (&corner, output) in conv.corners.iter().zip(output.chunks_exact_mut(channels)) {
        for (group, output) in output.chunks_mut(LANES).enumerate() {
            let first = group * LANES;
            let mut sums = load8(&conv.bias, first);
            for (index, &tap) in conv.taps.iter().enumerate() {
                // SAFETY: `first` is below `pixel`, so with a whole group of channels both reads
                // stay inside, as checked above.
                let (pixels, weights) = unsafe {
                    let start = corner as usize + tap as usize + first;
                    (
                        _mm256_loadu_ps(input.as_ptr().add(start)),
                        _mm256_loadu_ps(conv.weight.as_ptr().add(index * conv.pixel + first)),
                    )
                };
                sums = _mm256_fmadd_ps(pixels, weights, sums);
            }
            store(clamp(sums, conv.range), output);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn clamp(values: __m256, (low, high): (f32, f32)) -> __m256 {
    _mm256_min_ps(_mm256_max_ps(values, _mm256_set1_ps(low)), _mm256_set1_ps(high))
}

/// Stores as many of the values as `output` takes, up to 8.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn store(values: __m256, output: &mut [f32]) {
    if output.len() == LANES {
        // SAFETY: the slice has eight values.
        unsafe { _mm256_storeu_ps(output.as_mut_ptr(), values) };
    } else {
        let mut all = [0.0; LANES];
        // SAFETY: the slice has eight values.
        unsafe { _mm256_storeu_ps(all.as_mut_ptr(), values) };
        output.copy_from_slice(&all[..output.len()]);
    }
}

/// Loads eight values from `start` on.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn load8(values: &[f32], start: usize) -> __m256 {
    let values = &values[start..start + LANES];
    // SAFETY: the slice has eight values.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}
