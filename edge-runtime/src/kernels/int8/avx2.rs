//! The integer kernels with AVX2: `vpmaddwd` multiplies 16 pairs of int16 and adds each two
//! products into int32, exactly. With VNNI, `vpdpwssd` also adds them to a sum.

mod convolutions;
mod rescale;

use std::arch::x86_64::*;

pub(super) use self::convolutions::{avx_vnni, avx512_vnni, plain};
pub(super) use self::rescale::Factors;
use self::rescale::{Ends, FactorGroup, Pair};
use super::super::Isa;
use super::{LANES, PreparedAdd, PreparedProduct, PreparedSum, Rescale, WIDE_LANES};
use crate::model::{Requantization, Rounding};

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

/// Up to 16 channels from `first` on, in a row of pixels with `step` channels each.
struct Strided<'a> {
    output: &'a mut [u8],
    step: usize,
    first: usize,
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

/// Computes sixteen products at a time. `right` is repeated for each row of its length.
#[target_feature(enable = "avx2")]
pub(super) fn product(
    product: &PreparedProduct,
    factors: &Factors,
    left: &[u8],
    right: &[u8],
    output: &mut [u8],
) {
    let ends = Ends::new(&product.rescale);
    let factor = &factors.groups()[0];
    let zeros = product.zeros.map(i32::from);
    let (whole, last) = right.as_chunks::<WIDE_LANES>();
    let mut padded = [0; WIDE_LANES];
    padded[..last.len()].copy_from_slice(last);
    let rows = output.chunks_exact_mut(right.len()).zip(left.chunks_exact(right.len()));
    for (output, left) in rows {
        let (left, last_left) = left.as_chunks::<WIDE_LANES>();
        let (output, last_output) = output.as_chunks_mut::<WIDE_LANES>();
        for ((output, left), right) in output.iter_mut().zip(left).zip(whole) {
            *output = products(factor, ends, zeros, left, right);
        }
        if !last_left.is_empty() {
            let mut left = [0; WIDE_LANES];
            left[..last_left.len()].copy_from_slice(last_left);
            copy(&products(factor, ends, zeros, &left, &padded), last_output);
        }
    }
}

/// Sixteen scaled products.
#[target_feature(enable = "avx2")]
#[inline]
fn products(
    factor: &FactorGroup,
    ends: Ends,
    [left_zero, right_zero]: [i32; 2],
    left: &[u8; WIDE_LANES],
    right: &[u8; WIDE_LANES],
) -> [u8; WIDE_LANES] {
    let left = centred::<0>(left, left_zero);
    let right = centred::<0>(right, right_zero);
    let mut scaled = [_mm256_setzero_si256(); 2];
    for half in 0..2 {
        scaled[half] = factor.scale(_mm256_mullo_epi32(left[half], right[half]));
    }
    ends.bytes(scaled[0], scaled[1])
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
