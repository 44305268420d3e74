//! Random networks and a naive reference for the tests of this crate's array code.

use edgesmith_search_space::{
    Activation, Architecture, DataShape, LayerOp, Operation, Plan, Source, Stage,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::network::Weights;

/// Plans of every operation, kernel, stride and activation, small enough to run naively.
pub(crate) fn arbitrary_plan() -> impl Strategy<Value = Plan> {
    let operation = prop_oneof![
        Just(Operation::Conv),
        Just(Operation::Separable),
        (1..4u32).prop_map(|expansion| Operation::InvertedResidual { expansion }),
    ];
    let kernel = prop_oneof![Just(1u32), Just(3), Just(5)];
    // Few widths, so that residual connections are common.
    let width = prop_oneof![Just(1u32), Just(4), Just(4), Just(6)];
    let activation = prop_oneof![Just(Activation::Relu), Just(Activation::Relu6)];
    let stage = (1..3u32, width.clone(), kernel, operation, 1..3u32, activation).prop_map(
        |(depth, width, kernel, operation, stride, activation)| Stage {
            depth,
            width,
            kernel,
            operation,
            stride,
            activation,
        },
    );
    let stages = prop::collection::vec(stage, 0..4);
    (3..8u32, width, stages, prop_oneof![Just(1u32), Just(3)], 2..5u32).prop_filter_map(
        "strides that leave nothing",
        |(resolution, stem_width, stages, channels, classes)| {
            let architecture = Architecture { resolution, stem_width, stages };
            Plan::lower(&architecture, DataShape { channels, classes }).ok()
        },
    )
}

/// Weights of a size that keeps values of order one through the layers.
pub(crate) fn random_weights(plan: &Plan, seed: u64) -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Weights::default();
    for id in plan.ids() {
        let Some([out, inputs, kernel, _]) = plan.weight_shape(id) else { continue };
        let name = &plan.layer(id).name;
        let mut uniform = |count: usize, low: f32, high: f32| -> Vec<f32> {
            (0..count).map(|_| rng.random_range(low..high)).collect()
        };
        let bound = (6.0 / (inputs * kernel * kernel) as f32).sqrt();
        let values = uniform(out * inputs * kernel * kernel, -bound, bound);
        if plan.layer(id).op == LayerOp::Linear {
            weights.set(name, "weight", vec![out, inputs], values);
            weights.set(name, "bias", vec![out], uniform(out, -0.5, 0.5));
            continue;
        }
        weights.set(name, "weight", vec![out, inputs, kernel, kernel], values);
        weights.set(name, "gamma", vec![out], uniform(out, 0.5, 1.5));
        weights.set(name, "beta", vec![out], uniform(out, -0.3, 0.5));
        weights.set(name, "mean", vec![out], uniform(out, -0.5, 0.5));
        weights.set(name, "variance", vec![out], uniform(out, 0.3, 1.5));
    }
    weights
}

/// A normalised image for `plan`.
pub(crate) fn random_image(plan: &Plan, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x1357);
    (0..plan.input().elements()).map(|_| rng.random_range(-1.5..1.5f32)).collect()
}

/// Logits of one normalised image, written for clarity alone.
pub(crate) fn reference(plan: &Plan, weights: &Weights, image: &[f32]) -> Vec<f32> {
    let mut values: Vec<Vec<f32>> = Vec::new();
    for id in plan.ids() {
        let layer = plan.layer(id);
        let read = |source: Source| match source {
            Source::Input => image,
            Source::Layer(id) => values[id.0].as_slice(),
        };
        let (from, to) = (plan.input_shape(id), plan.output_shape(id));
        let input = read(layer.inputs[0]);
        let at = |c: u32, y: i64, x: i64| {
            let inside =
                (0..i64::from(from.height)).contains(&y) && (0..i64::from(from.width)).contains(&x);
            let index = (i64::from(c) * i64::from(from.height) + y) * i64::from(from.width) + x;
            if inside { input[index as usize] } else { 0.0 }
        };
        let part = |name: &str| &weights.get(&layer.name, name).data;
        let mut value = Vec::new();
        match layer.op {
            LayerOp::Conv { kernel, stride, activation }
            | LayerOp::Depthwise { kernel, stride, activation } => {
                let depthwise = matches!(layer.op, LayerOp::Depthwise { .. });
                let padding = i64::from((kernel - 1) / 2);
                for c in 0..to.channels {
                    let reads = if depthwise { c..c + 1 } else { 0..from.channels };
                    for (y, x) in (0..to.height).flat_map(|y| (0..to.width).map(move |x| (y, x))) {
                        let mut taps = part("weight")
                            [(c * reads.len() as u32 * kernel * kernel) as usize..]
                            .iter();
                        let mut sum = 0.0;
                        for source in reads.clone() {
                            for tap in 0..kernel * kernel {
                                let iy = i64::from(y * stride + tap / kernel) - padding;
                                let ix = i64::from(x * stride + tap % kernel) - padding;
                                sum += taps.next().unwrap() * at(source, iy, ix);
                            }
                        }
                        let c = c as usize;
                        let deviation = (part("variance")[c] + Weights::EPSILON).sqrt();
                        let normal = (sum - part("mean")[c]) / deviation;
                        let out = normal * part("gamma")[c] + part("beta")[c];
                        value.push(match activation {
                            None => out,
                            Some(Activation::Relu) => out.max(0.0),
                            Some(Activation::Relu6) => out.clamp(0.0, 6.0),
                        });
                    }
                }
            }
            LayerOp::Add => {
                let other = read(layer.inputs[1]);
                value.extend(input.iter().zip(other).map(|(a, b)| a + b));
            }
            LayerOp::GlobalAveragePool => {
                let positions = (from.height * from.width) as usize;
                value.extend(
                    input.chunks(positions).map(|p| p.iter().sum::<f32>() / positions as f32),
                );
            }
            LayerOp::Linear => {
                for (row, bias) in part("weight").chunks(input.len()).zip(part("bias")) {
                    value.push(row.iter().zip(input).map(|(w, x)| w * x).sum::<f32>() + bias);
                }
            }
        }
        values.push(value);
    }
    values.pop().unwrap_or_default()
}

/// Equal to `tolerance`, relative where values are above 1.
pub(crate) fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len());
    for (a, e) in actual.iter().zip(expected) {
        assert!((a - e).abs() <= tolerance * e.abs().max(1.0), "{actual:?} is not {expected:?}");
    }
}
