//! Transposed convolutions, with the clip after them.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::{ConvTranspose, TransposedAxis};

use super::{Integer, Lower, LowerError, Site};

impl Lower for ConvTranspose {
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError> {
        let conv = layer(self, site, site.weight().to_vec(), site.bias());
        Ok(edge::FloatConvTranspose { conv, activation: site.activation() }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let integers = site.integers()?;
        // The factors say the scales as well.
        let (weight_scale, requantize) = (Vec::new(), integers.requantize(site)?);
        let conv = layer(self, site, integers.weight, integers.bias);
        let clamp = site.clamp()?;
        let layer = edge::IntConvTranspose { conv, weight_scale, requantize, clamp };
        Ok(Integer::Layer(layer.into()))
    }
}

/// The engine's transposed convolution with these weights and biases.
fn layer<W, B>(
    conv: &ConvTranspose,
    site: &Site<'_>,
    weight: Vec<W>,
    bias: Vec<B>,
) -> edge::ConvTranspose<W, B> {
    let shape = &site.graph.parameter(site.node.parameters[0]).shape;
    let in_channels = site.input_shape().channels();
    let axes = conv.axes.iter().zip(&shape[2..]).map(|(axis, &kernel)| {
        let &TransposedAxis { stride, dilation, before, after, extra } = axis;
        edge::TransposedAxis { kernel, stride, dilation, before, after, extra }
    });
    edge::ConvTranspose {
        in_channels,
        out_channels: shape[0],
        groups: conv.groups.parts(in_channels),
        axes: axes.collect(),
        weight,
        bias,
    }
}
