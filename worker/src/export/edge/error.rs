//! Why a graph does not become a model of the engine.

use edgesmith_edge_runtime::ModelError;

/// Why a network cannot be lowered. Each message is written to follow "failed to …: ".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LowerError {
    /// A value or the weight of a node has no quantization.
    #[error("{value} has no quantization; calibrate the network after it is folded")]
    NotQuantized {
        /// Its name.
        value: String,
    },
    /// Sums of a layer in integers could leave 32 bits.
    #[error(
        "the sums of {value} could leave 32 bits; its weight and its input have too small scales, or \
         it adds up too many numbers"
    )]
    Overflow {
        /// What the layer computes.
        value: String,
    },
    /// The network has another number of inputs.
    #[error("the network has another number of inputs: {given}, not {expected}")]
    Inputs {
        /// How many the network has.
        given: usize,
        /// How many it should have.
        expected: usize,
    },
    /// The network has another number of outputs.
    #[error("the network has another number of outputs: {given}, not {expected}")]
    Outputs {
        /// How many the network has.
        given: usize,
        /// How many it should have.
        expected: usize,
    },
    /// The network reads no picture.
    #[error("images are expected, but the network reads {shape}")]
    Image {
        /// The shape of the network's input.
        shape: String,
    },
    /// The engine does not accept an input.
    #[error(transparent)]
    Model(#[from] ModelError),
}
