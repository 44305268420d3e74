//! The integer kernels with AVX2: `vpmaddwd` multiplies 16 pairs of int16 and adds each two
//! products into int32, exactly.

mod rescale;

use std::arch::x86_64::*;

pub(super) use self::rescale::Factors;
use self::rescale::{Ends, FactorGroup, Pair};
use super::super::Isa;
use super::{
    LANES, PreparedAdd, PreparedConv, PreparedDepthwise, PreparedSum, Rescale, WIDE_LANES,
};
use crate::model::{Requantization, Rounding};

/// `input` is the widened, padded input map.
#[target_feature(enable = "avx2")]
pub(super) fn conv(conv: &PreparedConv, factors: &Factors, input: &[i16], output: &mut [u8]) {
    let ends = Ends::new(&conv.rescale);
    let factors = factors.groups();
    let kernel = conv.geometry.kernel[0];
    let positions = conv.corners.len();
    let groups = conv.bias.len() / LANES;
    // Checks the unchecked reads of `conv_tile`: corners ascend, so the last one is enough.
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
                unsafe { conv_tile::<4, 2>(conv, factors, ends, input, group, position, output) };
                position += 4;
            }
            while position < positions {
                // SAFETY: as above.
                unsafe { conv_tile::<1, 2>(conv, factors, ends, input, group, position, output) };
                position += 1;
            }
            group += 2;
        } else {
            while position + 8 <= positions {
                // SAFETY: reads were checked above; one group is left.
                unsafe { conv_tile::<8, 1>(conv, factors, ends, input, group, position, output) };
                position += 8;
            }
            while position + 4 <= positions {
                // SAFETY: as above.
                unsafe { conv_tile::<4, 1>(conv, factors, ends, input, group, position, output) };
                position += 4;
            }
            while position < positions {
                // SAFETY: as above.
                unsafe { conv_tile::<1, 1>(conv, factors, ends, input, group, position, output) };
                position += 1;
            }
            group += 1;
        }
    }
}

/// Computes `M` positions by `V` (1 or 2) groups of channels, all in registers.
///
/// # Safety
/// From each position's corner, `kernel` lines of `2 * pairs` elements must be inside `input`, and
/// the packed weights must hold `V` groups from `group` on.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn conv_tile<const M: usize, const V: usize>(
    conv: &PreparedConv,
    factors: &[FactorGroup],
    ends: Ends,
    input: &[i16],
    group: usize,
    position: usize,
    output: &mut [u8],
) {
    let (kernel, line, pairs) = (conv.geometry.kernel[0], conv.line(), conv.steps);
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
                // SAFETY: as above. Reads two int16 as one unaligned int32.
                let pixel = unsafe { pixels[m].add(2 * pair).cast::<i32>().read_unaligned() };
                let pixel = _mm256_set1_epi32(pixel);
                for v in 0..V {
                    sums[m][v] = _mm256_add_epi32(sums[m][v], _mm256_madd_epi16(pixel, weight[v]));
                }
            }
        }
    }
    let factors = &factors[group..group + V];
    let mut bytes = [[0; 4 * LANES]; 2];
    for (quad, bytes) in bytes.iter_mut().enumerate().take((M * V).div_ceil(4)) {
        let mut scaled = [_mm256_setzero_si256(); 4];
        for (index, scaled) in scaled.iter_mut().enumerate() {
            let (m, v) = ((quad * 4 + index) / V, (quad * 4 + index) % V);
            if m < M {
                *scaled = factors[v].scale(sums[m][v]);
            }
        }
        ends.store(scaled, bytes);
    }
    let count = (V * LANES).min(conv.out_channels - first);
    for (m, bytes) in bytes.as_flattened().chunks_exact(V * LANES).take(M).enumerate() {
        let start = (position + m) * conv.out_channels + first;
        copy(bytes, &mut output[start..start + count]);
    }
}

/// A depthwise convolution with its weights, biases and factors in the order that results from
/// unpacking two vectors of 16 channels: channels 0-3 and 8-11 in the low vector, 4-7 and 12-15 in
/// the high one.
#[derive(Debug)]
pub(super) struct Depthwise {
    /// `[pixel / 16][pair of taps][low, high][8][2]`
    weight: Vec<i16>,
    bias: Vec<i32>,
    factors: Factors,
    /// Offsets of the two taps of each pair from the kernel's corner. A single last tap is listed
    /// twice.
    pairs: Vec<[u32; 2]>,
}

impl Depthwise {
    /// `weight` is `[tap][pixel]`, `bias` is `[pixel]`, `offsets` are those of the taps. `None` if
    /// the processor has no AVX2 or a factor is not supported.
    pub fn new(
        isa: Isa,
        weight: &[i16],
        bias: &[i32],
        rescale: &Rescale,
        largest: &[i32],
        offsets: &[u32],
    ) -> Option<Self> {
        const ORDER: [usize; WIDE_LANES] = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15];
        let (pixel, taps) = (bias.len(), offsets.len());
        let pairs = taps.div_ceil(2);
        let source = |lane: usize| lane / WIDE_LANES * WIDE_LANES + ORDER[lane % WIDE_LANES];
        let factor =
            |channel: usize| rescale.factors.get(channel).copied().unwrap_or(Requantization::ZERO);
        let factors: Vec<_> = (0..pixel).map(|lane| factor(source(lane))).collect();
        let largest: Vec<_> =
            (0..pixel).map(|lane| largest.get(source(lane)).copied().unwrap_or(0)).collect();
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
        Some(Self {
            weight: packed,
            bias: (0..pixel).map(|lane| bias[source(lane)]).collect(),
            factors: Factors::new(isa, rescale.rounding, &factors, &largest)?,
            pairs: offsets.chunks(2).map(|pair| [pair[0], pair[pair.len() - 1]]).collect(),
        })
    }
}

/// `input` is the widened, padded input map.
#[target_feature(enable = "avx2")]
pub(super) fn depthwise(
    conv: &PreparedDepthwise,
    packed: &Depthwise,
    input: &[i16],
    output: &mut [u8],
) {
    // Checks the unchecked reads of `depthwise_group`: corners and taps ascend, so the last ones
    // are enough.
    let last_corner = conv.corners.last().map_or(0, |&corner| corner as usize);
    let last_tap = conv.taps.last().map_or(0, |&tap| tap as usize);
    assert!(last_corner + last_tap + conv.pixel <= input.len());
    assert!(conv.pixel * packed.pairs.len() * 2 <= packed.weight.len());
    let ends = Ends::new(&conv.rescale);
    let channels = conv.geometry.channels;
    let width = conv.geometry.out_width();
    let rows = conv.corners.chunks_exact(width).zip(output.chunks_exact_mut(width * channels));
    for (corners, output) in rows {
        for first in (0..channels).step_by(WIDE_LANES) {
            let output = Strided { output: &mut *output, step: channels, first };
            // SAFETY: reads were checked above, and `first` is below `channels`. `PAIRS` is 0 or
            // equals the number of pairs. It is not 0 for 3x3 and 5x5 kernels, so that their loops
            // are unrolled.
            unsafe {
                match packed.pairs.len() {
                    5 => depthwise_group::<5>(packed, ends, input, corners, output),
                    13 => depthwise_group::<13>(packed, ends, input, corners, output),
                    _ => depthwise_group::<0>(packed, ends, input, corners, output),
                }
            }
        }
    }
}

/// Up to 16 channels from `first` on, in a row of pixels with `step` channels each.
struct Strided<'a> {
    output: &'a mut [u8],
    step: usize,
    first: usize,
}

/// Computes sixteen channels of a row of output positions.
///
/// # Safety
/// At each tap of each corner, one pixel must be inside `input`; `first` must be below the number
/// of channels; `PAIRS` must be the number of pairs, or 0 for any.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn depthwise_group<const PAIRS: usize>(
    packed: &Depthwise,
    ends: Ends,
    input: &[i16],
    corners: &[u32],
    Strided { output, step, first }: Strided,
) {
    let count = WIDE_LANES.min(step - first);
    let pairs = if PAIRS == 0 { packed.pairs.len() } else { PAIRS };
    let bias = [load8(&packed.bias, first), load8(&packed.bias, first + LANES)];
    let factors = &packed.factors.groups()[first / LANES..][..2];
    // SAFETY: each group of 16 channels has `pairs` times 32 weights.
    let weight = unsafe { packed.weight.as_ptr().add(first * pairs * 2) };
    for (&corner, output) in corners.iter().zip(output.chunks_exact_mut(step)) {
        let [mut low, mut high] = bias;
        for pair in 0..pairs {
            // SAFETY: by this function's contract; a group of channels lies within a pixel.
            let (a, b, weight_low, weight_high) = unsafe {
                let pixels = input.as_ptr().add(corner as usize + first);
                let [tap_a, tap_b] = packed.pairs.get_unchecked(pair).map(|tap| tap as usize);
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
        let bytes = ends.bytes(factors[0].scale(low), factors[1].scale(high));
        copy(&bytes, &mut output[first..first + count]);
    }
}

/// An addition with the factors of its sides and sum.
#[derive(Debug)]
pub(super) struct Add {
    zero_points: [i32; 2],
    sides: [FactorGroup; 2],
    sum: FactorGroup,
}

impl Add {
    /// `None` if the processor has no AVX2 or a factor is not supported.
    pub fn new(isa: Isa, sides: [(u8, Requantization); 2], sum: Requantization) -> Option<Self> {
        const LARGEST_SIDE: i32 = 255 << 20;
        let group = |factor, largest| {
            let factors = Factors::new(isa, Rounding::Twice, &[factor; LANES], &[largest; LANES])?;
            factors.groups().first().cloned()
        };
        let [(left_zero, left), (right_zero, right)] = sides;
        Some(Self {
            zero_points: [left_zero, right_zero].map(i32::from),
            sides: [group(left, LARGEST_SIDE)?, group(right, LARGEST_SIDE)?],
            sum: group(sum, 2 * LARGEST_SIDE)?,
        })
    }
}

/// Computes sixteen sums at a time, and the rest as `portable` does.
#[target_feature(enable = "avx2")]
pub(super) fn add(add: &PreparedAdd, factors: &Add, left: &[u8], right: &[u8], output: &mut [u8]) {
    let ends = Ends::new(&add.rescale);
    let (left, last_left) = left.as_chunks::<WIDE_LANES>();
    let (right, last_right) = right.as_chunks::<WIDE_LANES>();
    let (output, last_output) = output.as_chunks_mut::<WIDE_LANES>();
    let [left_zero, right_zero] = factors.zero_points;
    let [left_factor, right_factor] = &factors.sides;
    for ((output, left), right) in output.iter_mut().zip(left).zip(right) {
        let left = centred::<20>(left, left_zero);
        let right = centred::<20>(right, right_zero);
        let mut scaled = [_mm256_setzero_si256(); 2];
        for half in 0..2 {
            let sum =
                _mm256_add_epi32(left_factor.scale(left[half]), right_factor.scale(right[half]));
            scaled[half] = factors.sum.scale(sum);
        }
        // `centred` swapped the middle quarters; packing by halves swaps them back.
        *output = ends.bytes(scaled[0], scaled[1]);
    }
    super::portable::add(add, last_left, last_right, last_output);
}

/// Computes sixteen sums at a time, and the rest as the definition does. The scaled sums fit in 32
/// bits.
#[target_feature(enable = "avx2")]
pub(super) fn sum(sum: &PreparedSum, left: &[u8], right: &[u8], output: &mut [u8]) {
    let ends = Ends::new(&sum.ends);
    let pair = Pair::new(sum.multipliers, sum.shift);
    let (left, last_left) = left.as_chunks::<WIDE_LANES>();
    let (right, last_right) = right.as_chunks::<WIDE_LANES>();
    let (output, last_output) = output.as_chunks_mut::<WIDE_LANES>();
    let [left_zero, right_zero] = sum.zeros.map(i32::from);
    for ((output, left), right) in output.iter_mut().zip(left).zip(right) {
        let left = centred::<0>(left, left_zero);
        let right = centred::<0>(right, right_zero);
        let [low, high] = [0, 1].map(|half| pair.scale(left[half], right[half]));
        *output = ends.bytes(low, high);
    }
    for ((output, &left), &right) in last_output.iter_mut().zip(last_left).zip(last_right) {
        *output = sum.byte(left, right);
    }
}

/// `(q - zero) << SHIFT` of 16 bytes, in the order that `Ends::bytes` corrects: 0-3 and 8-11, then
/// 4-7 and 12-15.
#[target_feature(enable = "avx2")]
#[inline]
fn centred<const SHIFT: i32>(bytes: &[u8; WIDE_LANES], zero_point: i32) -> [__m256i; 2] {
    // SAFETY: the slice has sixteen bytes.
    let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    let bytes = _mm_shuffle_epi32::<0b11_01_10_00>(bytes);
    let halves =
        [_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes))];
    let mut centred = [_mm256_setzero_si256(); 2];
    for half in 0..2 {
        let value = _mm256_sub_epi32(halves[half], _mm256_set1_epi32(zero_point));
        centred[half] = _mm256_slli_epi32::<SHIFT>(value);
    }
    centred
}

/// Copies as many of the first bytes as `output` takes. Whole and half vectors need no call.
#[inline]
fn copy(bytes: &[u8], output: &mut [u8]) {
    match output.len() {
        WIDE_LANES => output.copy_from_slice(&bytes[..WIDE_LANES]),
        LANES => output.copy_from_slice(&bytes[..LANES]),
        _ => {
            let (mut bytes, mut output) = (bytes, output);
            for size in [8, 4, 2, 1] {
                if output.len() & size != 0 {
                    let (head, rest) = output.split_at_mut(size);
                    head.copy_from_slice(&bytes[..size]);
                    (bytes, output) = (&bytes[size..], rest);
                }
            }
        }
    }
}

/// Loads eight values from `start` on.
#[target_feature(enable = "avx2")]
#[inline]
fn load8(values: &[i32], start: usize) -> __m256i {
    let values = &values[start..start + LANES];
    // SAFETY: the slice has eight values.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}
