//! Convolutions, with the clip after them.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Conv;

use super::max_pool::windows;
use super::{Integer, Lower, LowerError, Site};

impl Lower for Conv {
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError> {
        let conv = layer(self, site, site.weight().to_vec(), site.bias());
        Ok(edge::FloatConv { conv, activation: site.activation() }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let integers = site.integers()?;
        // The factors say the scales as well.
        let (weight_scale, requantize) = (Vec::new(), integers.requantize(site)?);
        let conv = layer(self, site, integers.weight, integers.bias);
        let clamp = site.clamp()?;
        Ok(Integer::Layer(edge::IntConv { conv, weight_scale, requantize, clamp }.into()))
    }
}

/// The engine's convolution with these weights and biases.
fn layer<W, B>(conv: &Conv, site: &Site<'_>, weight: Vec<W>, bias: Vec<B>) -> edge::Conv<W, B> {
    let shape = &site.graph.parameter(site.node.parameters[0]).shape;
    let in_channels = site.input_shape().channels();
    edge::Conv {
        in_channels,
        out_channels: shape[0],
        groups: conv.groups.parts(in_channels),
        axes: windows(&conv.axes, &shape[2..]),
        weight,
        bias,
    }
}
