//! Layer normalisation, in fp32 only.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::LayerNormalization;

use super::{Integer, Lower, LowerError, Site};

impl Lower for LayerNormalization {
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError> {
        let sizes = site.input_shape().sizes();
        let count = self.axes.iter().map(|&axis| sizes[axis as usize] as usize).product();
        let numbers = |slot: usize, absent: f32| {
            if slot < site.node.parameters.len() {
                site.parameter(slot).to_vec()
            } else {
                vec![absent; count]
            }
        };
        let (scale, shift) = (numbers(0, 1.0), numbers(1, 0.0));
        let (axes, epsilon) = (self.axes.to_vec(), self.epsilon);
        Ok(edge::LayerNormalization { axes, epsilon, scale, shift }.into())
    }

    fn integer(&self, _: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::None)
    }

    fn has_integers(&self) -> bool {
        false
    }
}
