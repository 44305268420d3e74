//! What a study's state means for a command.

use edgesmith_proto::v1::StudyState;

/// Whether a study in this state has ended for good.
pub fn is_over(state: StudyState) -> bool {
    matches!(state, StudyState::Complete | StudyState::Cancelled | StudyState::Failed)
}
