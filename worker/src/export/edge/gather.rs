//! Chosen places along an axis.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Gather;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Gather {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Gather { axis: self.axis, indices: self.indices.clone() }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::Moves(self.float(site)?))
    }
}
