//! Networks, weights and images for the tests of the worker's crates: fixed ones and random ones.
//! Only tests use it.

mod networks;

use edgesmith_search_space::{
    Activation, Architecture, DataShape, LayerOp, Operation, Plan, Stage,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use edgesmith_data::Normalization;
use edgesmith_graph::Weights;

pub use networks::{
    DIGITS, conv_plan, noise, reference, residual_plan, scale_filters, stage, tiny_plan,
};

/// Plans of every operation, kernel, stride and activation, small enough to run naively.
pub fn arbitrary_plan() -> impl Strategy<Value = Plan> {
    let operation = prop_oneof![
        Just(Operation::Conv),
        Just(Operation::Separable),
        (1..4u32).prop_map(|expansion| Operation::InvertedResidual { expansion }),
    ];
    let kernel = prop_oneof![Just(1u32), Just(3), Just(5)];
    // Only few different widths, so that residual connections are common.
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
        "strides must leave at least one position",
        |(resolution, stem_width, stages, channels, classes)| {
            let architecture = Architecture { resolution, stem_width, stages };
            Plan::lower(&architecture, DataShape { channels, classes }).ok()
        },
    )
}

/// Weights that keep values of order one through the layers.
pub fn random_weights(plan: &Plan, seed: u64) -> Weights {
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
pub fn random_image(plan: &Plan, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x1357);
    (0..plan.input().elements()).map(|_| rng.random_range(-1.5..1.5f32)).collect()
}

/// Pixels for `plan`: noise on a gradient, so that images differ in more than noise.
pub fn random_bytes(plan: &Plan, seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x2468);
    let slope = rng.random_range(-8.0..8.0f32);
    let base = rng.random_range(64.0..192.0f32);
    (0..plan.input().elements())
        .map(|i| {
            let x = (i % u64::from(plan.input().width)) as f32;
            (base + slope * x + rng.random_range(-64.0..64.0f32)) as u8
        })
        .collect()
}

/// Normalisation constants of a typical size, different for every channel.
pub fn normalization(plan: &Plan) -> Normalization {
    let channels = 0..plan.input().channels;
    Normalization {
        mean: channels.clone().map(|c| 0.4 + 0.1 * c as f32).collect(),
        std: channels.map(|c| 0.25 + 0.05 * c as f32).collect(),
    }
}

/// Asserts equality within `tolerance`, which is relative for values above 1.
pub fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len());
    for (a, e) in actual.iter().zip(expected) {
        assert!(
            (a - e).abs() <= tolerance * e.abs().max(1.0),
            "{actual:?} instead of {expected:?}"
        );
    }
}
