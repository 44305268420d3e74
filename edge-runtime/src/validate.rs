//! Checks whether a model can be run: infers every shape and checks every size, reference and
//! number. A valid model runs without panics and without overflow of an accumulator. What is
//! particular to a kind of layer is checked in `layers`, with the checks at the end of this file.

use std::fmt;

use crate::error::{ModelError, Problem};
use crate::layers::{AnyLayer, Arithmetic, Node};
use crate::model::{InputSpec, Model, Network, Quantization, Requantization, ValueId};

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

fn infer<N: Node>(nodes: &[N], shapes: &mut Vec<Shape>) -> Result<(), ModelError> {
    if nodes.is_empty() {
        return Err(ModelError::NoNodes);
    }
    for (index, node) in nodes.iter().enumerate() {
        let kind = node.layer().kind();
        let wrap = |problem| ModelError::Node { node: index, kind: kind.name, problem };
        let (expected, found) = (kind.inputs, node.inputs().len());
        if found != expected {
            return Err(wrap(Problem::InputCount { expected, found }));
        }
        if kind.logits != (index + 1 == nodes.len()) {
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
        if !kind.logits {
            let what = "the output quantization";
            <N::Layer as AnyLayer>::Arithmetic::check_scale(what, node.scale()).map_err(wrap)?;
        }
        let shape = node.layer().output(&inputs).map_err(wrap)?;
        check_elements("its output", shape).map_err(wrap)?;
        shapes.push(shape);
    }
    Ok(())
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

pub(crate) fn check_not_zero(what: &'static str, size: u32) -> Result<(), Problem> {
    if size == 0 { Err(Problem::Zero(what)) } else { Ok(()) }
}

pub(crate) fn check_size(what: &'static str, expected: u64, found: usize) -> Result<(), Problem> {
    let found = found as u64;
    if expected == found { Ok(()) } else { Err(Problem::WrongSize { what, expected, found }) }
}

fn check_elements(what: &'static str, shape: Shape) -> Result<(), Problem> {
    let Shape { channels, height, width } = shape;
    let plane = u64::from(height).saturating_mul(u64::from(width));
    check_limit(what, plane.saturating_mul(u64::from(channels)))
}

pub(crate) fn check_limit(what: &'static str, elements: u64) -> Result<(), Problem> {
    let limit = MAX_VALUE_ELEMENTS;
    if elements <= limit { Ok(()) } else { Err(Problem::TooLarge { what, elements, limit }) }
}

pub(crate) fn check_number(what: &'static str, value: f32, positive: bool) -> Result<(), Problem> {
    if value.is_finite() && (!positive || value > 0.0) {
        Ok(())
    } else {
        Err(Problem::BadNumber { what, value, positive })
    }
}

pub(crate) fn check_finite(weight: &[f32], bias: &[f32]) -> Result<(), Problem> {
    weight.iter().try_for_each(|&value| check_number("the weight", value, false))?;
    bias.iter().try_for_each(|&value| check_number("the bias", value, false))
}

pub(crate) fn check_quantization(
    what: &'static str,
    quantization: Quantization,
) -> Result<(), Problem> {
    check_number(what, quantization.scale, true)
}

pub(crate) fn check_factor(factor: Requantization) -> Result<(), Problem> {
    let Requantization { multiplier, shift } = factor;
    if factor.is_normal() { Ok(()) } else { Err(Problem::BadRequantization { multiplier, shift }) }
}

pub(crate) fn check_clamp((low, high): (u8, u8)) -> Result<(), Problem> {
    if low <= high { Ok(()) } else { Err(Problem::EmptyClamp(low, high)) }
}

/// Checks that no image can overflow the accumulator of any output, in any order of summation.
/// Sizes have been checked.
pub(crate) fn check_accumulators(weight: &[i8], bias: &[i32]) -> Result<(), Problem> {
    let rows = weight.chunks_exact(weight.len() / bias.len());
    for (channel, (row, bias)) in rows.zip(bias).enumerate() {
        let weights: u64 = row.iter().map(|w| u64::from(w.unsigned_abs())).sum();
        if weights * 255 + u64::from(bias.unsigned_abs()) > i32::MAX as u64 {
            return Err(Problem::AccumulatorOverflow { channel });
        }
    }
    Ok(())
}
