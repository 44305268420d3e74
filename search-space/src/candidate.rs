//! The candidate: a network with the recipe that compresses it.

use std::fmt;

use edgesmith_graph::Graph;

use crate::{Architecture, ArchitectureError, DataShape, Recipe, Variant, pruned};

/// One point of the search: a network and the way it is compressed.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The network before compression.
    pub architecture: Design,
    /// How it is compressed.
    pub recipe: Recipe,
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
    /// If it is not a valid network.
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

impl Candidate {
    /// The network before pruning.
    ///
    /// # Errors
    /// If the architecture is not valid for this input, for example because it has too many strides
    /// for the size of the image.
    pub fn graph(&self, data: DataShape) -> Result<Graph, ArchitectureError> {
        self.architecture.graph(data)
    }

    /// The network after pruning: as large as the one that ships. If the recipe does not fix the
    /// numbers of channels ([`Recipe::fixes_costs`]), it is an estimate.
    ///
    /// # Errors
    /// See [`Candidate::graph`].
    pub fn pruned_graph(&self, data: DataShape) -> Result<Graph, ArchitectureError> {
        Ok(self.recipe.prunings().fold(self.graph(data)?, pruned))
    }
}
