//! A network's fresh weights, and the burn module that trains them: any graph of the operations of
//! `edgesmith_graph`.

mod chain;
mod fitting;
mod flex;
mod held;
mod init;
mod kept;
mod layout;
mod levels;
mod live;
mod module;
mod ops;
mod parameter;
mod silence;
mod simulation;
#[cfg(test)]
mod tests;

pub use init::fresh_weights;
pub(crate) use kept::{Kept, Rounding, kept, rounding};
#[cfg(test)]
pub(crate) use layout::picture;
pub use module::Network;
pub(crate) use module::{MOMENTUM, mean_share, momentum};
pub(crate) use silence::stays_silent;
#[cfg(test)]
pub(crate) use tests::{Net, annotation, cases, random_graph};
