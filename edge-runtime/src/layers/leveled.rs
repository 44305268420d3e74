//! Layers in fp32 whose weights the file holds as levels of few bits. They become real numbers when
//! the model is made ready, `scale * (level - zero point)`, so the file is small and the arithmetic
//! is that of fp32.

use super::conv::{Activation, Conv, FloatConv};
use super::conv_transpose::{ConvTranspose, FloatConvTranspose};
use super::linear::Linear;
use super::prelude::*;

/// A layer in fp32 with its weights as levels.
#[derive(Debug, Clone, PartialEq)]
pub struct Leveled {
    /// The layer, with levels in place of weights.
    pub layer: LeveledLayer,
    /// Bits of a level: 1, 2, 4, 8 or 16. Levels of 1 bit are -1, 1, and 0 where a weight is none;
    /// others are those of a signed integer of so many bits.
    pub bits: u8,
    /// The real number of one step, above 0: one for each output channel, or one for all.
    pub scales: Vec<f32>,
    /// The level that means 0, for each scale; empty if it is 0 everywhere.
    pub zero_points: Vec<i16>,
}

/// A layer with weights, which are levels here.
#[derive(Debug, Clone, PartialEq)]
pub enum LeveledLayer {
    /// See [`FloatConv`].
    Conv(Conv<i16, f32>, Activation),
    /// See [`FloatLinear`](super::FloatLinear).
    Linear(Linear<i16, f32>),
    /// See [`FloatConvTranspose`].
    ConvTranspose(ConvTranspose<i16, f32>, Activation),
}

impl Leveled {
    /// The layer with real weights.
    #[must_use]
    pub fn real(&self) -> super::Layer {
        match &self.layer {
            LeveledLayer::Conv(conv, activation) => {
                let conv = conv.with_weight(self.weights(&conv.weight));
                FloatConv { conv, activation: *activation }.into()
            }
            LeveledLayer::Linear(linear) => linear.with_weight(self.weights(&linear.weight)).into(),
            LeveledLayer::ConvTranspose(conv, activation) => {
                let conv = conv.with_weight(self.weights(&conv.weight));
                FloatConvTranspose { conv, activation: *activation }.into()
            }
        }
    }

    /// The levels, `[out][…]`.
    #[must_use]
    pub fn levels(&self) -> &[i16] {
        match &self.layer {
            LeveledLayer::Conv(conv, _) => &conv.weight,
            LeveledLayer::Linear(linear) => &linear.weight,
            LeveledLayer::ConvTranspose(conv, _) => &conv.weight,
        }
    }

    /// The weights that levels stand for.
    fn weights(&self, levels: &[i16]) -> Vec<f32> {
        let row = (levels.len() / self.scales.len().max(1)).max(1);
        let zero = |row: usize| self.zero_points.get(row).copied().unwrap_or(0);
        let rows = levels.chunks(row).zip(&self.scales).enumerate();
        rows.flat_map(|(row, (levels, &scale))| {
            let zero = i32::from(zero(row));
            levels.iter().map(move |&level| scale * (i32::from(level) - zero) as f32)
        })
        .collect()
    }

    fn out_channels(&self) -> u32 {
        match &self.layer {
            LeveledLayer::Conv(conv, _) => conv.out_channels,
            LeveledLayer::Linear(linear) => linear.out_features,
            LeveledLayer::ConvTranspose(conv, _) => conv.out_channels,
        }
    }

    /// Lowest and highest level; `None` if there are no levels of so many bits.
    fn range(&self) -> Option<(i16, i16)> {
        match self.bits {
            1 => Some((-1, 1)),
            2 | 4 | 8 => Some((-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)),
            16 => Some((i16::MIN, i16::MAX)),
            _ => None,
        }
    }
}

impl Settings for Leveled {
    const CODE: u8 = 33;
    const NAME: &'static str = "layer with levels";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let form = file.code("layer with levels", |code| (code <= 2).then_some(code))?;
        let bits = file.byte()?;
        let wide = bits > 8;
        let (layer, scales) = match form {
            0 => {
                let (conv, scales) = if wide {
                    Conv::<i16, f32>::read(file, Reader::scaled_tensor)?
                } else {
                    let (conv, scales) = Conv::<i8, f32>::read(file, Reader::scaled_tensor)?;
                    (conv.with_weight(widened(&conv.weight)), scales)
                };
                (LeveledLayer::Conv(conv, Activation::read(file)?), scales)
            }
            1 => {
                let (linear, scales) = if wide {
                    Linear::<i16, f32>::read_tensors(file, Reader::scaled_tensor)?
                } else {
                    let (linear, scales) =
                        Linear::<i8, f32>::read_tensors(file, Reader::scaled_tensor)?;
                    (linear.with_weight(widened(&linear.weight)), scales)
                };
                (LeveledLayer::Linear(linear), scales)
            }
            _ => {
                let (conv, scales) = if wide {
                    ConvTranspose::<i16, f32>::read(file, Reader::scaled_tensor)?
                } else {
                    let (conv, scales) =
                        ConvTranspose::<i8, f32>::read(file, Reader::scaled_tensor)?;
                    (conv.with_weight(widened(&conv.weight)), scales)
                };
                (LeveledLayer::ConvTranspose(conv, Activation::read(file)?), scales)
            }
        };
        let zero_points = file.list(2, |file| file.array().map(i16::from_le_bytes))?;
        Ok(Self { layer, bits, scales, zero_points })
    }

    fn write(&self, file: &mut Writer) {
        let wide = self.bits > 8;
        file.byte(match &self.layer {
            LeveledLayer::Conv(..) => 0,
            LeveledLayer::Linear(_) => 1,
            LeveledLayer::ConvTranspose(..) => 2,
        });
        file.byte(self.bits);
        match &self.layer {
            LeveledLayer::Conv(conv, activation) => {
                if wide {
                    conv.write(file, &self.scales);
                } else {
                    conv.with_weight(narrowed(&conv.weight)).write(file, &self.scales);
                }
                activation.write(file);
            }
            LeveledLayer::Linear(linear) => {
                if wide {
                    linear.write_tensors(file, &self.scales);
                } else {
                    linear.with_weight(narrowed(&linear.weight)).write_tensors(file, &self.scales);
                }
            }
            LeveledLayer::ConvTranspose(conv, activation) => {
                if wide {
                    conv.write(file, &self.scales);
                } else {
                    conv.with_weight(narrowed(&conv.weight)).write(file, &self.scales);
                }
                activation.write(file);
            }
        }
        file.list(&self.zero_points, |file, zero| file.array(&zero.to_le_bytes()));
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let Some((low, high)) = self.range() else { return Err(Problem::LevelBits(self.bits)) };
        let scales = self.scales.len();
        if scales != 1 {
            check_size("the weight scale", u64::from(self.out_channels()), scales)?;
        }
        self.scales.iter().try_for_each(|&scale| check_number("the weight scale", scale, true))?;
        if !self.zero_points.is_empty() {
            check_size("the list of zero points", scales as u64, self.zero_points.len())?;
        }
        let mut levels = self.levels().iter().chain(&self.zero_points);
        if let Some(&level) = levels.find(|level| !(low..=high).contains(*level)) {
            return Err(Problem::LevelRange { level, bits: self.bits });
        }
        self.real().output(inputs, element)
    }

    fn memory(&self, site: &Site) -> Memory {
        self.real().memory(site)
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        self.real().prepare(site)
    }
}

fn widened(levels: &[i8]) -> Vec<i16> {
    levels.iter().map(|&level| level.into()).collect()
}

/// Levels of at most 8 bits; what does not fit is not valid anyway.
fn narrowed(levels: &[i16]) -> Vec<i8> {
    levels.iter().map(|&level| level as i8).collect()
}

impl<W> Conv<W, f32> {
    /// The same with other weights.
    #[must_use]
    pub fn with_weight<V>(&self, weight: Vec<V>) -> Conv<V, f32> {
        let Self { in_channels, out_channels, groups, axes, weight: _, bias } = self;
        let (axes, bias) = (axes.clone(), bias.clone());
        let (in_channels, out_channels, groups) = (*in_channels, *out_channels, *groups);
        Conv { in_channels, out_channels, groups, axes, weight, bias }
    }
}

impl<W> ConvTranspose<W, f32> {
    /// The same with other weights.
    #[must_use]
    pub fn with_weight<V>(&self, weight: Vec<V>) -> ConvTranspose<V, f32> {
        let Self { in_channels, out_channels, groups, axes, weight: _, bias } = self;
        let (axes, bias) = (axes.clone(), bias.clone());
        let (in_channels, out_channels, groups) = (*in_channels, *out_channels, *groups);
        ConvTranspose { in_channels, out_channels, groups, axes, weight, bias }
    }
}

impl<W> Linear<W, f32> {
    /// The same with other weights.
    #[must_use]
    pub fn with_weight<V>(&self, weight: Vec<V>) -> Linear<V, f32> {
        let Self { in_features, out_features, weight: _, bias } = self;
        let (in_features, out_features) = (*in_features, *out_features);
        Linear { in_features, out_features, weight, bias: bias.clone() }
    }
}
