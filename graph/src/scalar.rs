//! The numbers that a graph can be evaluated on.

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_equal_finite_differences() {
        fn function<S: Scalar>(x: S) -> S {
            let two = S::constant(2.0);
            (x * x / (x + two) - x.exp()).clip(-100.0, 100.0) * (x + two).sqrt()
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
    fn clipping_stops_the_slope() {
        let at = |value| Dual { value, slope: 1.0 }.clip(0.0, 6.0);
        assert_eq!([at(-1.0).slope, at(3.0).slope, at(7.0).slope], [0.0, 1.0, 0.0]);
        assert_eq!([at(-1.0).value, at(3.0).value, at(7.0).value], [0.0, 3.0, 6.0]);
    }
}
