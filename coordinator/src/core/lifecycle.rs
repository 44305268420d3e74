//! The life of a study: submission, user actions and its end.

use edgesmith_common::spec::TeacherSource;
use edgesmith_common::{ArtifactHash, StudyName, StudySpec, TaskId, TrialNumber, TrialState};

use super::extend::Again;
use super::study::{Stage, Study, Teacher};
use super::task::{Task, TaskKind};
use super::{Action, Answer, Core, Record, Refusal, Start, StudyState, TrialEnding, Turn};

impl Core {
    /// The refusal of an unknown study, which names the existing ones.
    pub(super) fn unknown_study(&self, name: &StudyName) -> Refusal {
        let mut studies: Vec<_> = self.studies.iter().collect();
        studies.sort_by_key(|(_, study)| study.created);
        let studies = studies.into_iter().map(|(name, _)| name.clone()).collect();
        Refusal::UnknownStudy { name: name.clone(), studies }
    }
}

impl Study {
    /// Whether nothing would be lost with it: it has no trial and no trained teacher, and at most
    /// its data were read. Trials wait for the teacher, so a study has none while that trains for
    /// hours.
    pub(super) fn is_untouched(&self) -> bool {
        let begun = |(_, task): (TaskId, &Task)| task.begun && task.kind != TaskKind::Data;
        self.trials.is_empty()
            && !matches!(self.teacher, Teacher::Trained { .. })
            && !self.tasks.iter().any(begun)
    }
}

impl Turn<'_> {
    pub(super) fn submit(
        &mut self,
        spec: &StudySpec,
        teacher_weights: Option<ArtifactHash>,
        at_ms: u64,
    ) -> Result<Answer, Refusal> {
        let study = spec.name.clone();
        let mut replaced = Vec::new();
        if let Some(there) = self.core.studies.get(&study) {
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
                let reread = needs_data && !self.core.studies[&study].needs_data_again();
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
        let paused = self.core.studies.get(&study).map(|of| of.state == StudyState::Paused);
        if paused.is_some() {
            self.record(Record::StudyDeleted { study: study.clone() });
        }
        let teacher_task = teacher.map(|_| TaskId(self.core.next.ids.tasks_below));
        let spec = Box::new(spec.clone());
        self.record(Record::StudyCreated { spec, teacher_weights, teacher_task, at_ms });
        if self.core.studies[&study].has_data_files() {
            let task = TaskId(self.core.next.ids.tasks_below);
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
        if !self.core.studies[study].state.is_ended() {
            self.mend_data(study);
            self.core.workers.readmit(study);
            self.core.version += 1;
            self.opens = true;
        }
    }

    pub(super) fn steer(&mut self, name: &StudyName, action: Action) -> Result<Answer, Refusal> {
        let Some(study) = self.core.studies.get(name) else {
            return Err(self.core.unknown_study(name));
        };
        let ended = || Refusal::Ended { study: name.clone(), state: study.state.name() };
        match (action, &study.state) {
            (Action::Delete, _) => self.record(Record::StudyDeleted { study: name.clone() }),
            (Action::Pause, StudyState::Paused)
            | (Action::Resume, StudyState::Running)
            | (Action::Cancel, StudyState::Cancelled) => {}
            (_, state) if state.is_ended() => return Err(ended()),
            (Action::Pause, _) => self.change_state(name, StudyState::Paused),
            (Action::Resume, _) => self.change_state(name, StudyState::Running),
            (Action::Cancel, _) => {
                self.end_study(name, StudyState::Cancelled, TrialState::CANCELLED);
            }
        }
        Ok(Answer::Steered)
    }

    /// Gives a study another name.
    ///
    /// # Errors
    /// If the study is unknown, or another one has the name.
    pub(super) fn rename(&mut self, old: &StudyName, new: StudyName) -> Result<Answer, Refusal> {
        if !self.core.studies.contains_key(old) {
            return Err(self.core.unknown_study(old));
        }
        if *old != new {
            if self.core.studies.contains_key(&new) {
                return Err(Refusal::NameTaken(new));
            }
            self.record(Record::StudyRenamed { study: old.clone(), name: new });
        }
        Ok(Answer::Renamed)
    }

    /// Ends a study; unfinished trials fail with the reason `why`.
    pub(super) fn end_study(&mut self, name: &StudyName, state: StudyState, why: &str) {
        let study = &self.core.studies[name];
        let unfinished = study.trials.iter().enumerate().filter(|(_, t)| !t.stage.is_finished());
        let unfinished: Vec<_> = unfinished.map(|(i, _)| TrialNumber(i as u32)).collect();
        for number in unfinished {
            self.finish_trial(name, number, TrialEnding::Failed { reason: why.to_owned() });
        }
        self.change_state(name, state);
    }

    pub(super) fn finish_trial(
        &mut self,
        name: &StudyName,
        number: TrialNumber,
        ending: TrialEnding,
    ) {
        self.record(Record::TrialFinished { study: name.clone(), number, ending });
    }

    /// Stops the proposals of studies whose hours are used up.
    pub(super) fn end_hours(&mut self) {
        let now = self.now;
        let over = self.core.studies.iter().filter(|(_, study)| study.is_out_of_hours(now));
        let over: Vec<(StudyName, Option<f64>)> =
            over.map(|(name, study)| (name.clone(), study.spec.budget.hours)).collect();
        for (study, hours) in over {
            let hours = hours.unwrap_or_default();
            let reason = format!("its budget of {hours} hours is used up");
            self.record(Record::ProposalsEnded { study, reason });
        }
    }

    /// Ends every study that has nothing left to do. This includes paused studies, as no work of
    /// theirs is held back.
    pub(super) fn complete_studies(&mut self) {
        let done = self.core.studies.iter().filter(|(_, study)| study.is_done());
        let done: Vec<StudyName> = done.map(|(name, _)| name.clone()).collect();
        for name in done {
            let state = self.final_state(&name);
            self.change_state(&name, state);
        }
    }

    fn final_state(&self, name: &StudyName) -> StudyState {
        let study = &self.core.studies[name];
        let own = |t: &super::study::Trial| matches!(t.stage, Stage::Complete(_)) && !t.imported;
        if study.trials.iter().any(own) {
            return StudyState::Complete { reason: study.proposals_ended.clone() };
        }
        let of_trial = |(number, trial): (usize, &super::study::Trial)| match &trial.stage {
            Stage::Failed { reason, .. } => Some(format!("trial {number} failed: {reason}")),
            _ => None,
        };
        let failure = study.trials.iter().enumerate().rev().find_map(of_trial);
        let why = failure.or_else(|| study.proposals_ended.clone()).unwrap_or_default();
        StudyState::Failed { reason: format!("no trial was completed; {why}") }
    }

    pub(super) fn change_state(&mut self, name: &StudyName, state: StudyState) {
        let (study, elapsed_ms) = (name.clone(), self.elapsed_ms(name));
        self.record(Record::StudyStateChanged { study, state, elapsed_ms });
    }
}
