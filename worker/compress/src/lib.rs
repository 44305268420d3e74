//! Passes that compress a trained network: folding of batch normalisation, structured pruning by
//! the importance of channels ([`importance`]) and a budget ([`budget`]), masks of single weights,
//! clusters of weights, correction of biases, equalization of ranges, learned rounding, and
//! quantization, which annotates. [`Scheme`] has the settings of quantization and of the passes
//! around it. Each pass is a function of a graph with its weights, and of what it was observed to
//! do. Everything works on plain arrays, needs no tensor library and draws no random numbers.
//!
//! It does not train (the training loop fine-tunes after pruning), and writes no files: lowering to
//! an engine is a step of its own.

mod bias_correction;
mod bits;
pub mod budget;
mod cluster;
mod coarse;
mod equalize;
mod fold;
pub mod importance;
mod learn_rounding;
mod levels;
mod prune;
mod quantize;
mod range;
mod real;
mod scheme;
mod sparsity;
mod unfold;
mod walk;

pub use bias_correction::{correct_biases, correct_quantized};
pub use cluster::cluster;
pub use coarse::{Coarse, Grid, Rows};
pub use equalize::equalize;
pub use fold::fold;
pub use learn_rounding::learn_rounding;
pub use prune::{cut_least, cut_to, prune, rank};
pub use quantize::{Calibration, QuantizeError};
pub use scheme::{Granularity, RangeRule, Rounding, Scheme, Widths};
pub use sparsity::{Masks, WeightScores};
pub use unfold::{Unfolded, unfold};
pub use walk::held_numbers;
