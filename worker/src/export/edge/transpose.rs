//! Axes in another order.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Transpose;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Transpose {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Transpose { order: self.order.to_vec() }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::Moves(self.float(site)?))
    }
}
