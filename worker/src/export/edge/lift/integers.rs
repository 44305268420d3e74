//! What the integers of a layer mean: real weights and biases, clips, and whether factors are what
//! the scales say.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::{Clip, Op};

use super::operations::geometry;
use super::{Layer, LiftError, Lifting};

/// The quantization of a layer in integers.
pub(super) fn quantization(element: edge::Element) -> edge::Quantization {
    match element {
        edge::Element::Uint8(quantization) => quantization,
        edge::Element::Fp32 => unreachable!("the model is valid"),
    }
}

impl Lifting {
    /// The clip that the clamp of a convolution means. Where the bytes begin at zero anyway it is
    /// a ReLU, which then changes nothing that fits into a byte.
    pub(super) fn layer_clip(
        &self,
        clamp: (u8, u8),
        output: edge::Quantization,
    ) -> Result<Option<Clip>, LiftError> {
        match clamp {
            (low, u8::MAX) if low == output.zero_point => Ok(Some(Clip::RELU)),
            (u8::MIN, u8::MAX) => Ok(None),
            clamp => Ok(Some(self.clip(clamp, output)?)),
        }
    }

    /// The clip that the clamp of another layer means.
    pub(super) fn any_clip(
        &self,
        clamp: (u8, u8),
        output: edge::Quantization,
    ) -> Result<Option<Clip>, LiftError> {
        match clamp {
            (u8::MIN, u8::MAX) => Ok(None),
            clamp => Ok(Some(self.clip(clamp, output)?)),
        }
    }

    /// The clip to the numbers that a range of bytes means.
    pub(super) fn clip(
        &self,
        clamp: (u8, u8),
        output: edge::Quantization,
    ) -> Result<Clip, LiftError> {
        let (low, high) = (output.dequantize(clamp.0), output.dequantize(clamp.1));
        if (output.quantize(low), output.quantize(high)) == clamp {
            Ok(Clip { low, high })
        } else {
            Err(LiftError::Range { node: self.name() })
        }
    }

    /// Checks that a layer multiplies by what its scales say. What is off by less than `2^-16`
    /// moves no byte by more than a level.
    pub(super) fn check_factor(&self, given: f64, expected: f64) -> Result<(), LiftError> {
        let expected = edge::Requantization::from_real(expected).to_real();
        let error = (given - expected).abs();
        if error <= expected * 2f64.powi(-16) + 2f64.powi(-31) {
            Ok(())
        } else {
            Err(LiftError::Factor { node: self.name() })
        }
    }

    pub(super) fn int_conv(
        &self,
        layer: &edge::IntConv,
        [input, output]: [f64; 2],
    ) -> Result<Layer, LiftError> {
        let conv = &layer.conv;
        let units = layer.factors().into_iter().map(|factor| Unit::of_factor(factor, output));
        let (op, weight_shape) = geometry(conv);
        self.reals(op, weight_shape, (&conv.weight, &conv.bias), units, input)
    }

    /// The real numbers that the integers of a layer mean: a bias counts units, and a weight is a
    /// unit per `input`, the scale of what the layer reads.
    pub(super) fn reals(
        &self,
        op: Op,
        weight_shape: Vec<u32>,
        (weight, bias): (&[i8], &[i32]),
        units: impl Iterator<Item = Unit>,
        input: f64,
    ) -> Result<Layer, LiftError> {
        let out_of_range = || LiftError::Range { node: self.name() };
        let (biases, scales): (Vec<f32>, Vec<f64>) = bias
            .iter()
            .zip(units)
            .map(|(&bias, unit)| {
                let (real, unit) = unit.of_bias(bias).ok_or_else(out_of_range)?;
                Ok((real, unit / input))
            })
            .collect::<Result<Vec<_>, LiftError>>()?
            .into_iter()
            .unzip();
        let mut reals = Vec::with_capacity(weight.len());
        for (filter, scale) in weight.chunks_exact(weight.len() / scales.len()).zip(&scales) {
            for &integer in filter {
                let real = (f64::from(integer) * scale) as f32;
                // A real number that is infinite or lost its digits is another integer.
                if (f64::from(real) / scale).round() != f64::from(integer) {
                    return Err(out_of_range());
                }
                reals.push(real);
            }
        }
        Ok(Layer { op, weight_shape, weight: reals, bias: biases, scales: Some(scales) })
    }
}

/// The real number that 1 means in the accumulator of a channel. A model does not store it, but
/// factors that were computed from it and rounded, so it is one of a range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    low: f64,
    likely: f64,
    high: f64,
}

impl Unit {
    /// Steps that a factor may be away from its rounded value: half of one, and a little less
    /// because of what is computed with it.
    const HALF: f64 = 0.4999;

    /// The units with which requantization has this factor, where `output` is the scale of what it
    /// makes.
    pub(super) fn of_factor(factor: edge::Requantization, output: f64) -> Self {
        let edge::Requantization { multiplier, shift } = factor;
        if multiplier == 0 {
            // Any factor below 2^-32.
            let likely = 2f64.powi(-34) * output;
            return Self { low: likely / 2.0, likely, high: likely * 2.0 };
        }
        let smallest = shift == *edge::Requantization::SHIFTS.start();
        let below = match multiplier {
            // What is smaller becomes 0.
            0x4000_0000 if smallest => -1e-4,
            // What is smaller is rounded in steps half as large.
            0x4000_0000 => Self::HALF / 2.0,
            _ => Self::HALF,
        };
        let (step, steps) = (2f64.powi(shift - 31) * output, f64::from(multiplier));
        let [low, high] = [steps - below, steps + Self::HALF].map(|steps| steps * step);
        Self { low, likely: (steps * step).max(low), high }
    }

    /// The units with which logits have this scale, which is above 0.
    pub(super) fn of_logit(scale: f32) -> Self {
        let likely = f64::from(scale);
        let below = (likely - f64::from(scale.next_down())) * Self::HALF;
        Self { low: likely - below, likely, high: likely + below }
    }

    /// The real number that a bias means, and the unit with which it does. Large biases leave
    /// little choice, because fp32 has fewer digits than they have. `None` if it is beyond fp32.
    fn of_bias(self, bias: i32) -> Option<(f32, f64)> {
        let count = f64::from(bias);
        let nearest = (count * self.likely) as f32;
        if (f64::from(nearest) / self.likely).round() == count {
            return Some((nearest, self.likely));
        }
        // From the nearest number away.
        let (mut below, mut above) = (nearest, nearest);
        for _ in 0..4 {
            for real in [below, above] {
                let unit = (f64::from(real) / count).clamp(self.low, self.high);
                if (f64::from(real) / unit).round() == count {
                    return Some((real, unit));
                }
            }
            (below, above) = (below.next_down(), above.next_up());
        }
        let error = (f64::from(nearest) / self.likely - count).abs();
        (error <= count.abs() * f64::from(f32::EPSILON)).then_some((nearest, self.likely))
    }
}
