//! A training between two epochs, and the file that carries it to another worker: safetensors with the
//! weights under their names and the step rule's moments under `NAME/PARAMETER`, and the counts in the
//! metadata.

use std::str::FromStr;

use super::Moments;
use crate::export::safetensors::{self, ReadError};
use crate::network::Weights;

/// Version of the file, in the metadata's `edgesmith_checkpoint_version`. Workers of another version do
/// not go on from it.
pub const CHECKPOINT_VERSION: u32 = 1;
const VERSION_KEY: &str = "edgesmith_checkpoint_version";

/// All that going on needs besides the request itself. With the same request, going on from a
/// checkpoint gives the bits of a training that never stopped.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checkpoint {
    /// As trained so far, running statistics of batch normalisation included.
    pub weights: Weights,
    /// What the step rule remembers; empty before the first epoch.
    pub moments: Moments,
    /// Passes over the training images so far.
    pub epochs: u32,
    /// Training images seen so far.
    pub images_seen: u64,
    /// Wall time so far, seconds.
    pub seconds: f64,
}

/// Why bytes are no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// No safetensors file, or a damaged one.
    #[error(transparent)]
    File(#[from] ReadError),
    /// Of another version, or without a count.
    #[error("failed to read checkpoint: its {field} is {given:?}, {expected} is needed")]
    Field {
        /// In the metadata.
        field: &'static str,
        /// What the file says, `None` where it says nothing.
        given: Option<String>,
        /// What is needed.
        expected: &'static str,
    },
}

impl Checkpoint {
    /// Where a training begins.
    pub fn fresh(weights: Weights) -> Self {
        Self { weights, ..Self::default() }
    }

    /// The file; equal checkpoints give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut all = self.weights.clone();
        all.arrays.extend(self.moments.iter().map(|(name, array)| (name.clone(), array.clone())));
        let metadata = [
            (VERSION_KEY, CHECKPOINT_VERSION.to_string()),
            ("epochs", self.epochs.to_string()),
            ("images_seen", self.images_seen.to_string()),
            ("seconds", self.seconds.to_string()),
        ];
        safetensors::to_bytes(&all, &metadata)
    }

    /// The checkpoint in a file. Whether it fits a network is judged where training goes on.
    ///
    /// # Errors
    /// When the bytes are no checkpoint of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (mut weights, notes) = safetensors::read(bytes)?;
        let moments = weights.arrays.extract_if(.., |name, _| name.contains('/')).collect();
        let version: u32 = field(notes.get(VERSION_KEY), VERSION_KEY, "1")?;
        if version != CHECKPOINT_VERSION {
            let given = Some(version.to_string());
            return Err(CheckpointError::Field { field: VERSION_KEY, given, expected: "1" });
        }
        let seconds: f64 = field(notes.get("seconds"), "seconds", "a number")?;
        if !seconds.is_finite() || seconds < 0.0 {
            let given = Some(seconds.to_string());
            return Err(CheckpointError::Field { field: "seconds", given, expected: "a time" });
        }
        Ok(Self {
            weights,
            moments,
            epochs: field(notes.get("epochs"), "epochs", "a whole number")?,
            images_seen: field(notes.get("images_seen"), "images_seen", "a whole number")?,
            seconds,
        })
    }
}

fn field<T: FromStr>(
    given: Option<&String>,
    field: &'static str,
    expected: &'static str,
) -> Result<T, CheckpointError> {
    let read = given.and_then(|text| text.parse().ok());
    read.ok_or_else(|| CheckpointError::Field { field, given: given.cloned(), expected })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::network::Array;

    fn checkpoint() -> Checkpoint {
        let mut weights = Weights::default();
        weights.set("stem", "beta", vec![2], vec![0.5, -1.0]);
        let moment = Array { shape: vec![2], data: vec![1e-30, f32::MIN_POSITIVE] };
        let moments = [("velocity/stem.beta".to_owned(), moment)].into();
        Checkpoint { weights, moments, epochs: 3, images_seen: 77, seconds: 1.0 / 3.0 }
    }

    #[test]
    fn a_checkpoint_comes_back_to_the_bit() {
        let bytes = checkpoint().to_bytes();
        assert_eq!(bytes, checkpoint().to_bytes());
        assert_eq!(Checkpoint::from_bytes(&bytes).unwrap(), checkpoint());
    }

    #[test]
    fn other_files_and_versions_are_refused_in_one_sentence() {
        let weights = safetensors::to_bytes(&checkpoint().weights, &[]);
        let said = Checkpoint::from_bytes(&weights).unwrap_err().to_string();
        assert!(said.contains("edgesmith_checkpoint_version is None"), "{said}");
        let later = [(VERSION_KEY, "2".to_owned())];
        let later = safetensors::to_bytes(&checkpoint().weights, &later);
        let said = Checkpoint::from_bytes(&later).unwrap_err().to_string();
        assert!(said.contains("\"2\""), "{said}");
        assert!(Checkpoint::from_bytes(b"no file").is_err());
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_other_values_but_no_panic(at in 0usize..600, byte: u8) {
            let mut bytes = checkpoint().to_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Checkpoint::from_bytes(&bytes);
            prop_assert!(Checkpoint::from_bytes(&bytes[..at]).is_err());
        }
    }
}
