//! Spaces whose candidates are networks that are trained, of either kind.

use crate::{
    Candidate, Choice, DataShape, Extent, Genotype, ModelSpace, RecipeSpace, Space, StagedSpace,
};

/// A space of networks that are trained.
#[derive(Debug, Clone, PartialEq)]
pub enum NetworkSpace {
    /// Staged convolutional networks.
    Staged(StagedSpace),
    /// Variants of a user's network.
    Model(ModelSpace),
}

/// Asks the space of either kind.
macro_rules! ask {
    ($self:ident.$question:ident($($argument:expr),*)) => {
        match $self {
            NetworkSpace::Staged(space) => space.$question($($argument),*),
            NetworkSpace::Model(space) => space.$question($($argument),*),
        }
    };
}

impl NetworkSpace {
    /// The staged space, if it is one.
    pub fn staged(&self) -> Option<&StagedSpace> {
        match self {
            NetworkSpace::Staged(space) => Some(space),
            NetworkSpace::Model(_) => None,
        }
    }

    /// The space of a user's network, if it is one.
    pub fn model(&self) -> Option<&ModelSpace> {
        match self {
            NetworkSpace::Staged(_) => None,
            NetworkSpace::Model(space) => Some(space),
        }
    }

    /// Options of the recipe.
    pub fn recipe(&self) -> &RecipeSpace {
        match self {
            NetworkSpace::Staged(space) => &space.definition().recipe,
            NetworkSpace::Model(space) => &space.definition().recipe,
        }
    }

    /// Image channels and classes of every network of the space.
    pub fn data(&self) -> DataShape {
        ask!(self.data())
    }

    /// The decisions, in genotype order.
    pub fn choices(&self) -> &[Choice] {
        ask!(self.choices())
    }

    /// The candidate that a genotype of this space describes.
    ///
    /// # Panics
    /// If the genotype belongs to another space.
    pub fn decode(&self, genotype: &Genotype) -> Candidate {
        ask!(self.decode(genotype))
    }

    /// The least of each cost; `None` if it is not known.
    pub fn least(&self) -> Option<Extent> {
        ask!(self.least())
    }

    /// The greatest of each cost; `None` if it is not known.
    pub fn greatest(&self) -> Option<Extent> {
        ask!(self.greatest())
    }

    /// A lower bound of the peak memory of every network, in bytes.
    pub fn least_peak_memory(&self) -> u64 {
        ask!(self.least_peak_memory())
    }

    /// An upper bound of the peak memory of every network, in bytes.
    pub fn greatest_peak_memory(&self) -> u64 {
        ask!(self.greatest_peak_memory())
    }
}

impl From<StagedSpace> for NetworkSpace {
    fn from(space: StagedSpace) -> Self {
        NetworkSpace::Staged(space)
    }
}

impl From<ModelSpace> for NetworkSpace {
    fn from(space: ModelSpace) -> Self {
        NetworkSpace::Model(space)
    }
}

impl From<NetworkSpace> for Space {
    fn from(space: NetworkSpace) -> Self {
        match space {
            NetworkSpace::Staged(space) => Space::Staged(space),
            NetworkSpace::Model(space) => Space::Model(space),
        }
    }
}
