//! The cost of a network of a space. Latency is not included, because it is measured and never
//! computed.

use edgesmith_graph::Graph;
use serde::{Deserialize, Serialize};

use crate::Precision;

/// Analytic cost of one inference at batch 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cost {
    /// Multiply-accumulates of convolutions and linear layers.
    pub macs: u64,
    /// Weights and biases of the shipped network, after batch normalisation is folded.
    pub parameters: u64,
    /// Largest total size, in bytes, of the feature maps that are alive while one layer runs, its
    /// output included. Layers run in the graph's order.
    pub peak_memory_bytes: u64,
}

impl Cost {
    /// Cost of a network with feature maps held in `precision`.
    pub fn of(graph: &Graph, precision: Precision) -> Self {
        let edgesmith_graph::Cost { macs, parameters, peak_elements } = graph.cost();
        Self { macs, parameters, peak_memory_bytes: peak_elements * precision.weight_bytes() }
    }
}

/// Estimated time to train a network on one image, in units of one multiply-accumulate. Only the
/// ratio between networks is meaningful.
///
/// A number that a layer reads or writes counts as twelve. With that factor, each of the seven
/// networks of `edgesmith-bench train` took between 0.8 and 1.25 times the estimate on one core.
pub fn training_work(graph: &Graph) -> u64 {
    const VALUE: u64 = 12;
    let traffic = graph.traffic().into_iter().flatten();
    let moved = traffic.fold(0, u64::saturating_add).saturating_mul(VALUE);
    graph.total_macs().saturating_add(moved)
}
