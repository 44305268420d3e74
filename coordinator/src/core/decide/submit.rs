//! A study is submitted: it is created, or goes on if it is there.

use edgesmith_common::spec::TeacherSource;
use edgesmith_common::{ArtifactHash, StudyName, StudySpec};

use super::budget::Again;
use super::turn::Turn;
use crate::core::command::{Answer, Refusal, Start};
use crate::core::record::{Record, StudyState};

impl Turn<'_> {
    pub(super) fn submit(
        &mut self,
        spec: &StudySpec,
        teacher_weights: Option<ArtifactHash>,
        at_ms: u64,
    ) -> Result<Answer, Refusal> {
        let study = spec.name.clone();
        let mut replaced = Vec::new();
        if let Some(there) = self.core.find(&study) {
            let needs_data = there.needs_data_again();
            let extended = match self.submit_again(spec, teacher_weights)? {
                Again::Same => Some(false),
                Again::Extended => Some(true),
                Again::Replaces(differences) => {
                    replaced = differences;
                    None
                }
            };
            if let Some(extended) = extended {
                self.go_on(&study);
                let reread = needs_data && !self.core.known(&study).needs_data_again();
                let (start, created) = (Start::default(), false);
                return Ok(Answer::Submitted { study, created, extended, replaced, reread, start });
            }
        }
        let teacher = spec.training().and_then(|work| work.teacher.as_ref());
        let from_file =
            matches!(teacher.map(|teacher| &teacher.source), Some(TeacherSource::File { .. }))
                || spec.training().is_some_and(|work| work.logits.is_some());
        if from_file && teacher_weights.is_none() {
            let missing = "the study names a teacher file, but no teacher weights were uploaded";
            return Err(Refusal::TeacherWeights(missing));
        }
        if !from_file && teacher_weights.is_some() {
            let needless = "teacher weights were uploaded, but the study names no teacher file";
            return Err(Refusal::TeacherWeights(needless));
        }
        let (known, left_out) = self.earlier_trials(spec)?;
        let earlier = known.len();
        let paused = self.core.find(&study).map(|of| *of.state() == StudyState::Paused);
        if paused.is_some() {
            self.record(Record::StudyDeleted { study: study.clone() });
        }
        let teacher_task = teacher.map(|_| self.core.next_task());
        let spec = Box::new(spec.clone());
        self.record(Record::StudyCreated { spec, teacher_weights, teacher_task, at_ms });
        if self.core.known(&study).has_data_files() {
            let task = self.core.next_task();
            self.record(Record::DataCheckWanted { study: study.clone(), task });
        }
        let imported = self.take_in(&study, known);
        let known = (earlier - imported) as u32;
        let start = Start { imported: imported as u32, known, left_out };
        if paused == Some(true) {
            self.change_state(&study, StudyState::Paused);
        }
        let (created, extended, reread) = (true, false, false);
        Ok(Answer::Submitted { study, created, extended, replaced, reread, start })
    }

    /// The same study was submitted again: if it has not ended, what is in its way is tried again.
    fn go_on(&mut self, study: &StudyName) {
        if !self.core.known(study).state().is_ended() {
            self.mend_data(study);
            self.core.readmit(study);
            self.open_work();
        }
    }
}
