//! One study: its trials, its teacher, and what is left to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edgesmith_common::{
    ArtifactHash, DataReport, RungReport, StudySpec, TaskId, TrialNumber, TrialValues,
};
use edgesmith_search_space::Genotype;

use super::fronts::Fronts;
use super::latency::Predictors;
use super::rungs::Rungs;
use super::screening::Screening;
use super::task::{Queue, Tasks};
use super::{StudyState, Time};
use crate::controller::Controller;

/// A study and everything known of it.
pub(super) struct Study {
    pub(super) spec: StudySpec,
    /// `spec` as leases and statuses carry it.
    pub(super) resolved: Arc<str>,
    /// Creation order among all studies that ever were.
    pub(super) created: u64,
    pub(super) created_at_ms: u64,
    pub(super) teacher_weights: Option<ArtifactHash>,
    pub(super) state: StudyState,
    /// Why no more trials will be proposed although the budget is not used.
    pub(super) proposals_ended: Option<String>,
    pub(super) data: Data,
    pub(super) teacher: Teacher,
    /// By number.
    pub(super) trials: Vec<Trial>,
    /// Where trials may stop early; `None` where each goes to the end.
    pub(super) rungs: Option<Rungs>,
    /// Candidates that are compared before they are trained; `None` where each is trained.
    pub(super) screening: Option<Screening>,
    pub(super) tasks: Tasks,
    pub(super) controller: Box<dyn Controller>,
    pub(super) clock: StudyClock,
    /// Trials that count against the budget: all but those that are infeasible or screened out.
    pub(super) budget_used: u32,
    /// Trials that are not finished.
    pub(super) unfinished: u32,
    /// Trials that a worker found infeasible since one ended otherwise.
    pub(super) hopeless_in_a_row: u32,
    /// Seconds that the look-ups so far took, those of rungs too, as the table tells them; 0 in a study
    /// that trains.
    pub(super) simulated_seconds: f64,
    /// Fronts of the complete trials.
    pub(super) fronts: Fronts,
    /// What measurements say of networks that were not measured.
    pub(super) latency: Predictors,
}

/// Whether the study's data were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// Nobody has to look: they are inside the program, or the study is older than such checks.
    Trusted,
    /// The task that reads them is not done; nothing else begins.
    Pending(TaskId),
    /// They can be read.
    Checked(DataReport),
}

/// Who teaches, and how far that is.
#[derive(Debug, PartialEq)]
pub(super) enum Teacher {
    /// The study has none.
    None,
    /// Its task is not done.
    Pending(TaskId),
    /// Trained; measured on some devices.
    Trained { values: Box<TrialValues>, soft_targets: ArtifactHash },
}

/// One candidate.
#[derive(Debug, PartialEq)]
pub(super) struct Trial {
    pub(super) genotype: Genotype,
    pub(super) parents: Vec<TrialNumber>,
    /// Whether its results were known when it came in.
    pub(super) imported: bool,
    /// Attempts of all its tasks.
    pub(super) attempts: u32,
    /// The trial whose weights its training starts from.
    pub(super) donor: Option<TrialNumber>,
    /// What its untrained network was scored; `None` where it was not (yet).
    pub(super) score: Option<f64>,
    /// What it came to at each rung that it has reached, ascending.
    pub(super) rungs: Vec<RungReport>,
    pub(super) stage: Stage,
}

impl Trial {
    /// Seconds up to the last of the rungs that it has reached.
    pub(super) fn seconds(&self) -> f64 {
        self.rungs.last().map_or(0.0, |report| report.figures.training_seconds())
    }
}

/// How far a trial is.
#[derive(Debug, PartialEq)]
pub(super) enum Stage {
    /// Its scoring task is not done.
    Scoring(TaskId),
    /// Scored, and waits for what others of its batch come to; it has no task.
    Scored,
    /// Its training or look-up task is not done.
    Training(TaskId),
    /// Reached a rung below its last and waits for what others come to there; it has no task.
    OnRung,
    /// Trained; these measuring tasks are not done.
    Measuring { values: TrialValues, pending: BTreeSet<TaskId> },
    /// Has all values that the study asks for.
    Complete(TrialValues),
    /// Stopped at a rung.
    Pruned,
    /// Not trained, as others of its batch were scored higher.
    ScreenedOut,
    /// Cannot work; with what was known before that showed.
    Infeasible { reason: String, values: Option<TrialValues> },
    /// Given up; with what was known before that.
    Failed { reason: String, values: Option<TrialValues> },
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

    pub(super) fn values(&self) -> Option<&TrialValues> {
        match self {
            Stage::Scoring(_) | Stage::Scored | Stage::ScreenedOut => None,
            Stage::Training(_) | Stage::OnRung | Stage::Pruned => None,
            Stage::Measuring { values, .. } | Stage::Complete(values) => Some(values),
            Stage::Infeasible { values, .. } | Stage::Failed { values, .. } => values.as_ref(),
        }
    }
}

impl Study {
    /// Whether another trial is to be proposed, given a free worker.
    pub(super) fn wants_proposal(&self) -> bool {
        self.state == StudyState::Running && self.may_propose()
    }

    /// Whether trials will still be proposed, now or when it is resumed.
    pub(super) fn may_propose(&self) -> bool {
        !self.state.is_ended()
            && self.proposals_ended.is_none()
            && self.budget_used < self.spec.budget.trials
            && !self.seconds_are_used()
    }

    /// Whether the look-ups so far took as many simulated seconds as the budget has.
    pub(super) fn seconds_are_used(&self) -> bool {
        self.spec.budget.simulated_seconds.is_some_and(|limit| self.simulated_seconds >= limit)
    }

    /// Whether everything has to wait until somebody has read the data.
    pub(super) fn data_pending(&self) -> bool {
        matches!(self.data, Data::Pending(_))
    }

    /// Whether students have to wait for their teacher.
    pub(super) fn teacher_pending(&self) -> bool {
        matches!(self.teacher, Teacher::Pending(_))
    }

    /// Whether a look-up waits for a worker that reads tables.
    pub(super) fn awaits_table(&self) -> bool {
        self.spec.training().is_none()
            && !self.state.is_ended()
            && (self.tasks.first_waiting(Queue::LookUp).is_some()
                || self.next_promotion().is_some()
                || self.may_propose())
    }

    /// Whether anything that only a training worker does waits for one.
    pub(super) fn awaits_trainer(&self) -> bool {
        self.spec.training().is_some()
            && !self.state.is_ended()
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

/// How long a study has been running, pauses left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct StudyClock {
    /// Up to `since`.
    base: Duration,
    since: Time,
}

impl StudyClock {
    pub(super) fn at(elapsed_ms: u64, now: Time) -> Self {
        Self { base: Duration::from_millis(elapsed_ms), since: now }
    }
}

impl Study {
    /// Milliseconds for which it has been running.
    pub(super) fn elapsed_ms(&self, now: Time) -> u64 {
        let more = match self.state {
            StudyState::Running => now.since(self.clock.since),
            _ => Duration::ZERO,
        };
        u64::try_from((self.clock.base + more).as_millis()).unwrap_or(u64::MAX)
    }
}
