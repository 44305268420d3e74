//! Applies records to the state, both live and in replay. Nothing here makes decisions.

use edgesmith_common::{ArtifactHash, AttemptId, StudyName, StudySpec, TaskId};

use super::{Core, CoreConfig};
use crate::core::record::{AttemptEnding, Contradiction, Record};
use crate::core::study::{Creation, Study};
use crate::core::time::Time;
use crate::core::workers::Attempt;

/// Why the stored records could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {index} of the store cannot be applied: {reason}")]
pub struct RestoreError {
    /// Which record, counted from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Core {
    /// The state after `records`, as a coordinator that starts again finds it.
    ///
    /// # Errors
    /// When a record contradicts those before it.
    pub fn restore(
        config: CoreConfig,
        records: impl IntoIterator<Item = Record>,
        now: Time,
    ) -> Result<Self, RestoreError> {
        let mut core = Self::new(config);
        core.replay(records, now)?;
        Ok(core)
    }

    /// Applies all records to an empty core.
    pub(in crate::core) fn replay(
        &mut self,
        records: impl IntoIterator<Item = Record>,
        now: Time,
    ) -> Result<(), RestoreError> {
        for (index, record) in records.into_iter().enumerate() {
            self.apply(&record, now).map_err(|reason| RestoreError { index, reason })?;
        }
        self.studies.values_mut().for_each(Study::ask_for_data_hash);
        // Workers of the previous process may have ids below the reservation.
        self.next.worker = self.next.ids.workers_below;
        Ok(())
    }

    /// Applies one record.
    pub(in crate::core) fn apply(
        &mut self,
        record: &Record,
        now: Time,
    ) -> Result<(), Contradiction> {
        self.version += 1;
        self.next.ids.note(record);
        match record {
            Record::StudyCreated { spec, teacher_weights, teacher_task, at_ms } => {
                self.create(spec, *teacher_weights, *teacher_task, *at_ms, now)
            }
            Record::StudyRenamed { study, name } => self.rename(study, name),
            Record::StudyDeleted { study } => self.delete(study),
            Record::StudyStateChanged { study, state, .. } => {
                let dropped = self.apply_to(study, record, now)?;
                if state.is_ended() {
                    // What workers cannot do for it is in nobody's way any more.
                    self.workers.readmit(study);
                }
                self.drop_attempts(dropped)
            }
            Record::AttemptStarted { study, task, attempt, worker, .. } => {
                self.apply_to(study, record, now)?;
                let expires = now.after(self.config.lease);
                self.attempts.start(*attempt, study, *task, *worker, expires)?;
                self.workers.hand(*worker, *attempt);
                Ok(())
            }
            Record::AttemptEnded { study, task, attempt, ending, .. } => {
                let accepted = match ending {
                    AttemptEnding::Succeeded
                    | AttemptEnding::Failed { .. }
                    | AttemptEnding::TooLarge { .. }
                    | AttemptEnding::FaultOfWorker { .. }
                    | AttemptEnding::FaultOfData { .. } => true,
                    AttemptEnding::Lost | AttemptEnding::Left => false,
                };
                let ended = self.end_attempt(*attempt, accepted)?;
                if (ended.study(), ended.task()) != (study, *task) {
                    return Err(format!("attempt {attempt} does not belong to task {task}"));
                }
                self.apply_to(study, record, now)?;
                Ok(())
            }
            Record::DataCheckWanted { study, .. }
            | Record::DataChecked { study, .. }
            | Record::DataDamaged { study, .. }
            | Record::DataTrusted { study }
            | Record::BudgetExtended { study, .. }
            | Record::TeacherRetried { study, .. }
            | Record::TeacherMeasuredAgain { study, .. }
            | Record::TrialRetried { study, .. }
            | Record::ProposalsEnded { study, .. }
            | Record::TrialProposed { study, .. }
            | Record::TrialInfeasible { study, .. }
            | Record::TrialTooSlow { study, .. }
            | Record::TrialScored { study, .. }
            | Record::TrialImported { study, .. }
            | Record::TrialInherits { study, .. }
            | Record::TeacherTrained { study, .. }
            | Record::TrialTrained { study, .. }
            | Record::TrialLookedUp { study, .. }
            | Record::Measured { study, .. }
            | Record::TrialFinished { study, .. }
            | Record::TaskGivenUp { study, .. }
            | Record::RungReached { study, .. }
            | Record::TrialPromoted { study, .. } => {
                let dropped = self.apply_to(study, record, now)?;
                self.drop_attempts(dropped)
            }
            // All that they say is in `next`.
            Record::WorkerIdsReserved { .. } | Record::IdsReserved { .. } => Ok(()),
        }
    }

    fn create(
        &mut self,
        spec: &StudySpec,
        teacher_weights: Option<ArtifactHash>,
        teacher_task: Option<TaskId>,
        at_ms: u64,
        now: Time,
    ) -> Result<(), Contradiction> {
        let (spec, name) = (spec.clone(), spec.name.clone());
        if self.studies.contains_key(&name) {
            return Err(format!("study {name} already exists"));
        }
        let created = Creation(self.next.study);
        let study = Study::new(spec, teacher_weights, teacher_task, created, at_ms, now)?;
        self.next.study += 1;
        self.studies.insert(name, study);
        Ok(())
    }

    fn delete(&mut self, name: &StudyName) -> Result<(), Contradiction> {
        self.studies.remove(name).ok_or_else(|| no_study(name))?;
        self.drop_attempts(self.attempts.of_study(name))?;
        self.attempts.forget(name);
        self.workers.readmit(name);
        Ok(())
    }

    fn rename(&mut self, old: &StudyName, new: &StudyName) -> Result<(), Contradiction> {
        if self.studies.contains_key(new) {
            return Err(format!("study {new} already exists"));
        }
        let mut study = self.studies.remove(old).ok_or_else(|| no_study(old))?;
        study.rename(new);
        self.studies.insert(new.clone(), study);
        self.attempts.rename(old, new);
        self.workers.rename(old, new);
        Ok(())
    }

    /// Moves a current attempt to the ended attempts.
    fn end_attempt(&mut self, id: AttemptId, accepted: bool) -> Result<Attempt, Contradiction> {
        let attempt = self.attempts.end(id, accepted)?;
        self.workers.take(attempt.worker(), id);
        Ok(attempt)
    }

    /// Ends attempts whose task is no longer needed.
    fn drop_attempts(&mut self, attempts: Vec<AttemptId>) -> Result<(), Contradiction> {
        attempts.into_iter().try_for_each(|id| self.end_attempt(id, false).map(|_| ()))
    }

    /// Applies a record that is about what is in this study. Returns the attempts that end by it.
    fn apply_to(
        &mut self,
        name: &StudyName,
        record: &Record,
        now: Time,
    ) -> Result<Vec<AttemptId>, Contradiction> {
        let study = self.studies.get_mut(name).ok_or_else(|| no_study(name))?;
        study.apply(record, now).map_err(|why| format!("study {name}: {why}"))
    }
}

fn no_study(name: &StudyName) -> Contradiction {
    format!("there is no study {name}")
}
