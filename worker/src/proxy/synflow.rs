//! Synaptic flow: how much of the input reaches the output of a network, and how much of that flows
//! through each weight. After Tanaka, Kunin, Yamins & Ganguli 2020, *Pruning neural networks
//! without any data by iteratively conserving synaptic flow*; as a proxy of accuracy, Abdelfattah,
//! Mehrotra, Dudziak & Lane 2021, *Zero-Cost Proxies for Lightweight NAS*. Like the latter, it
//! leaves batch normalisation out.

use edgesmith_graph::{Dual, Effect, Evaluator, Graph, Operation, Role, Scalar, Weights};

/// The logarithm of the sum over all weights of `|w · ∂R/∂w|`. `R` is the sum of the outputs
/// for an image of ones, in the network with absolute weights and without biases, normalisation,
/// softmax and activations. (No value is negative, so a ReLU would be the identity.)
pub fn score(graph: &Graph, weights: &Weights) -> f64 {
    // With every weight multiplied by t, `R` is a polynomial of t, and by Euler's theorem the sum
    // is its derivative at t = 1. The derivative is computed along with the values, so no second
    // pass is needed.
    let evaluator = Evaluator::with(graph, weights, |id, value| {
        let weight = f64::from(value.abs());
        match graph.parameter(id).role {
            Role::Weight => Dual { value: weight, slope: weight },
            // What is multiplied by it flows on, but it is no weight.
            Role::Constant => Dual::constant(weight),
            Role::Bias | Role::Scale | Role::Shift | Role::Mean | Role::Variance | Role::Slope => {
                Dual::constant(0.0)
            }
        }
    });
    let ones = |input| vec![Dual::constant(1.0); graph.shape(input).elements() as usize];
    let mut values: Vec<Vec<Dual>> = graph.inputs().map(ones).collect();
    for (id, node) in graph.nodes() {
        let output = match node.op.effect() {
            Effect::Normalizes | Effect::Rescales | Effect::Activates { .. } => {
                values[node.inputs[0].index()].clone()
            }
            Effect::Combines => evaluator.node(id, &values),
        };
        values.push(output);
    }
    let outputs = graph.outputs().iter().flat_map(|output| &values[output.index()]);
    let sum: f64 = outputs.map(|output| output.slope).sum();
    // Keeps the score finite at any depth. The sum is 0 if all weights of a layer are zero, and no
    // number if a quotient has a divisor of 0.
    let sum = if sum.is_nan() { 0.0 } else { sum };
    sum.clamp(f64::MIN_POSITIVE, f64::MAX).ln()
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{
        Array, Binary, BinaryFunction, Constant, GraphBuilder, Linear, Multiply, Place, Shape,
        Softmax, ValueId,
    };
    use edgesmith_search_space::{
        Activation, Architecture, DataShape, EPSILON, Operation, Skip, Stage,
    };
    use proptest::prelude::*;

    use super::*;
    use edgesmith_testing::arbitrary_graph;
    use edgesmith_testing::reference;
    use edgesmith_train::fresh_weights;

    /// Sum of the outputs for an image of ones. All weights are absolute, except for one that is
    /// changed by `change`.
    fn flow(graph: &Graph, weights: &Weights, changed: (&str, usize), change: f32) -> f64 {
        let mut weights = weights.clone();
        for (name, array) in &mut weights.arrays {
            match name.rsplit('.').next() {
                Some("weight") => array.data.iter_mut().for_each(|w| *w = w.abs()),
                Some("variance") => array.data.fill(1.0 - EPSILON),
                Some("gamma") => array.data.fill(1.0),
                _ => array.data.fill(0.0),
            }
            if name == changed.0 {
                array.data[changed.1] += change;
            }
        }
        let image = vec![1.0; graph.input().elements() as usize];
        reference(graph, &weights, &image).iter().map(|v| f64::from(*v)).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Compares with finite differences of the reference, whose ReLU6 is bounded at 6.
        #[test]
        fn the_score_is_the_sum_of_weights_times_slopes(graph in arbitrary_graph(), seed: u8) {
            let mut weights = fresh_weights(&graph, [seed; 32]);
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
                    let higher = flow(&graph, &weights, (name, at), step);
                    let lower = flow(&graph, &weights, (name, at), -step);
                    sum += (higher - lower) / 2.0;
                }
            }
            let score = score(&graph, &weights);
            prop_assert!((score - sum.ln()).abs() < 1e-3, "{score} {}", sum.ln());
        }

        #[test]
        fn every_network_has_a_finite_score(graph in arbitrary_graph(), seed: u8) {
            let weights = fresh_weights(&graph, [seed; 32]);
            prop_assert!(score(&graph, &weights).is_finite());
        }
    }

    /// A linear layer of two inputs with weights 1 and 2, and what follows it.
    fn score_of(build: impl FnOnce(&mut GraphBuilder, ValueId) -> ValueId) -> f64 {
        let mut builder = GraphBuilder::new();
        let input = builder.input("input", Shape::new(2, &[]).unwrap()).unwrap();
        let weight = builder.parameter("weight", &[1, 2], Role::Weight).unwrap();
        let layer = builder.node("layer", Linear, &[input], &[weight], Place::default()).unwrap();
        let output = build(&mut builder, layer);
        let graph = builder.finish(&[output]).unwrap();
        let arrays = graph.parameters().map(|(_, parameter)| {
            let data = (0..parameter.elements()).map(|i| 1.0 + i as f32).collect();
            (parameter.name.to_string(), Array { shape: parameter.sizes(), data })
        });
        score(&graph, &Weights { arrays: arrays.collect() })
    }

    #[test]
    fn a_softmax_is_left_out_and_a_constant_multiplies() {
        let place = Place::default;
        let plain = score_of(|_, layer| layer);
        assert!((plain - 3f64.ln()).abs() < 1e-12);
        let softmax = Softmax { axis: 0, log: false };
        let shares = score_of(|b, layer| b.node("s", softmax, &[layer], &[], place()).unwrap());
        assert_eq!(shares, plain);
        let scaled = score_of(|b, layer| {
            let value = b.parameter("value", &[2], Role::Constant).unwrap();
            let value = b.node("constant", Constant, &[], &[value], place()).unwrap();
            b.node("product", Multiply, &[layer, value], &[], place()).unwrap()
        });
        assert!((scaled - 9f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn a_quotient_of_zeros_has_a_finite_score() {
        let place = Place::default;
        let score = score_of(|b, layer| {
            let subtract = Binary { function: BinaryFunction::Subtract };
            let zero = b.node("zero", subtract, &[layer, layer], &[], place()).unwrap();
            let divide = Binary { function: BinaryFunction::Divide };
            b.node("quotient", divide, &[zero, zero], &[], place()).unwrap()
        });
        assert_eq!(score, f64::MIN_POSITIVE.ln());
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
            squeeze: 0,
            skip: Skip::Add,
        };
        let architecture = Architecture { resolution: 4, stem_width: 2, stages: vec![stage] };
        let graph = architecture.graph(DataShape { channels: 1, classes: 2 }).unwrap();
        let mut weights = fresh_weights(&graph, [0; 32]);
        weights.arrays.values_mut().for_each(|array| array.data.fill(0.0));
        assert_eq!(score(&graph, &weights), f64::MIN_POSITIVE.ln());
    }
}
