//! Compresses a trained network: structured pruning, folding of batch normalisation, and integer
//! quantization. Everything works on plain arrays, needs no tensor library and draws no random
//! numbers. It does not train: the training loop fine-tunes after pruning.

mod fold;
mod prune;
mod quantize;
mod range;

pub use fold::{Folded, FoldedLayer, fold};
pub use prune::{importance, prune};
pub use quantize::{QuantizeError, quantize};
