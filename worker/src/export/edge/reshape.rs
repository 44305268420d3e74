//! Other sizes for the same numbers.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Reshape;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Reshape {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Reshape { sizes: self.sizes.to_vec() }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::Moves(self.float(site)?))
    }
}
