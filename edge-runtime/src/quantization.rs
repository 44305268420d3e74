//! Quantizes real numbers to bytes and real factors to integers (Jacob et al. 2018, "Quantization
//! and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", sections 2.1
//! and 2.2).

use crate::model::{InputSpec, Quantization, Requantization, Rounding};

impl InputSpec {
    /// Bytes of one image.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.channels as usize * self.height as usize * self.width as usize
    }

    /// The normalised value of `byte` in `channel`: `(byte / 255 - mean) / std`.
    ///
    /// # Panics
    /// If `channel` is not below `channels`.
    #[must_use]
    pub fn normalized(&self, channel: usize, byte: u8) -> f32 {
        (f32::from(byte) / 255.0 - self.mean[channel]) / self.std[channel]
    }
}

impl Quantization {
    /// The byte nearest to `real` (halves round away from zero); saturates.
    #[must_use]
    pub fn quantize(self, real: f32) -> u8 {
        // A float to integer cast saturates, and so does the clamp.
        let q = (real / self.scale).round() + f32::from(self.zero_point);
        q.clamp(0.0, 255.0) as u8
    }

    /// The real number that `byte` stands for.
    #[must_use]
    pub fn dequantize(self, byte: u8) -> f32 {
        self.scale * f32::from(i16::from(byte) - i16::from(self.zero_point))
    }
}

impl Requantization {
    /// Shifts of the normal form. Factors with a smaller shift become zero; those with a larger one
    /// saturate.
    pub const SHIFTS: std::ops::RangeInclusive<i32> = -31..=30;

    /// The factor zero.
    pub const ZERO: Self = Self { multiplier: 0, shift: 0 };

    /// The nearest fixed-point factor; its relative error is at most `2^-31`. Factors below `2^-32`
    /// become 0, as in TFLite; so do negative numbers and NaN, which are not valid factors. Factors
    /// of `2^30` and more become the largest one.
    #[must_use]
    pub fn from_real(factor: f64) -> Self {
        if factor.is_nan() || factor <= 0.0 {
            return Self::ZERO;
        }
        if factor >= f64::from(1 << 30) {
            return Self { multiplier: i32::MAX, shift: *Self::SHIFTS.end() };
        }
        if factor < 2f64.powi(*Self::SHIFTS.start() - 1) {
            return Self::ZERO;
        }
        // Scaling by powers of two is exact, so the loops find the mantissa in 0.5..1 exactly.
        let (mut mantissa, mut shift) = (factor, 0);
        while mantissa < 0.5 {
            mantissa *= 2.0;
            shift -= 1;
        }
        while mantissa >= 1.0 {
            mantissa *= 0.5;
            shift += 1;
        }
        let fixed = (mantissa * f64::from(1u32 << 31)).round() as i64;
        match i32::try_from(fixed) {
            Ok(multiplier) => Self { multiplier, shift },
            // The mantissa was rounded up to 1.0.
            Err(_) if shift < *Self::SHIFTS.end() => Self { multiplier: 1 << 30, shift: shift + 1 },
            Err(_) => Self { multiplier: i32::MAX, shift },
        }
    }

    /// The factor as a real number.
    #[must_use]
    pub fn to_real(self) -> f64 {
        f64::from(self.multiplier) * 2f64.powi(self.shift - 31)
    }

    /// `value` times the factor, rounded as the model says.
    #[must_use]
    #[inline(always)]
    pub fn apply(self, rounding: Rounding, value: i32) -> i32 {
        match rounding {
            Rounding::Once => self.once(value),
            Rounding::Twice => self.twice(value),
        }
    }

    /// `value` times the factor: the exact product in 64 bits, rounded once to the nearest integer,
    /// halves up, and saturated to 32 bits.
    #[must_use]
    #[inline(always)]
    pub fn once(self, value: i32) -> i32 {
        let product = i64::from(value) * i64::from(self.multiplier);
        let rounded = round_shift(product, (31 - self.shift).clamp(1, 62) as u32);
        rounded.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
    }

    /// `value` times the factor, rounded as in gemmlowp and TFLite: a saturating left shift if
    /// `shift` is positive, then a saturating rounding doubling high multiply (halves up), then a
    /// rounding right shift (halves away from zero). Because of the two roundings the result
    /// differs from the exact product by up to 1, as long as `value * 2^shift` is within i32.
    #[must_use]
    #[inline(always)]
    pub fn twice(self, value: i32) -> i32 {
        let left = self.shift.clamp(0, 31);
        let right = (-self.shift).clamp(0, 31);
        let shifted = (i64::from(value) << left).clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        let high = (shifted * i64::from(self.multiplier) + (1 << 30)) >> 31;
        // This fits, except for `i32::MIN * i32::MIN`, which does not occur in normal form.
        let high = high.min(i64::from(i32::MAX)) as i32;
        rounding_shift(high, right)
    }

    /// Whether `multiplier` and `shift` are in the normal form of `from_real`.
    pub(crate) fn is_normal(self) -> bool {
        (self.multiplier == 0 || self.multiplier >= 1 << 30) && Self::SHIFTS.contains(&self.shift)
    }
}

/// `value / 2^right` rounded to nearest, halves up; `right` in 1..=62, and `value` is small enough
/// that half of `2^right` can be added.
#[inline(always)]
pub(crate) fn round_shift(value: i64, right: u32) -> i64 {
    (value + (1 << (right - 1))) >> right
}

/// `value / 2^right` rounded to nearest, halves away from zero; `right` in 0..=31. This is
/// gemmlowp's `RoundingDivideByPOT`.
#[inline]
pub(crate) fn rounding_shift(value: i32, right: i32) -> i32 {
    let mask = ((1i64 << right) - 1) as i32;
    let remainder = value & mask;
    let threshold = (mask >> 1) + i32::from(value < 0);
    (value >> right) + i32::from(remainder > threshold)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// gemmlowp's definition in wide integers: truncating division with a nudge of the product's
    /// sign, then division with halves away from zero.
    fn reference(factor: Requantization, value: i32) -> i32 {
        let clamp = |x: i128| x.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
        let value = clamp(i128::from(value) * (1i128 << factor.shift.max(0)));
        let product = value * i128::from(factor.multiplier);
        let nudge = if product >= 0 { 1i128 << 30 } else { 1 - (1i128 << 30) };
        let high = clamp((product + nudge) / (1i128 << 31));
        let divisor = 1i128 << (-factor.shift).max(0);
        let (whole, rest) = (high.abs() / divisor, high.abs() % divisor);
        let rounded = whole + i128::from(2 * rest >= divisor);
        i32::try_from(rounded * high.signum()).unwrap()
    }

    fn factors() -> impl Strategy<Value = Requantization> {
        let multiplier = prop_oneof![
            8 => 1i32 << 30..=i32::MAX,
            1 => Just(1 << 30),
            1 => Just(i32::MAX),
            1 => Just(0)
        ];
        (multiplier, Requantization::SHIFTS)
            .prop_map(|(multiplier, shift)| Requantization { multiplier, shift })
    }

    fn values() -> impl Strategy<Value = i32> {
        prop_oneof![
            4 => any::<i32>(),
            4 => -100_000..100_000i32,
            1 => Just(i32::MIN),
            1 => Just(i32::MAX)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn equals_the_definition(factor in factors(), value in values()) {
            prop_assert_eq!(factor.twice(value), reference(factor, value));
        }

        #[test]
        fn differs_by_at_most_one_from_the_exact_product(factor in factors(), value in values()) {
            // Keeps `value << shift` within 32 bits.
            let value = value >> factor.shift.max(0);
            // value * multiplier * 2^(shift - 31), as a fraction of 2^62.
            let unit = 1i128 << 62;
            let exact = i128::from(value)
                * i128::from(factor.multiplier)
                * (1i128 << (factor.shift + 31));
            let error = i128::from(factor.twice(value)) * unit - exact;
            prop_assert!(error.abs() <= unit, "{} / 2^62", error);
        }

        #[test]
        fn rounding_once_is_exact_with_halves_up(factor in factors(), value in values()) {
            // `value * multiplier * 2^(shift - 31)` as a fraction of 2^64.
            let product = i128::from(value) * i128::from(factor.multiplier);
            let exact = product * (1i128 << (factor.shift + 33));
            let rounded = (exact + (1i128 << 63)).div_euclid(1i128 << 64);
            let saturated = rounded.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
            prop_assert_eq!(i128::from(factor.once(value)), saturated);
        }

        #[test]
        fn from_real_is_close_and_normal(exponent in -31.9f64..29.9) {
            let real = exponent.exp2();
            let factor = Requantization::from_real(real);
            prop_assert!(factor.is_normal() && factor.multiplier != 0);
            prop_assert!(((factor.to_real() - real) / real).abs() <= 2f64.powi(-31));
        }

        #[test]
        fn quantize_inverts_dequantize(scale in 1e-4f32..10.0, zero_point: u8, byte: u8) {
            let quantization = Quantization { scale, zero_point };
            prop_assert_eq!(quantization.quantize(quantization.dequantize(byte)), byte);
        }
    }

    #[test]
    fn from_real_at_the_edges() {
        let half = Requantization { multiplier: 1 << 30, shift: 0 };
        assert_eq!(Requantization::from_real(0.5), half);
        assert_eq!(
            Requantization::from_real(1.0),
            Requantization { multiplier: 1 << 30, shift: 1 }
        );
        // Rounds up to the next power of two.
        assert_eq!(Requantization::from_real(0.5 - 1e-12), half);
        let largest = Requantization { multiplier: i32::MAX, shift: 30 };
        assert_eq!(Requantization::from_real(1e300), largest);
        assert_eq!(Requantization::from_real(f64::INFINITY), largest);
        assert_eq!(Requantization::from_real((1u64 << 30) as f64 - 1e-3), largest);
        for nothing in [0.0, -1.0, f64::NAN, 1e-300, 2f64.powi(-33)] {
            assert_eq!(Requantization::from_real(nothing), Requantization::ZERO);
        }
        assert_eq!(Requantization::from_real(2f64.powi(-32)).shift, -31);
    }

    #[test]
    fn halves_round_away_from_zero_in_the_shift() {
        // 0.25 = 0.5 * 2^-1: 2 * 0.5 is exact, the shift rounds 1 / 2.
        let quarter = Requantization::from_real(0.25);
        assert_eq!((quarter.twice(2), quarter.twice(-2)), (1, -1));
        assert_eq!((quarter.once(2), quarter.once(-2)), (1, 0));
        assert_eq!((quarter.twice(6), quarter.twice(-6)), (2, -2));
    }

    #[test]
    fn quantize_saturates_and_rounds() {
        let quantization = Quantization { scale: 0.5, zero_point: 10 };
        assert_eq!(quantization.quantize(-100.0), 0);
        assert_eq!(quantization.quantize(1e9), 255);
        assert_eq!(quantization.quantize(0.25), 11);
        assert_eq!(quantization.quantize(-0.25), 9);
        assert_eq!(quantization.quantize(0.0), 10);
    }
}
