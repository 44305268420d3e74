//! One of two numbers, in fp32 only.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Select;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Select {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Select.into())
    }

    fn integer(&self, _: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::None)
    }

    fn has_integers(&self) -> bool {
        false
    }
}
