//! `Requantization::apply`, zero point and clamp on vectors. It takes fewer steps than the
//! definition, with the same results for all factors and accumulators that a `FactorGroup` accepts.

use std::arch::x86_64::*;

use super::super::{LANES, Rescale};
use crate::kernels::Isa;
use crate::model::{Requantization, Rounding};
use crate::quantization::round_shift;

/// The factors of all channels, in groups of eight.
#[derive(Debug)]
pub(in super::super) struct Factors(Vec<FactorGroup>);

impl Factors {
    /// `largest` is the largest magnitude of each channel's accumulator. `None` without AVX2, or if
    /// a factor is not supported.
    pub fn new(
        isa: Isa,
        rounding: Rounding,
        factors: &[Requantization],
        largest: &[i32],
    ) -> Option<Self> {
        if !isa.has_avx2() {
            return None;
        }
        let groups = factors.chunks(LANES).zip(largest.chunks(LANES));
        groups
            .map(|(factors, largest)| match rounding {
                Rounding::Once => Once::new(factors, largest).map(FactorGroup::Once),
                Rounding::Twice => Twice::new(factors, largest).map(FactorGroup::Twice),
            })
            .collect::<Option<_>>()
            .map(Self)
    }

    pub(super) fn groups(&self) -> &[FactorGroup] {
        &self.0
    }
}

/// The factors of eight channels.
#[derive(Debug, Clone)]
pub(super) enum FactorGroup {
    Once(Once),
    Twice(Twice),
}

impl FactorGroup {
    /// Multiplies the value of each lane by its factor.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn scale(&self, value: __m256i) -> __m256i {
        match self {
            Self::Once(group) => group.scale(value),
            Self::Twice(group) => group.scale(value),
        }
    }
}

/// Factors of eight channels that round once: `(value * multiplier + half) >> right`, in 64 bits.
/// AVX2 has no arithmetic shift of 64 bits, so `2^63` is added before a logical one, and what
/// becomes of it is subtracted afterwards.
#[derive(Debug, Clone)]
pub(super) struct Once {
    multiplier: [i32; LANES],
    /// `half + 2^63` of the even channels, then of the odd ones.
    nudge: [[i64; LANES / 2]; 2],
    /// Of the even channels, then of the odd ones.
    right: [[i64; LANES / 2]; 2],
    /// The low half of `2^(63 - right)`.
    excess: [i32; LANES],
}

impl Once {
    /// Takes up to eight factors; the rest are 0. `None` if a result could need more than 32 bits,
    /// which only factors of 1 and more can make. Weights of few bits have such factors, because a
    /// step of theirs is large.
    fn new(factors: &[Requantization], largest: &[i32]) -> Option<Self> {
        let mut group = Self {
            multiplier: [0; LANES],
            nudge: [[i64::MIN; LANES / 2]; 2],
            right: [[31; LANES / 2]; 2],
            excess: [0; LANES],
        };
        for (lane, (factor, &largest)) in factors.iter().zip(largest).enumerate() {
            // 1 to 62.
            let right = i64::from(31 - factor.shift);
            let most = i64::from(largest) * i64::from(factor.multiplier);
            i32::try_from(round_shift(most, right as u32)).ok()?;
            group.multiplier[lane] = factor.multiplier;
            group.nudge[lane % 2][lane / 2] = i64::MIN + (1 << (right - 1));
            group.right[lane % 2][lane / 2] = right;
            group.excess[lane] = (1u64 << (63 - right)) as i32;
        }
        Some(group)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn scale(&self, value: __m256i) -> __m256i {
        // SAFETY: each of these arrays is 32 bytes.
        let (multiplier, nudge, right, excess) = unsafe {
            (
                _mm256_loadu_si256(self.multiplier.as_ptr().cast()),
                self.nudge.each_ref().map(|nudge| _mm256_loadu_si256(nudge.as_ptr().cast())),
                self.right.each_ref().map(|right| _mm256_loadu_si256(right.as_ptr().cast())),
                _mm256_loadu_si256(self.excess.as_ptr().cast()),
            )
        };
        let even = _mm256_mul_epi32(value, multiplier);
        let odd =
            _mm256_mul_epi32(_mm256_srli_epi64::<32>(value), _mm256_srli_epi64::<32>(multiplier));
        let even = _mm256_srlv_epi64(_mm256_add_epi64(even, nudge[0]), right[0]);
        let odd = _mm256_srlv_epi64(_mm256_add_epi64(odd, nudge[1]), right[1]);
        let both = _mm256_blend_epi32::<0b1010_1010>(even, _mm256_slli_epi64::<32>(odd));
        _mm256_sub_epi32(both, excess)
    }
}

/// The multipliers of both sides of a sum, which is rounded once, as [`Once`] does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    multipliers: [__m256i; 2],
    nudge: __m256i,
    right: __m256i,
    excess: __m256i,
}

impl Pair {
    /// `shift` is in 1..=62, and every scaled sum fits in 32 bits.
    #[target_feature(enable = "avx2")]
    pub fn new(multipliers: [i32; 2], shift: u32) -> Self {
        Self {
            multipliers: multipliers.map(|multiplier| _mm256_set1_epi32(multiplier)),
            nudge: _mm256_set1_epi64x(i64::MIN + (1 << (shift - 1))),
            right: _mm256_set1_epi64x(i64::from(shift)),
            excess: _mm256_set1_epi32((1u64 << (63 - shift)) as i32),
        }
    }

    /// The scaled sum of each lane.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn scale(&self, left: __m256i, right: __m256i) -> __m256i {
        let [left_factor, right_factor] = self.multipliers;
        let products = |left, right| {
            let sum = _mm256_add_epi64(
                _mm256_mul_epi32(left, left_factor),
                _mm256_mul_epi32(right, right_factor),
            );
            _mm256_srlv_epi64(_mm256_add_epi64(sum, self.nudge), self.right)
        };
        let even = products(left, right);
        let odd = products(_mm256_srli_epi64::<32>(left), _mm256_srli_epi64::<32>(right));
        let both = _mm256_blend_epi32::<0b1010_1010>(even, _mm256_slli_epi64::<32>(odd));
        _mm256_sub_epi32(both, self.excess)
    }
}

/// Factors of eight channels that round twice.
///
/// `Requantization::twice` rounds `value * multiplier / 2^31` to `high`, halves up. Then it rounds
/// `high / 2^right`, halves away from zero. With `half` as `2^(right - 1)`, or 0 if `right` is 0,
/// the second is `(high + half - [high < 0]) >> right`, without the `[high < 0]` if `right` is 0.
/// `half` is already added to the product, 31 bits higher.
#[derive(Debug, Clone)]
pub(super) struct Twice {
    multiplier: [i32; LANES],
    /// `2^30 + half * 2^31` of the even channels, then of the odd ones.
    nudge: [[i64; LANES / 2]; 2],
    /// `high + half` is below this exactly if `high` is negative: `half`. If `right` is 0, the
    /// smallest number, so that the test is never true.
    negative_below: [i32; LANES],
    right: [i32; LANES],
}

impl Twice {
    /// Takes up to eight factors; the rest are 0. `None` if a factor shifts left, or a sum could
    /// overflow.
    fn new(factors: &[Requantization], largest: &[i32]) -> Option<Self> {
        let mut group = Self {
            multiplier: [0; LANES],
            nudge: [[0; LANES / 2]; 2],
            negative_below: [i32::MIN; LANES],
            right: [0; LANES],
        };
        for (lane, (factor, &largest)) in factors.iter().zip(largest).enumerate() {
            let right = -factor.shift;
            if right < 0 {
                return None;
            }
            let half = if right == 0 { 0 } else { 1i32 << (right - 1) };
            // `multiplier / 2^31` is below 1, so `high` is at most the accumulator.
            largest.checked_add(half)?;
            group.multiplier[lane] = factor.multiplier;
            group.nudge[lane % 2][lane / 2] = (1 << 30) + (i64::from(half) << 31);
            group.negative_below[lane] = if right == 0 { i32::MIN } else { half };
            group.right[lane] = right;
        }
        Some(group)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn scale(&self, value: __m256i) -> __m256i {
        // SAFETY: each of these arrays is 32 bytes.
        let (multiplier, nudge_even, nudge_odd, negative_below, right) = unsafe {
            (
                _mm256_loadu_si256(self.multiplier.as_ptr().cast()),
                _mm256_loadu_si256(self.nudge[0].as_ptr().cast()),
                _mm256_loadu_si256(self.nudge[1].as_ptr().cast()),
                _mm256_loadu_si256(self.negative_below.as_ptr().cast()),
                _mm256_loadu_si256(self.right.as_ptr().cast()),
            )
        };
        let even = _mm256_mul_epi32(value, multiplier);
        let odd =
            _mm256_mul_epi32(_mm256_srli_epi64::<32>(value), _mm256_srli_epi64::<32>(multiplier));
        // Moves bits 31 to 62 of each product into its half.
        let even = _mm256_srli_epi64::<31>(_mm256_add_epi64(even, nudge_even));
        let odd = _mm256_slli_epi64::<1>(_mm256_add_epi64(odd, nudge_odd));
        let nudged = _mm256_blend_epi32::<0b1010_1010>(even, odd);
        let negative = _mm256_cmpgt_epi32(negative_below, nudged);
        _mm256_srav_epi32(_mm256_add_epi32(nudged, negative), right)
    }
}

/// Zero point and clamp. All steps from 32 to 8 bits saturate, so their order does not matter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    zero_point: __m256i,
    low: __m256i,
    high: __m256i,
}

impl Ends {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn new(rescale: &Rescale) -> Self {
        // All three fit in a byte.
        Self {
            zero_point: _mm256_set1_epi16(rescale.zero_point as i16),
            low: _mm256_set1_epi8(rescale.low as u8 as i8),
            high: _mm256_set1_epi8(rescale.high as u8 as i8),
        }
    }

    /// Packs four vectors of eight values, in order.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn store(self, scaled: [__m256i; 4], bytes: &mut [u8; 4 * LANES]) {
        let words = [
            _mm256_adds_epi16(_mm256_packs_epi32(scaled[0], scaled[1]), self.zero_point),
            _mm256_adds_epi16(_mm256_packs_epi32(scaled[2], scaled[3]), self.zero_point),
        ];
        // Packing works on halves: first the low halves of all four vectors, then the high ones.
        let packed = _mm256_packus_epi16(words[0], words[1]);
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let clamped = self.clamp(_mm256_permutevar8x32_epi32(packed, order));
        // SAFETY: the array has 32 bytes.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), clamped) };
    }

    /// Packs two vectors, with values 0-3 and 8-11, and 4-7 and 12-15, into ascending order.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn bytes(self, low: __m256i, high: __m256i) -> [u8; 2 * LANES] {
        let words = _mm256_adds_epi16(_mm256_packs_epi32(low, high), self.zero_point);
        let packed = _mm256_packus_epi16(words, _mm256_permute4x64_epi64::<0b11_10>(words));
        let clamped = _mm256_castsi256_si128(self.clamp(packed));
        let mut bytes = [0; 2 * LANES];
        // SAFETY: the array has sixteen bytes.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), clamped) };
        bytes
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn clamp(self, bytes: __m256i) -> __m256i {
        _mm256_min_epu8(_mm256_max_epu8(bytes, self.low), self.high)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Scales eight values with `scale`. `None` if AVX2 is missing or a factor is not supported.
    fn scaled(
        rounding: Rounding,
        factors: &[Requantization],
        values: [i32; LANES],
    ) -> Option<[i32; LANES]> {
        let largest = values.map(|value| value.checked_abs().unwrap_or(i32::MAX));
        let factors = Factors::new(Isa::detect(), rounding, factors, &largest)?;
        let mut output = [0; LANES];
        // SAFETY: the factors exist, so AVX2 was detected; the arrays have 32 bytes.
        unsafe {
            let values = _mm256_loadu_si256(values.as_ptr().cast());
            _mm256_storeu_si256(output.as_mut_ptr().cast(), factors.groups()[0].scale(values));
        }
        Some(output)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn scaling_equals_apply(
            factors in prop::collection::vec((1i32 << 30..=i32::MAX, -31i32..=0), LANES),
            values: [i32; LANES],
            bits in 0u32..31,
        ) {
            let factors: Vec<_> = factors
                .into_iter()
                .map(|(multiplier, shift)| Requantization { multiplier, shift })
                .collect();
            let values = values.map(|value| value >> bits);
            for rounding in [Rounding::Once, Rounding::Twice] {
                if let Some(scaled) = scaled(rounding, &factors, values) {
                    for lane in 0..LANES {
                        prop_assert_eq!(scaled[lane], factors[lane].apply(rounding, values[lane]));
                    }
                }
            }
        }

        /// Weights of few bits have such factors.
        #[test]
        fn scaling_by_1_and_more_equals_apply(
            factors in prop::collection::vec((1i32 << 30..=i32::MAX, 1i32..=30), LANES),
            values: [i32; LANES],
            bits in 1u32..4,
        ) {
            let factors: Vec<_> = factors
                .into_iter()
                .map(|(multiplier, shift)| Requantization { multiplier, shift })
                .collect();
            // So that results fit in 32 bits.
            let values: [i32; LANES] = std::array::from_fn(|lane| {
                values[lane] >> (factors[lane].shift as u32 + bits).min(31)
            });
            let Some(found) = scaled(Rounding::Once, &factors, values) else {
                prop_assert!(!Isa::detect().has_avx2());
                return Ok(());
            };
            for lane in 0..LANES {
                prop_assert_eq!(found[lane], factors[lane].apply(Rounding::Once, values[lane]));
            }
        }
    }

    #[test]
    fn scaling_halves_and_zeros_equals_apply() {
        if !Isa::detect().has_avx2() {
            return;
        }
        for shift in -31..=3 {
            for multiplier in [0, 1 << 30, (1 << 30) + 1, i32::MAX] {
                let factors = [Requantization { multiplier, shift }; LANES];
                let half = (1i64 << (-shift).max(0)).min(1 << 28) as i32;
                for values in [
                    [0, 1, -1, 2, -2, 3, -3, 5],
                    [half, -half, half + 1, half - 1, 1 - half, -half - 1, 3 * half, -3 * half],
                ] {
                    for rounding in [Rounding::Once, Rounding::Twice] {
                        let expected = values.map(|value| factors[0].apply(rounding, value));
                        let supported = rounding == Rounding::Once || shift <= 0;
                        assert_eq!(
                            scaled(rounding, &factors, values),
                            supported.then_some(expected)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn unsupported_factors_are_left_to_the_portable_code() {
        let half = Requantization::from_real(0.5);
        let once = |factor: f64, largest: i32| {
            Once::new(&[Requantization::from_real(factor)], &[largest]).is_some()
        };
        assert!(Twice::new(&[half], &[i32::MAX]).is_some() && once(0.5, i32::MAX));
        assert!(Twice::new(&[Requantization::from_real(1.0)], &[1]).is_none());
        assert!(once(2.0, i32::MAX / 2) && once(1000.0, 2_000_000));
        assert!(!once(2.0, i32::MAX / 2 + 1) && !once(1000.0, 3_000_000));
        assert!(Twice::new(&[Requantization::from_real(0.1)], &[i32::MAX]).is_none());
    }
}
