//! A function of two numbers, in fp32 only.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::{Binary, BinaryFunction};

use super::{Integer, Lower, LowerError, Site};

impl Lower for Binary {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        let function = match self.function {
            BinaryFunction::Divide => edge::BinaryFunction::Divide,
            BinaryFunction::Equal => edge::BinaryFunction::Equal,
            BinaryFunction::Less => edge::BinaryFunction::Less,
            BinaryFunction::LessOrEqual => edge::BinaryFunction::LessOrEqual,
            BinaryFunction::Maximum => edge::BinaryFunction::Maximum,
            BinaryFunction::Minimum => edge::BinaryFunction::Minimum,
            BinaryFunction::Power => edge::BinaryFunction::Power,
            BinaryFunction::Subtract => edge::BinaryFunction::Subtract,
        };
        Ok(edge::Binary { function }.into())
    }

    fn integer(&self, _: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::None)
    }

    fn has_integers(&self) -> bool {
        false
    }
}
