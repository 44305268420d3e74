//! A plan's weights as plain arrays, and the burn module that trains them.

mod flex;
mod init;
mod module;
pub mod reference;
mod weights;

#[cfg(test)]
pub(crate) mod testing;

pub use init::WeightsError;
pub use module::{Network, mean_share, momentum};
pub use weights::{Array, Weights};
