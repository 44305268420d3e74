//! The numbers that a graph can be evaluated on.

use std::f64::consts::FRAC_2_SQRT_PI;
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Sub};

/// A number of the reference evaluation: `f32` for speed, `f64` for tests, [`Dual`] for derivatives.
pub trait Scalar:
    Copy
    + Debug
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// A constant.
    fn constant(value: f64) -> Self;

    /// `e` to the power of this number.
    fn exp(self) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// The natural logarithm.
    fn ln(self) -> Self;

    /// The hyperbolic tangent.
    fn tanh(self) -> Self;

    /// The error function, `2/sqrt(pi)` times the integral of `e^(-t^2)` from 0 to this number.
    fn erf(self) -> Self;

    /// This number to the power of another one.
    fn powf(self, exponent: Self) -> Self;

    /// The number itself if it is in `low..=high`, else the nearer bound.
    #[must_use]
    fn clip(self, low: f32, high: f32) -> Self {
        let (low, high) = (Self::constant(low.into()), Self::constant(high.into()));
        if self < low {
            low
        } else if self > high {
            high
        } else {
            self
        }
    }
}

impl Scalar for f32 {
    fn constant(value: f64) -> Self {
        value as f32
    }

    fn exp(self) -> Self {
        f32::exp(self)
    }

    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }

    fn ln(self) -> Self {
        f32::ln(self)
    }

    fn tanh(self) -> Self {
        f32::tanh(self)
    }

    fn erf(self) -> Self {
        libm::erff(self)
    }

    fn powf(self, exponent: Self) -> Self {
        f32::powf(self, exponent)
    }
}

impl Scalar for f64 {
    fn constant(value: f64) -> Self {
        value
    }

    fn exp(self) -> Self {
        f64::exp(self)
    }

    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    fn ln(self) -> Self {
        f64::ln(self)
    }

    fn tanh(self) -> Self {
        f64::tanh(self)
    }

    fn erf(self) -> Self {
        libm::erf(self)
    }

    fn powf(self, exponent: Self) -> Self {
        f64::powf(self, exponent)
    }
}

/// A number with its derivative by some variable, computed along with it (forward-mode automatic
/// differentiation). Comparisons see the number only.
#[derive(Debug, Clone, Copy)]
pub struct Dual {
    /// The number.
    pub value: f64,
    /// Its derivative.
    pub slope: f64,
}

impl PartialEq for Dual {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialOrd for Dual {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl Add for Dual {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { value: self.value + other.value, slope: self.slope + other.slope }
    }
}

impl Sub for Dual {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { value: self.value - other.value, slope: self.slope - other.slope }
    }
}

impl Mul for Dual {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let slope = self.slope * other.value + self.value * other.slope;
        Self { value: self.value * other.value, slope }
    }
}

impl Div for Dual {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        Self { value, slope: (self.slope - value * other.slope) / other.value }
    }
}

impl Scalar for Dual {
    fn constant(value: f64) -> Self {
        Self { value, slope: 0.0 }
    }

    fn exp(self) -> Self {
        let value = self.value.exp();
        Self { value, slope: value * self.slope }
    }

    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        Self { value, slope: self.slope / (2.0 * value) }
    }

    fn ln(self) -> Self {
        Self { value: self.value.ln(), slope: self.slope / self.value }
    }

    fn tanh(self) -> Self {
        let value = self.value.tanh();
        Self { value, slope: (1.0 - value * value) * self.slope }
    }

    fn erf(self) -> Self {
        let slope = FRAC_2_SQRT_PI * (-self.value * self.value).exp();
        Self { value: Scalar::erf(self.value), slope: slope * self.slope }
    }

    fn powf(self, exponent: Self) -> Self {
        let value = self.value.powf(exponent.value);
        // A slope that is 0 counts as 0, also where the other factor is not finite: at 0, and below
        // 0, which has no logarithm.
        let times = |slope: f64, factor: f64| if slope == 0.0 { 0.0 } else { slope * factor };
        let by_base = times(exponent.value * self.slope, self.value.powf(exponent.value - 1.0));
        let by_exponent = times(exponent.slope, value * self.value.ln());
        Self { value, slope: by_base + by_exponent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_equal_finite_differences() {
        fn function<S: Scalar>(x: S) -> S {
            let two = S::constant(2.0);
            let first = (x * x / (x + two) - x.exp()).clip(-100.0, 100.0) * (x + two).sqrt();
            first + (x + two).ln() * x.tanh() + x.erf() + (x + two).powf(x) + x.powf(two)
        }
        for x in [-1.0, 0.3, 2.0] {
            let exact = function(Dual { value: x, slope: 1.0 });
            let step = 1e-6;
            let numeric = (function(x + step) - function(x - step)) / (2.0 * step);
            assert!((exact.value - function(x)).abs() < 1e-12);
            assert!((exact.slope - numeric).abs() < 1e-6, "{} {numeric}", exact.slope);
        }
    }

    #[test]
    fn the_error_function_is_exact_to_the_last_digits() {
        // From tables (DLMF, section 7.23).
        for (x, expected) in [(0.5f64, 0.520_499_877_813_046_5f64), (2.0, 0.995_322_265_018_952_7)]
        {
            assert!((Scalar::erf(x) - expected).abs() < 1e-15);
            assert!((Scalar::erf(-x) + expected).abs() < 1e-15);
            assert!((f64::from(Scalar::erf(x as f32)) - expected).abs() < 1e-7);
        }
    }

    #[test]
    fn powers_have_slopes_where_one_of_their_factors_is_not_finite() {
        let at =
            |value, exponent: f64| Dual { value, slope: 1.0 }.powf(Dual::constant(exponent)).slope;
        assert_eq!(
            [at(0.0, 0.0), at(0.0, 1.0), at(0.0, 2.0), at(-2.0, 3.0)],
            [0.0, 1.0, 0.0, 12.0]
        );
        assert_eq!(at(0.0, 0.5), f64::INFINITY);
    }

    #[test]
    fn clipping_stops_the_slope() {
        let at = |value| Dual { value, slope: 1.0 }.clip(0.0, 6.0);
        assert_eq!([at(-1.0).slope, at(3.0).slope, at(7.0).slope], [0.0, 1.0, 0.0]);
        assert_eq!([at(-1.0).value, at(3.0).value, at(7.0).value], [0.0, 3.0, 6.0]);
    }
}
