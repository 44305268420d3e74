//! Maps of another size: nearest neighbours, or linear interpolation.

use std::hash::{Hash, Hasher};

use smallvec::SmallVec;

use super::axes::Along;
use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Resizes each axis of positions, as the operator `Resize` of ONNX does (version 19). Each position
/// of the output is made of one or two positions of the input along each axis.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Resize {
    /// How a position between two others is computed.
    pub mode: ResizeMode,
    /// One for each axis of positions.
    pub axes: SmallVec<[ResizeAxis; 2]>,
}

/// How a position between two others is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResizeMode {
    /// It is the nearer one.
    Nearest(Rounding),
    /// Between both in proportion to the distance.
    Linear,
}

/// Which position is the nearer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// The lower one of two that are equally near; `round_prefer_floor` in ONNX.
    HalfDown,
    /// The upper one of two that are equally near; `round_prefer_ceil` in ONNX.
    HalfUp,
    /// Always the lower one.
    Floor,
    /// Always the upper one.
    Ceil,
}

/// How one axis of positions is resized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResizeAxis {
    /// Positions of the output.
    pub size: u32,
    /// Positions of the output per position of the input, above 0; it need not be the quotient of
    /// both sizes.
    pub scale: f32,
    /// Where the positions of the output are on the input.
    pub coordinates: Coordinates,
}

/// Where the positions of the output are on the input; names are those of ONNX. `x` is a position of
/// the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coordinates {
    /// `(x + 0.5) / scale - 0.5`: positions are the middles of pixels.
    HalfPixel,
    /// The same, but 0 if the output has one position.
    PytorchHalfPixel,
    /// `x / scale`
    Asymmetric,
    /// The first and the last positions lie on each other; `scale` does not matter.
    AlignCorners,
    /// As the first, but moved such that the middles of both maps lie on each other, where the
    /// scale is not the quotient of the sizes.
    HalfPixelSymmetric,
}

impl Hash for ResizeAxis {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.size, self.scale.to_bits(), self.coordinates).hash(state);
    }
}

impl ResizeAxis {
    /// By position of the output: the two positions of the input, of `input`, that it is made of,
    /// with their shares. The second one has no share where one is enough.
    ///
    /// # Panics
    /// If `input` is 0.
    pub fn taps(&self, mode: ResizeMode, input: u32) -> Vec<[(u32, f64); 2]> {
        let last = input.checked_sub(1).expect("a size above 0");
        let tap = |output: u32| {
            let at = self.coordinate(output, input);
            let whole = match mode {
                ResizeMode::Nearest(Rounding::Floor) => at.floor(),
                ResizeMode::Nearest(Rounding::Ceil) => at.ceil(),
                ResizeMode::Nearest(Rounding::HalfDown) if at - at.floor() == 0.5 => at.floor(),
                ResizeMode::Nearest(Rounding::HalfDown | Rounding::HalfUp) => at.round(),
                ResizeMode::Linear => {
                    // What is outside is as the border.
                    let at = at.max(0.0).min(last as f32);
                    let lower = (at as u32).min(last);
                    let share = f64::from(at.fract());
                    let upper = if share == 0.0 { lower } else { (lower + 1).min(last) };
                    return [(lower, 1.0 - share), (upper, share)];
                }
            };
            // Negative ones become 0.
            let nearest = (whole as u32).min(last);
            [(nearest, 1.0), (nearest, 0.0)]
        };
        (0..self.size).map(tap).collect()
    }

    /// Where a position of the output is on the input. It is computed in `f32` as ONNX Runtime does,
    /// so that positions which are halfway between two others are so here, too.
    fn coordinate(&self, output: u32, input: u32) -> f32 {
        let [x, input, size] = [output, input, self.size].map(|n| n as f32);
        let half_pixel = (x + 0.5) / self.scale - 0.5;
        match self.coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::PytorchHalfPixel if self.size > 1 => half_pixel,
            Coordinates::AlignCorners if self.size > 1 => x * (input - 1.0) / (size - 1.0),
            Coordinates::PytorchHalfPixel | Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => x / self.scale,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = size / (self.scale * input);
                let offset = input / 2.0 * (1.0 - adjustment);
                offset + (x + 0.5) / self.scale - 0.5
            }
        }
    }
}

impl Operation for Resize {
    fn kind(&self) -> &'static str {
        "resize"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        if self.axes.len() != input.space().len() {
            let expected = self.axes.len();
            return Err(InferError::Axes { expected, shape: input.to_string() });
        }
        if let Some(axis) =
            self.axes.iter().find(|axis| !(axis.scale > 0.0 && axis.scale.is_finite()))
        {
            let value = axis.scale.to_string();
            return Err(InferError::Setting { setting: "scale", value });
        }
        let space: SmallVec<[u32; 2]> = self.axes.iter().map(|axis| axis.size).collect();
        Ok(Shape::new(input.channels(), &space)?)
    }

    fn macs(&self, _: &Operands, _: &Shape) -> u64 {
        0
    }

    fn multiplications(&self, _: &Operands) -> Option<Multiplications> {
        None
    }

    fn absorbs_factors(&self) -> bool {
        false
    }

    fn effect(&self) -> Effect {
        Effect::Combines
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::Separate
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        channel_by_channel()
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        _: &Shape,
    ) -> Vec<S> {
        let mut sizes = operands.inputs[0].sizes();
        let mut values = inputs[0].to_vec();
        for (axis, resize) in (1..).zip(&self.axes) {
            let along = Along::of(axis, &sizes);
            let taps = resize.taps(self.mode, sizes[axis]);
            let mut resized = Vec::with_capacity(values.len() / along.size * taps.len());
            for block in values.chunks_exact(along.block()) {
                for taps in &taps {
                    let [lower, upper] =
                        taps.map(|(at, _)| &block[at as usize * along.inner..][..along.inner]);
                    let [low, high] = taps.map(|(_, share)| S::constant(share));
                    let both = lower.iter().zip(upper);
                    if taps[1].1 == 0.0 {
                        resized.extend_from_slice(lower);
                    } else {
                        resized.extend(both.map(|(&a, &b)| low * a + high * b));
                    }
                }
            }
            sizes[axis] = resize.size;
            values = resized;
        }
        values
    }
}
