//! The product of two values as matrices, which has no form in integers.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::MatrixProduct;

use super::{Integer, Lower, LowerError, Site};

impl Lower for MatrixProduct {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::MatrixProduct { transposed: self.transposed }.into())
    }

    fn integer(&self, _: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::None)
    }

    fn has_integers(&self) -> bool {
        false
    }
}
