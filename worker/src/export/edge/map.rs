//! A function of each number, in integers a table of all bytes.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::{Function, Map};

use super::{Integer, Lower, LowerError, Site};

impl Lower for Map {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Map { function: function(self.function) }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        site.table(function(self.function))
    }
}

fn function(function: Function) -> edge::Function {
    match function {
        Function::Absolute => edge::Function::Absolute,
        Function::Elu { alpha } => edge::Function::Elu { alpha },
        Function::Erf => edge::Function::Erf,
        Function::Exponential => edge::Function::Exponential,
        Function::Gelu => edge::Function::Gelu,
        Function::GeluTanh => edge::Function::GeluTanh,
        Function::HardSigmoid { slope, offset } => edge::Function::HardSigmoid { slope, offset },
        Function::HardSwish => edge::Function::HardSwish,
        Function::Logarithm => edge::Function::Logarithm,
        Function::Power { exponent } => edge::Function::Power { exponent },
        Function::Scale { factor, offset } => edge::Function::Scale { factor, offset },
        Function::Sigmoid => edge::Function::Sigmoid,
        Function::Silu => edge::Function::Silu,
        Function::Softplus => edge::Function::Softplus,
        Function::SquareRoot => edge::Function::SquareRoot,
        Function::Tanh => edge::Function::Tanh,
    }
}
