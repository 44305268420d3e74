//! Layer normalisation (Ba et al. 2016).

use burn::tensor::Tensor;
use edgesmith_graph::LayerNormalization;

use super::{Call, Trainable, inputs};

impl Trainable for LayerNormalization {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let mean = |value: Tensor<4>| {
            self.axes.iter().fold(value, |value, &axis| value.mean_dim(call.axis(axis)))
        };
        let centred = value.clone() - mean(value);
        let variance = mean(centred.clone() * centred.clone());
        let normalized = centred / variance.add_scalar(self.epsilon).sqrt();
        let along = |place| call.vector(place).map(|vector| call.along(&self.axes, vector));
        let scaled = match along(0) {
            Some(scale) => normalized * scale,
            None => normalized,
        };
        match along(1) {
            Some(shift) => scaled + shift,
            None => scaled,
        }
    }

    /// A shift along the positions is no parameter of a channel.
    fn keeps_silence(&self, _: &[bool]) -> bool {
        false
    }
}
