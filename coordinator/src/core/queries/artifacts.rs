//! Which artifacts the studies still need. Reads no files.

use std::collections::BTreeMap;

use edgesmith_common::spec::{ModelFile, OtherSource};
use edgesmith_common::{ArtifactHash, RungReport, TrainedTrial};

use crate::core::state::Core;
use crate::core::study::{Stage, Study, Trial};

impl Core {
    /// The artifacts that a study refers to, with what the first one is for, in words. A checkpoint
    /// is needed until its trial is finished, and of a failed trial, which may be tried again.
    pub fn artifacts(&self) -> BTreeMap<ArtifactHash, String> {
        let mut all = BTreeMap::new();
        for (name, study) in self.by_name() {
            let mut add = |hash: ArtifactHash, of: &str| {
                all.entry(hash).or_insert_with(|| format!("{of} of study {name}"));
            };
            of_study(study, &mut add);
            for (number, trial) in study.trials().iter() {
                let mut add = |hash, of: &str| add(hash, &format!("{of} of trial {number}"));
                of_trial(trial, &mut add);
            }
        }
        all
    }
}

/// Those that came with the study, and its teacher's.
fn of_study(study: &Study, add: &mut impl FnMut(ArtifactHash, &str)) {
    let others = study.spec().other_teachers();
    let networks = others.iter().filter_map(|other| match &other.source {
        OtherSource::Network { model, .. } => Some((&model.file, "another network that teaches")),
        OtherSource::Train { .. } | OtherSource::Logits(_) => None,
    });
    let models = [
        study.spec().model().map(|model| (&model.file, "the network")),
        study.spec().teacher_model().map(|model| (&model.file, "the network that teaches")),
    ];
    for (model, of) in models.into_iter().flatten().chain(networks) {
        // The whole list, so that a new field is looked at here. Nothing reads `file` again.
        let ModelFile {
            network: _,
            weights,
            file: _,
            inputs: _,
            outputs: _,
            classes: _,
            input_scale: _,
        } = model;
        add(*weights, of);
    }
    for other in others {
        match &other.source {
            OtherSource::Logits(given) => add(given.file, "the logits of another teacher"),
            OtherSource::Train { .. } | OtherSource::Network { .. } => {}
        }
    }
    if let Some(weights) = study.teacher_weights() {
        add(weights, "the given teacher");
    }
    if let Some((values, soft_targets)) = study.teacher().trained() {
        if let Some(TrainedTrial { model, weights, .. }) = values.trained() {
            add_trained([*model, *weights], &mut |hash, of| {
                add(hash, &format!("{of} of the teacher"))
            });
        }
        add(soft_targets, "the soft targets");
    }
}

fn of_trial(trial: &Trial, add: &mut impl FnMut(ArtifactHash, &str)) {
    if let Some(artifacts) = trial.stage().artifacts() {
        add_trained(artifacts, add);
    }
    let continues = match trial.stage() {
        Stage::Scoring(_)
        | Stage::Scored
        | Stage::Training(_)
        | Stage::OnRung
        | Stage::Failed { .. } => true,
        Stage::Measuring { .. }
        | Stage::Complete(_)
        | Stage::Pruned
        | Stage::ScreenedOut
        | Stage::Infeasible { .. } => false,
    };
    // Only the last one is continued from.
    if let Some(RungReport { checkpoint: Some(checkpoint), .. }) = trial.rungs().last()
        && continues
    {
        add(*checkpoint, "the checkpoint");
    }
}

fn add_trained([model, weights]: [ArtifactHash; 2], add: &mut impl FnMut(ArtifactHash, &str)) {
    add(model, "the model file");
    add(weights, "the weights");
}
