//! How a study's answers look: the JSON and CSV of trials, what is marked on a front, its plot, and
//! a running study's progress. What other programs print with too is `edgesmith-console`.

pub mod columns;
pub mod json;
pub mod marks;
pub mod progress;
pub mod scatter;

pub use edgesmith_client::TrialRow;
