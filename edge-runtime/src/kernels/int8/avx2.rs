//! The integer kernels with AVX2: `vpmaddwd` multiplies 16 pairs of int16 and adds each two products
//! into int32, exactly. Factors here only shift right.

use std::arch::x86_64::*;

use super::{IntAdd, IntConv, IntDepthwise, LANES, Rescale, WIDE_LANES};

/// `input` is the widened, padded map.
#[target_feature(enable = "avx2")]
pub(super) fn conv(conv: &IntConv, input: &[i16], output: &mut [u8]) {
    let kernel = conv.geometry.kernel;
    let positions = conv.corners.len();
    let groups = conv.bias.len() / LANES;
    // What `conv_tile` reads beyond checked indexing; corners ascend.
    let last_corner = conv.corners.last().map_or(0, |&corner| corner as usize);
    assert_eq!(conv.unit, 2);
    assert!(last_corner + (kernel - 1) * conv.line() + 2 * conv.steps <= input.len());
    assert!(groups * kernel * conv.steps * 2 * LANES <= conv.weight.len());
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

/// `M` positions by `V` (1 or 2) groups of channels, all in registers.
///
/// # Safety
/// From each position's corner, `kernel` lines of `2 * pairs` elements must be inside `input`, and the
/// packed weights must hold `V` groups from `group` on.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn conv_tile<const M: usize, const V: usize>(
    conv: &IntConv,
    input: &[i16],
    group: usize,
    position: usize,
    output: &mut [u8],
) {
    let (kernel, line, pairs) = (conv.geometry.kernel, conv.line(), conv.steps);
    let first = group * LANES;
    let corners = &conv.corners[position..position + M];
    let mut sums = [[_mm256_setzero_si256(); V]; M];
    for v in 0..V {
        let bias = load8(&conv.bias, first + v * LANES);
        for sums in &mut sums {
            sums[v] = bias;
        }
    }
    for row in 0..kernel {
        // SAFETY: by this function's contract, these and the reads below stay inside.
        let (pixels, weights): ([*const i16; M], [*const i16; V]) = unsafe {
            (
                std::array::from_fn(|m| input.as_ptr().add(corners[m] as usize + row * line)),
                std::array::from_fn(|v| {
                    conv.weight.as_ptr().add(((group + v) * kernel + row) * pairs * 2 * LANES)
                }),
            )
        };
        for pair in 0..pairs {
            let mut weight = [_mm256_setzero_si256(); V];
            for v in 0..V {
                // SAFETY: as above.
                weight[v] = unsafe { _mm256_loadu_si256(weights[v].add(pair * 2 * LANES).cast()) };
            }
            for m in 0..M {
                // SAFETY: as above; two int16 as one int32, of any alignment.
                let pixel = unsafe { pixels[m].add(2 * pair).cast::<i32>().read_unaligned() };
                let pixel = _mm256_set1_epi32(pixel);
                for v in 0..V {
                    sums[m][v] = _mm256_add_epi32(sums[m][v], _mm256_madd_epi16(pixel, weight[v]));
                }
            }
        }
    }
    let count = (V * LANES).min(conv.out_channels - first);
    for m in 0..M {
        let mut scaled = [_mm256_setzero_si256(); 2];
        for v in 0..V {
            let channel = first + v * LANES;
            let multiplier = load8(&conv.rescale.multiplier, channel);
            let right = load8(&conv.rescale.right, channel);
            scaled[v] = rescale(sums[m][v], multiplier, right, &conv.rescale);
        }
        // Packing works on halves: [a0-3 b0-3 | a4-7 b4-7], put in order by 64-bit quarters.
        let words = _mm256_packs_epi32(scaled[0], scaled[1]);
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let start = (position + m) * conv.out_channels + first;
        store(to_bytes(words), &mut output[start..start + count]);
    }
}

/// Weights and what follows them in the order in which unpacking two vectors of 16 channels leaves
/// these: 0-3 and 8-11 in the low one, 4-7 and 12-15 in the high one.
#[derive(Debug)]
pub(super) struct DepthwiseWeights {
    /// `[pixel / 16][pair of taps][low, high][8][2]`
    weight: Vec<i16>,
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    right: Vec<i32>,
    /// From a corner to the two taps of each pair; where the last has but one, this one twice.
    pairs: Vec<[usize; 2]>,
}

impl DepthwiseWeights {
    /// `weight` is `[tap][pixel]`, `bias` is `[pixel]`, `offsets` are those of the taps.
    pub fn new(weight: &[i16], bias: &[i32], rescale: &Rescale, offsets: &[u32]) -> Self {
        const ORDER: [usize; WIDE_LANES] = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15];
        let (pixel, taps) = (bias.len(), offsets.len());
        let pairs = taps.div_ceil(2);
        let permuted = |values: &[i32]| {
            (0..pixel)
                .map(|c| values[c / WIDE_LANES * WIDE_LANES + ORDER[c % WIDE_LANES]])
                .collect()
        };
        let mut packed = Vec::with_capacity(pixel * pairs * 2);
        for group in (0..pixel).step_by(WIDE_LANES) {
            for pair in 0..pairs {
                for lane in ORDER {
                    for tap in [2 * pair, 2 * pair + 1] {
                        packed.push(if tap < taps {
                            weight[tap * pixel + group + lane]
                        } else {
                            0
                        });
                    }
                }
            }
        }
        Self {
            weight: packed,
            bias: permuted(bias),
            multiplier: permuted(&rescale.multiplier),
            right: permuted(&rescale.right),
            pairs: offsets
                .chunks(2)
                .map(|pair| [pair[0] as usize, pair[pair.len() - 1] as usize])
                .collect(),
        }
    }
}

/// `input` is the widened, padded map.
#[target_feature(enable = "avx2")]
pub(super) fn depthwise(
    conv: &IntDepthwise,
    weights: &DepthwiseWeights,
    input: &[i16],
    output: &mut [u8],
) {
    // What `depthwise_group` reads beyond checked indexing; corners and taps ascend.
    let last_corner = conv.corners.last().map_or(0, |&corner| corner as usize);
    let last_tap = conv.taps.last().map_or(0, |&tap| tap as usize);
    assert!(last_corner + last_tap + conv.pixel <= input.len());
    assert!(conv.pixel * weights.pairs.len() * 2 <= weights.weight.len());
    let channels = conv.geometry.channels;
    let width = conv.geometry.out_width();
    let rows = conv.corners.chunks_exact(width).zip(output.chunks_exact_mut(width * channels));
    for (corners, output) in rows {
        for first in (0..channels).step_by(WIDE_LANES) {
            // SAFETY: reads were checked above, and `first` is below `channels`. The number of pairs
            // is right where it is constant: 3x3 and 5x5 kernels, which so are unrolled.
            unsafe {
                match weights.pairs.len() {
                    5 => depthwise_group::<5>(conv, weights, input, corners, first, output),
                    13 => depthwise_group::<13>(conv, weights, input, corners, first, output),
                    _ => depthwise_group::<0>(conv, weights, input, corners, first, output),
                }
            }
        }
    }
}

/// Sixteen channels of a row of output positions.
///
/// # Safety
/// From each corner and tap on, one pixel must be inside `input`; `first` must be below the number of
/// channels; `PAIRS` must be the number of pairs, or 0 for any.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn depthwise_group<const PAIRS: usize>(
    conv: &IntDepthwise,
    weights: &DepthwiseWeights,
    input: &[i16],
    corners: &[u32],
    first: usize,
    output: &mut [u8],
) {
    let channels = conv.geometry.channels;
    let count = WIDE_LANES.min(channels - first);
    let pairs = if PAIRS == 0 { weights.pairs.len() } else { PAIRS };
    let bias = [load8(&weights.bias, first), load8(&weights.bias, first + LANES)];
    let multiplier = [first, first + LANES].map(|channel| load8(&weights.multiplier, channel));
    let right = [first, first + LANES].map(|channel| load8(&weights.right, channel));
    // SAFETY: there are `pairs` times 32 weights for each group of 16 channels.
    let weight = unsafe { weights.weight.as_ptr().add(first * pairs * 2) };
    for (x, &corner) in corners.iter().enumerate() {
        let [mut low, mut high] = bias;
        for pair in 0..pairs {
            // SAFETY: by this function's contract: a group of channels is part of a pixel.
            let (a, b, weight_low, weight_high) = unsafe {
                let pixels = input.as_ptr().add(corner as usize + first);
                let [tap_a, tap_b] = *weights.pairs.get_unchecked(pair);
                (
                    _mm256_loadu_si256(pixels.add(tap_a).cast()),
                    _mm256_loadu_si256(pixels.add(tap_b).cast()),
                    _mm256_loadu_si256(weight.add(pair * 32).cast()),
                    _mm256_loadu_si256(weight.add(pair * 32 + 16).cast()),
                )
            };
            let products = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), weight_low);
            low = _mm256_add_epi32(low, products);
            let products = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), weight_high);
            high = _mm256_add_epi32(high, products);
        }
        let low = rescale(low, multiplier[0], right[0], &conv.rescale);
        let high = rescale(high, multiplier[1], right[1], &conv.rescale);
        // Packing by halves undoes the order that unpacking made.
        let start = x * channels + first;
        store(to_bytes(_mm256_packs_epi32(low, high)), &mut output[start..start + count]);
    }
}

/// Sixteen sums at a time, the rest as `portable` does it.
#[target_feature(enable = "avx2")]
pub(super) fn add(add: &IntAdd, left: &[u8], right: &[u8], output: &mut [u8]) {
    let (left, last_left) = left.as_chunks::<WIDE_LANES>();
    let (right, last_right) = right.as_chunks::<WIDE_LANES>();
    let (output, last_output) = output.as_chunks_mut::<WIDE_LANES>();
    let [left_side, right_side] = add.sides.map(|(zero_point, factor)| {
        [i32::from(zero_point), factor.multiplier, -factor.shift].map(|x| _mm256_set1_epi32(x))
    });
    let multiplier = _mm256_set1_epi32(add.rescale.multiplier[0]);
    let shift = _mm256_set1_epi32(add.rescale.right[0]);
    for ((output, left), right) in output.iter_mut().zip(left).zip(right) {
        let mut scaled = [_mm256_setzero_si256(); 2];
        for (half, scaled) in scaled.iter_mut().enumerate() {
            let left = scaled_side(&left[half * LANES..][..LANES], left_side);
            let right = scaled_side(&right[half * LANES..][..LANES], right_side);
            *scaled = rescale(_mm256_add_epi32(left, right), multiplier, shift, &add.rescale);
        }
        let words = _mm256_packs_epi32(scaled[0], scaled[1]);
        store(to_bytes(_mm256_permute4x64_epi64::<0b11_01_10_00>(words)), output);
    }
    super::portable::add(add, last_left, last_right, last_output);
}

/// `(q - zero) << 20` times the side's factor; `bytes` are eight.
#[target_feature(enable = "avx2")]
#[inline]
fn scaled_side(bytes: &[u8], [zero_point, multiplier, right]: [__m256i; 3]) -> __m256i {
    assert!(bytes.len() == LANES);
    // SAFETY: eight bytes are there.
    let bytes = unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) };
    let centred = _mm256_sub_epi32(_mm256_cvtepu8_epi32(bytes), zero_point);
    rounding_shift(high_multiply(_mm256_slli_epi32::<20>(centred), multiplier), right)
}

/// Accumulators to values in the output's clamp.
#[target_feature(enable = "avx2")]
#[inline]
fn rescale(sums: __m256i, multiplier: __m256i, right: __m256i, to: &Rescale) -> __m256i {
    let scaled = rounding_shift(high_multiply(sums, multiplier), right);
    // Clamped before the zero point is added, which so cannot overflow.
    let low = _mm256_set1_epi32(to.low - to.zero_point);
    let high = _mm256_set1_epi32(to.high - to.zero_point);
    let clamped = _mm256_min_epi32(_mm256_max_epi32(scaled, low), high);
    _mm256_add_epi32(clamped, _mm256_set1_epi32(to.zero_point))
}

/// `(value * multiplier + 2^30) >> 31`; no multiplier is negative, so nothing saturates.
#[target_feature(enable = "avx2")]
#[inline]
fn high_multiply(value: __m256i, multiplier: __m256i) -> __m256i {
    let nudge = _mm256_set1_epi64x(1 << 30);
    let even = _mm256_add_epi64(_mm256_mul_epi32(value, multiplier), nudge);
    let (value, multiplier) = (_mm256_srli_epi64::<32>(value), _mm256_srli_epi64::<32>(multiplier));
    let odd = _mm256_add_epi64(_mm256_mul_epi32(value, multiplier), nudge);
    // Bits 31 to 62 of each, into the halves where they belong.
    let (even, odd) = (_mm256_srli_epi64::<31>(even), _mm256_slli_epi64::<1>(odd));
    _mm256_blend_epi32::<0b1010_1010>(even, odd)
}

/// `quantization::rounding_shift`, lane by lane.
#[target_feature(enable = "avx2")]
#[inline]
fn rounding_shift(value: __m256i, right: __m256i) -> __m256i {
    let one = _mm256_set1_epi32(1);
    let mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, right), one);
    let negative = _mm256_srai_epi32::<31>(value);
    let threshold = _mm256_sub_epi32(_mm256_srli_epi32::<1>(mask), negative);
    let above = _mm256_cmpgt_epi32(_mm256_and_si256(value, mask), threshold);
    _mm256_sub_epi32(_mm256_srav_epi32(value, right), above)
}

/// Sixteen words between 0 and 255 as bytes, in their order.
#[target_feature(enable = "avx2")]
#[inline]
fn to_bytes(words: __m256i) -> __m128i {
    _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words))
}

/// As many of the bytes as `output` takes, up to 16.
#[target_feature(enable = "avx2")]
#[inline]
fn store(bytes: __m128i, output: &mut [u8]) {
    match output.len() {
        // SAFETY: sixteen bytes are there.
        16 => unsafe { _mm_storeu_si128(output.as_mut_ptr().cast(), bytes) },
        // SAFETY: eight bytes are there.
        8 => unsafe { _mm_storel_epi64(output.as_mut_ptr().cast(), bytes) },
        count => {
            let mut all = [0u8; 16];
            // SAFETY: sixteen bytes are there.
            unsafe { _mm_storeu_si128(all.as_mut_ptr().cast(), bytes) };
            output.copy_from_slice(&all[..count]);
        }
    }
}

/// Eight values from `start` on.
#[target_feature(enable = "avx2")]
#[inline]
fn load8(values: &[i32], start: usize) -> __m256i {
    let values = &values[start..start + LANES];
    // SAFETY: eight values are there.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}
