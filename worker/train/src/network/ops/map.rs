//! Functions of each number by itself.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, hard_sigmoid, sigmoid, silu, softplus};
use edgesmith_graph::{Dual, Function, Map};

use super::{Call, Trainable, inputs};

impl Trainable for Map {
    fn forward(&self, values: Vec<Tensor<4>>, _: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        match self.function {
            Function::Absolute => value.abs(),
            // No exponential overflows, whose gradient would not be a number. Not a sum of two
            // clamps: at 0, burn's let the gradient through on both sides.
            Function::Elu { alpha } => {
                let below = value.clone().clamp_max(0.0).exp().sub_scalar(1.0).mul_scalar(alpha);
                let negative = value.clone().lower_equal_elem(0.0);
                value.mask_where(negative, below)
            }
            Function::Erf => value.erf(),
            Function::Exponential => value.exp(),
            Function::Gelu => gelu(value),
            Function::GeluTanh => {
                let cubic = value.clone() * value.clone() * value.clone();
                let inner = value.clone() + cubic.mul_scalar(0.044715);
                let root = (2.0 / std::f64::consts::PI).sqrt();
                value * inner.mul_scalar(root).tanh().mul_scalar(0.5).add_scalar(0.5)
            }
            Function::HardSigmoid { slope, offset } => {
                hard_sigmoid(value, f64::from(slope), f64::from(offset))
            }
            Function::HardSwish => {
                let gate = value.clone().add_scalar(3.0).clamp(0.0, 6.0).div_scalar(6.0);
                value * gate
            }
            Function::Logarithm => value.log(),
            // The gradient of burn's power is 0 times infinity at 0.
            Function::Power { exponent: 0.0 } => value.ones_like(),
            Function::Power { exponent } => value.powf_scalar(exponent),
            Function::Scale { factor, offset } => value.mul_scalar(factor).add_scalar(offset),
            Function::Sigmoid => sigmoid(value),
            Function::Silu => silu(value),
            Function::Softplus => softplus(value, 1.0),
            Function::SquareRoot => value.sqrt(),
            Function::Tanh => value.tanh(),
        }
    }

    /// The gradient at 0 has to be finite too, because it is multiplied by 0. That of a square root
    /// is not.
    fn keeps_silence(&self, silent: &[bool]) -> bool {
        let at_zero = self.function.of(Dual { value: 0.0, slope: 1.0 });
        silent[0] && at_zero.value == 0.0 && at_zero.slope.is_finite()
    }
}
