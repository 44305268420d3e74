//! Convolutions, compiled once for each way to add products of pairs to sums. All give the same
//! sums.

use std::arch::x86_64::*;

use super::super::{LANES, PreparedConv, PreparedDepthwise, WIDE_LANES};
use super::rescale::{Ends, FactorGroup, Factors};
use super::{Depthwise, Strided, copy, load8};

/// `sum + a[0] * b[0] + a[1] * b[1]` in each lane of 32 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn multiply_add(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
}

/// The same in one instruction.
#[target_feature(enable = "avxvnni")]
#[inline]
fn dot_avx(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    _mm256_dpwssd_avx_epi32(sum, a, b)
}

/// The same in one instruction.
#[target_feature(enable = "avx512vnni,avx512vl")]
#[inline]
fn dot_avx512(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    _mm256_dpwssd_epi32(sum, a, b)
}

/// The first group of channels and the first position that are computed together. From the corner
/// of each position, `kernel` lines of `2 * steps` elements must be inside the input, and the
/// packed weights must hold all of the groups.
#[derive(Clone, Copy)]
struct Tile {
    group: usize,
    position: usize,
}

/// Scales and stores the sums of `M` positions by `V` groups of channels.
#[target_feature(enable = "avx2")]
#[inline]
fn store<const M: usize, const V: usize>(
    conv: &PreparedConv,
    factors: &[FactorGroup],
    ends: Ends,
    sums: [[__m256i; V]; M],
    Tile { group, position }: Tile,
    output: &mut [u8],
) {
    let first = group * LANES;
    let factors = &factors[group..group + V];
    let mut bytes = [[0; 4 * LANES]; 4];
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

/// The sums of `M` positions by two groups of channels, each position in one register of 512 bits.
///
/// # Safety
/// As [`Tile`] says; `V` is 2.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
unsafe fn wide_sums<const M: usize, const V: usize>(
    conv: &PreparedConv,
    input: &[i16],
    Tile { group, position }: Tile,
) -> [[__m256i; V]; M] {
    let (kernel, line, pairs) = (conv.geometry.kernel[0], conv.line(), conv.steps);
    let corners = &conv.corners[position..position + M];
    let both = |low, high| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
    let bias = [group, group + 1].map(|group| load8(&conv.bias, group * LANES));
    let mut sums = [both(bias[0], bias[1]); M];
    for row in 0..kernel {
        // SAFETY: by this function's contract, these and the reads below stay inside.
        let (pixels, weights): ([*const i16; M], [*const i16; 2]) = unsafe {
            let pixels = |m| input.as_ptr().add(corners[m] as usize + row * line);
            let at = |v: usize| ((group + v) * kernel + row) * pairs * 2 * LANES;
            let weights = |v| conv.weight.as_ptr().add(at(v));
            (std::array::from_fn(pixels), std::array::from_fn(weights))
        };
        for pair in 0..pairs {
            // SAFETY: as above.
            let [low, high] = weights
                .map(|weights| unsafe { _mm256_loadu_si256(weights.add(pair * 2 * LANES).cast()) });
            let weight = both(low, high);
            for m in 0..M {
                // SAFETY: as above. Reads two int16 as one unaligned int32.
                let pixel = unsafe { pixels[m].add(2 * pair).cast::<i32>().read_unaligned() };
                sums[m] = _mm512_dpwssd_epi32(sums[m], _mm512_set1_epi32(pixel), weight);
            }
        }
    }
    sums.map(|sums| {
        let halves = [_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums)];
        std::array::from_fn(|v| halves[v])
    })
}

/// Most parts of a sum that are added up side by side.
const MOST_PARTS: usize = 4;

/// Sums and stores `$size` positions at a time, as long as so many are left.
macro_rules! tiles {
    ($sums:expr, $size:literal, $conv:ident, $factors:ident, $ends:ident, $input:ident,
     $output:ident, $group:ident, $position:ident) => {
        while $conv.corners.len() - $position >= $size {
            let tile = Tile { group: $group, position: $position };
            // SAFETY: `conv` has checked the reads, and so many groups and positions are left.
            let sums = unsafe { $sums($conv, $input, tile) };
            store($conv, $factors, $ends, sums, tile, $output);
            $position += $size;
        }
    };
}

/// A module with `conv` and `depthwise` that use `$dot`. `$two` sums `$most` positions by two
/// groups of channels.
macro_rules! convolutions {
    ($name:ident, $features:literal, $dot:path, $two:ident, $most:literal) => {
        pub mod $name {
            use super::*;

            /// `input` is the widened, padded input map.
            #[target_feature(enable = $features)]
            pub fn conv(conv: &PreparedConv, factors: &Factors, input: &[i16], output: &mut [u8]) {
                let ends = Ends::new(&conv.rescale);
                let factors = factors.groups();
                let kernel = conv.geometry.kernel[0];
                let groups = conv.bias.len() / LANES;
                // Checks the unchecked reads of `sums`: corners ascend, so the last one is enough.
                let last_corner = conv.corners.last().map_or(0, |&corner| corner as usize);
                assert_eq!(conv.unit, 2);
                assert!(last_corner + (kernel - 1) * conv.line() + 2 * conv.steps <= input.len());
                assert!(groups * kernel * conv.steps * 2 * LANES <= conv.weight.len());
                let paired = groups - groups % 2;
                for group in (0..paired).step_by(2) {
                    let mut position = 0;
                    tiles!(
                        $two::<$most, 2>,
                        $most,
                        conv,
                        factors,
                        ends,
                        input,
                        output,
                        group,
                        position
                    );
                    tiles!(sums::<4, 2>, 4, conv, factors, ends, input, output, group, position);
                    tiles!(sums::<1, 2>, 1, conv, factors, ends, input, output, group, position);
                }
                for group in paired..groups {
                    let mut position = 0;
                    tiles!(sums::<8, 1>, 8, conv, factors, ends, input, output, group, position);
                    tiles!(sums::<4, 1>, 4, conv, factors, ends, input, output, group, position);
                    tiles!(sums::<1, 1>, 1, conv, factors, ends, input, output, group, position);
                }
            }

            /// The sums of `M` positions by `V` (1 or 2) groups of channels, all in registers.
            ///
            /// # Safety
            /// As [`Tile`] says.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn sums<const M: usize, const V: usize>(
                conv: &PreparedConv,
                input: &[i16],
                Tile { group, position }: Tile,
            ) -> [[__m256i; V]; M] {
                let (kernel, line, pairs) = (conv.geometry.kernel[0], conv.line(), conv.steps);
                let corners = &conv.corners[position..position + M];
                // A product waits for the sum that it is added to. So with few sums, several parts
                // of each are added up side by side. The order of integer additions does not
                // matter.
                let parts = if M == 1 { MOST_PARTS } else { 8 / (M * V).min(8) };
                let mut sums = [[[_mm256_setzero_si256(); V]; M]; MOST_PARTS];
                for v in 0..V {
                    let bias = load8(&conv.bias, (group + v) * LANES);
                    for sums in &mut sums[0] {
                        sums[v] = bias;
                    }
                }
                for row in 0..kernel {
                    // SAFETY: by this function's contract, these and the reads below stay inside.
                    let (pixels, weights): ([*const i16; M], [*const i16; V]) = unsafe {
                        let pixels = |m| input.as_ptr().add(corners[m] as usize + row * line);
                        let at = |v: usize| ((group + v) * kernel + row) * pairs * 2 * LANES;
                        let weights = |v| conv.weight.as_ptr().add(at(v));
                        (std::array::from_fn(pixels), std::array::from_fn(weights))
                    };
                    let mut pair = 0;
                    while pair < pairs {
                        let together = if pair + parts <= pairs { parts } else { 1 };
                        for part in 0..together {
                            let mut weight = [_mm256_setzero_si256(); V];
                            for v in 0..V {
                                // SAFETY: as above.
                                weight[v] = unsafe {
                                    let at = weights[v].add((pair + part) * 2 * LANES);
                                    _mm256_loadu_si256(at.cast())
                                };
                            }
                            for m in 0..M {
                                // SAFETY: as above. Reads two int16 as one unaligned int32.
                                let pixel = unsafe {
                                    pixels[m].add(2 * (pair + part)).cast::<i32>().read_unaligned()
                                };
                                let pixel = _mm256_set1_epi32(pixel);
                                for v in 0..V {
                                    let sum = &mut sums[part][m][v];
                                    *sum = $dot(*sum, pixel, weight[v]);
                                }
                            }
                        }
                        pair += together;
                    }
                }
                let [mut whole, others @ ..] = sums;
                for other in &others[..parts - 1] {
                    for m in 0..M {
                        for v in 0..V {
                            whole[m][v] = _mm256_add_epi32(whole[m][v], other[m][v]);
                        }
                    }
                }
                whole
            }

            /// `input` is the widened, padded input map.
            #[target_feature(enable = $features)]
            pub fn depthwise(
                conv: &PreparedDepthwise,
                packed: &Depthwise,
                input: &[i16],
                output: &mut [u8],
            ) {
                // Checks the unchecked reads of `depthwise_group`: corners and taps ascend, so the
                // last ones are enough.
                let last_corner = conv.corners.last().map_or(0, |&corner| corner as usize);
                let last_tap = conv.taps.last().map_or(0, |&tap| tap as usize);
                assert!(last_corner + last_tap + conv.pixel <= input.len());
                assert!(conv.pixel * packed.pairs.len() * 2 <= packed.weight.len());
                let ends = Ends::new(&conv.rescale);
                let channels = conv.geometry.channels;
                let width = conv.geometry.out_width();
                let rows =
                    conv.corners.chunks_exact(width).zip(output.chunks_exact_mut(width * channels));
                for (corners, output) in rows {
                    for first in (0..channels).step_by(WIDE_LANES) {
                        let output = Strided { output: &mut *output, step: channels, first };
                        // SAFETY: reads were checked above, and `first` is below `channels`.
                        // `PAIRS` is 0 or equals the number of pairs. It is not 0 for 3x3 and 5x5
                        // kernels, so that their loops are unrolled.
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

            /// Computes sixteen channels of a row of output positions.
            ///
            /// # Safety
            /// At each tap of each corner, one pixel must be inside `input`; `first` must be below
            /// the number of channels; `PAIRS` must be the number of pairs, or 0 for any.
            #[target_feature(enable = $features)]
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
                        // SAFETY: by this function's contract; a group of channels lies within a
                        // pixel.
                        let (a, b, weight_low, weight_high) = unsafe {
                            let pixels = input.as_ptr().add(corner as usize + first);
                            let [tap_a, tap_b] =
                                packed.pairs.get_unchecked(pair).map(|tap| tap as usize);
                            (
                                _mm256_loadu_si256(pixels.add(tap_a).cast()),
                                _mm256_loadu_si256(pixels.add(tap_b).cast()),
                                _mm256_loadu_si256(weight.add(pair * 32).cast()),
                                _mm256_loadu_si256(weight.add(pair * 32 + 16).cast()),
                            )
                        };
                        low = $dot(low, _mm256_unpacklo_epi16(a, b), weight_low);
                        high = $dot(high, _mm256_unpackhi_epi16(a, b), weight_high);
                    }
                    let bytes = ends.bytes(factors[0].scale(low), factors[1].scale(high));
                    copy(&bytes, &mut output[first..first + count]);
                }
            }
        }
    };
}

convolutions!(plain, "avx2", multiply_add, sums, 4);
convolutions!(avx_vnni, "avx2,avxvnni", dot_avx, sums, 4);
convolutions!(avx512_vnni, "avx2,avx512vnni,avx512vl", dot_avx512, wide_sums, 8);
