//! The mean of each channel.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::GlobalAveragePool;

use super::{Integer, Lower, LowerError, Site};

impl Lower for GlobalAveragePool {
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError> {
        let shape = site.input_shape();
        Ok(match shape.space().len() {
            // A vector has nothing to average.
            0 => edge::Reshape { sizes: vec![shape.channels()] }.into(),
            space => edge::Reduce::global_mean(1 + space, false).into(),
        })
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let shape = site.input_shape();
        let space = shape.space().len();
        if space == 0 {
            return Ok(Integer::Moves(self.float(site)?));
        }
        site.check_sum(shape.space().iter().copied())?;
        let factor = site.input_scale(0) / (shape.positions() as f64 * site.output_scale()?);
        let requantize = edge::Requantization::from_real(factor);
        let reduce = edge::Reduce::global_mean(1 + space, false);
        Ok(Integer::Layer(edge::IntReduce { reduce, requantize }.into()))
    }
}
