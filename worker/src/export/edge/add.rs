//! Sums of two values.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Add;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Add {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Binary { function: edge::BinaryFunction::Add }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let output = site.output_scale()?;
        let factors = [0, 1].map(|side| site.input_scale(side) / output);
        Ok(Integer::Layer(edge::IntSum::from_real(factors, site.clamp()?).into()))
    }
}
