//! The canonical hash: equal for genotypes that build and compress the same network.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use edgesmith_graph::{Graph, GroupSize};
use serde::{Deserialize, Serialize};

use crate::pruning::{kept, pruned, removes, stage};
use crate::{
    Amount, ArchitectureError, Candidate, CellIdentity, CellSpace, DataShape, Design, Genotype,
    Pruning, Quantizing, Recipe, Space, Step,
};

/// Identity of a candidate: the trained network, the weights that it starts from if they are a
/// user's, and the passes of the recipe, with the channels left after pruning. Choices without
/// effect ([`Space::active`], and two pruning ratios that keep the same channels) do not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CanonicalHash(pub [u8; 16]);

impl Space {
    /// Hash of the candidate that `genotype` describes.
    ///
    /// # Errors
    /// If the candidate is not a valid network.
    pub fn canonical_hash(&self, genotype: &Genotype) -> Result<CanonicalHash, ArchitectureError> {
        match self {
            Space::Staged(space) => hash_candidate(&space.decode(genotype), space.data()),
            Space::Model(space) => hash_candidate(&space.decode(genotype), space.data()),
            Space::Cell(space) => Ok(hash_cell(space, genotype)),
        }
    }
}

fn hash_candidate(
    candidate: &Candidate,
    data: DataShape,
) -> Result<CanonicalHash, ArchitectureError> {
    let network = candidate.graph(data)?;
    let mut content = Content(Vec::with_capacity(4096));
    hash_graph(&network, &mut content);
    // Variants of one structure may start from different weights.
    if let Design::Model(variant) = &candidate.architecture {
        (variant.base().weights, &variant.left_out, variant.trained).hash(&mut content);
    }
    hash_passes(&candidate.recipe, network, &mut content);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&content.0);
    Ok(truncated(&hasher))
}

/// Hashes the passes that change this network. Of a pruning the numbers of channels that stay
/// count, and not the shares, if they follow from the recipe.
fn hash_passes(recipe: &Recipe, mut network: Graph, content: &mut Content) {
    // From the first pruning in which the whole network competes, sizes are not known.
    let mut known = true;
    for pass in recipe.passes(&network) {
        match pass {
            // The network keeps the budget already.
            Step::Prune(pruning) if known && !removes(&network, pruning) => {}
            Step::Prune(pruning) => {
                known &= !pruning.amount.leaves_sizes_open();
                hash_pruning(pruning, &network, known, content);
                if known {
                    network = pruned(network, pruning);
                }
            }
            Step::Quantize(quantizing) => {
                // The others are not there to stay in fp32.
                let there = |name: &&String| network.value_named(name).is_some();
                let fp32 = quantizing.fp32.iter().filter(there).cloned().collect();
                let mut widths = quantizing.widths.clone();
                widths.layer_bits.retain(|(layer, _)| there(&layer));
                let quantizing = Quantizing { fp32, widths, ..quantizing.clone() };
                content.write(format!("{quantizing:?}").as_bytes());
            }
            Step::Distil(_)
            | Step::FineTune(_)
            | Step::Cluster(_)
            | Step::QuantizeAwareTrain(_) => {
                content.write(format!("{pass:?}").as_bytes());
            }
        }
    }
}

/// Hashes a pruning of a network whose sizes are `known`.
fn hash_pruning(pruning: &Pruning, network: &Graph, known: bool, content: &mut Content) {
    let Pruning { amount, importance, rounds, epochs, multiple_of, rewind } = pruning;
    let only_sizes = pruning.trainings() == 0;
    match amount {
        Amount::Stage { .. } | Amount::Layer { .. } if known && only_sizes => {
            let size = |group: GroupSize| (group.channels, kept(network, group, pruning));
            let sizes: Vec<_> = network.group_sizes().into_iter().map(size).collect();
            sizes.hash(content);
        }
        Amount::Stage { shares } => {
            // Only the shares of stages that have channels to lose.
            let stages = network.group_sizes().into_iter().map(|group| stage(network, group));
            let stages: HashSet<Option<u32>> = stages.collect();
            let shares = shares.iter().zip(0..).filter(|(_, place)| stages.contains(&Some(*place)));
            shares.for_each(|(share, place)| (place, share.to_bits()).hash(content));
            let epochs = if only_sizes { 0 } else { *epochs };
            (rounds, epochs, multiple_of).hash(content);
        }
        Amount::Layer { .. }
        | Amount::Network { .. }
        | Amount::Weights { .. }
        | Amount::TwoOfFour { .. }
        | Amount::Blocks { .. }
        | Amount::AtMost { .. } => {
            content.write(format!("{amount:?}").as_bytes());
            // Nothing is trained after the last round.
            let epochs = if only_sizes { 0 } else { *epochs };
            (rounds, epochs, multiple_of).hash(content);
        }
    }
    importance.hash(content);
    if !rewind.is_none() {
        rewind.hash(content);
    }
}

fn hash_cell(space: &CellSpace, genotype: &Genotype) -> CanonicalHash {
    let mut hasher = blake3::Hasher::new();
    let cell = space.decode(genotype);
    let identity = match space.identity() {
        CellIdentity::Network => cell.canonical(),
        CellIdentity::Row => cell.to_string(),
    };
    hasher.update(identity.as_bytes());
    truncated(&hasher)
}

fn truncated(hasher: &blake3::Hasher) -> CanonicalHash {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    CanonicalHash(bytes)
}

/// Hashes structure only. Names and places are not included, because they do not affect what a
/// network computes.
fn hash_graph(graph: &Graph, state: &mut impl Hasher) {
    graph.inputs().for_each(|input| graph.shape(input).hash(state));
    graph.outputs().hash(state);
    // The shapes of values follow from these.
    graph.parameters().for_each(|(_, parameter)| parameter.shape.hash(state));
    for (_, node) in graph.nodes() {
        (&node.op, &node.inputs, &node.parameters).hash(state);
    }
}

/// Everything that is hashed, byte by byte. The bytes may differ between versions and machines,
/// which is safe: hashes are compared only within one run of a coordinator.
struct Content(Vec<u8>);

impl Hasher for Content {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the bytes are taken as they are")
    }
}

impl fmt::Display for CanonicalHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl FromStr for CanonicalHash {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(u128::from_str_radix(s, 16)?.to_be_bytes()))
    }
}
