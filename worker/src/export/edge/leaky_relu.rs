//! Leaky ReLU, in integers a table of all bytes.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::LeakyRelu;

use super::{Integer, Lower, LowerError, Site};

impl Lower for LeakyRelu {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Map { function: function(self) }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        site.table(function(self))
    }
}

fn function(op: &LeakyRelu) -> edge::Function {
    edge::Function::LeakyRelu { slope: op.slope }
}
