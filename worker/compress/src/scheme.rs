//! The settings of post-training quantization. They are read by [`crate::Calibration`] and by the
//! passes around it; this file computes nothing.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_graph::Graph;

use crate::real::weight;

/// How a trained network becomes one of integers, without training. The default is the plain
/// method: ranges of least squared error and a scale per output channel of each weight.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scheme {
    /// How the range of a value is chosen.
    pub calibration: RangeRule,
    /// Whether a value that only a clip reads, such as a sum before a rectifier, covers no more
    /// than the clip lets through. So its levels are closer.
    pub clip_ranges: bool,
    /// What the weights of a layer share a scale with.
    pub granularity: Granularity,
    /// Whether ranges of weights are equalized across layers first ([`crate::equalize()`]).
    pub equalize: bool,
    /// Whether biases give back what rounding moves ([`crate::correct_quantized`]).
    pub correct_biases: bool,
    /// To which level each weight goes.
    pub rounding: Rounding,
    /// Layers that stay in fp32, by name; a layer has the name of what it computes. Only layers
    /// with a weight can be named.
    pub real: BTreeSet<String>,
    /// Bits of weights and values.
    pub widths: Widths,
}

/// Bits of weights and values.
#[derive(Debug, Clone, PartialEq)]
pub struct Widths {
    /// Of a weight: 1, 2, 4, 8 or 16.
    pub weights: u32,
    /// Whether weights have zero points; those of 1 bit have none.
    pub affine: bool,
    /// Of a value: 8, 16, or 32 for fp32.
    pub activations: u32,
    /// Layers whose weights have other bits, by name.
    pub layers: BTreeMap<String, u32>,
}

/// Symmetric weights of 8 bits, and values of 8 bits.
impl Default for Widths {
    fn default() -> Self {
        Self { weights: 8, affine: false, activations: 8, layers: BTreeMap::new() }
    }
}

impl Widths {
    /// Whether the engine computes in integers with them: weights of at most 8 bits without zero
    /// points, and values of 8 bits.
    pub fn are_integers(&self) -> bool {
        let narrow = self.weights <= 8 && self.layers.values().all(|bits| *bits <= 8);
        narrow && !self.affine && self.activations == 8
    }
}

impl Scheme {
    /// The bits of each weight, by parameter.
    ///
    /// # Errors
    /// The first name that no layer with a weight has.
    pub(crate) fn bits_of(&self, graph: &Graph) -> Result<Vec<u32>, String> {
        let mut bits_of = vec![self.widths.weights; graph.parameters().len()];
        for (name, &bits) in &self.widths.layers {
            let layer = graph.value_named(name).and_then(|value| graph.producer(value));
            let weight = layer.and_then(|id| weight(graph, id)).ok_or_else(|| name.clone())?;
            bits_of[weight.index()] = bits;
        }
        Ok(bits_of)
    }
}

/// How the range of a value is chosen from the numbers that it has on the calibration examples.
/// Every range contains zero, which is exact in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RangeRule {
    /// The least squared error: rounding inside the range and clipping outside.
    #[default]
    MeanSquaredError,
    /// From the least to the greatest number.
    MinMax,
    /// This share of the numbers is in the range, above 0 and at most 1. Half of the others lie
    /// below it and half above.
    Percentile(f64),
    /// The least information lost (Kullback–Leibler divergence; Migacz 2017, "8-bit inference with
    /// TensorRT").
    Entropy,
}

/// What the weights of a layer share a scale with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Granularity {
    /// Those of the same output channel.
    #[default]
    Channel,
    /// All weights of the layer.
    Layer,
}

/// To which level a weight goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rounding {
    /// The nearest one.
    #[default]
    Nearest,
    /// The one below or above, whichever keeps what the layer computes
    /// ([`crate::learn_rounding()`]).
    Learned,
}
