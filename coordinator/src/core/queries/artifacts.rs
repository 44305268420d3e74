//! Which artifacts the studies still need. Reads no files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::Path;

use edgesmith_common::spec::{ModelFile, OtherSource};
use edgesmith_common::{ArtifactHash, RungReport, StudyName, TrainedTrial, TrialNumber, quoted};

use crate::core::state::Core;
use crate::core::study::{Stage, Study, Trial};

/// What an artifact is for. They are ordered as they are made: what came with a study, what was
/// made of its teacher, then of each trial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtifactUse {
    study: StudyName,
    part: Part,
}

/// The part of a study that refers to an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// It came with the study.
    Given(&'static str),
    /// It was made of the study's teacher.
    Teacher(&'static str),
    /// It was made of the trial.
    Trial(TrialNumber, &'static str),
    /// What the trial goes on from.
    Checkpoint(TrialNumber),
}

impl Core {
    /// The artifacts that a study refers to, with what one is for. A checkpoint is needed
    /// until its trial is finished, and of a failed trial, which may be tried again.
    pub fn artifacts(&self) -> BTreeMap<ArtifactHash, ArtifactUse> {
        let mut all = BTreeMap::new();
        for (name, study) in self.by_name() {
            let mut add = |hash: ArtifactHash, part: Part| {
                let of = ArtifactUse { study: name.clone(), part };
                match all.entry(hash) {
                    Entry::Vacant(entry) => drop(entry.insert(of)),
                    // What can be made again is the better one to know.
                    Entry::Occupied(mut entry) if !entry.get().is_made() && of.is_made() => {
                        entry.insert(of);
                    }
                    Entry::Occupied(_) => {}
                }
            };
            of_study(study, &mut add);
            for (number, trial) in study.trials().iter() {
                of_trial(number, trial, &mut add);
            }
        }
        all
    }
}

impl ArtifactUse {
    /// Whether it was made of a teacher or a trial, and so can be made again.
    fn is_made(&self) -> bool {
        match self.part {
            Part::Teacher(_) | Part::Trial(..) => true,
            Part::Given(_) | Part::Checkpoint(_) => false,
        }
    }

    /// What to do without a backup, with the studies in `directory`, to end a sentence with. `None`
    /// for a checkpoint: its trial says more if it fails.
    pub fn mend(&self, directory: &Path) -> Option<String> {
        let (Self { study, part }, directory) = (self, quoted(directory));
        match part {
            Part::Trial(number, _) => Some(format!(
                "`edgesmith trial {study} {number} --rerun --data-dir {directory}` makes it again"
            )),
            Part::Teacher(_) => Some(format!(
                "`edgesmith retry {study} --teacher --data-dir {directory}` lets the coordinator and \
                 a worker train the teacher again"
            )),
            Part::Given(_) => Some("submit the study again, which stores it again".to_owned()),
            Part::Checkpoint(_) => None,
        }
    }
}

/// `the model file of trial 3 of study digits`
impl fmt::Display for ArtifactUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let study = &self.study;
        match self.part {
            Part::Given(what) => write!(f, "{what} of study {study}"),
            Part::Teacher(what) => write!(f, "{what} of the teacher of study {study}"),
            Part::Trial(number, what) => write!(f, "{what} of trial {number} of study {study}"),
            Part::Checkpoint(number) => {
                write!(f, "the checkpoint of trial {number} of study {study}")
            }
        }
    }
}

/// Those that came with the study, and its teacher's.
fn of_study(study: &Study, add: &mut impl FnMut(ArtifactHash, Part)) {
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
        add(*weights, Part::Given(of));
    }
    for other in others {
        match &other.source {
            OtherSource::Logits(given) => {
                add(given.file, Part::Given("the logits of another teacher"));
            }
            OtherSource::Train { .. } | OtherSource::Network { .. } => {}
        }
    }
    if let Some(weights) = study.teacher_weights() {
        add(weights, Part::Given("the given teacher"));
    }
    if let Some((values, soft_targets)) = study.teacher().trained() {
        if let Some(TrainedTrial { model, weights, .. }) = values.trained() {
            add_trained([*model, *weights], &mut |hash, of| add(hash, Part::Teacher(of)));
        }
        add(soft_targets, Part::Teacher("the soft targets"));
    }
}

fn of_trial(number: TrialNumber, trial: &Trial, add: &mut impl FnMut(ArtifactHash, Part)) {
    if let Some(artifacts) = trial.stage().artifacts() {
        add_trained(artifacts, &mut |hash, of| add(hash, Part::Trial(number, of)));
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
        add(*checkpoint, Part::Checkpoint(number));
    }
}

fn add_trained(
    [model, weights]: [ArtifactHash; 2],
    add: &mut impl FnMut(ArtifactHash, &'static str),
) {
    add(model, "the model file");
    add(weights, "the weights");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_that_make_an_artifact_again_can_be_pasted() {
        let mend = |part| {
            let study = "s".parse().unwrap();
            ArtifactUse { study, part }.mend(Path::new("my data"))
        };
        let trial = mend(Part::Trial(TrialNumber(4), "the weights")).unwrap();
        assert!(trial.contains("`edgesmith trial s 4 --rerun --data-dir 'my data'`"), "{trial}");
        let teacher = mend(Part::Teacher("the weights")).unwrap();
        assert!(
            teacher.contains("`edgesmith retry s --teacher --data-dir 'my data'`"),
            "{teacher}"
        );
        assert!(mend(Part::Given("the weights")).unwrap().contains("submit"));
        assert_eq!(mend(Part::Checkpoint(TrialNumber(4))), None);
    }
}
