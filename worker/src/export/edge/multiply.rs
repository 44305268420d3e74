//! Products of two values, number by number.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Multiply;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Multiply {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Binary { function: edge::BinaryFunction::Multiply }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let factor = site.input_scale(0) * site.input_scale(1) / site.output_scale()?;
        let requantize = edge::Requantization::from_real(factor);
        Ok(Integer::Layer(edge::IntProduct { requantize, clamp: site.clamp()? }.into()))
    }
}
