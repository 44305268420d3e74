//! Softmax, in fp32 only.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Softmax;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Softmax {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Softmax { axis: self.axis, log: self.log }.into())
    }

    fn integer(&self, _: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::None)
    }

    fn has_integers(&self) -> bool {
        false
    }
}
