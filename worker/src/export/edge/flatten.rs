//! All positions of all channels as one vector.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Flatten;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Flatten {
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Reshape { sizes: vec![site.input_shape().elements() as u32] }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::Moves(self.float(site)?))
    }
}
