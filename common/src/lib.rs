//! The domain's words as types: ids, the study file, metrics and figures, tasks and outcomes,
//! measurements, what a trial yields, and the algebra of Pareto fronts.
//!
//! Nothing here does I/O, spawns, reads a clock or draws random numbers; it builds for wasm32. The
//! wire's types are `edgesmith-proto`'s, which converts from and to these.

pub mod cover;
mod filter;
mod ids;
mod measurement;
pub mod metric;
pub mod pareto;
mod seed;
pub mod spec;
mod task;
mod trial;

pub use filter::{Filter, FilterError};
pub use ids::{
    ArtifactHash, AttemptId, DeviceClass, EngineName, InvalidHash, InvalidName, StudyName, TaskId,
    TrialNumber, WorkerId,
};
pub use measurement::{DeviceInfo, Measurement};
pub use metric::{
    Bound, Constraint, FigureError, Figures, Goal, Metric, MetricNameError, Objective, Scope,
    ScopedMetric, Split, Target,
};
pub use seed::{Purpose, Seed};
pub use spec::StudySpec;
pub use task::{AttemptError, DataReport, Donor, Needs, Outcome, Role, Work, WorkerInfo};
pub use trial::{RungReport, TrainedTrial, TrialState, TrialValues};
