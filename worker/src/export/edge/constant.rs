//! A constant, in integers at the scale of its value.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Constant;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Constant {
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError> {
        let numbers = edge::Numbers::Fp32(site.parameter(0).to_vec());
        Ok(edge::Constant { sizes: sizes(site), numbers }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let output = site.output()?;
        let bytes = site.parameter(0).iter().map(|&number| output.quantize(number)).collect();
        let numbers = edge::Numbers::Bytes(bytes);
        Ok(Integer::Layer(edge::Constant { sizes: sizes(site), numbers }.into()))
    }
}

fn sizes(site: &Site<'_>) -> Vec<u32> {
    site.graph.shape(site.node.output).sizes().to_vec()
}
