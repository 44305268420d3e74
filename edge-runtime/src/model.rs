//! A model in memory, with the content of the model file. Weights are row-major, outermost
//! dimension first.
//!
//! Nodes are in execution order. Value 0 is the input image; node `i` computes value `i + 1`; the
//! last node computes the logits.

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
    /// Two for `Add`, else one.
    pub inputs: Vec<ValueId>,
    /// What it computes.
    pub layer: FloatLayer,
}

/// What an fp32 node computes.
#[derive(Debug, Clone, PartialEq)]
pub enum FloatLayer {
    /// Dense convolution, weights `[out][in][k][k]`.
    Conv(Conv<f32, f32>, Activation),
    /// Depthwise convolution, weights `[channels][k][k]`.
    Depthwise(Conv<f32, f32>, Activation),
    /// Elementwise sum.
    Add,
    /// Mean of every channel.
    GlobalAveragePool,
    /// Logits, weights `[out][in]`.
    Linear(Linear<f32, f32>),
}

/// One integer node.
#[derive(Debug, Clone, PartialEq)]
pub struct IntNode {
    /// Two for `Add`, else one.
    pub inputs: Vec<ValueId>,
    /// What it computes.
    pub layer: IntLayer,
    /// Quantization of its output.
    pub output: Quantization,
}

/// What an integer node computes. Inputs and outputs are uint8 with zero points; accumulators are
/// int32. Biases are int32 at scale `input scale * weight scale`, zero point 0. After accumulation
/// of `(q_in - zero_in) * q_w + bias`, the accumulator of channel `c` is scaled by `requantize[c]`,
/// the output's zero point is added, and the result is clamped to `clamp` (inclusive). The clamp
/// includes the activation: for a ReLU its lower end is the zero point.
#[derive(Debug, Clone, PartialEq)]
pub enum IntLayer {
    /// Dense convolution, weights `[out][in][k][k]`; padding holds the input's zero point.
    Conv {
        /// Shape, weights and biases.
        conv: Conv<i8, i32>,
        /// One per output channel: `input scale * weight scale / output scale`.
        requantize: Vec<Requantization>,
        /// Lowest and highest output byte.
        clamp: (u8, u8),
    },
    /// Depthwise convolution, weights `[channels][k][k]`.
    Depthwise {
        /// Shape, weights and biases.
        conv: Conv<i8, i32>,
        /// One per channel.
        requantize: Vec<Requantization>,
        /// Lowest and highest output byte.
        clamp: (u8, u8),
    },
    /// Sum of two values of different scales. Each side is `(q - zero) << 20`, scaled by its own
    /// factor (`side scale / (2 * max side scale)`), summed, and scaled by `output`
    /// (`2 * max side scale / (2^20 * output scale)`), as TFLite does.
    Add {
        /// Factor of each side.
        sides: [Requantization; 2],
        /// Factor of the sum.
        output: Requantization,
        /// Lowest and highest output byte.
        clamp: (u8, u8),
    },
    /// Sum over positions of `q - zero`, scaled by `requantize`
    /// (`input scale / (positions * output scale)`).
    GlobalAveragePool {
        /// The factor.
        requantize: Requantization,
    },
    /// Logits, weights `[out][in]`. Its output is *not* requantized: the engine's result is
    /// `accumulator * logit_scale[c]` in fp32, so `output` of this node is unused. It is the last
    /// node.
    Linear {
        /// Shape, weights and biases.
        linear: Linear<i8, i32>,
        /// `input scale * weight scale[c]` per class.
        logit_scale: Vec<f32>,
    },
}

/// A square convolution with `padding` on every side; output side `(in + 2p - k) / stride + 1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv<W, B> {
    /// Channels read.
    pub in_channels: u32,
    /// Channels written; a depthwise convolution has `in_channels` of them.
    pub out_channels: u32,
    /// Side of the kernel.
    pub kernel: u32,
    /// Stride.
    pub stride: u32,
    /// Padding on every side.
    pub padding: u32,
    /// Weights.
    pub weight: Vec<W>,
    /// One per output channel.
    pub bias: Vec<B>,
}

/// A fully connected layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear<W, B> {
    /// Values read.
    pub in_features: u32,
    /// Values written.
    pub out_features: u32,
    /// `[out][in]`.
    pub weight: Vec<W>,
    /// One per output.
    pub bias: Vec<B>,
}

/// The non-linearity at the end of a float layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// None.
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
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
