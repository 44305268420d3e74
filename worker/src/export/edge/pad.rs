//! A border around a value.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Pad;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Pad {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(layer(self, edge::Fill::Fp32(self.value)).into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let input = site.inputs[0];
        let byte = input.quantize(self.value);
        if (input.dequantize(byte) - self.value).abs() <= input.scale {
            return Ok(Integer::Moves(layer(self, edge::Fill::Byte(byte)).into()));
        }
        // The scale of the input does not reach so far.
        let byte = site.output()?.quantize(self.value);
        Ok(Integer::Joins(layer(self, edge::Fill::Byte(byte)).into()))
    }
}

fn layer(pad: &Pad, fill: edge::Fill) -> edge::Pad {
    edge::Pad { before: pad.before.to_vec(), after: pad.after.to_vec(), fill }
}
