//! Queries: what users may ask the core, in the form in which they are told. Nothing here changes
//! the state.

mod advice;
mod artifacts;
mod constraints;
mod problems;
mod study;
mod trials;
mod workers;

pub use advice::advice;
pub use artifacts::ArtifactUse;
pub use constraints::ConstraintView;
pub use study::{StudyView, TeacherView, TrialCounts};
pub use trials::TrialView;
pub use workers::{Exclusion, WorkerView};
