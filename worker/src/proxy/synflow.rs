//! Synaptic flow: how much of the input reaches the output of a network, and how much of that flows
//! through each weight. After Tanaka, Kunin, Yamins & Ganguli 2020, *Pruning neural networks
//! without any data by iteratively conserving synaptic flow*; as a proxy of accuracy, Abdelfattah,
//! Mehrotra, Dudziak & Lane 2021, *Zero-Cost Proxies for Lightweight NAS*. Like the latter, it
//! leaves batch normalisation out.

use edgesmith_search_space::{LayerId, LayerOp, Plan, Source};

use super::loops::{convolve, plane_means};
use crate::network::Weights;

/// The logarithm of the sum over all weights of `|w · ∂R/∂w|`. `R` is the sum of the outputs
/// for an image of ones, in the network with absolute weights and without biases and batch
/// normalisation. No value is negative, so a ReLU is the identity; the upper bound of a ReLU6 is
/// ignored.
pub fn score(plan: &Plan, weights: &Weights) -> f64 {
    // With every weight multiplied by t, `R` is a polynomial of t, and by Euler's theorem the sum
    // is its derivative at t = 1. The derivative is computed along with the values, so no second
    // pass is needed.
    let mut outputs: Vec<Flow> = Vec::with_capacity(plan.layers().len());
    let ones = vec![1.0; plan.input().elements() as usize];
    let image = Flow { slopes: vec![0.0; ones.len()], values: ones };
    for id in plan.ids() {
        let layer = plan.layer(id);
        let read = |source: Source| match source {
            Source::Input => &image,
            Source::Layer(LayerId(index)) => &outputs[index],
        };
        let input = read(layer.inputs[0]);
        let absolute = || -> Vec<f32> {
            weights.get(&layer.name, "weight").data.iter().map(|weight| weight.abs()).collect()
        };
        let output = match layer.op {
            LayerOp::Conv { .. } | LayerOp::Depthwise { .. } => {
                let filters = absolute();
                input.through(|values| convolve(plan, id, &filters, values))
            }
            LayerOp::Linear => {
                let rows = absolute();
                input.through(|values| {
                    let rows = rows.chunks_exact(values.len());
                    rows.map(|row| row.iter().zip(values).map(|(w, v)| f64::from(*w) * v).sum())
                        .collect()
                })
            }
            LayerOp::GlobalAveragePool => {
                let channels = plan.input_shape(id).channels as usize;
                let mean = |values: &[f64]| plane_means(values, channels);
                Flow { values: mean(&input.values), slopes: mean(&input.slopes) }
            }
            LayerOp::Add => {
                let other = read(layer.inputs[1]);
                let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect();
                Flow {
                    values: sum(&input.values, &other.values),
                    slopes: sum(&input.slopes, &other.slopes),
                }
            }
        };
        outputs.push(output);
    }
    let sum: f64 = outputs.last().map_or(0.0, |logits| logits.slopes.iter().sum());
    // Keeps the score finite at any depth. The sum is 0 if all weights of a layer are zero.
    sum.clamp(f64::MIN_POSITIVE, f64::MAX).ln()
}

/// A feature map, and its derivative with respect to a common factor of all weights so far.
struct Flow {
    values: Vec<f64>,
    slopes: Vec<f64>,
}

impl Flow {
    /// The flow through a layer that multiplies by weights, by the product rule.
    fn through(&self, layer: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        let values = layer(&self.values);
        let further = layer(&self.slopes);
        let slopes = values.iter().zip(further).map(|(value, slope)| value + slope).collect();
        Self { values, slopes }
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::{Activation, Architecture, DataShape, Operation, Stage};
    use proptest::prelude::*;

    use super::*;
    use crate::compress::testing::arbitrary_plan;
    use crate::network::reference::forward;

    /// Sum of the outputs for an image of ones. All weights are absolute, except for one that is
    /// changed by `change`.
    fn flow(plan: &Plan, weights: &Weights, changed: (&str, usize), change: f32) -> f64 {
        let mut weights = weights.clone();
        for (name, array) in &mut weights.arrays {
            match name.rsplit('.').next() {
                Some("weight") => array.data.iter_mut().for_each(|w| *w = w.abs()),
                Some("variance") => array.data.fill(1.0 - Weights::EPSILON),
                Some("gamma") => array.data.fill(1.0),
                _ => array.data.fill(0.0),
            }
            if name == changed.0 {
                array.data[changed.1] += change;
            }
        }
        let image = vec![1.0; plan.input().elements() as usize];
        forward(plan, &weights, &image).iter().map(|v| f64::from(*v)).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Compares with finite differences of the reference, whose ReLU6 is bounded at 6.
        #[test]
        fn the_score_is_the_sum_of_weights_times_slopes(plan in arbitrary_plan(), seed: u8) {
            let mut weights = Weights::init(&plan, [seed; 32]);
            for (name, array) in &mut weights.arrays {
                // Small, so that the bound is not reached.
                if name.ends_with(".weight") {
                    let scale = 0.5 / (array.data.len() / array.shape[0]) as f32;
                    array.data.iter_mut().for_each(|w| *w = scale * w.signum() * (0.5 + w.abs().min(0.5)));
                }
            }
            let mut sum = 0.0;
            for (name, array) in weights.arrays.iter().filter(|(name, _)| name.ends_with(".weight")) {
                for (at, weight) in array.data.iter().enumerate() {
                    // `R` is linear in one weight, so any step works; a large one is the most
                    // exact.
                    let step = weight.abs();
                    let higher = flow(&plan, &weights, (name, at), step);
                    let lower = flow(&plan, &weights, (name, at), -step);
                    sum += (higher - lower) / 2.0;
                }
            }
            let score = score(&plan, &weights);
            prop_assert!((score - sum.ln()).abs() < 1e-3, "{score} {}", sum.ln());
        }

        #[test]
        fn every_plan_has_a_finite_score(plan in arbitrary_plan(), seed: u8) {
            let weights = Weights::init(&plan, [seed; 32]);
            prop_assert!(score(&plan, &weights).is_finite());
        }
    }

    #[test]
    fn nothing_flows_through_zero_weights() {
        let stage = Stage {
            depth: 1,
            width: 3,
            kernel: 3,
            operation: Operation::Conv,
            stride: 1,
            activation: Activation::Relu,
        };
        let architecture = Architecture { resolution: 4, stem_width: 2, stages: vec![stage] };
        let plan = Plan::lower(&architecture, DataShape { channels: 1, classes: 2 }).unwrap();
        let mut weights = Weights::init(&plan, [0; 32]);
        weights.arrays.values_mut().for_each(|array| array.data.fill(0.0));
        assert_eq!(score(&plan, &weights), f64::MIN_POSITIVE.ln());
    }
}
