//! A function of each number by itself.

use std::hash::{Hash, Hasher};

use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Applies a function, elementwise.
#[derive(Debug, Clone, Copy, PartialEq, Hash)]
pub struct Map {
    /// Which one.
    pub function: Function,
}

/// A function of one number. Its settings are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    /// `|x|`
    Absolute,
    /// `x` where it is above 0, else `alpha * (e^x - 1)` (Clevert et al. 2016).
    Elu {
        /// The limit far below 0, negated.
        alpha: f32,
    },
    /// The error function.
    Erf,
    /// `e^x`
    Exponential,
    /// `x / 2 * (1 + erf(x / sqrt(2)))` (Hendrycks & Gimpel 2016, "Gaussian error linear units").
    Gelu,
    /// The approximation of [`Function::Gelu`] by a hyperbolic tangent,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`.
    GeluTanh,
    /// `min(max(slope * x + offset, 0), 1)`
    HardSigmoid {
        /// Factor of the input.
        slope: f32,
        /// The result at 0, if it is between 0 and 1.
        offset: f32,
    },
    /// `x * min(max(x + 3, 0), 6) / 6` (Howard et al. 2019, "Searching for MobileNetV3").
    HardSwish,
    /// The natural logarithm. It has none of 0.
    Logarithm,
    /// `x^exponent`
    Power {
        /// The exponent.
        exponent: f32,
    },
    /// `factor * x + offset`
    Scale {
        /// Multiplies the input.
        factor: f32,
        /// The result at 0.
        offset: f32,
    },
    /// `1 / (1 + e^-x)`, as in the gate of squeeze-and-excitation. It is not 0 at 0.
    Sigmoid,
    /// `x / (1 + e^-x)`, also called swish (Ramachandran et al. 2017).
    Silu,
    /// `ln(1 + e^x)`
    Softplus,
    /// The square root.
    SquareRoot,
    /// The hyperbolic tangent.
    Tanh,
}

impl Function {
    /// The function of a number.
    pub fn of<S: Scalar>(self, x: S) -> S {
        let [zero, half, one] = [0.0, 0.5, 1.0].map(S::constant);
        let constant = |setting: f32| S::constant(setting.into());
        match self {
            Function::Absolute => absolute(x),
            Function::Elu { alpha } => {
                if x > zero {
                    x
                } else {
                    constant(alpha) * (x.exp() - one)
                }
            }
            Function::Erf => x.erf(),
            Function::Exponential => x.exp(),
            Function::Gelu => {
                half * x * (one + (x * S::constant(std::f64::consts::FRAC_1_SQRT_2)).erf())
            }
            Function::GeluTanh => {
                let [cubic, root] = [0.044715, (2.0 / std::f64::consts::PI).sqrt()];
                let [cubic, root] = [cubic, root].map(S::constant);
                half * x * (one + (root * (x + cubic * x * x * x)).tanh())
            }
            Function::HardSigmoid { slope, offset } => {
                (constant(slope) * x + constant(offset)).clip(0.0, 1.0)
            }
            Function::HardSwish => {
                let [three, six] = [3.0, 6.0].map(S::constant);
                x * (x + three).clip(0.0, 6.0) / six
            }
            Function::Logarithm => x.ln(),
            Function::Power { exponent } => x.powf(constant(exponent)),
            Function::Scale { factor, offset } => constant(factor) * x + constant(offset),
            Function::Sigmoid => one / (one + (zero - x).exp()),
            Function::Silu => x / (one + (zero - x).exp()),
            // The exponential of a number up to 0 never overflows.
            Function::Softplus => {
                let above = if x > zero { x } else { zero };
                above + (one + (zero - absolute(x)).exp()).ln()
            }
            Function::SquareRoot => x.sqrt(),
            Function::Tanh => x.tanh(),
        }
    }

    /// What the settings are called, and their values.
    fn settings(self) -> [(&'static str, f32); 2] {
        let none = ("", 0.0);
        match self {
            Function::Elu { alpha } => [("alpha", alpha), none],
            Function::HardSigmoid { slope, offset } => [("slope", slope), ("offset", offset)],
            Function::Power { exponent } => [("exponent", exponent), none],
            Function::Scale { factor, offset } => [("factor", factor), ("offset", offset)],
            Function::Absolute
            | Function::Erf
            | Function::Exponential
            | Function::Gelu
            | Function::GeluTanh
            | Function::HardSwish
            | Function::Logarithm
            | Function::Sigmoid
            | Function::Silu
            | Function::Softplus
            | Function::SquareRoot
            | Function::Tanh => [none; 2],
        }
    }
}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        // Equal settings have equal hashes: -0.0 becomes 0.0.
        self.settings().map(|(_, value)| (value + 0.0).to_bits()).hash(state);
    }
}

impl From<Function> for Map {
    fn from(function: Function) -> Self {
        Self { function }
    }
}

impl Operation for Map {
    fn kind(&self) -> &'static str {
        "map"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        if let Some((setting, value)) =
            self.function.settings().into_iter().find(|(_, value)| !value.is_finite())
        {
            return Err(InferError::Setting { setting, value: value.to_string() });
        }
        operands.one().cloned()
    }

    fn macs(&self, _: &Operands, _: &Shape) -> u64 {
        0
    }

    fn multiplications(&self, _: &Operands) -> Option<Multiplications> {
        None
    }

    fn absorbs_factors(&self) -> bool {
        false
    }

    fn effect(&self) -> Effect {
        let off_up_to = match self.function {
            Function::Scale { .. } => return Effect::Combines,
            Function::HardSigmoid { slope, offset } => (slope > 0.0).then_some(-offset / slope),
            Function::HardSwish => Some(-3.0),
            Function::Absolute
            | Function::Elu { .. }
            | Function::Erf
            | Function::Exponential
            | Function::Gelu
            | Function::GeluTanh
            | Function::Logarithm
            | Function::Power { .. }
            | Function::Sigmoid
            | Function::Silu
            | Function::Softplus
            | Function::SquareRoot
            | Function::Tanh => None,
        };
        Effect::Activates { off_up_to }
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::InPlace
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        // A channel that is removed counts as 0, so this has to be a finite number.
        if self.function.of(0.0f64).is_finite() { channel_by_channel() } else { Ties::new() }
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(&self, _: &Operands, inputs: &[&[S]], _: &[&[S]], _: &Shape) -> Vec<S> {
        inputs[0].iter().map(|&x| self.function.of(x)).collect()
    }
}

fn absolute<S: Scalar>(x: S) -> S {
    let zero = S::constant(0.0);
    if x < zero { zero - x } else { x }
}
