//! One study: its trials, its teacher, and what is left to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edgesmith_common::spec::Budget;
use edgesmith_common::{
    ArtifactHash, DataReport, FigureNames, Figures, RungReport, StudySpec, TaskId, TrialNumber,
    TrialValues,
};
use edgesmith_search_space::Genotype;

use super::fronts::Fronts;
use super::import::Candidates;
use super::kept::{Kept, Setups};
use super::latency::Predictors;
use super::learner::Learner;
use super::machines::Machines;
use super::rungs::Rungs;
use super::screening::Screening;
use super::task::{Queue, Tasks};
use super::{StagesKey, StudyState, Time};
use crate::controller::Part;

/// A study and everything that is known about it.
pub(super) struct Study {
    pub(super) spec: Arc<StudySpec>,
    /// The budget in the text of the study file. That of `spec` may have become larger since.
    pub(super) filed: Budget,
    /// `spec` as text, as it is sent in leases and statuses.
    pub(super) resolved: Arc<str>,
    /// Place in the order of creation, deleted studies included.
    pub(super) created: u64,
    pub(super) created_at_ms: u64,
    /// The uploaded file of the teacher: its weights, or its logits.
    pub(super) teacher_weights: Option<ArtifactHash>,
    pub(super) state: StudyState,
    /// Why no more trials will be proposed although the budget is not used up.
    pub(super) proposals_ended: Option<String>,
    pub(super) data: Data,
    /// Hash of the data that it began with, once a worker has said it.
    pub(super) data_hash: Option<ArtifactHash>,
    /// Whether to ask for `data_hash`, because a coordinator of an earlier version did not. Not
    /// kept over restarts: one question is enough, as workers of earlier versions cannot answer it.
    pub(super) asks_data_hash: bool,
    pub(super) teacher: Teacher,
    /// Indexed by trial number.
    pub(super) trials: Vec<Trial>,
    /// Where trials may stop early; `None` if every trial trains to the end.
    pub(super) rungs: Option<Rungs>,
    /// Candidates that are compared before training; `None` if all are trained.
    pub(super) screening: Option<Screening>,
    pub(super) tasks: Tasks,
    pub(super) learner: Learner,
    pub(super) clock: StudyClock,
    /// Trials that count against the budget: all except imported, infeasible and screened-out ones.
    pub(super) budget_used: u32,
    /// Trials that are not finished.
    pub(super) unfinished: u32,
    /// Consecutive trials that a worker found infeasible, since the last trial that ended
    /// otherwise.
    pub(super) hopeless_in_a_row: u32,
    /// Consecutive candidates that were ruled out before training, since the last one that was
    /// not.
    pub(super) ruled_out_in_a_row: u32,
    /// The names of the figures of the last complete trial, shared with the next ones.
    pub(super) names: [FigureNames; 3],
    /// The same of the last report from a rung.
    pub(super) rung_names: FigureNames,
    /// What its measurements have in common.
    pub(super) setups: Setups,
    /// The machines that measured its latencies.
    pub(super) machines: Machines,
    /// The candidates of trials, for imports.
    pub(super) candidates: Candidates,
    /// Simulated seconds of all look-ups so far, including those at rungs, as given in the table; 0
    /// in a study that trains.
    pub(super) simulated_seconds: f64,
    /// The Pareto fronts of the complete trials.
    pub(super) fronts: Fronts,
    /// Latency predictors, fitted to the study's measurements.
    pub(super) latency: Predictors,
}

/// Whether the study's data have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    /// No check is needed: the data are built into the program, or the study was created before
    /// such checks existed.
    Trusted,
    /// The task that checks the data is not done. Until then no other task that reads the data may
    /// start; measuring a model may.
    Pending(TaskId),
    /// The data can be read.
    Checked(DataReport),
    /// A worker found them damaged. No task that reads them may start until the user has mended
    /// them.
    Damaged {
        /// What is wrong with them.
        reason: String,
    },
}

/// The state of the study's teacher.
#[derive(Debug, PartialEq)]
pub(super) enum Teacher {
    /// The study has no teacher.
    None,
    /// The teacher's task is not done.
    Pending(TaskId),
    /// Trained, and measured on those devices that have reported.
    Trained { values: Box<TrialValues>, soft_targets: ArtifactHash },
}

/// One candidate.
#[derive(Debug, PartialEq)]
pub(super) struct Trial {
    pub(super) genotype: Genotype,
    pub(super) parents: Vec<TrialNumber>,
    /// Which part of a portfolio proposed it; `None` if the algorithm has no parts.
    pub(super) part: Option<Part>,
    /// Whether it was imported with its results.
    pub(super) imported: bool,
    /// Number of attempts, of all its tasks together.
    pub(super) attempts: u32,
    /// Those of its training or look-up tasks.
    pub(super) training_attempts: u32,
    /// The trial whose weights its training starts from.
    pub(super) donor: Option<TrialNumber>,
    /// The score of its untrained network; `None` if it has not been scored.
    pub(super) score: Option<f64>,
    /// The reports from the rungs that it has reached, in ascending order.
    pub(super) rungs: Vec<RungReport>,
    /// What names the stages of its network, which its values do not have here; `None` before it is
    /// trained, and if they are not known.
    pub(super) stages: Option<StagesKey>,
    pub(super) stage: Stage,
}

impl Trial {
    /// Training seconds up to the last rung that it has reached; 0 before the first.
    pub(super) fn seconds(&self) -> f64 {
        self.rungs.last().map_or(0.0, |report| report.figures.training_seconds())
    }
}

/// The stage of a trial.
#[derive(Debug, PartialEq)]
pub(super) enum Stage {
    /// Its scoring task is not done.
    Scoring(TaskId),
    /// Scored, and waits for the rest of its batch; it has no task.
    Scored,
    /// Its training or look-up task is not done.
    Training(TaskId),
    /// Reached a rung before the end of training and waits there for other trials; it has no task.
    OnRung,
    /// Trained; these measuring tasks are not done.
    Measuring { values: TrialValues, pending: BTreeSet<TaskId> },
    /// All values that the study asks for are known.
    Complete(Kept),
    /// Stopped early at a rung.
    Pruned,
    /// Not trained, because others of its batch were ranked higher.
    ScreenedOut,
    /// The candidate cannot work. `values` is what was known by then.
    Infeasible { reason: String, values: Option<TrialValues> },
    /// Given up. `values` is what was known by then. `waited` says that it had no task then,
    /// because it waited at a rung or for its batch.
    Failed { reason: String, values: Option<TrialValues>, waited: bool },
}

impl Stage {
    pub(super) fn is_finished(&self) -> bool {
        !matches!(
            self,
            Stage::Scoring(_)
                | Stage::Scored
                | Stage::Training(_)
                | Stage::OnRung
                | Stage::Measuring { .. }
        )
    }

    /// Figures of the network that ships, if they are known.
    pub(super) fn figures(&self) -> Option<&Figures> {
        match self {
            Stage::Complete(kept) => Some(kept.figures()),
            _ => self.unpacked().map(TrialValues::figures),
        }
    }

    /// The model file and the weights, if it was trained here.
    pub(super) fn artifacts(&self) -> Option<[ArtifactHash; 2]> {
        match self {
            Stage::Complete(kept) => kept.artifacts(),
            _ => {
                let trained = self.unpacked()?.trained()?;
                Some([trained.model, trained.weights])
            }
        }
    }

    /// Everything that is known, with the study's setups.
    pub(super) fn values(&self, setups: &Setups) -> Option<TrialValues> {
        match self {
            Stage::Complete(kept) => Some(kept.values(setups)),
            _ => self.unpacked().cloned(),
        }
    }

    /// What is known about a trial that is not complete.
    fn unpacked(&self) -> Option<&TrialValues> {
        match self {
            Stage::Scoring(_) | Stage::Scored | Stage::ScreenedOut => None,
            Stage::Training(_) | Stage::OnRung | Stage::Pruned | Stage::Complete(_) => None,
            Stage::Measuring { values, .. } => Some(values),
            Stage::Infeasible { values, .. } | Stage::Failed { values, .. } => values.as_ref(),
        }
    }
}

impl Study {
    /// Whether another trial is wanted when a worker is free.
    pub(super) fn wants_proposal(&self) -> bool {
        self.state == StudyState::Running && self.may_propose()
    }

    /// Whether to ask for another trial when a worker is free: it is wanted, and not under way.
    pub(super) fn asks_for_proposal(&self) -> bool {
        self.wants_proposal() && !self.learner.is_away()
    }

    /// Whether more trials will be proposed, now or after the study is resumed.
    pub(super) fn may_propose(&self) -> bool {
        !self.state.is_ended()
            && self.proposals_ended.is_none()
            && self.budget_used < self.spec.budget.trials
            && !self.seconds_are_used()
    }

    /// Whether the look-ups so far have used up the budget of simulated seconds.
    pub(super) fn seconds_are_used(&self) -> bool {
        self.spec.budget.simulated_seconds.is_some_and(|limit| self.simulated_seconds >= limit)
    }

    /// Whether the tasks that read the data have to wait: for the data check, or until damaged data
    /// are mended.
    pub(super) fn data_pending(&self) -> bool {
        match self.data {
            Data::Pending(_) | Data::Damaged { .. } => true,
            Data::Trusted | Data::Checked(_) => false,
        }
    }

    /// Whether its data are damaged.
    pub(super) fn data_damaged(&self) -> bool {
        matches!(self.data, Data::Damaged { .. })
    }

    /// The uploaded file of logits, if that teaches.
    pub(super) fn given_logits(&self) -> Option<ArtifactHash> {
        let teach = self.spec.training().is_some_and(|work| work.logits.is_some());
        self.teacher_weights.filter(|_| teach)
    }

    /// Whether students have to wait for their teacher.
    pub(super) fn teacher_pending(&self) -> bool {
        matches!(self.teacher, Teacher::Pending(_))
    }

    /// Whether the study needs a worker that reads tables.
    pub(super) fn awaits_table(&self) -> bool {
        self.spec.training().is_none()
            && !self.state.is_ended()
            && !self.data_damaged()
            && (self.tasks.first_waiting(Queue::LookUp).is_some()
                || self.next_promotion().is_some()
                || self.may_propose())
    }

    /// Whether the study needs a worker that trains.
    pub(super) fn awaits_trainer(&self) -> bool {
        self.spec.training().is_some()
            && !self.state.is_ended()
            && !self.data_damaged()
            && (self.tasks.first_waiting(Queue::Data).is_some()
                || self.tasks.first_waiting(Queue::Teacher).is_some()
                || self.tasks.first_waiting(Queue::Train).is_some()
                || self.next_promotion().is_some()
                || self.may_propose())
    }

    /// Whether nothing is left to do or to propose.
    pub(super) fn is_done(&self) -> bool {
        !self.state.is_ended()
            && !self.may_propose()
            && self.unfinished == 0
            && self.tasks.iter().next().is_none()
    }
}

impl Study {
    /// The study as its file describes it, without later extensions of the budget.
    pub(super) fn as_filed(&self) -> StudySpec {
        let mut spec = StudySpec::clone(&self.spec);
        spec.set_budget(self.filed.clone(), None);
        spec
    }

    /// Sets a larger budget. The study may propose again, whatever kept it from that.
    pub(super) fn apply_extended(&mut self, budget: &Budget, source: Option<String>) {
        if source.is_some() {
            self.filed = budget.clone();
        }
        Arc::make_mut(&mut self.spec).set_budget(budget.clone(), source);
        self.resolved = self.spec.to_resolved().into();
        self.learner.renew();
        self.proposals_ended = None;
        self.hopeless_in_a_row = 0;
        self.ruled_out_in_a_row = 0;
    }
}

/// How long a study has been running, without pauses.
#[derive(Debug, Clone, Copy)]
pub(super) struct StudyClock {
    /// The running time up to `since`.
    base: Duration,
    since: Time,
}

impl StudyClock {
    pub(super) fn at(elapsed_ms: u64, now: Time) -> Self {
        Self { base: Duration::from_millis(elapsed_ms), since: now }
    }
}

impl Study {
    /// Milliseconds for which it has been running, without pauses.
    pub(super) fn elapsed_ms(&self, now: Time) -> u64 {
        u64::try_from(self.elapsed(now).as_millis()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self, now: Time) -> Duration {
        match self.state {
            StudyState::Running => self.clock.base + now.since(self.clock.since),
            _ => self.clock.base,
        }
    }

    /// Sets the clock to what a record says. Call it before a new state is set.
    pub(super) fn set_clock(&mut self, elapsed_ms: u64, now: Time) {
        // A record has whole milliseconds. If the clock is there already, it keeps the rest, which
        // would else be lost with every record.
        let exact = self.elapsed(now);
        self.clock = if self.elapsed_ms(now) == elapsed_ms {
            StudyClock { base: exact, since: now }
        } else {
            StudyClock::at(elapsed_ms, now)
        };
    }

    /// Whether its hours are used up, but it may still propose.
    pub(super) fn is_out_of_hours(&self, now: Time) -> bool {
        let limit = self.spec.budget.milliseconds();
        self.wants_proposal() && limit.is_some_and(|limit| self.elapsed_ms(now) as f64 >= limit)
    }

    /// When its hours will be used up; `None` if it has no such limit, or does not propose now.
    pub(super) fn out_of_hours_at(&self) -> Option<Time> {
        let limit = self.spec.budget.milliseconds().filter(|_| self.wants_proposal())?;
        // A hundred years are as good as no limit, and fit every type.
        let limit = Duration::from_millis(limit.ceil().min(3.15e12) as u64);
        Some(self.clock.since.after(limit.saturating_sub(self.clock.base)))
    }
}
