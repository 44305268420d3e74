//! Why a graph does not become a model of the engine.

/// Why a network cannot be lowered. Each message is written to follow "failed to …: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// The engine has no layer for an operation, or not with these settings.
    #[error("the engine edge-runtime does not run {node}: a {kind}{with}")]
    Unsupported {
        /// The node's name.
        node: String,
        /// The operation.
        kind: &'static str,
        /// Which of its settings the engine does not have, for example ` with unequal padding`;
        /// empty if it is the operation itself.
        with: &'static str,
    },
    /// A value or the weight of a node has no quantization.
    #[error("{value} has no quantization; calibrate the network after it is folded")]
    NotQuantized {
        /// Its name.
        value: String,
    },
    /// The engine reads one input.
    #[error("the engine edge-runtime reads one input, but the network has {given}")]
    Inputs {
        /// How many the network has.
        given: usize,
    },
    /// The engine reads images.
    #[error("the engine edge-runtime reads images, but the network reads {shape}")]
    Image {
        /// The shape of the network's input.
        shape: String,
    },
    /// The engine has one output, which the last layer computes.
    #[error("the engine edge-runtime has one output, that of the last layer")]
    Outputs,
}
