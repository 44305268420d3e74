//! Channels in numbers that suit a device: a network trains with more of them, which stay silent.
//!
//! A GPU's kernels read and write several channels at once where their number divides by that
//! (cubek-convolution takes vectors only of a width that divides it), and pruning leaves any number. So
//! groups of channels are padded with ones whose filters, scales, shifts and readers' weights are all
//! zero. Such a channel is zero for every image; nothing that reads it says anything about it, and it says
//! nothing about what it reads, so all of its gradients are zero, and every step rule leaves what is zero
//! and has no gradient as it is. Without the padding again, the network is the one that would have been
//! trained without, but for the order in which sums are rounded.

use std::collections::BTreeMap;

use edgesmith_search_space::Plan;

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
    /// Pads to multiples of `multiple`, which may be 1.
    pub(super) fn new(own: &Plan, multiple: u32) -> Self {
        let plan = own.padded(multiple);
        Self { own: Weights::shapes(own), padded: Weights::shapes(&plan), plan }
    }

    /// The padded plan.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Weights, or what a step rule remembers of them, with silent channels behind the others. What is not
    /// of the plan stays as it is.
    pub(super) fn pad(&self, arrays: BTreeMap<String, Array>) -> BTreeMap<String, Array> {
        refit(arrays, &self.own, &self.padded)
    }

    /// Without them.
    pub(super) fn crop(&self, arrays: BTreeMap<String, Array>) -> BTreeMap<String, Array> {
        refit(arrays, &self.padded, &self.own)
    }
}

fn refit(arrays: BTreeMap<String, Array>, from: &Sizes, to: &Sizes) -> BTreeMap<String, Array> {
    let refit = |(name, array): (String, Array)| {
        // Moments are named `moment_1/stem.weight`.
        let of = name.rsplit('/').next().unwrap_or(&name);
        let array = match (from.get(of), to.get(of)) {
            (Some(from), Some(to))
                if from != to && from.iter().product::<usize>() == array.data.len() =>
            {
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
