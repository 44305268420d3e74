//! A model in memory, with the content of the model file. Weights are row-major, outermost
//! dimension first.
//!
//! Nodes are in execution order. Value 0 is the input image; node `i` computes value `i + 1`; the
//! last node computes the logits. What a node computes is in `layers`.

use crate::layers::{FloatLayer, IntLayer};

/// A network that is ready to run on images of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The input image.
    pub input: InputSpec,
    /// The layers.
    pub network: Network,
}

/// Size and normalisation of the input image. The image is bytes `[channels][height][width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// Image channels.
    pub channels: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Per channel; the network sees `(byte / 255 - mean) / std`.
    pub mean: Vec<f32>,
    /// Per channel, above 0.
    pub std: Vec<f32>,
}

/// The nodes, in fp32 or in integers.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    /// 32-bit floating point.
    Fp32(Vec<FloatNode>),
    /// Integers only; the normalised image is quantized with `input` first.
    Int8 {
        /// Quantization of the normalised image.
        input: Quantization,
        /// The nodes.
        nodes: Vec<IntNode>,
    },
}

/// Which value a node reads: 0 is the image, `i + 1` the output of node `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// One fp32 node.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatNode {
    /// As many as the layer reads: two for `Add`, else one.
    pub inputs: Vec<ValueId>,
    /// What it computes.
    pub layer: FloatLayer,
}

/// One integer node.
#[derive(Debug, Clone, PartialEq)]
pub struct IntNode {
    /// As many as the layer reads: two for `Add`, else one.
    pub inputs: Vec<ValueId>,
    /// What it computes.
    pub layer: IntLayer,
    /// Quantization of its output.
    pub output: Quantization,
}

/// Affine quantization to uint8: `real = scale * (q - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantization {
    /// Above 0.
    pub scale: f32,
    /// The byte that means 0.
    pub zero_point: u8,
}

/// A positive real factor below 1 (or a little above) as integers (Jacob et al. 2018, section 2.2):
/// `multiplier / 2^31 * 2^shift`, with `multiplier` in `2^30..2^31`. Zero is `multiplier == 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requantization {
    /// Fixed-point mantissa.
    pub multiplier: i32,
    /// Power of two; negative shifts right.
    pub shift: i32,
}
