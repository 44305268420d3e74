//! Networks, weights and images for the tests of the worker's crates: fixed ones and random ones.
//! Only tests use it.

mod networks;

use edgesmith_search_space::{Activation, Architecture, DataShape, Operation, Skip, Stage};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use edgesmith_data::{ImageSet, Normalization};
use edgesmith_graph::{Array, Graph, Role, Weights};

pub use networks::{
    DIGITS, conv_graph, noise, reference, residual_graph, scale_filters, stage, tiny_graph,
};

/// Networks of every operation, kernel, stride and activation, small enough to run naively.
pub fn arbitrary_graph() -> impl Strategy<Value = Graph> {
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
            squeeze: 0,
            skip: Skip::Add,
        },
    );
    let stages = prop::collection::vec(stage, 0..4);
    (3..8u32, width, stages, prop_oneof![Just(1u32), Just(3)], 2..5u32).prop_filter_map(
        "strides must leave at least one position",
        |(resolution, stem_width, stages, channels, classes)| {
            let architecture = Architecture { resolution, stem_width, stages };
            architecture.graph(DataShape { channels, classes }).ok()
        },
    )
}

/// Weights that keep values of order one through the layers, every array away from its initial
/// value as after training.
pub fn random_weights(graph: &Graph, seed: u64) -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Weights::default();
    for (_, parameter) in graph.parameters() {
        let shape = parameter.sizes();
        let bound = (6.0 / shape[1..].iter().product::<usize>() as f32).sqrt();
        let range = match parameter.role {
            Role::Weight => -bound..bound,
            Role::Bias | Role::Mean => -0.5..0.5,
            Role::Scale => 0.5..1.5,
            Role::Shift => -0.3..0.5,
            Role::Variance => 0.3..1.5,
            Role::Slope => -0.5..0.8,
            Role::Constant => -1.0..1.0,
        };
        let count = shape.iter().product::<usize>();
        let data = (0..count).map(|_| rng.random_range(range.clone())).collect();
        weights.arrays.insert(parameter.name.to_string(), Array { shape, data });
    }
    weights
}

/// A normalised image for `graph`.
pub fn random_image(graph: &Graph, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x1357);
    (0..graph.input().elements()).map(|_| rng.random_range(-1.5..1.5f32)).collect()
}

/// Pixels for `graph`: noise on a gradient, so that images differ in more than noise.
pub fn random_bytes(graph: &Graph, seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x2468);
    let slope = rng.random_range(-8.0..8.0f32);
    let base = rng.random_range(64.0..192.0f32);
    let width = u64::from(graph.input().space()[1]);
    (0..graph.input().elements())
        .map(|i| (base + slope * (i % width) as f32 + rng.random_range(-64.0..64.0f32)) as u8)
        .collect()
}

/// A set of images of the size that `graph` reads, all with label 0.
///
/// # Panics
/// If the graph does not read images.
pub fn images_for(graph: &Graph, images: &[Vec<u8>]) -> ImageSet {
    let [height, width] = *graph.input().space() else { panic!("a graph that reads images") };
    ImageSet {
        channels: graph.input().channels() as usize,
        height: height as usize,
        width: width as usize,
        pixels: images.concat(),
        labels: vec![0; images.len()],
    }
}

/// Normalisation constants of a typical size, different for every channel.
pub fn normalization(graph: &Graph) -> Normalization {
    let channels = 0..graph.input().channels();
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
