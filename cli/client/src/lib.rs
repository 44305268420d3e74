//! What commands that ask a coordinator have in common: which one answers, handing it a study,
//! reading its trials, and what trains where the work is done in the same process. It prints no
//! answers.

mod answer;
mod connect;
mod submission;
mod training;
mod trial_row;

pub use answer::{from_status, is_over};
pub use connect::{
    Artifacts, Connection, Coordinator, DEFAULT_COORDINATOR, DEFAULT_DATA_DIR, Studies,
};
pub use submission::{Submission, read_study};
pub use training::{Backend, pipeline, slots};
pub use trial_row::TrialRow;
