//! Convolution, batch normalisation and rounding to levels on plain slices, forward and backward,
//! for training small networks on a processor, on one thread or several.
//!
//! Feature maps are `[channels][height][width][batch]`: the values of a pixel for the whole batch
//! are adjacent, so a vector always holds the same pixel of several images. Borders and strides
//! then only decide which pixels are read: nothing is padded, and products with the border are not
//! computed. (The layout is that of Krizhevsky's cuda-convnet, 2012.) Batch normalisation runs
//! along memory, and a pointwise convolution is one matrix product.
//!
//! This crate does not know burn, networks or files.

mod combine;
mod convolution;
mod correlate;
mod lanes;
mod normalization;
mod quantization;
mod taps;
#[cfg(test)]
mod testing;
mod threads;

pub use convolution::{Convolution, Kind, Seen};
pub use normalization::{Bounds, affine, denormalize, normalize};
pub use quantization::{Finish, Levels, Nearest, round_to_levels, round_to_levels_backward};
pub use threads::Threads;
