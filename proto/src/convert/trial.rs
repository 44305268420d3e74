//! Trials: their states and the results of training.

use edgesmith_common::{
    ClassCount, Figures, RungReport, StageReport, TrainedTrial, TrialState, one_line,
};

use super::{
    ConvertError, MAX_LIST, MAX_NAME, at_most, hash, missing, optional_hash, optional_hash_bytes,
    wrong,
};
use crate::v1;

impl From<&TrainedTrial> for v1::TrainedTrial {
    fn from(trained: &TrainedTrial) -> Self {
        Self {
            compressed: Some((&trained.compressed).into()),
            uncompressed: Some((&trained.uncompressed).into()),
            model: trained.model.as_bytes().to_vec(),
            weights: trained.weights.as_bytes().to_vec(),
            stages: trained.stages.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::TrainedTrial> for TrainedTrial {
    type Error = ConvertError;

    fn try_from(trained: v1::TrainedTrial) -> Result<Self, Self::Error> {
        let read = |figures: Option<v1::Figures>, field| -> Result<Figures, ConvertError> {
            figures.ok_or_else(|| missing(field))?.try_into()
        };
        at_most(MAX_LIST, trained.stages.len(), "stages")?;
        let stages = trained.stages.into_iter().map(TryInto::try_into);
        Ok(Self {
            compressed: read(trained.compressed, "compressed")?,
            uncompressed: read(trained.uncompressed, "uncompressed")?,
            model: hash(&trained.model, "model")?,
            weights: hash(&trained.weights, "weights")?,
            stages: stages.collect::<Result<_, _>>()?,
        })
    }
}

impl From<&StageReport> for v1::Stage {
    fn from(stage: &StageReport) -> Self {
        let StageReport { pass, distilled, figures, classes } = stage;
        Self {
            pass: pass.clone(),
            distilled: *distilled,
            figures: Some(figures.into()),
            class_images: classes.iter().map(|class| class.images).collect(),
            class_right: classes.iter().map(|class| class.right).collect(),
        }
    }
}

impl TryFrom<v1::Stage> for StageReport {
    type Error = ConvertError;

    fn try_from(stage: v1::Stage) -> Result<Self, Self::Error> {
        let v1::Stage { pass, distilled, figures, class_images, class_right } = stage;
        at_most(StageReport::MAX_CLASSES, class_images.len(), "class_images")?;
        if class_right.len() != class_images.len() {
            let (right, images) = (class_right.len(), class_images.len());
            let text = format!("there are {right} numbers for {images} classes");
            return Err(wrong("class_right", text));
        }
        let counts = class_images.into_iter().zip(class_right);
        Ok(Self {
            pass: one_line(&pass, MAX_NAME),
            distilled,
            figures: figures.unwrap_or_default().try_into()?,
            classes: counts.map(|(images, right)| ClassCount { images, right }).collect(),
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
        let stages = prop::collection::vec(stage(), 0..4);
        (figures(), figures(), any::<[[u8; 32]; 2]>(), stages).prop_map(
            |(compressed, uncompressed, hashes, stages)| {
                let [model, weights] = hashes.map(ArtifactHash::from_bytes);
                TrainedTrial { compressed, uncompressed, model, weights, stages }
            },
        )
    }

    /// Possible stages.
    fn stage() -> impl Strategy<Value = StageReport> {
        let count = (any::<u32>(), any::<u32>());
        let count = count.prop_map(|(images, right)| ClassCount { images, right });
        let classes = prop::collection::vec(count, 0..9);
        ("[a-z-]{1,20}", any::<bool>(), figures(), classes).prop_map(
            |(pass, distilled, figures, classes)| StageReport { pass, distilled, figures, classes },
        )
    }

    #[test]
    fn workers_of_earlier_versions_report_no_stages() {
        let (some, hash) = (Some(v1::Figures::default()), vec![0; 32]);
        let old = v1::TrainedTrial {
            compressed: some.clone(),
            uncompressed: some,
            model: hash.clone(),
            weights: hash,
            stages: Vec::new(),
        };
        assert_eq!(TrainedTrial::try_from(old.clone()).unwrap().stages, []);
        let field = |stages: Vec<v1::Stage>| {
            TrainedTrial::try_from(v1::TrainedTrial { stages, ..old.clone() }).unwrap_err().field
        };
        assert_eq!(field(vec![v1::Stage::default(); MAX_LIST + 1]), "stages");
        let uneven = v1::Stage { class_images: vec![1, 2], class_right: vec![1], ..empty() };
        assert_eq!(field(vec![uneven]), "class_right");
        let many = vec![1; StageReport::MAX_CLASSES + 1];
        let many = v1::Stage { class_images: many.clone(), class_right: many, ..empty() };
        assert_eq!(field(vec![many]), "class_images");
        // A text of a worker becomes one line.
        let evil = v1::Stage { pass: "a\nb".to_owned(), ..empty() };
        assert_eq!(StageReport::try_from(evil).unwrap().pass, "a b");
    }

    fn empty() -> v1::Stage {
        v1::Stage::default()
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
