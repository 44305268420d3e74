//! Hard swish, in integers a table of all bytes.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::HardSwish;

use super::{Integer, Lower, LowerError, Site};

impl Lower for HardSwish {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Map { function: function(self) }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        site.table(function(self))
    }
}

fn function(_: &HardSwish) -> edge::Function {
    edge::Function::HardSwish
}
