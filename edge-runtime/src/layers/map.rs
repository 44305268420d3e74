//! A function of each number, in fp32. In integers it is a table.

use super::conv::check_range;
use super::prelude::*;

/// A function of each number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Map {
    /// Which.
    pub function: Function,
}

/// A function of one number. Settings are finite, unless they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    /// `|x|`
    Absolute,
    /// Between two numbers, which may be infinite.
    Clip {
        /// The lowest.
        low: f32,
        /// The highest.
        high: f32,
    },
    /// `x` where it is positive, else `alpha * (e^x - 1)`
    Elu {
        /// Of the negative side.
        alpha: f32,
    },
    /// The error function.
    Erf,
    /// `e^x`
    Exponential,
    /// `x * P(X <= x)` of the normal distribution.
    Gelu,
    /// The approximation of GELU by tanh.
    GeluTanh,
    /// `slope * x + offset` between 0 and 1.
    HardSigmoid {
        /// Of the line.
        slope: f32,
        /// Of the line.
        offset: f32,
    },
    /// `x * (x / 6 + 1/2 between 0 and 1)`
    HardSwish,
    /// `x` where it is not negative, else `slope * x`
    LeakyRelu {
        /// Of the negative side.
        slope: f32,
    },
    /// The natural logarithm.
    Logarithm,
    /// `x^exponent`
    Power {
        /// The exponent.
        exponent: f32,
    },
    /// `factor * x + offset`
    Scale {
        /// The factor.
        factor: f32,
        /// The offset.
        offset: f32,
    },
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `x * sigmoid(x)`
    Silu,
    /// `ln(1 + e^x)`
    Softplus,
    /// The square root.
    SquareRoot,
    /// The hyperbolic tangent.
    Tanh,
}

impl Function {
    /// Its value at `x`.
    #[must_use]
    pub fn apply(self, x: f32) -> f32 {
        let mut output = [0.0];
        self.run(&[x], &mut output);
        output[0]
    }

    /// Its values.
    fn run(self, input: &[f32], output: &mut [f32]) {
        macro_rules! each {
            ($function:expr) => {
                for (output, &x) in output.iter_mut().zip(input) {
                    *output = $function(x);
                }
            };
        }
        match self {
            Self::Absolute => each!(f32::abs),
            Self::Clip { low, high } => each!(|x: f32| if x < low {
                low
            } else if x > high {
                high
            } else {
                x
            }),
            Self::Elu { alpha } => each!(|x: f32| if x > 0.0 { x } else { alpha * x.exp_m1() }),
            Self::Erf => each!(|x: f32| (1.0 - complementary_error(f64::from(x))) as f32),
            Self::Exponential => each!(f32::exp),
            Self::Gelu => each!(|x: f32| {
                let wide = f64::from(x);
                (0.5 * wide * complementary_error(-wide * std::f64::consts::FRAC_1_SQRT_2)) as f32
            }),
            Self::GeluTanh => each!(|x: f32| {
                let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }),
            Self::HardSigmoid { slope, offset } => {
                each!(|x: f32| (slope * x + offset).clamp(0.0, 1.0))
            }
            Self::HardSwish => each!(|x: f32| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            Self::LeakyRelu { slope } => each!(|x: f32| if x >= 0.0 { x } else { slope * x }),
            Self::Logarithm => each!(f32::ln),
            Self::Power { exponent } => each!(|x: f32| x.powf(exponent)),
            Self::Scale { factor, offset } => each!(|x: f32| factor * x + offset),
            Self::Sigmoid => each!(|x: f32| 1.0 / (1.0 + (-x).exp())),
            Self::Silu => each!(|x: f32| x / (1.0 + (-x).exp())),
            Self::Softplus => each!(|x: f32| x.max(0.0) + (-x.abs()).exp().ln_1p()),
            Self::SquareRoot => each!(f32::sqrt),
            Self::Tanh => each!(f32::tanh),
        }
    }

    pub(super) fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let at = file.at();
        Ok(match file.byte()? {
            1 => Self::Absolute,
            2 => Self::Clip { low: file.float()?, high: file.float()? },
            3 => Self::Elu { alpha: file.float()? },
            4 => Self::Erf,
            5 => Self::Exponential,
            6 => Self::Gelu,
            7 => Self::GeluTanh,
            8 => Self::HardSigmoid { slope: file.float()?, offset: file.float()? },
            9 => Self::HardSwish,
            10 => Self::LeakyRelu { slope: file.float()? },
            11 => Self::Logarithm,
            12 => Self::Power { exponent: file.float()? },
            13 => Self::Scale { factor: file.float()?, offset: file.float()? },
            14 => Self::Sigmoid,
            15 => Self::Silu,
            16 => Self::Softplus,
            17 => Self::SquareRoot,
            18 => Self::Tanh,
            code => return Err(file.unknown(at, "function", code)),
        })
    }

    pub(super) fn write(self, file: &mut Writer) {
        let (code, settings) = self.code();
        file.byte(code);
        settings.into_iter().flatten().for_each(|setting| file.float(setting));
    }

    /// Its code in the file, and its settings.
    fn code(self) -> (u8, [Option<f32>; 2]) {
        match self {
            Self::Absolute => (1, [None; 2]),
            Self::Clip { low, high } => (2, [Some(low), Some(high)]),
            Self::Elu { alpha } => (3, [Some(alpha), None]),
            Self::Erf => (4, [None; 2]),
            Self::Exponential => (5, [None; 2]),
            Self::Gelu => (6, [None; 2]),
            Self::GeluTanh => (7, [None; 2]),
            Self::HardSigmoid { slope, offset } => (8, [Some(slope), Some(offset)]),
            Self::HardSwish => (9, [None; 2]),
            Self::LeakyRelu { slope } => (10, [Some(slope), None]),
            Self::Logarithm => (11, [None; 2]),
            Self::Power { exponent } => (12, [Some(exponent), None]),
            Self::Scale { factor, offset } => (13, [Some(factor), Some(offset)]),
            Self::Sigmoid => (14, [None; 2]),
            Self::Silu => (15, [None; 2]),
            Self::Softplus => (16, [None; 2]),
            Self::SquareRoot => (17, [None; 2]),
            Self::Tanh => (18, [None; 2]),
        }
    }

    pub(super) fn check(self) -> Result<(), Problem> {
        match self {
            Self::Clip { low, high } => check_range(low, high),
            Self::LeakyRelu { slope } => check_number("the slope", slope, false),
            Self::Absolute
            | Self::Elu { .. }
            | Self::Erf
            | Self::Exponential
            | Self::Gelu
            | Self::GeluTanh
            | Self::HardSigmoid { .. }
            | Self::HardSwish
            | Self::Logarithm
            | Self::Power { .. }
            | Self::Scale { .. }
            | Self::Sigmoid
            | Self::Silu
            | Self::Softplus
            | Self::SquareRoot
            | Self::Tanh => {
                let settings = self.code().1;
                let mut settings = settings.into_iter().flatten();
                settings.try_for_each(|setting| check_number("a setting", setting, false))
            }
        }
    }
}

impl Settings for Map {
    const CODE: u8 = 7;
    const NAME: &'static str = "function of each number";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { function: Function::read(file)? })
    }

    fn write(&self, file: &mut Writer) {
        self.function.write(file);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, element)?;
        self.function.check()?;
        Ok(input.shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, _: &Site) -> Box<dyn Prepared> {
        Box::new(*self)
    }
}

impl Prepared for Map {
    fn run(&self, operands: Operands) {
        self.function.run(operands.inputs.of(0), view_mut(operands.output));
    }
}

/// `1 - erf(x)`, with a relative error below 2e-7: the Chebyshev fit of "Numerical Recipes" (Press
/// et al. 1992, section 6.2).
fn complementary_error(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let sum = COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
    let positive = t * (sum - x * x).exp();
    if x >= 0.0 { positive } else { 2.0 - positive }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_their_known_values() {
        let close = |function: Function, x: f32, expected: f32| {
            let got = function.apply(x);
            assert!((got - expected).abs() < 1e-6, "{function:?}({x}) is {got}, not {expected}");
        };
        close(Function::Erf, 0.0, 0.0);
        close(Function::Erf, 0.5, 0.520_499_9);
        close(Function::Erf, -2.0, -0.995_322_3);
        close(Function::Gelu, 1.0, 0.841_344_7);
        close(Function::Gelu, -3.0, -0.004_049_7);
        close(Function::GeluTanh, 1.0, 0.841_192);
        close(Function::HardSwish, 1.0, 4.0 / 6.0);
        close(Function::HardSwish, -4.0, 0.0);
        close(Function::Silu, 1.0, 0.731_058_6);
        close(Function::Softplus, 0.0, std::f32::consts::LN_2);
        close(Function::Softplus, 100.0, 100.0);
        close(Function::Elu { alpha: 2.0 }, -1.0, -1.264_241_1);
        close(Function::Clip { low: -1.0, high: f32::INFINITY }, -2.0, -1.0);
        close(Function::Scale { factor: 2.0, offset: 1.0 }, 3.0, 7.0);
        assert!(Function::Clip { low: 0.0, high: 1.0 }.apply(f32::NAN).is_nan());
    }
}
