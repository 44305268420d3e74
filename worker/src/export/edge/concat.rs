//! Values one after another; in integers all get one scale first.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Concat;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Concat {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Concat { axis: self.axis }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::Joins(self.float(site)?))
    }
}
