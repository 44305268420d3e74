//! Channels in numbers that a device is expected to like better: a network trains with more of them, which
//! stay silent. What is only run, not trained, is not padded.
//!
//! A GPU's kernels read and write several channels at once where their number divides by that
//! (cubek-convolution takes vectors only of a width that divides it), and pruning leaves any number. So
//! groups of channels, but not the image's and the classes', are padded with ones whose filters, scales,
//! shifts and readers' weights are all zero. Such a channel is zero for every image; nothing that reads it
//! says anything about it, and it says nothing about what it reads, so all of its gradients are zero, and
//! every step rule leaves what is zero and has no gradient as it is. Without the padding again, the network
//! is the one that would have been trained without, but for the order in which sums are rounded.

use std::collections::BTreeMap;

use edgesmith_search_space::Plan;

use super::{Moments, TrainError};
use crate::network::{Array, Weights};

/// A plan, and the one that trains in its place.
#[derive(Debug)]
pub(super) struct Padding {
    own: Sizes,
    padded: Sizes,
    plan: Plan,
}

/// Shapes of a plan's weights, by name.
type Sizes = BTreeMap<String, Vec<usize>>;

impl Padding {
    /// Pads to multiples of `multiple`, at least 1.
    pub(super) fn new(own: &Plan, multiple: u32) -> Self {
        let plan = own.padded(multiple);
        Self { own: Weights::shapes(own), padded: Weights::shapes(&plan), plan }
    }

    /// The padded plan.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Number of values that an array of the padded network has.
    #[cfg(test)]
    pub(super) fn padded_size(&self, name: &str) -> usize {
        self.padded[name].iter().product()
    }

    /// Weights of the plan, with silent channels behind the others.
    pub(super) fn pad(&self, weights: Weights) -> Weights {
        Weights { arrays: refit(weights.arrays, &self.own, &self.padded) }
    }

    /// Weights without them.
    pub(super) fn crop(&self, weights: Weights) -> Weights {
        Weights { arrays: refit(weights.arrays, &self.padded, &self.own) }
    }

    /// What a step rule remembers of the plan's weights, with silent channels.
    ///
    /// # Errors
    /// When moments are of a network of other sizes.
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

    /// The same without them.
    pub(super) fn crop_moments(&self, moments: Moments) -> Moments {
        refit(moments, &self.padded, &self.own)
    }
}

/// The weights that a moment is of: `stem.weight` for `moment_1/stem.weight`.
fn weights_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The arrays in their new sizes. Those whose name is not a plan's stay as they are.
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

/// An array of another size with the same values where both have a place, and zeros elsewhere.
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
