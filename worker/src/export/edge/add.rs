//! Sums of two values of one shape.

use edgesmith_edge_runtime::{FloatAdd, FloatLayer, IntAdd, IntLayer, Requantization};
use edgesmith_graph::Add;

use super::{Lower, LowerError, Site};

/// Factor for the fraction bits of the sides of an addition, as the edge runtime defines them.
pub(super) const FRACTION: f64 = (1u64 << 20) as f64;

impl Lower for Add {
    fn float(&self, _: &Site<'_>) -> Result<FloatLayer, LowerError> {
        Ok(FloatLayer::Add(FloatAdd))
    }

    fn integer(&self, site: &Site<'_>) -> Result<IntLayer, LowerError> {
        let scales = [site.scale(site.node.inputs[0])?, site.scale(site.node.inputs[1])?];
        let (twice, output) = (2.0 * scales[0].max(scales[1]), site.scale(site.output)?);
        Ok(IntLayer::Add(IntAdd {
            sides: scales.map(|scale| Requantization::from_real(scale / twice)),
            output: Requantization::from_real(twice / (FRACTION * output)),
            clamp: site.clamp()?,
        }))
    }
}
