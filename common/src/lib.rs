//! The domain as types: ids, the study file, metrics and figures, tasks and outcomes, measurements,
//! results of trials, and the algebra of Pareto fronts.
//!
//! Nothing here does I/O, spawns threads, reads a clock or draws random numbers, and the crate
//! builds for wasm32. The wire types are in `edgesmith-proto`, which converts between them and
//! these.

pub mod cover;
mod filter;
mod ids;
mod measurement;
pub mod metric;
pub mod pareto;
mod seed;
pub mod spec;
mod stage;
mod task;
mod text;
mod token;
mod trial;

pub use filter::{Filter, FilterError};
pub use ids::{
    ArtifactHash, AttemptId, DeviceClass, EngineName, InvalidHash, InvalidName, StudyName, TaskId,
    TrialNumber, WorkerId,
};
pub use measurement::{DeviceInfo, Fp32Timing, LayerTimes, Measurement, Noise, Waiting};
pub use metric::{
    Bound, Constraint, FigureError, FigureNames, Figures, Goal, Metric, MetricNameError, Objective,
    Scope, ScopedMetric, Split, Target,
};
pub use seed::{Purpose, Seed};
pub use spec::StudySpec;
pub use stage::{ClassChange, ClassCount, StageReport, class_changes};
pub use task::{
    AttemptError, DIVERGED, DataReport, Donor, Fault, Needs, Outcome, Role, Work, WorkerInfo,
};
pub use text::{one_line, quoted};
pub use token::{
    AccessToken, AccessTokenError, COORDINATOR_NAME, Fingerprint, TokenRole, UnknownTokenRole,
};
pub use trial::{RungReport, TrainedTrial, TrialState, TrialValues};
