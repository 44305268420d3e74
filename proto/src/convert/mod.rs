//! Conversions between wire messages and the domain's types, in both directions.
//!
//! Incoming messages are checked. If a part that the protos call always set is missing, a hash has
//! the wrong length, a name is invalid or a metric is given in a scope where it is not measured,
//! the result is a [`ConvertError`] that names the field.
//!
//! Texts from outside are made one safe line of a bounded length here ([`one_line`]), and lists are
//! bounded. Nothing later has to think of that again.
//!
//! The values of figures are not checked against the definitions of their metrics here. The
//! coordinator does this for what workers report, in its `core/outcome.rs`.

mod figures;
mod task;
mod trial;

pub use task::{genotype, outcome, outcome_message, running, work, work_message, worker_info};
pub use trial::{trial_state, trial_state_parts};

use edgesmith_common::{ArtifactHash, one_line};

/// Most tasks that a worker takes at once.
pub const MAX_SLOTS: usize = 256;
/// Most figures of one network.
const MAX_FIGURES: usize = 512;
/// Most engines or roles of a worker, and most instruction sets of a device.
const MAX_LIST: usize = 64;
/// Most characters of names, of descriptions of a machine or a step, and of reasons of failures.
const MAX_NAME: usize = 64;
const MAX_WORDS: usize = 200;
const MAX_REASON: usize = 2000;

/// A message with a missing or invalid field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field} of a message {problem}")]
pub struct ConvertError {
    /// Name of the field in the proto.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// A hash from its 32 bytes.
///
/// # Errors
/// If there are not exactly 32 bytes.
pub fn hash(bytes: &[u8], field: &'static str) -> Result<ArtifactHash, ConvertError> {
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| wrong(field, format!("{} bytes, but a hash has 32", bytes.len())))?;
    Ok(ArtifactHash::from_bytes(bytes))
}

/// A hash, or `None` for no bytes.
///
/// # Errors
/// If there are neither 0 nor 32 bytes.
pub fn optional_hash(
    bytes: &[u8],
    field: &'static str,
) -> Result<Option<ArtifactHash>, ConvertError> {
    if bytes.is_empty() { Ok(None) } else { hash(bytes, field).map(Some) }
}

/// The bytes of a hash; empty for `None`.
pub fn optional_hash_bytes(hash: Option<ArtifactHash>) -> Vec<u8> {
    hash.map(|h| h.as_bytes().to_vec()).unwrap_or_default()
}

fn missing(field: &'static str) -> ConvertError {
    ConvertError { field, problem: "is missing".to_owned() }
}

fn wrong(field: &'static str, problem: impl std::fmt::Display) -> ConvertError {
    let problem = one_line(&problem.to_string(), MAX_REASON);
    ConvertError { field, problem: format!("is wrong: {problem}") }
}

/// Checks the length of a list.
fn at_most(most: usize, given: usize, field: &'static str) -> Result<(), ConvertError> {
    if given <= most {
        return Ok(());
    }
    Err(wrong(field, format!("{given} are too many; at most {most} are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_32_bytes_or_is_left_out() {
        assert_eq!(hash(&[1, 2], "model").unwrap_err().field, "model");
        assert_eq!(optional_hash(&[], "model").unwrap(), None);
        assert!(optional_hash(&[1], "model").is_err());
    }
}
