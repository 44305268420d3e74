//! A plan's weights as plain arrays, and the burn module that trains them.

mod weights;

pub use weights::{Array, Weights};
