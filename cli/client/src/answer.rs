//! What a coordinator's answers mean for a command.

use edgesmith_console::invalid;
use edgesmith_proto::v1::StudyState;
use edgesmith_worker::session::describe;

/// The error message of a gRPC status. A lost connection gets a sentence of its own.
pub fn from_status(status: tonic::Status) -> anyhow::Error {
    match status.code() {
        tonic::Code::InvalidArgument | tonic::Code::NotFound | tonic::Code::AlreadyExists => {
            invalid(status.message())
        }
        tonic::Code::Unavailable => {
            anyhow::anyhow!("the coordinator cannot be reached now: {}", describe(&status))
        }
        _ => anyhow::anyhow!("{}", describe(&status)),
    }
}

/// Whether a study in this state has ended for good.
pub fn is_over(state: StudyState) -> bool {
    matches!(state, StudyState::Complete | StudyState::Cancelled | StudyState::Failed)
}
