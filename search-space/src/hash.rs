//! The canonical hash: equal for genotypes that build and compress the same network.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{CellIdentity, CellSpace, Genotype, Plan, PlanError, Space, StagedSpace};

/// Identity of a candidate: the trained network, the channels left after pruning, the precision and
/// the distillation settings. Choices without effect (an expansion on a plain convolution, two
/// pruning ratios that keep the same channels) do not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CanonicalHash(pub [u8; 16]);

impl Space {
    /// Hash of the candidate that `genotype` describes.
    ///
    /// # Errors
    /// If the candidate is not a valid network.
    pub fn canonical_hash(&self, genotype: &Genotype) -> Result<CanonicalHash, PlanError> {
        match self {
            Space::Staged(space) => hash_candidate(space, genotype),
            Space::Cell(space) => Ok(hash_cell(space, genotype)),
        }
    }
}

fn hash_candidate(space: &StagedSpace, genotype: &Genotype) -> Result<CanonicalHash, PlanError> {
    let candidate = space.decode(genotype);
    let plan = candidate.plan(space.data())?;
    let pruned = plan.pruned(&candidate.recipe.prune);
    let mut hasher = blake3::Hasher::new();
    write_plan(&mut hasher, &plan);
    for group in pruned.groups() {
        hasher.update(&group.channels.to_le_bytes());
    }
    hasher.update(candidate.recipe.precision.name().as_bytes());
    if let Some(d) = candidate.recipe.distillation {
        hasher.update(&d.alpha.to_le_bytes());
        hasher.update(&d.temperature.to_le_bytes());
    }
    Ok(truncated(&hasher))
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

/// Hashes structure only. Layer names are not included, because they only name the stage that a
/// layer came from, which does not affect what it computes.
fn write_plan(hasher: &mut blake3::Hasher, plan: &Plan) {
    for n in [plan.input().channels, plan.input().height, plan.input().width] {
        hasher.update(&n.to_le_bytes());
    }
    for group in plan.groups() {
        hasher.update(&group.channels.to_le_bytes());
    }
    for layer in plan.layers() {
        // The `Debug` text of these enums is their full content. Changing it changes the hashes,
        // which is safe: they are compared only within one study of one version.
        hasher.update(format!("{:?}{:?}{:?};", layer.op, layer.inputs, layer.group).as_bytes());
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
