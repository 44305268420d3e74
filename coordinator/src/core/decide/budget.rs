//! Larger budgets: for a study that runs, and for one that has ended, which then goes on.

use edgesmith_common::spec::{Budget, Difference};
use edgesmith_common::{ArtifactHash, StudyName, StudySpec};

use super::import::on_same_data;
use super::turn::Turn;
use crate::core::command::{Answer, Refusal};
use crate::core::record::{Record, StudyState};

/// Fields of a study that may grow after it was submitted.
const LIMITS: [&str; 3] = ["budget.trials", "budget.simulated_seconds", "budget.hours"];

/// What a study that is submitted under the name of an existing one is to that.
pub enum Again {
    /// The same.
    Same,
    /// The same, with a larger budget.
    Extended,
    /// Another one, which takes its place, because nothing of it was begun: the differences.
    Replaces(Vec<Difference>),
}

impl Turn<'_> {
    /// Sets a larger limit of trials or of hours, or both.
    ///
    /// # Errors
    /// If the study is unknown or was cancelled, or if a limit would not become larger.
    pub(super) fn extend(
        &mut self,
        name: &StudyName,
        trials: Option<u32>,
        hours: Option<f64>,
    ) -> Result<Answer, Refusal> {
        let study = self.core.study(name)?;
        let now = &study.spec().budget;
        let refused =
            |field, is: String| Err(Refusal::NotLarger { study: name.clone(), field, is });
        if let Some(trials) = trials
            && trials <= now.trials
        {
            return refused("budget.trials", now.trials.to_string());
        }
        match (hours, now.hours) {
            (Some(_), None) => return refused("budget.hours", "unlimited".to_owned()),
            // Written so that a value that is not a number is refused, too.
            (Some(hours), Some(now)) if !(hours > now && hours.is_finite()) => {
                return refused("budget.hours", now.to_string());
            }
            (Some(_) | None, _) => {}
        }
        let budget = Budget {
            trials: trials.unwrap_or(now.trials),
            hours: hours.or(now.hours),
            ..now.clone()
        };
        if budget != *now {
            self.set_budget(name, budget, None)?;
        }
        Ok(Answer::Extended)
    }

    /// Compares a study that is submitted again with the one of its name. Where only limits of its
    /// budget are larger, the study is extended.
    ///
    /// # Errors
    /// If they differ otherwise, and something of the existing study was begun.
    pub(super) fn submit_again(
        &mut self,
        spec: &StudySpec,
        teacher_weights: Option<ArtifactHash>,
    ) -> Result<Again, Refusal> {
        let name = &spec.name;
        let there = self.core.known(name);
        // Networks come with the file, and are not in its text.
        let same = there.spec().source() == spec.source()
            && there.spec().model() == spec.model()
            && there.spec().teacher_model() == spec.teacher_model()
            && there.spec().other_teachers() == spec.other_teachers();
        let mut differences = if same { Vec::new() } else { there.as_filed().differences(spec) };
        if there.teacher_weights() != teacher_weights {
            let logits = spec.training().is_some_and(|work| work.logits.is_some());
            let of = if logits { "teacher.logits" } else { "teacher.weights" };
            let field = format!("the bytes of {of}");
            let (before, after) = ("those of the study".to_owned(), "others".to_owned());
            differences.push(Difference { field, before, after });
        }
        let is_limit = |of: &Difference| LIMITS.contains(&of.field.as_str());
        let only_limits = differences.iter().all(is_limit);
        if differences.is_empty() || only_limits && spec.budget == there.spec().budget {
            return Ok(Again::Same);
        }
        if only_limits && spec.budget.covers(&there.spec().budget) {
            let (budget, source) = (spec.budget.clone(), spec.source().to_owned());
            self.set_budget(name, budget, Some(source))?;
            return Ok(Again::Extended);
        }
        // Limits are compared with those that the study has by now.
        let now = there.spec().differences(spec);
        let by_now = |of: Difference| {
            if is_limit(&of) {
                now.iter().find(|now| now.field == of.field).cloned()
            } else {
                Some(of)
            }
        };
        let differences: Vec<Difference> = differences.into_iter().filter_map(by_now).collect();
        if there.is_untouched() {
            return Ok(Again::Replaces(differences));
        }
        let same_data = on_same_data(there.spec(), spec);
        Err(Refusal::Differs { study: name.clone(), differences, only_limits, same_data })
    }

    fn set_budget(
        &mut self,
        name: &StudyName,
        budget: Budget,
        source: Option<String>,
    ) -> Result<(), Refusal> {
        let state = self.core.known(name).state();
        if *state == StudyState::Cancelled {
            return Err(Refusal::Ended { study: name.clone(), state: state.name() });
        }
        self.record(Record::BudgetExtended { study: name.clone(), budget, source });
        self.take_up(name);
        Ok(())
    }

    /// Lets an ended study go on, with a new data check and new tasks for its teacher if it lacks
    /// them.
    pub(super) fn take_up(&mut self, name: &StudyName) {
        if self.core.known(name).state().is_ended() {
            self.change_state(name, StudyState::Running);
        }
        self.mend_data(name);
        let study = self.core.known(name);
        if study.lacks_teacher_task() {
            let (study, task) = (name.clone(), self.core.next_task());
            self.record(Record::TeacherRetried { study, task });
            return;
        }
        let targets = study.lacks_teacher_measurements();
        if !targets.is_empty() {
            let measure = self.core.next_tasks().zip(targets).collect();
            self.record(Record::TeacherMeasuredAgain { study: name.clone(), measure });
        }
    }
}
