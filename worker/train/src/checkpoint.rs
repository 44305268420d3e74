//! The state of a training between two epochs, and its file for another worker: safetensors with
//! the weights under their names, the optimizer's moments under `NAME/PARAMETER`, the scales of a
//! simulated quantization under `scale/NAME`, and the counts in the metadata.

use std::str::FromStr;

use super::Moments;
use crate::safetensors::{self, ReadError};
use edgesmith_graph::Weights;

/// Version of the file; stored in the metadata as `edgesmith_checkpoint_version`. Workers with
/// another version refuse it.
pub const CHECKPOINT_VERSION: u32 = 1;
const VERSION_KEY: &str = "edgesmith_checkpoint_version";

/// Everything that is needed to continue a training, besides the request. Continuing from a
/// checkpoint with the same request leads to the same bits as a training without a stop.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checkpoint {
    /// The weights so far, including batch normalisation's running statistics.
    pub weights: Weights,
    /// The optimizer's moments and the scales of a simulated quantization; empty before the first
    /// epoch.
    pub moments: Moments,
    /// Passes over the training images so far.
    pub epochs: u32,
    /// Training images seen so far.
    pub images_seen: u64,
    /// Wall time so far, seconds.
    pub seconds: f64,
}

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes are not a safetensors file, or are damaged.
    #[error(transparent)]
    File(#[from] ReadError),
    /// The version is wrong, or a count is missing or invalid.
    #[error("failed to read checkpoint: its {field} is {given:?}, but must be {expected}")]
    Field {
        /// Key in the metadata.
        field: &'static str,
        /// Value in the file; `None` if it is missing.
        given: Option<String>,
        /// Description of valid values.
        expected: &'static str,
    },
}

impl Checkpoint {
    /// The start of a training.
    pub fn fresh(weights: Weights) -> Self {
        Self { weights, ..Self::default() }
    }

    /// The bytes of the file. Equal checkpoints have equal bytes.
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

    /// Reads a checkpoint from a file. Whether it fits a network is checked when the training
    /// continues.
    ///
    /// # Errors
    /// If the bytes are not a checkpoint of this version.
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
    use edgesmith_graph::Array;

    fn checkpoint() -> Checkpoint {
        let mut weights = Weights::default();
        weights.set("stem", "beta", vec![2], vec![0.5, -1.0]);
        let moment = Array { shape: vec![2], data: vec![1e-30, f32::MIN_POSITIVE] };
        let moments = [("velocity/stem.beta".to_owned(), moment)].into();
        Checkpoint { weights, moments, epochs: 3, images_seen: 77, seconds: 1.0 / 3.0 }
    }

    #[test]
    fn a_checkpoint_survives_a_round_trip_bit_for_bit() {
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
        fn reading_a_damaged_file_never_panics(at in 0usize..600, byte: u8) {
            let mut bytes = checkpoint().to_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Checkpoint::from_bytes(&bytes);
            prop_assert!(Checkpoint::from_bytes(&bytes[..at]).is_err());
        }
    }
}
