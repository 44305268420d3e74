//! Checks whether a model can be run: infers every shape and checks every size, reference and
//! number. A valid model runs without panics and without overflow of an accumulator.

use std::fmt;

use crate::error::{ModelError, Problem};
use crate::model::{
    Conv, FloatLayer, FloatNode, InputSpec, IntLayer, IntNode, Linear, Model, Network,
    Quantization, Requantization, ValueId,
};

/// Largest number of elements of one value, padding included: 16 times a 1024 x 1024 grey image. It
/// keeps a small file from using unbounded memory.
pub const MAX_VALUE_ELEMENTS: u64 = 1 << 24;

/// Size of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Channels; features of a vector.
    pub channels: u32,
    /// Rows; 1 for a vector.
    pub height: u32,
    /// Columns; 1 for a vector.
    pub width: u32,
}

impl Shape {
    /// Elements of a value of this shape.
    #[must_use]
    pub fn elements(self) -> usize {
        self.channels as usize * self.positions()
    }

    /// Rows times columns.
    #[must_use]
    pub fn positions(self) -> usize {
        self.height as usize * self.width as usize
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// The shapes of all values of a valid model: the image and the output of each node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shapes(Vec<Shape>);

impl Shapes {
    /// Shape of one value.
    ///
    /// # Panics
    /// If the model has no such value.
    #[must_use]
    pub fn of(&self, value: ValueId) -> Shape {
        self.0[value.0 as usize]
    }

    /// One shape per value: the image first, the logits last.
    #[must_use]
    pub fn all(&self) -> &[Shape] {
        &self.0
    }

    /// Number of logits.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.0.last().map_or(0, |shape| shape.elements())
    }
}

impl Model {
    /// Infers every shape.
    ///
    /// # Errors
    /// Returns the first mistake, with its node.
    pub fn validate(&self) -> Result<Shapes, ModelError> {
        let mut shapes = vec![check_input(&self.input).map_err(ModelError::Input)?];
        match &self.network {
            Network::Fp32(nodes) => infer(nodes, &mut shapes)?,
            Network::Int8 { input, nodes } => {
                check_quantization("the input quantization", *input).map_err(ModelError::Input)?;
                infer(nodes, &mut shapes)?;
            }
        }
        Ok(Shapes(shapes))
    }
}

/// The kind of a layer, the same for fp32 and integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Conv,
    Depthwise,
    Add,
    GlobalAveragePool,
    Linear,
}

impl Kind {
    /// The name in error messages.
    fn name(self) -> &'static str {
        match self {
            Kind::Conv => "convolution",
            Kind::Depthwise => "depthwise convolution",
            Kind::Add => "add",
            Kind::GlobalAveragePool => "global average pool",
            Kind::Linear => "linear",
        }
    }

    /// Number of inputs.
    fn inputs(self) -> usize {
        match self {
            Kind::Add => 2,
            Kind::Conv | Kind::Depthwise | Kind::GlobalAveragePool | Kind::Linear => 1,
        }
    }
}

/// A node in fp32 or in integers.
trait Node {
    fn kind(&self) -> Kind;
    fn inputs(&self) -> &[ValueId];
    /// Checks the layer and returns the shape of its output. The inputs exist, and their number is
    /// right for the kind.
    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem>;
}

fn infer<N: Node>(nodes: &[N], shapes: &mut Vec<Shape>) -> Result<(), ModelError> {
    if nodes.is_empty() {
        return Err(ModelError::NoNodes);
    }
    for (index, node) in nodes.iter().enumerate() {
        let wrap = |problem| ModelError::Node { node: index, kind: node.kind().name(), problem };
        let expected = node.kind().inputs();
        if node.inputs().len() != expected {
            return Err(wrap(Problem::InputCount { expected, found: node.inputs().len() }));
        }
        if (node.kind() == Kind::Linear) != (index + 1 == nodes.len()) {
            return Err(wrap(Problem::LinearNotLast));
        }
        let mut inputs = Vec::with_capacity(expected);
        for &value in node.inputs() {
            match shapes.get(value.0 as usize) {
                Some(&shape) => inputs.push((value, shape)),
                None => {
                    let limit = shapes.len();
                    return Err(wrap(Problem::ForwardReference { value: value.0, limit }));
                }
            }
        }
        let shape = node.output(&inputs).map_err(wrap)?;
        check_elements("its output", shape).map_err(wrap)?;
        shapes.push(shape);
    }
    Ok(())
}

impl Node for FloatNode {
    fn kind(&self) -> Kind {
        match self.layer {
            FloatLayer::Conv(..) => Kind::Conv,
            FloatLayer::Depthwise(..) => Kind::Depthwise,
            FloatLayer::Add => Kind::Add,
            FloatLayer::GlobalAveragePool => Kind::GlobalAveragePool,
            FloatLayer::Linear(..) => Kind::Linear,
        }
    }

    fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        match &self.layer {
            FloatLayer::Conv(conv, _) => {
                check_finite(&conv.weight, &conv.bias)?;
                conv_shape(conv, false, inputs[0])
            }
            FloatLayer::Depthwise(conv, _) => {
                check_finite(&conv.weight, &conv.bias)?;
                conv_shape(conv, true, inputs[0])
            }
            FloatLayer::Add => add_shape(inputs),
            FloatLayer::GlobalAveragePool => Ok(pool_shape(inputs)),
            FloatLayer::Linear(linear) => {
                check_finite(&linear.weight, &linear.bias)?;
                linear_shape(linear, inputs[0])
            }
        }
    }
}

impl Node for IntNode {
    fn kind(&self) -> Kind {
        match self.layer {
            IntLayer::Conv { .. } => Kind::Conv,
            IntLayer::Depthwise { .. } => Kind::Depthwise,
            IntLayer::Add { .. } => Kind::Add,
            IntLayer::GlobalAveragePool { .. } => Kind::GlobalAveragePool,
            IntLayer::Linear { .. } => Kind::Linear,
        }
    }

    fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        if self.kind() != Kind::Linear {
            check_quantization("the output quantization", self.output)?;
        }
        match &self.layer {
            IntLayer::Conv { conv, requantize, clamp } => {
                let shape = conv_shape(conv, false, inputs[0])?;
                check_requantize(requantize, conv.out_channels, *clamp)?;
                check_accumulators(&conv.weight, &conv.bias)?;
                Ok(shape)
            }
            IntLayer::Depthwise { conv, requantize, clamp } => {
                let shape = conv_shape(conv, true, inputs[0])?;
                check_requantize(requantize, conv.out_channels, *clamp)?;
                check_accumulators(&conv.weight, &conv.bias)?;
                Ok(shape)
            }
            IntLayer::Add { sides, output, clamp } => {
                for &factor in sides.iter().chain([output]) {
                    check_factor(factor)?;
                }
                // The factor of a side must be at most 1/2, so that the sum of both fits in 32
                // bits.
                if let Some(side) = sides.iter().find(|side| side.shift > 0) {
                    let Requantization { multiplier, shift } = *side;
                    return Err(Problem::BadRequantization { multiplier, shift });
                }
                check_clamp(*clamp)?;
                add_shape(inputs)
            }
            IntLayer::GlobalAveragePool { requantize } => {
                check_factor(*requantize)?;
                let sum = inputs[0].1.positions() as u64 * 255;
                if sum > i32::MAX as u64 {
                    return Err(Problem::AccumulatorOverflow { channel: 0 });
                }
                Ok(pool_shape(inputs))
            }
            IntLayer::Linear { linear, logit_scale } => {
                let shape = linear_shape(linear, inputs[0])?;
                check_size("the logit scale", u64::from(linear.out_features), logit_scale.len())?;
                for &value in logit_scale {
                    check_number("the logit scale", value, false)?;
                }
                check_accumulators(&linear.weight, &linear.bias)?;
                Ok(shape)
            }
        }
    }
}

fn check_input(input: &InputSpec) -> Result<Shape, Problem> {
    let InputSpec { channels, height, width, mean, std } = input;
    for (what, size) in [("channels", *channels), ("height", *height), ("width", *width)] {
        check_not_zero(what, size)?;
    }
    let shape = Shape { channels: *channels, height: *height, width: *width };
    check_elements("the image", shape)?;
    check_size("the mean", u64::from(*channels), mean.len())?;
    check_size("the standard deviation", u64::from(*channels), std.len())?;
    for (&mean, &std) in mean.iter().zip(std) {
        check_number("the mean", mean, false)?;
        check_number("the standard deviation", std, true)?;
    }
    Ok(shape)
}

fn conv_shape<W, B>(
    conv: &Conv<W, B>,
    depthwise: bool,
    (value, input): (ValueId, Shape),
) -> Result<Shape, Problem> {
    let Conv { in_channels, out_channels, kernel, stride, padding, .. } = *conv;
    check_not_zero("out_channels", out_channels)?;
    check_not_zero("kernel", kernel)?;
    check_not_zero("stride", stride)?;
    if in_channels != input.channels {
        return Err(Problem::ShapeMismatch {
            what: "channels",
            value: value.0,
            expected: u64::from(in_channels),
            found: u64::from(input.channels),
        });
    }
    if depthwise && in_channels != out_channels {
        return Err(Problem::NotDepthwise { in_channels, out_channels });
    }
    if padding >= kernel {
        return Err(Problem::PaddingTooLarge { padding, kernel });
    }
    let per_output = if depthwise { 1 } else { in_channels };
    let weights = [per_output, kernel, kernel]
        .iter()
        .fold(u64::from(out_channels), |product, &size| product.saturating_mul(u64::from(size)));
    check_size("the weight", weights, conv.weight.len())?;
    check_size("the bias", u64::from(out_channels), conv.bias.len())?;

    let [height, width] =
        [input.height, input.width].map(|n| u64::from(n) + 2 * u64::from(padding));
    if height.min(width) < u64::from(kernel) {
        return Err(Problem::KernelTooLarge { kernel, height, width });
    }
    let padded = height.saturating_mul(width).saturating_mul(u64::from(in_channels));
    check_limit("its padded input", padded)?;
    // Fits: `padded` is below the limit.
    let side = |padded: u64| ((padded - u64::from(kernel)) / u64::from(stride) + 1) as u32;
    Ok(Shape { channels: out_channels, height: side(height), width: side(width) })
}

fn linear_shape<W, B>(
    linear: &Linear<W, B>,
    (value, input): (ValueId, Shape),
) -> Result<Shape, Problem> {
    let Linear { in_features, out_features, weight, bias } = linear;
    check_not_zero("out_features", *out_features)?;
    if *in_features as usize != input.elements() {
        return Err(Problem::ShapeMismatch {
            what: "features",
            value: value.0,
            expected: u64::from(*in_features),
            found: input.elements() as u64,
        });
    }
    let weights = u64::from(*in_features) * u64::from(*out_features);
    check_size("the weight", weights, weight.len())?;
    check_size("the bias", u64::from(*out_features), bias.len())?;
    Ok(Shape { channels: *out_features, height: 1, width: 1 })
}

fn add_shape(inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
    let (left, right) = (inputs[0].1, inputs[1].1);
    if left == right { Ok(left) } else { Err(Problem::UnequalShapes(left, right)) }
}

fn pool_shape(inputs: &[(ValueId, Shape)]) -> Shape {
    Shape { height: 1, width: 1, ..inputs[0].1 }
}

fn check_not_zero(what: &'static str, size: u32) -> Result<(), Problem> {
    if size == 0 { Err(Problem::Zero(what)) } else { Ok(()) }
}

fn check_size(what: &'static str, expected: u64, found: usize) -> Result<(), Problem> {
    let found = found as u64;
    if expected == found { Ok(()) } else { Err(Problem::WrongSize { what, expected, found }) }
}

fn check_elements(what: &'static str, shape: Shape) -> Result<(), Problem> {
    let Shape { channels, height, width } = shape;
    let plane = u64::from(height).saturating_mul(u64::from(width));
    check_limit(what, plane.saturating_mul(u64::from(channels)))
}

fn check_limit(what: &'static str, elements: u64) -> Result<(), Problem> {
    let limit = MAX_VALUE_ELEMENTS;
    if elements <= limit { Ok(()) } else { Err(Problem::TooLarge { what, elements, limit }) }
}

fn check_number(what: &'static str, value: f32, positive: bool) -> Result<(), Problem> {
    if value.is_finite() && (!positive || value > 0.0) {
        Ok(())
    } else {
        Err(Problem::BadNumber { what, value, positive })
    }
}

fn check_finite(weight: &[f32], bias: &[f32]) -> Result<(), Problem> {
    weight.iter().try_for_each(|&value| check_number("the weight", value, false))?;
    bias.iter().try_for_each(|&value| check_number("the bias", value, false))
}

fn check_quantization(what: &'static str, quantization: Quantization) -> Result<(), Problem> {
    check_number(what, quantization.scale, true)
}

fn check_factor(factor: Requantization) -> Result<(), Problem> {
    let Requantization { multiplier, shift } = factor;
    if factor.is_normal() { Ok(()) } else { Err(Problem::BadRequantization { multiplier, shift }) }
}

fn check_clamp((low, high): (u8, u8)) -> Result<(), Problem> {
    if low <= high { Ok(()) } else { Err(Problem::EmptyClamp(low, high)) }
}

fn check_requantize(
    factors: &[Requantization],
    channels: u32,
    clamp: (u8, u8),
) -> Result<(), Problem> {
    check_size("the requantization", u64::from(channels), factors.len())?;
    factors.iter().try_for_each(|&factor| check_factor(factor))?;
    check_clamp(clamp)
}

/// Checks that no image can overflow the accumulator of any output, in any order of summation.
/// Sizes have been checked.
fn check_accumulators(weight: &[i8], bias: &[i32]) -> Result<(), Problem> {
    let rows = weight.chunks_exact(weight.len() / bias.len());
    for (channel, (row, bias)) in rows.zip(bias).enumerate() {
        let weights: u64 = row.iter().map(|w| u64::from(w.unsigned_abs())).sum();
        if weights * 255 + u64::from(bias.unsigned_abs()) > i32::MAX as u64 {
            return Err(Problem::AccumulatorOverflow { channel });
        }
    }
    Ok(())
}
