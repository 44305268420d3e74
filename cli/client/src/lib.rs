//! What all commands that talk to a coordinator share: finding it, submitting a study to it,
//! reading its trials, and choosing what trains if the work is done in this process. It does not
//! print answers.

mod answer;
mod calls;
mod connect;
mod memory;
mod network;
mod submission;
mod token;
mod training;
mod trial_row;
mod trials;

pub use answer::is_over;
pub use connect::{
    Artifacts, Connection, Coordinator, DEFAULT_COORDINATOR, DEFAULT_DATA_DIR, Studies, Tokens,
};
pub use memory::MemorySize;
pub use submission::{MAX_WEIGHTS, Placing, Submission, read_data, read_study};
pub use token::TokenOptions;
pub use training::{Backend, pipeline, slots};
pub use trial_row::TrialRow;
