//! Maps the domain's errors to gRPC codes, all in one place. The message is the domain's sentence.

use edgesmith_common::InvalidName;
use edgesmith_common::spec::SpecErrors;
use edgesmith_proto::ConvertError;
use tonic::Status;

use super::limits::fitting;
use crate::core::Refusal;
use crate::store::ArtifactError;

/// A request that the core refused.
pub fn of_refusal(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    fitting(match refusal {
        Refusal::UnknownStudy { .. } | Refusal::UnknownTrial { .. } | Refusal::UnknownWorker(_) => {
            Status::not_found(text)
        }
        Refusal::NoObjectives { .. }
        | Refusal::NotLarger { .. }
        | Refusal::TeacherWeights(_)
        | Refusal::NotImportable { .. }
        | Refusal::OtherData { .. }
        | Refusal::OtherNetwork { .. }
        | Refusal::IdleWorker
        | Refusal::NoEngine => Status::invalid_argument(text),
        Refusal::Differs { .. } | Refusal::NameTaken(_) => Status::already_exists(text),
        Refusal::Ended { .. }
        | Refusal::NotFailed { .. }
        | Refusal::NothingFailed { .. }
        | Refusal::NoTeacher(_) => Status::failed_precondition(text),
        Refusal::TooManyWorkers(_) => Status::resource_exhausted(text),
    })
}

/// A study file with mistakes, one per line. `edgesmith validate` shows those that do not fit.
pub fn of_spec(errors: &SpecErrors) -> Status {
    fitting(Status::invalid_argument(errors.to_string()))
}

/// An invalid name.
pub fn of_name(error: &InvalidName) -> Status {
    fitting(Status::invalid_argument(error.to_string()))
}

/// A message with a missing or invalid field.
pub fn of_convert(error: &ConvertError) -> Status {
    fitting(Status::invalid_argument(error.to_string()))
}

/// An artifact that could not be stored or read.
pub fn of_artifact(error: &ArtifactError) -> Status {
    let text = error.to_string();
    match error {
        ArtifactError::Missing(_) => Status::not_found(text),
        ArtifactError::Mismatch { .. } | ArtifactError::Damaged { .. } => Status::data_loss(text),
        ArtifactError::Oversized { .. } => Status::invalid_argument(text),
        ArtifactError::Io { .. } if error.is_out_of_space() => {
            // Unavailable, so that workers keep what they have and try again.
            let text = "the coordinator's disk is full; make room in its data directory";
            Status::unavailable(text)
        }
        ArtifactError::Io { .. } => Status::internal(text),
    }
}

/// An answer of a different kind than the event expects.
pub fn unexpected(answer: &crate::core::Answer) -> Status {
    Status::internal(format!("the core gave an answer of the wrong kind: {answer:?}"))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_full_disk_is_named() {
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let error = ArtifactError::Io { path: "file".into(), source: kind.into() };
            let status = of_artifact(&error);
            assert_eq!(status.code(), tonic::Code::Unavailable);
            assert!(status.message().contains("disk is full"), "{}", status.message());
        }
    }
}
