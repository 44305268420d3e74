//! Networks in evaluation mode over whole image sets.

use std::ops::ControlFlow;

use edgesmith_graph::{Graph, Weights};

use super::batches::{Images, Normalizer};
use super::classifier::Classifier;
use super::{TrainDevice, TrainError};
use crate::network::Network;
use edgesmith_data::{ImageSet, Normalization};

/// Images per batch. Affects only memory and speed.
const BATCH: usize = 128;

/// Top-1 accuracy on `set`, `0..=1`. For quick checks during a search; reported accuracies come
/// from the edge runtime.
///
/// # Panics
/// If the network is not a classifier of images, the weights do not fit it, or the images have the
/// wrong number of channels.
pub fn evaluate(
    graph: &Graph,
    weights: &Weights,
    set: &ImageSet,
    normalization: &Normalization,
    device: TrainDevice,
) -> f64 {
    let network = Network::new(graph, weights, &device.device());
    let Classifier { side, classes, .. } = Classifier::of(graph).expect("a classifier of images");
    let mut images = Images::new(set, side);
    let all = &mut || ControlFlow::Continue(());
    let logits =
        logits(&network, &mut images, normalization, device, all).expect("the pause never breaks");
    let right = logits
        .chunks_exact(classes)
        .zip(&set.labels)
        .filter(|(row, label)| highest(row) == usize::from(**label))
        .count();
    right as f64 / set.len().max(1) as f64
}

/// Logits `[images][classes]` of images at the network's resolution, unless `pause`, which is
/// called before each batch, breaks.
pub(super) fn logits(
    network: &Network,
    images: &mut Images,
    normalization: &Normalization,
    device: TrainDevice,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<f32>, TrainError> {
    let normalizer = Normalizer::new(normalization);
    let device = device.device();
    let mut all = Vec::new();
    for start in (0..images.len()).step_by(BATCH) {
        if pause().is_break() {
            return Err(TrainError::Stopped);
        }
        let indices: Vec<usize> = (start..images.len().min(start + BATCH)).collect();
        let logits = network.forward(normalizer.batch(images, &indices, &device));
        all.extend(logits.into_data().try_into_vec::<f32>().expect("logits are f32"));
    }
    Ok(all)
}

/// Index of the highest value; the first of equal ones.
fn highest(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgesmith_testing::{conv_graph, random_weights, reference};

    #[test]
    fn accuracy_equals_that_of_the_plain_loops() {
        let graph = conv_graph();
        let weights = random_weights(&graph, 4);
        let pixels = (0..150 * 64).map(|i| (i * i % 251) as u8).collect();
        let normalization = Normalization { mean: vec![0.4], std: vec![0.3] };
        let mut set = ImageSet { channels: 1, height: 8, width: 8, pixels, labels: vec![0; 150] };
        for index in 0..set.len() {
            let bytes = set.image(index).iter();
            let image: Vec<f32> = bytes.map(|b| (f32::from(*b) / 255.0 - 0.4) / 0.3).collect();
            // Makes every third label wrong.
            let class = highest(&reference(&graph, &weights, &image));
            set.labels[index] = ((class + usize::from(index % 3 == 0)) % 10) as u16;
        }
        let accuracy = evaluate(&graph, &weights, &set, &normalization, TrainDevice::Flex);
        assert_eq!(accuracy, 100.0 / 150.0);
    }
}
