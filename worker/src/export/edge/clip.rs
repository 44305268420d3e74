//! A clip that is not part of a layer, in integers a table of all bytes.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Clip;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Clip {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Map { function: function(self) }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        site.table(function(self))
    }
}

fn function(clip: &Clip) -> edge::Function {
    edge::Function::Clip { low: clip.low, high: clip.high }
}
