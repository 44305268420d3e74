//! Taking up again what failed: trials, the teacher, damaged data, and workers that were excluded.
//! A user asks for it after mending the cause. What succeeded is kept.

use edgesmith_common::{StudyName, TrialNumber};

use super::turn::Turn;
use crate::core::command::{Answer, Refusal};
use crate::core::queries::advice;
use crate::core::record::{Record, StudyState, TrialEnding};
use crate::core::study::{Stage, Teacher};

impl Turn<'_> {
    /// Tries again what failed in a study: all failed trials or one, the teacher, the data check.
    /// With `again`, the teacher is trained again although it has not failed, because what it left
    /// is lost. Workers that were excluded are asked again. A study that ended goes on.
    ///
    /// # Errors
    /// If the study is unknown or was cancelled, if the trial has not failed, if nothing has, or if
    /// there is no teacher to train.
    pub(super) fn retry(
        &mut self,
        name: &StudyName,
        number: Option<TrialNumber>,
        again: bool,
    ) -> Result<Answer, Refusal> {
        let study = self.core.study(name)?;
        if *study.state() == StudyState::Cancelled {
            return Err(Refusal::Ended { study: name.clone(), state: study.state().name() });
        }
        let failed = match number {
            Some(number) => {
                let Some(trial) = study.trials().get(number) else {
                    let (study, trials) = (name.clone(), study.trials().count());
                    return Err(Refusal::UnknownTrial { study, number, trials });
                };
                if !matches!(trial.stage(), Stage::Failed { .. }) {
                    let state = study.trial_state(trial).name();
                    return Err(Refusal::NotFailed { study: name.clone(), number, state });
                }
                vec![number]
            }
            None => study.trials().failed(),
        };
        if again && matches!(study.teacher(), Teacher::None) {
            return Err(Refusal::NoTeacher(name.clone()));
        }
        let again = again && study.teacher().trained().is_some();
        let (data, teacher) = (study.needs_data_again(), study.lacks_teacher_task() || again);
        let measured = if again { 0 } else { study.lacks_teacher_measurements().len() as u32 };
        let excluded = !study.state().is_ended() && self.core.connected().excludes(name);
        if failed.is_empty() && !data && !teacher && measured == 0 && !excluded {
            let (study, advice) = (name.clone(), advice(study));
            return Err(Refusal::NothingFailed { study, advice });
        }
        self.take_up(name);
        if again {
            let (study, task) = (name.clone(), self.core.next_task());
            self.record(Record::TeacherRetried { study, task });
        }
        for number in &failed {
            self.retry_trial(name, *number);
        }
        self.core.readmit(name);
        self.open_work();
        Ok(Answer::Retried { trials: failed.len() as u32, data, teacher, measured })
    }

    fn retry_trial(&mut self, name: &StudyName, number: TrialNumber) {
        let study = self.core.known(name);
        let ids = self.core.next_tasks();
        let stage = study.trials()[number].stage();
        let (task, measure) = match (stage, stage.figures()) {
            (_, Some(figures)) => (None, ids.zip(study.unmeasured(figures)).collect()),
            (Stage::Failed { waited: true, .. }, None) => (None, Vec::new()),
            (_, None) => (Some(self.core.next_task()), Vec::new()),
        };
        let measured = stage.figures().is_some() && measure.is_empty();
        self.record(Record::TrialRetried { study: name.clone(), number, task, measure });
        if measured {
            self.finish_trial(name, number, TrialEnding::Complete);
        }
    }
}
