//! The linear layer at the end, whose output is the logits. In integers it is not requantized.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Linear;

use super::{Integers, Lower, LowerError, Site};

impl Lower for Linear {
    fn float(&self, site: &Site<'_>) -> Result<edge::FloatLayer, LowerError> {
        Ok(edge::FloatLayer::Linear(layer(site, site.weight().to_vec(), site.bias())?))
    }

    fn integer(&self, site: &Site<'_>) -> Result<edge::IntLayer, LowerError> {
        let Integers { weight, bias, scales } = site.integers()?;
        let input = site.scale(site.node.inputs[0])?;
        let linear = layer(site, weight, bias)?;
        let logit_scale = scales.iter().map(|scale| (scale * input) as f32).collect();
        Ok(edge::IntLayer::Linear(edge::IntLinear { linear, logit_scale }))
    }
}

fn layer<W, B>(
    site: &Site<'_>,
    weight: Vec<W>,
    bias: Vec<B>,
) -> Result<edge::Linear<W, B>, LowerError> {
    let (input, output) = (site.input_shape(), site.graph.shape(site.output));
    if site.clip.is_some() || site.graph.outputs() != [site.output] {
        return Err(site.unsupported(" that is not the last layer"));
    }
    if !input.space().is_empty() {
        return Err(site.unsupported(" at several positions"));
    }
    Ok(edge::Linear {
        in_features: input.channels(),
        out_features: output.channels(),
        weight,
        bias,
    })
}
