//! Convolutions become dense or depthwise ones, with the clip after them.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::{Clip, Conv, Groups};

use super::{Integers, Lower, LowerError, Site};

impl Lower for Conv {
    fn float(&self, site: &Site<'_>) -> Result<edge::FloatLayer, LowerError> {
        let activation = match site.clip {
            None => edge::Activation::Linear,
            Some(Clip::RELU) => edge::Activation::Relu,
            Some(Clip::RELU6) => edge::Activation::Relu6,
            Some(_) => {
                return Err(site.unsupported(" with a clip after it that is not ReLU or ReLU6"));
            }
        };
        let conv = geometry(self, site, site.weight().to_vec(), site.bias())?;
        Ok(if is_depthwise(self) {
            edge::FloatLayer::Depthwise(edge::FloatDepthwise { conv, activation })
        } else {
            edge::FloatLayer::Conv(edge::FloatConv { conv, activation })
        })
    }

    fn integer(&self, site: &Site<'_>) -> Result<edge::IntLayer, LowerError> {
        let (input, output) = (site.scale(site.node.inputs[0])?, site.scale(site.output)?);
        let Integers { weight, bias, scales } = site.integers()?;
        let requantize = scales.iter().map(|scale| input * scale / output);
        let requantize = requantize.map(edge::Requantization::from_real).collect();
        let conv = geometry(self, site, weight, bias)?;
        let clamp = site.clamp()?;
        Ok(if is_depthwise(self) {
            edge::IntLayer::Depthwise(edge::IntDepthwise { conv, requantize, clamp })
        } else {
            edge::IntLayer::Conv(edge::IntConv { conv, requantize, clamp })
        })
    }
}

fn is_depthwise(conv: &Conv) -> bool {
    conv.groups == Groups::PerChannel
}

/// The engine's convolution with these weights and biases. It has square kernels, and the same
/// stride and padding on all sides.
fn geometry<W, B>(
    conv: &Conv,
    site: &Site<'_>,
    weight: Vec<W>,
    bias: Vec<B>,
) -> Result<edge::Conv<W, B>, LowerError> {
    let [down, across] = conv.axes[..] else {
        return Err(site.unsupported(" over one axis"));
    };
    let [out_channels, _, kernel, columns] =
        site.graph.parameter(site.node.parameters[0]).shape[..]
    else {
        unreachable!("the weight of a convolution over two axes has four")
    };
    let in_channels = site.input_shape().channels();
    match conv.groups {
        Groups::Equal(1) => {}
        Groups::PerChannel if in_channels == out_channels => {}
        Groups::PerChannel => return Err(site.unsupported(" with several filters per channel")),
        Groups::Equal(_) => return Err(site.unsupported(" in groups")),
    }
    if kernel != columns || down != across || down.before != down.after {
        return Err(site.unsupported(" with an unequal kernel, stride or padding"));
    }
    if down.dilation != 1 {
        return Err(site.unsupported(" with dilation"));
    }
    let (stride, padding) = (down.stride, down.before);
    Ok(edge::Conv { in_channels, out_channels, kernel, stride, padding, weight, bias })
}
