//! A study's data: when workers read them before anything else, and whether all workers have the
//! same ones.
//!
//! The first worker that reads the data says their hash, and the study keeps it. Every later lease
//! of a task that reads them carries this hash. A worker whose data have another one refuses the
//! task, which counts against the worker. The core itself never sees the data.

use edgesmith_common::{ArtifactHash, StudyName, TaskId};

use super::study::{Data, Stage, Study, Teacher, Trial};
use super::task::TaskKind;
use super::{Core, Record, StudyState, Turn};

impl Turn<'_> {
    /// If the study's data are damaged, or their check was given up, lets workers read them again.
    pub(super) fn mend_data(&mut self, name: &StudyName) {
        let study = &self.core.studies[name];
        if !study.needs_data_again() {
            return;
        }
        let (in_files, study) = (study.has_data_files(), name.clone());
        self.record(if in_files {
            Record::DataCheckWanted { study, task: TaskId(self.core.next.ids.tasks_below) }
        } else {
            Record::DataTrusted { study }
        });
    }

    /// Lets workers read the data of studies that go on after a coordinator of an earlier version,
    /// which did not ask for their hash.
    pub(super) fn ask_for_data_hashes(&mut self) {
        let asks = |study: &Study| study.asks_data_hash && study.state == StudyState::Running;
        let all = self.core.studies.iter().filter(|(_, study)| asks(study));
        let all: Vec<StudyName> = all.map(|(name, _)| name.clone()).collect();
        for name in all {
            let study = self.core.studies.get_mut(&name);
            let Some(study) = study else { continue };
            study.asks_data_hash = false;
            if study.lacks_data_hash() {
                let task = TaskId(self.core.next.ids.tasks_below);
                self.record(Record::DataCheckWanted { study: name, task });
            }
        }
    }
}

impl Core {
    /// Says which earlier studies, whose trials this one imported at its start, had other data. The
    /// hashes include the split, so only studies with the same seed can be compared.
    pub(super) fn unlike_earlier(&self, study: &Study) -> Vec<String> {
        let differs = |name: &&StudyName| {
            let earlier = self.studies.get(*name).filter(|of| of.created < study.created);
            earlier.is_some_and(|of| {
                let hashes = of.data_hash.zip(study.data_hash);
                of.spec.seed == study.spec.seed && hashes.is_some_and(|(then, now)| then != now)
            })
        };
        let name = &study.spec.name;
        let text = |earlier: &StudyName| {
            format!(
                "the data of study {earlier}, whose trials it imported, were others, so their \
                 accuracies are not comparable; to leave them out, run `edgesmith delete {name}` \
                 and submit it without them in study.start_from"
            )
        };
        if study.trials.iter().any(|trial| trial.imported) {
            study.spec.start_from.iter().filter(differs).map(text).collect()
        } else {
            Vec::new()
        }
    }
}

impl Study {
    /// Whether its data are in files that a worker can check.
    pub(super) fn has_data_files(&self) -> bool {
        self.spec.training().is_some_and(|work| !work.data.source.paths().is_empty())
    }

    /// Whether the data are damaged, or their check was given up.
    pub(super) fn needs_data_again(&self) -> bool {
        match self.data {
            Data::Damaged { .. } => true,
            Data::Pending(task) => self.tasks.get(task).is_none(),
            Data::Trusted | Data::Checked(_) => false,
        }
    }

    /// Whether nothing was asked about the hash of its data.
    pub(super) fn lacks_data_hash(&self) -> bool {
        match self.data {
            Data::Trusted | Data::Checked(_) => self.has_data_files() && self.data_hash.is_none(),
            Data::Pending(_) | Data::Damaged { .. } => false,
        }
    }

    /// The hash that a worker's data must have to do this task; `None` if any data will do. While
    /// the study has no results and none are on the way, its data may still be replaced by others.
    pub(super) fn expected_data(&self, kind: &TaskKind) -> Option<ArtifactHash> {
        let replaceable = *kind == TaskKind::Data && !self.keeps_data();
        self.data_hash.filter(|_| kind.needs().data && !replaceable)
    }

    /// Whether its data may not be replaced by others: it has results, or some are on the way.
    pub(super) fn keeps_data(&self) -> bool {
        self.has_results() || self.uses_data_now()
    }

    /// Whether a running task, other than the data check, has read its data.
    fn uses_data_now(&self) -> bool {
        self.tasks.iter().any(|(_, task)| {
            task.attempt.is_some() && task.kind != TaskKind::Data && task.kind.needs().data
        })
    }

    /// Whether anything was trained on its data.
    fn has_results(&self) -> bool {
        let own = |trial: &Trial| {
            !trial.imported
                && match &trial.stage {
                    Stage::Complete(_) | Stage::Measuring { .. } => true,
                    Stage::Failed { values, .. } | Stage::Infeasible { values, .. } => {
                        values.is_some()
                    }
                    Stage::Scoring(_)
                    | Stage::Scored
                    | Stage::Training(_)
                    | Stage::OnRung
                    | Stage::Pruned
                    | Stage::ScreenedOut => false,
                }
        };
        let begun = |trial: &Trial| trial.score.is_some() || !trial.rungs.is_empty();
        matches!(self.teacher, Teacher::Trained { .. })
            || self.trials.iter().any(|trial| own(trial) || begun(trial))
    }
}
