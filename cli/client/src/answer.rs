//! What a coordinator's answers mean for a command.

use edgesmith_console::invalid;
use edgesmith_proto::v1::StudyState;

/// The sentence of a gRPC status; a lost connection is said in words.
pub fn from_status(status: tonic::Status) -> anyhow::Error {
    match status.code() {
        tonic::Code::InvalidArgument | tonic::Code::NotFound | tonic::Code::AlreadyExists => {
            invalid(status.message())
        }
        tonic::Code::Unavailable => {
            anyhow::anyhow!("the coordinator is not to be reached any more: {}", status.message())
        }
        _ => anyhow::anyhow!("{}", status.message()),
    }
}

/// Whether a study's state is its last.
pub fn is_over(state: StudyState) -> bool {
    matches!(state, StudyState::Complete | StudyState::Cancelled | StudyState::Failed)
}
