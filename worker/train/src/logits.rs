//! The outputs of a trained network for whole sets of images.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use edgesmith_data::Normalization;
use edgesmith_graph::ValueId;

use super::batches::{Images, Normalizer};
use super::{TrainDevice, TrainError};
use crate::network::Network;

/// Most images that are computed at once. Fewer need less memory and more time.
pub(super) const BATCH: usize = 128;

/// Logits `[images][classes]` of images at the network's resolution, at most `at_once` at a time,
/// unless `pause`, which is called before each batch, breaks.
pub(super) fn logits(
    network: &Network,
    images: &mut Images,
    normalization: &Normalization,
    at_once: usize,
    device: TrainDevice,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<f32>, TrainError> {
    let see = &mut |_| {};
    logits_with(network, images, normalization, (at_once, device), (&[], see), pause)
}

/// [`logits`]; `see` gets the `wanted` values of each batch.
pub(super) fn logits_with(
    network: &Network,
    images: &mut Images,
    normalization: &Normalization,
    (at_once, device): (usize, TrainDevice),
    (wanted, see): (&[ValueId], &mut dyn FnMut(Vec<Tensor<4>>)),
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<f32>, TrainError> {
    let normalizer = Normalizer::new(normalization);
    let device = device.device();
    let mut all = Vec::new();
    let batch = at_once.clamp(1, BATCH);
    for start in (0..images.len()).step_by(batch) {
        if pause().is_break() {
            return Err(TrainError::Stopped);
        }
        let indices: Vec<usize> = (start..images.len().min(start + batch)).collect();
        let batch = normalizer.batch(images, &indices, &device);
        let (logits, values) = network.forward_with(batch, wanted);
        see(values);
        all.extend(logits.into_data().try_into_vec::<f32>().expect("logits are f32"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use edgesmith_data::ImageSet;
    use edgesmith_testing::{assert_close, conv_graph, random_weights, reference};

    use super::*;

    #[test]
    fn they_equal_those_of_the_plain_loops() {
        let graph = conv_graph();
        let weights = random_weights(&graph, 4);
        let pixels = (0..150 * 64).map(|i| (i * i % 251) as u8).collect();
        let normalization = Normalization { mean: vec![0.4], std: vec![0.3] };
        // More than one batch.
        let set = ImageSet { channels: 1, height: 8, width: 8, pixels, labels: vec![0; 150] };
        let network = Network::new(&graph, &weights, &TrainDevice::Flex.device());
        let (images, go_on) = (&mut Images::new(&set, 8), &mut || ControlFlow::Continue(()));
        let most = usize::MAX;
        let all = logits(&network, images, &normalization, most, TrainDevice::Flex, go_on).unwrap();
        for (index, logits) in all.chunks_exact(10).enumerate() {
            let bytes = set.image(index).iter();
            let image: Vec<f32> = bytes.map(|b| (f32::from(*b) / 255.0 - 0.4) / 0.3).collect();
            assert_close(logits, &reference(&graph, &weights, &image), 1e-4);
        }
        assert_eq!(all.len(), 1500);
        let stop = &mut || ControlFlow::Break(());
        let images = &mut Images::new(&set, 8);
        let stopped = logits(&network, images, &normalization, most, TrainDevice::Flex, stop);
        assert!(matches!(stopped, Err(TrainError::Stopped)));
    }
}
