//! The recipe that compresses a trained network, and the candidate: an architecture with its
//! recipe.

use std::fmt;
use std::str::FromStr;

use edgesmith_graph::{Graph, GroupSize};
use serde::{Deserialize, Serialize};

use crate::architecture::ParseNameError;
use crate::pruning::{self, pruned};
use crate::{Architecture, ArchitectureError, DataShape, Variant};

/// One point of the search: a network and the way it is compressed.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The network before compression.
    pub architecture: Design,
    /// How it is compressed.
    pub recipe: CompressionRecipe,
}

/// A network before compression, as a space describes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Design {
    /// A staged network.
    Staged(Architecture),
    /// A variant of a user's network.
    Model(Variant),
}

impl Design {
    /// The network for images of `data.channels` and `data.classes` classes.
    ///
    /// # Errors
    /// If it is no valid network.
    pub fn graph(&self, data: DataShape) -> Result<Graph, ArchitectureError> {
        match self {
            Design::Staged(architecture) => architecture.graph(data),
            // Its space was made for these data.
            Design::Model(variant) => variant.graph(),
        }
    }
}

impl fmt::Display for Design {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Design::Staged(architecture) => architecture.fmt(f),
            Design::Model(variant) => variant.fmt(f),
        }
    }
}

/// Pruning, quantization and distillation of one candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompressionRecipe {
    /// Share of channels removed, one per stage, each in `0.0..1.0`.
    pub prune: Vec<f64>,
    /// Arithmetic of the shipped network.
    pub precision: Precision,
    /// Weight and temperature of the teacher's soft targets; `None` to train on labels alone.
    pub distillation: Option<Distillation>,
}

/// Weights of the distillation loss `(1-alpha)*CE + alpha*T^2*KL(teacher_T || student_T)`
/// (Hinton et al. 2015).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distillation {
    /// Weight of the teacher's term, in `0.0..=1.0`.
    pub alpha: f64,
    /// Temperature, above 0.
    pub temperature: f64,
}

/// Arithmetic of the shipped network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point.
    Fp32,
    /// Integer-only: per-channel symmetric int8 weights, per-tensor uint8 activations.
    Int8,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Precision; 2] = [Precision::Fp32, Precision::Int8];

    /// The name in study files and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Int8 => "int8",
        }
    }

    /// Bytes of one stored weight.
    pub fn weight_bytes(self) -> u64 {
        match self {
            Precision::Fp32 => 4,
            Precision::Int8 => 1,
        }
    }
}

impl FromStr for Precision {
    type Err = ParseNameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|p| p.name() == s)
            .ok_or_else(|| ParseNameError::new("precision", s, Self::ALL.map(Self::name).to_vec()))
    }
}

impl Candidate {
    /// The network before pruning.
    ///
    /// # Errors
    /// If the architecture is not valid for this input, for example because it has too many strides
    /// for the size of the image.
    pub fn graph(&self, data: DataShape) -> Result<Graph, ArchitectureError> {
        self.architecture.graph(data)
    }

    /// The network after pruning: the one that ships.
    ///
    /// # Errors
    /// See [`Candidate::graph`].
    pub fn pruned_graph(&self, data: DataShape) -> Result<Graph, ArchitectureError> {
        Ok(pruned(self.graph(data)?, &self.recipe.prune))
    }

    /// Whether pruning removes any channel of `graph`, this candidate's unpruned network. With few
    /// channels, small ratios round to none.
    pub fn prunes(&self, graph: &Graph) -> bool {
        let loses =
            |group: GroupSize| pruning::kept(graph, group, &self.recipe.prune) < group.channels;
        graph.group_sizes().into_iter().any(loses)
    }
}

impl fmt::Display for CompressionRecipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.precision.name())?;
        if self.prune.iter().any(|p| *p > 0.0) {
            let shares: Vec<String> =
                self.prune.iter().map(|p| format!("{:.0}", p * 100.0)).collect();
            write!(f, " prune {}%", shares.join("/"))?;
        }
        if let Some(d) = self.distillation {
            write!(f, " kd a{} T{}", d.alpha, d.temperature)?;
        }
        Ok(())
    }
}
