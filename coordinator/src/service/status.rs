//! Maps the domain's errors to gRPC codes, all in one place. The message is the domain's sentence.

use edgesmith_common::InvalidName;
use edgesmith_common::spec::SpecErrors;
use edgesmith_proto::ConvertError;
use tonic::Status;

use crate::core::Refusal;
use crate::store::ArtifactError;

/// A request that the core refused.
pub fn of_refusal(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::UnknownStudy { .. } | Refusal::UnknownTrial { .. } | Refusal::UnknownWorker(_) => {
            Status::not_found(text)
        }
        Refusal::NoObjectives { .. }
        | Refusal::NotLarger { .. }
        | Refusal::TeacherWeights(_)
        | Refusal::NotImportable { .. }
        | Refusal::OtherData { .. }
        | Refusal::IdleWorker
        | Refusal::NoEngine => Status::invalid_argument(text),
        Refusal::Differs { .. } | Refusal::NameTaken(_) => Status::already_exists(text),
        Refusal::Ended { .. } | Refusal::NotFailed { .. } | Refusal::NothingFailed(_) => {
            Status::failed_precondition(text)
        }
        Refusal::TooManyWorkers(_) => Status::resource_exhausted(text),
    }
}

/// A study file with mistakes, one per line.
pub fn of_spec(errors: &SpecErrors) -> Status {
    Status::invalid_argument(errors.to_string())
}

/// An invalid name.
pub fn of_name(error: &InvalidName) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A message with a missing or invalid field.
pub fn of_convert(error: &ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// An artifact that could not be stored or read.
pub fn of_artifact(error: &ArtifactError) -> Status {
    let text = error.to_string();
    match error {
        ArtifactError::Missing(_) => Status::not_found(text),
        ArtifactError::Mismatch { .. } | ArtifactError::Damaged { .. } => Status::data_loss(text),
        ArtifactError::Io { .. } => Status::internal(text),
    }
}

/// An answer of a different kind than the event expects.
pub fn unexpected(answer: &crate::core::Answer) -> Status {
    Status::internal(format!("the core gave an answer of the wrong kind: {answer:?}"))
}
