//! Convolution and batch normalisation on plain slices, forward and backward, for training small
//! networks on a processor, on one thread or several.
//!
//! Feature maps are `[channels][batch][height][width]`: a channel of a whole batch is contiguous, so
//! batch normalisation runs along memory and a pointwise convolution is one matrix product. Other
//! convolutions copy their input once into [`grid`]'s layout, in which every kernel position is the
//! same run of memory at another offset; no column matrix is built. Nothing here knows burn.

mod convolution;
mod grid;
mod lanes;
mod normalization;
mod product;
mod threads;

pub(super) use convolution::{Convolution, Kept, Kind, Seen};
pub(super) use normalization::{Bounds, affine, denormalize, normalize};
pub(crate) use threads::Threads;
