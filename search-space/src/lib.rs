//! What can be searched: network architectures together with the recipe that compresses them.
//!
//! A [`Space`] is a list of categorical [`Choice`]s, and a [`Genotype`] picks one option of each.
//! In a [`StagedSpace`] it decodes to a [`Candidate`]: an [`Architecture`] plus a [`Recipe`]. In a
//! [`ModelSpace`] it decodes to a [`Variant`] of a user's network with a recipe. In a [`CellSpace`]
//! it decodes to a [`Cell`] of a tabular benchmark, which is looked up and never built. An
//! architecture lowers to a [`Graph`](edgesmith_graph::Graph), which everything else works from.
//!
//! Everything here is arithmetic on plain values: no I/O, no threads, no clock, no tensors, and
//! randomness only through the generator that the caller passes in. It builds for wasm32.

mod active;
mod architecture;
mod candidate;
mod cell;
mod cost;
mod data_shape;
mod encoding;
mod extent;
mod hash;
mod kinship;
mod lower;
mod mistakes;
mod model;
mod named;
mod names;
mod network_space;
pub mod pruning;
mod recipe;
mod space;
mod staged;
mod translation;
mod variation;
mod work;

pub use architecture::{
    Activation, Architecture, ArchitectureError, MAX_VALUE_ELEMENTS, Operation, ParseNameError,
    Skip, Stage,
};
pub use candidate::{Candidate, Design};
pub use cell::{Cell, CellIdentity, CellOperation, CellSpace, ParseCellError};
pub use cost::{Cost, training_work};
pub use data_shape::DataShape;
pub use extent::Extent;
pub use hash::CanonicalHash;
pub use kinship::{counterparts, heritable_share};
pub use lower::EPSILON;
pub use mistakes::SpaceError;
pub use model::{
    Base, BlockOption, Further, Head, ModelDefinition, ModelSpace, NEW_HEAD, ResidualBlock,
    Variant, last_layer, layer_names, leave_out, residual_blocks, stage_count, with_stages,
};
pub use network_space::NetworkSpace;
pub use pruning::pruned;
pub use recipe::{
    Among, Amount, Answers, Arithmetic, ClusterSpace, Clustering, Counted, Course, DistilSpace,
    Distillation, Features, FineTuneSpace, FineTuning, FlatRecipe, Granularity, Importance,
    Multiple, Precision, PruneSpace, PruneUnit, Pruning, QuantizeSpace, Quantizing, RangeRule,
    Recipe, RecipeSpace, Rewind, Rounding, Scheduled, Scope, Shrink, Step, StepSpace, Widths,
    WidthsSpace,
};
pub use space::{Choice, Genotype, GenotypeError, NameError, Space};
pub use staged::{SpaceDefinition, StageSpace, StagedSpace};
pub use translation::Translation;
pub use work::TrainingWork;
