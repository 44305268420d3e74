//! A network's fresh weights, and the burn module that trains them.

mod flex;
mod init;
mod module;

pub use edgesmith_graph::{Array, Weights, WeightsError};
pub use init::fresh_weights;
pub use module::{Network, mean_share, momentum};
