//! The mean of each channel.

use edgesmith_edge_runtime::{
    FloatGlobalAveragePool, FloatLayer, IntGlobalAveragePool, IntLayer, Requantization,
};
use edgesmith_graph::GlobalAveragePool;

use super::{Lower, LowerError, Site};

impl Lower for GlobalAveragePool {
    fn float(&self, _: &Site<'_>) -> Result<FloatLayer, LowerError> {
        Ok(FloatLayer::GlobalAveragePool(FloatGlobalAveragePool))
    }

    fn integer(&self, site: &Site<'_>) -> Result<IntLayer, LowerError> {
        let (input, output) = (site.scale(site.node.inputs[0])?, site.scale(site.output)?);
        let positions = site.input_shape().positions() as f64;
        let requantize = Requantization::from_real(input / (positions * output));
        Ok(IntLayer::GlobalAveragePool(IntGlobalAveragePool { requantize }))
    }
}
