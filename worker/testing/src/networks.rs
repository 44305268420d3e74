//! Fixed networks, and what tests do with networks.

use edgesmith_graph::{Evaluator, Graph, Weights};
use edgesmith_search_space::{Activation, Architecture, DataShape, Operation, Skip, Stage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One-channel images, ten classes.
pub const DIGITS: DataShape = DataShape { channels: 1, classes: 10 };

/// A stage of one operation.
pub fn stage(operation: Operation, width: u32, depth: u32, stride: u32) -> Stage {
    Stage {
        depth,
        width,
        kernel: 3,
        operation,
        stride,
        activation: Activation::Relu,
        squeeze: 0,
        skip: Skip::Add,
    }
}

/// Plain convolutions of 16 and 32 channels on 8x8 digits.
pub fn conv_graph() -> Graph {
    let stages = vec![stage(Operation::Conv, 16, 1, 1), stage(Operation::Conv, 32, 1, 2)];
    Architecture { resolution: 8, stem_width: 16, stages }.graph(DIGITS).unwrap()
}

/// Inverted residuals with an addition and a stride, ReLU6 and a 5x5 kernel.
pub fn residual_graph() -> Graph {
    let residual = Operation::InvertedResidual { expansion: 3 };
    let mut stages = vec![stage(residual, 8, 2, 1), stage(residual, 12, 1, 2)];
    stages[1].activation = Activation::Relu6;
    stages[1].kernel = 5;
    stages.push(stage(Operation::Separable, 10, 1, 1));
    Architecture { resolution: 8, stem_width: 8, stages }.graph(DIGITS).unwrap()
}

/// Every kind of layer with a handful of channels on 6x6 colour images, for slow checks.
pub fn tiny_graph() -> Graph {
    let residual = Operation::InvertedResidual { expansion: 2 };
    let mut stages = vec![
        stage(residual, 2, 1, 1),
        stage(Operation::Conv, 3, 1, 2),
        stage(Operation::Separable, 2, 1, 2),
    ];
    stages[2].kernel = 5;
    let data = DataShape { channels: 3, classes: 3 };
    Architecture { resolution: 6, stem_width: 2, stages }.graph(data).unwrap()
}

/// Logits of one normalised image, from the graph's reference evaluation.
pub fn reference(graph: &Graph, weights: &Weights, image: &[f32]) -> Vec<f32> {
    let image = image.iter().map(|&value| f64::from(value)).collect();
    let logits = Evaluator::<f64>::new(graph, weights).output(image);
    logits.into_iter().map(|value| value as f32).collect()
}

/// Multiplies the filters of all convolutions. In training, normalisation cancels the factor.
pub fn scale_filters(weights: &mut Weights, factor: f32) {
    for array in weights.arrays.values_mut().filter(|array| array.shape.len() == 4) {
        array.data.iter_mut().for_each(|value| *value *= factor);
    }
}

/// Values in `-1.0..1.0`.
pub fn noise(count: usize, seed: u8) -> Vec<f32> {
    let mut rng = ChaCha8Rng::from_seed([seed; 32]);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}
