//! The cost of a network, computed from its plan. Latency is not included, because it is measured
//! and never computed.

use serde::{Deserialize, Serialize};

use crate::{LayerId, Plan, Precision, Source};

/// Analytic cost of one inference at batch 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cost {
    /// Multiply-accumulates of convolutions and linear layers.
    pub macs: u64,
    /// Weights and biases of the shipped network, after batch normalisation is folded.
    pub parameters: u64,
    /// Largest total size, in bytes, of the feature maps that are alive while one layer runs, its
    /// output included. Layers run in plan order.
    pub peak_memory_bytes: u64,
}

impl Plan {
    /// Cost with feature maps held in `precision`.
    pub fn cost(&self, precision: Precision) -> Cost {
        let macs = self.ids().map(|id| self.layer_macs(id)).sum();
        let parameters = self.ids().map(|id| self.layer_parameters(id)).sum();
        let peak_memory_bytes = self.peak_elements() * precision.weight_bytes();
        Cost { macs, parameters, peak_memory_bytes }
    }

    /// Multiply-accumulates of one layer.
    pub fn layer_macs(&self, id: LayerId) -> u64 {
        let output = self.output_shape(id);
        let weights = self.weight_shape(id).map_or(0, |s| s.iter().product::<usize>() as u64);
        // Every weight is used once per output position.
        weights * u64::from(output.height) * u64::from(output.width)
    }

    /// Weights and biases of one layer in the shipped network.
    pub fn layer_parameters(&self, id: LayerId) -> u64 {
        self.weight_shape(id).map_or(0, |s| s.iter().product::<usize>() as u64 + s[0] as u64)
    }

    /// Feature map values that a layer reads and writes.
    pub fn layer_values(&self, id: LayerId) -> u64 {
        let read = |source: &Source| self.source_shape(*source).elements();
        self.layer(id).inputs.iter().map(read).sum::<u64>() + self.output_shape(id).elements()
    }

    /// Estimated time to train on one image, in units of one multiply-accumulate. Only the ratio
    /// between networks is meaningful.
    ///
    /// A value that a layer reads or writes counts as twelve. With that factor, each of the seven
    /// networks of `edgesmith-bench train` took between 0.8 and 1.25 times the estimate on one
    /// core.
    pub fn training_work(&self) -> u64 {
        const VALUE: u64 = 12;
        self.ids().map(|id| self.layer_macs(id) + VALUE * self.layer_values(id)).sum()
    }

    fn peak_elements(&self) -> u64 {
        let layers = self.layers();
        // For the image and each layer's output, the layer after which it is no longer needed. No
        // layer reads the logits, so they are kept until the end.
        let mut image_until = 0;
        let mut until = vec![layers.len(); layers.len()];
        for (at, layer) in layers.iter().enumerate() {
            for source in &layer.inputs {
                match source {
                    Source::Input => image_until = at,
                    Source::Layer(id) => until[id.0] = at,
                }
            }
        }
        let mut dies = vec![0; layers.len() + 1];
        dies[image_until] += self.input().elements();
        let mut alive = self.input().elements();
        let mut peak = 0;
        for id in self.ids() {
            let elements = self.output_shape(id).elements();
            dies[until[id.0]] += elements;
            alive += elements;
            peak = peak.max(alive);
            alive -= dies[id.0];
        }
        peak
    }
}
