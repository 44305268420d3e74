//! Batches of normalised floats from images as bytes.

use burn::tensor::{Device, Tensor, TensorData};

use crate::data::{ImageSet, Normalization};

/// Turns bytes into what a network sees: `(byte / 255 - mean) / std`, looked up per channel.
#[derive(Debug, Clone)]
pub(super) struct Normalizer {
    tables: Vec<[f32; 256]>,
}

impl Normalizer {
    pub(super) fn new(normalization: &Normalization) -> Self {
        let table = |(mean, std): (&f32, &f32)| {
            std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std)
        };
        Self { tables: normalization.mean.iter().zip(&normalization.std).map(table).collect() }
    }

    /// The images at `indices`, `[batch, channels, height, width]`.
    pub(super) fn batch(&self, set: &ImageSet, indices: &[usize], device: &Device) -> Tensor<4> {
        let mut values = Vec::with_capacity(indices.len() * set.image_bytes());
        for &index in indices {
            let planes = set.image(index).chunks_exact(set.height * set.width);
            for (plane, table) in planes.zip(&self.tables) {
                values.extend(plane.iter().map(|&byte| table[usize::from(byte)]));
            }
        }
        let shape = [indices.len(), set.channels, set.height, set.width];
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_normalised_by_channel() {
        let set = ImageSet {
            channels: 3,
            height: 1,
            width: 2,
            pixels: vec![0, 0, 0, 0, 0, 0, 0, 255, 255, 51, 51, 0],
            labels: vec![0, 1],
        };
        let normalization = Normalization { mean: vec![0.0, 0.5, 0.2], std: vec![1.0, 0.5, 0.1] };
        let batch = Normalizer::new(&normalization).batch(&set, &[1, 0], &Device::flex());
        assert_eq!(batch.dims(), [2, 3, 1, 2]);
        let values = batch.into_data().try_into_vec::<f32>().unwrap();
        let expected = [0.0, 1.0, 1.0, -0.6, 0.0, -2.0, 0.0, 0.0, -1.0, -1.0, -2.0, -2.0];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
    }
}
