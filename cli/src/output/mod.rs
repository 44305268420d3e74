//! How answers about a study look: the JSON and CSV of trials, the stages of one, the marks and the
//! plot of a front, and the progress of a running study. What other programs share is in
//! `edgesmith-console`.

pub mod columns;
pub mod json;
pub mod machines;
pub mod marks;
pub mod progress;
pub mod scatter;
pub mod stages;

pub use edgesmith_client::TrialRow;
