//! Trials: their states and the results of training.

use edgesmith_common::{Figures, RungReport, TrainedTrial, TrialState};

use super::{ConvertError, hash, missing, optional_hash, optional_hash_bytes, wrong};
use crate::v1;

impl From<&TrainedTrial> for v1::TrainedTrial {
    fn from(trained: &TrainedTrial) -> Self {
        Self {
            compressed: Some((&trained.compressed).into()),
            uncompressed: Some((&trained.uncompressed).into()),
            model: trained.model.as_bytes().to_vec(),
            weights: trained.weights.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<v1::TrainedTrial> for TrainedTrial {
    type Error = ConvertError;

    fn try_from(trained: v1::TrainedTrial) -> Result<Self, Self::Error> {
        let read = |figures: Option<v1::Figures>, field| -> Result<Figures, ConvertError> {
            figures.ok_or_else(|| missing(field))?.try_into()
        };
        Ok(Self {
            compressed: read(trained.compressed, "compressed")?,
            uncompressed: read(trained.uncompressed, "uncompressed")?,
            model: hash(&trained.model, "model")?,
            weights: hash(&trained.weights, "weights")?,
        })
    }
}

impl From<&RungReport> for v1::RungReport {
    fn from(report: &RungReport) -> Self {
        Self {
            epochs: report.epochs,
            figures: Some((&report.figures).into()),
            checkpoint: optional_hash_bytes(report.checkpoint),
        }
    }
}

impl TryFrom<v1::RungReport> for RungReport {
    type Error = ConvertError;

    fn try_from(report: v1::RungReport) -> Result<Self, Self::Error> {
        Ok(Self {
            epochs: report.epochs,
            figures: report.figures.ok_or_else(|| missing("figures"))?.try_into()?,
            checkpoint: optional_hash(&report.checkpoint, "checkpoint")?,
        })
    }
}

/// A trial's state and reason on the wire.
pub fn trial_state_parts(state: &TrialState) -> (v1::TrialState, String) {
    match state {
        TrialState::Waiting => (v1::TrialState::Waiting, String::new()),
        TrialState::Running => (v1::TrialState::Running, String::new()),
        TrialState::Complete => (v1::TrialState::Complete, String::new()),
        TrialState::Pruned => (v1::TrialState::Pruned, String::new()),
        TrialState::Infeasible { reason } => (v1::TrialState::Infeasible, reason.clone()),
        TrialState::Failed { reason } => (v1::TrialState::Failed, reason.clone()),
    }
}

/// The state of a trial on the wire.
///
/// # Errors
/// If this version does not know the state.
pub fn trial_state(trial: &v1::Trial) -> Result<TrialState, ConvertError> {
    let reason = || trial.reason.clone();
    Ok(match trial.state() {
        v1::TrialState::Waiting => TrialState::Waiting,
        v1::TrialState::Running => TrialState::Running,
        v1::TrialState::Complete => TrialState::Complete,
        v1::TrialState::Pruned => TrialState::Pruned,
        v1::TrialState::Infeasible => TrialState::Infeasible { reason: reason() },
        v1::TrialState::Failed => TrialState::Failed { reason: reason() },
        v1::TrialState::Unspecified => return Err(wrong("state", trial.state)),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use edgesmith_common::ArtifactHash;
    use proptest::prelude::*;

    use super::super::figures::tests::figures;
    use super::*;

    /// Possible results of a training.
    pub fn trained() -> impl Strategy<Value = TrainedTrial> {
        (figures(), figures(), any::<[[u8; 32]; 2]>()).prop_map(
            |(compressed, uncompressed, hashes)| {
                let [model, weights] = hashes.map(ArtifactHash::from_bytes);
                TrainedTrial { compressed, uncompressed, model, weights }
            },
        )
    }

    /// Possible reports from a rung.
    pub fn rung() -> impl Strategy<Value = RungReport> {
        (any::<u32>(), figures(), any::<Option<[u8; 32]>>()).prop_map(
            |(epochs, figures, checkpoint)| RungReport {
                epochs,
                figures,
                checkpoint: checkpoint.map(ArtifactHash::from_bytes),
            },
        )
    }

    #[test]
    fn every_state_converts_back() {
        let reason = "why".to_owned();
        let states = [
            TrialState::Waiting,
            TrialState::Running,
            TrialState::Complete,
            TrialState::Pruned,
            TrialState::Infeasible { reason: reason.clone() },
            TrialState::Failed { reason },
        ];
        for state in states {
            let (wire, reason) = trial_state_parts(&state);
            let trial = v1::Trial { state: wire.into(), reason, ..Default::default() };
            assert_eq!(trial_state(&trial).unwrap(), state);
        }
        assert!(trial_state(&v1::Trial::default()).is_err());
    }
}
