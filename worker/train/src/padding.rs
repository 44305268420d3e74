//! Pads channel counts to multiples on which a device is expected to be faster. The added channels
//! stay zero in training. Networks that only run and do not train are not padded.
//!
//! GPU kernels read and write several channels at once if the number of channels is divisible by
//! that (cubek-convolution only uses vector widths that divide it), but pruning leaves arbitrary
//! numbers. So channels are added whose filters, scales, shifts and readers' weights are all zero;
//! [`Graph::padded`] says to which groups. Such a channel is zero for every image. All its
//! gradients are zero too: those of its own weights because its readers' weights are zero, and
//! those of its readers' weights because the channel is zero. Optimizers keep weights at zero if
//! their gradients are zero. After the padding is removed, the network is the same as one trained
//! without padding, up to the rounding of sums.
//!
//! All this needs operations that make zeros of zeros. The sigmoid of 0 is 0.5: a convolution that
//! reads it would learn weights for channels that do not exist. A network in which that could
//! happen is not padded.

use std::collections::BTreeMap;

use edgesmith_graph::{Array, Graph, Weights};

use super::{Moments, TrainError};
use crate::network::stays_silent;

/// A network's sizes, and the padded network that trains in its place.
#[derive(Debug)]
pub(super) struct Padding {
    own: Sizes,
    padded: Sizes,
    graph: Graph,
}

/// Shapes of a network's weights, by name.
type Sizes = BTreeMap<String, Vec<usize>>;

impl Padding {
    /// Pads to multiples of `multiple`, at least 1, if the added channels stay zero.
    pub(super) fn new(own: &Graph, multiple: u32) -> Self {
        let padded = own.padded(multiple);
        if stays_silent(own, &padded) {
            Self::with(own, padded)
        } else {
            Self::with(own, own.clone())
        }
    }

    /// Trains `graph` in place of `own`.
    pub(super) fn with(own: &Graph, graph: Graph) -> Self {
        Self { own: shapes(own), padded: shapes(&graph), graph }
    }

    /// The padded network.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Number of values of an array of the padded network.
    #[cfg(test)]
    pub(super) fn padded_size(&self, name: &str) -> usize {
        self.padded[name].iter().product()
    }

    /// Adds the zero channels after the others.
    pub(super) fn pad(&self, weights: Weights) -> Weights {
        Weights { arrays: refit(weights.arrays, &self.own, &self.padded) }
    }

    /// Removes the zero channels.
    pub(super) fn crop(&self, weights: Weights) -> Weights {
        Weights { arrays: refit(weights.arrays, &self.padded, &self.own) }
    }

    /// Adds the zero channels to the optimizer's moments.
    ///
    /// # Errors
    /// If the moments belong to a network of another size.
    pub(super) fn pad_moments(&self, moments: Moments) -> Result<Moments, TrainError> {
        let fits = |(name, array): &(&String, &Array)| {
            let own = self.own.get(weights_of(name));
            own.is_none_or(|shape| shape.iter().product::<usize>() == array.data.len())
        };
        match moments.iter().find(|moment| !fits(moment)) {
            Some((name, _)) => Err(TrainError::Checkpoint { name: name.clone() }),
            None => Ok(refit(moments, &self.own, &self.padded)),
        }
    }

    /// Removes the zero channels from the optimizer's moments.
    pub(super) fn crop_moments(&self, moments: Moments) -> Moments {
        refit(moments, &self.padded, &self.own)
    }
}

/// Name and shape of every array of a network's weights.
fn shapes(graph: &Graph) -> Sizes {
    graph.parameters().map(|(_, p)| (p.name.to_string(), p.sizes())).collect()
}

/// The name of the weights that a moment belongs to: `stem.weight` for `moment_1/stem.weight`.
fn weights_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Changes arrays to their new sizes. Arrays with unknown names stay as they are.
fn refit(arrays: BTreeMap<String, Array>, from: &Sizes, to: &Sizes) -> BTreeMap<String, Array> {
    let refit = |(name, array): (String, Array)| {
        let of = weights_of(&name);
        let array = match (from.get(of), to.get(of)) {
            (Some(from), Some(to)) if from != to => {
                let data = corner(&array.data, from, to);
                // Moments are flat.
                let flat = array.shape.len() < from.len();
                Array { shape: if flat { vec![data.len()] } else { to.clone() }, data }
            }
            _ => array,
        };
        (name, array)
    };
    arrays.into_iter().map(refit).collect()
}

/// An array of another size, with the same values where both overlap and zeros elsewhere.
fn corner(data: &[f32], from: &[usize], to: &[usize]) -> Vec<f32> {
    let (Some((&rows, inner)), Some((&wanted, other))) = (from.split_first(), to.split_first())
    else {
        return data.to_vec();
    };
    let size: usize = other.iter().product();
    let mut all = vec![0.0; wanted * size];
    let row = data.len() / rows;
    for (from, to) in data.chunks_exact(row).zip(all.chunks_exact_mut(size)) {
        to.copy_from_slice(&corner(from, inner, other));
    }
    all
}
