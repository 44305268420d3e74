//! What can be searched: network architectures together with the recipe that compresses them.
//!
//! A [`Space`] is a list of categorical [`Choice`]s. A [`Genotype`] picks one option of each; it
//! decodes to a [`Candidate`]: an [`Architecture`] plus a [`CompressionRecipe`]. An architecture
//! lowers to a [`Plan`], the flat list of layers that every other room works from: the analytic cost
//! here, the burn network, pruning, quantization and the exporters in the worker.
//!
//! Everything here is arithmetic on plain values: no I/O, no threads, no clock, no tensors, and
//! randomness only through the generator that the caller passes in. It builds for wasm32.

mod architecture;
mod cost;
mod encoding;
mod hash;
mod plan;
mod recipe;
mod space;
mod variation;

pub use architecture::{Activation, Architecture, Operation, ParseNameError, Stage};
pub use cost::Cost;
pub use hash::CanonicalHash;
pub use plan::{
    ChannelGroup, ChannelGroupId, DataShape, Layer, LayerId, LayerOp, Plan, PlanError, Scope,
    Shape, Source,
};
pub use recipe::{Candidate, CompressionRecipe, Distillation, Precision};
pub use space::{
    Choice, Genotype, GenotypeError, RecipeSpace, Space, SpaceDefinition, SpaceError, StageSpace,
};
