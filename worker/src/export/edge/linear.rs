//! Linear layers. Those of a vector at the end of the network, or before a softmax, compute logits,
//! which are not requantized; those at several positions are convolutions with kernels of one position.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::{Linear, NodeId, Op};

use super::{Integer, Lower, LowerError, Site, one_if_equal};

impl Lower for Linear {
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError> {
        let (weight, bias) = (site.weight().to_vec(), site.bias());
        Ok(if site.input_shape().space().is_empty() && site.clip.is_none() {
            layer(site, weight, bias).into()
        } else {
            let conv = pointwise(site, weight, bias);
            edge::FloatConv { conv, activation: site.activation() }.into()
        })
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let integers = site.integers()?;
        let vector = site.input_shape().space().is_empty();
        if vector && site.clip.is_none() && is_last(site) {
            let input = site.input_scale(0);
            let scales = integers.scales.iter().map(|scale| (scale * input) as f32).collect();
            let logit_scale = one_if_equal(scales, |scale| scale.to_bits());
            let linear = layer(site, integers.weight, integers.bias);
            return Ok(Integer::Real(edge::IntLinear { linear, logit_scale }.into()));
        }
        // The factors say the scales as well.
        let (weight_scale, requantize) = (Vec::new(), integers.requantize(site)?);
        let conv = pointwise(site, integers.weight, integers.bias);
        let clamp = site.clamp()?;
        Ok(Integer::Layer(edge::IntConv { conv, weight_scale, requantize, clamp }.into()))
    }
}

/// Whether its output is one of the network's, or only a softmax reads it, which computes in fp32.
fn is_last(site: &Site<'_>) -> bool {
    let readers = &site.graph.readers()[site.output.index()];
    let softmax = |id: &NodeId| matches!(site.graph.node(*id).op, Op::Softmax(_));
    site.graph.outputs().contains(&site.output)
        || (!readers.is_empty() && readers.iter().all(softmax))
}

fn layer<W, B>(site: &Site<'_>, weight: Vec<W>, bias: Vec<B>) -> edge::Linear<W, B> {
    edge::Linear {
        in_features: site.input_shape().channels(),
        out_features: site.graph.shape(site.output).channels(),
        weight,
        bias,
    }
}

/// The same at each position.
fn pointwise<W, B>(site: &Site<'_>, weight: Vec<W>, bias: Vec<B>) -> edge::Conv<W, B> {
    let shape = site.input_shape();
    edge::Conv {
        in_channels: shape.channels(),
        out_channels: site.graph.shape(site.output).channels(),
        groups: 1,
        axes: vec![edge::WindowAxis::new(1, 1, 0); shape.space().len()],
        weight,
        bias,
    }
}
