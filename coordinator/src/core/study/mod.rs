//! One study: all that is known about it, and what is left to do.
//!
//! The fields of each type here are private. The rest of the core asks through the methods of
//! [`Study`] and of the parts that it shows. It cannot change a part: what a record stands for is
//! changed only by [`Study::apply`], which hands it on to the parts that it concerns. Those are
//!
//! - the trials ([`trials`], [`trial`]), and the tasks that wait or run ([`task`]);
//! - the data and the teacher, for which trials wait ([`data`], [`teacher`]);
//! - what decides which trials go on: rungs ([`rungs`]) and batches ([`screening`]), which rank
//!   trials by their [`point`];
//! - what is read from results: fronts and violations ([`fronts`]), predicted latencies
//!   ([`latency`]), and the machines that measured ([`machines`]);
//! - the algorithm ([`learner`]) and the questions to it ([`proposal`]);
//! - the running time ([`clock`]), and the candidates that imports recognise ([`candidates`]).
//!
//! A part knows nothing of [`Study`]. Where it needs another part, it is passed in.

mod apply;
mod candidates;
mod check;
mod clock;
mod data;
mod fronts;
mod kept;
mod latency;
mod learner;
mod left;
mod machines;
mod point;
mod proposal;
mod rungs;
mod screening;
mod task;
mod teacher;
mod trial;
mod trials;

use std::sync::Arc;

use edgesmith_common::spec::Budget;
use edgesmith_common::{
    ArtifactHash, DeviceClass, DeviceInfo, Figures, Filter, StudySpec, TaskId, TrialNumber,
    TrialState,
};
use edgesmith_search_space::Genotype;

pub use check::ensure;
pub use data::Check;
pub use latency::PredictionView;
pub use machines::{Machines, UnlikeMachines};
pub(crate) use proposal::BuildController;
pub use proposal::{Creation, Found, ProposalAnswer, ProposalRequest, Verdict};
pub use task::{Queue, Task, TaskKind, Tasks};
pub use teacher::Teacher;
pub use trial::{Stage, Trial};
pub use trials::Trials;

#[cfg(test)]
pub use self::{
    kept::{Kept, Setups},
    learner::Told,
};

use self::candidates::Candidates;
use self::clock::Clock;
use self::data::Data;
use self::fronts::{Fronts, violation};
use self::latency::Predictors;
use self::learner::Learner;
use self::rungs::Rungs;
use self::screening::Screening;
use super::record::{Contradiction, StudyState};
use super::time::Time;
use crate::controller::Controller;

/// A study and everything that is known about it.
pub struct Study {
    spec: Arc<StudySpec>,
    /// The budget in the text of the study file. That of `spec` may have become larger since.
    filed: Budget,
    /// `spec` as text, as it is sent in leases and statuses.
    resolved: Arc<str>,
    created: Creation,
    created_at_ms: u64,
    /// The uploaded file of the teacher: its weights, or its logits.
    teacher_weights: Option<ArtifactHash>,
    state: StudyState,
    /// Why no more trials will be proposed although the budget is not used up.
    proposals_ended: Option<String>,
    data: Data,
    /// Whether to ask for the hash of its data, because a coordinator of an earlier version did
    /// not. Not kept over restarts: one question is enough, as workers of earlier versions cannot
    /// answer it.
    asks_data_hash: bool,
    teacher: Teacher,
    trials: Trials,
    /// Where trials may stop early; `None` if every trial trains to the end.
    rungs: Option<Rungs>,
    /// Candidates that are compared before training; `None` if all are trained.
    screening: Option<Screening>,
    tasks: Tasks,
    learner: Learner,
    clock: Clock,
    /// The machines that measured its latencies.
    machines: Machines,
    /// The candidates of trials, for imports.
    candidates: Candidates,
    /// The Pareto fronts of the complete trials.
    fronts: Fronts,
    /// Latency predictors, fitted to the study's measurements.
    latency: Predictors,
}

impl Study {
    /// A study that was just created.
    pub fn new(
        spec: StudySpec,
        teacher_weights: Option<ArtifactHash>,
        teacher_task: Option<TaskId>,
        created: Creation,
        created_at_ms: u64,
        now: Time,
    ) -> Result<Self, Contradiction> {
        let metric = spec.training_metric().metric;
        let rungs = spec.fidelity.clone().map(|fidelity| Rungs::new(fidelity, metric));
        let screening = spec.training().and_then(|work| work.screening).map(Screening::new);
        let mut tasks = Tasks::default();
        let teacher = match teacher_task {
            Some(task) => {
                tasks.insert(task, TaskKind::Teacher)?;
                Teacher::Pending(task)
            }
            None => Teacher::None,
        };
        Ok(Self {
            learner: Learner::new(&spec),
            fronts: Fronts::new(&spec),
            latency: Predictors::new(&spec),
            resolved: spec.to_resolved().into(),
            filed: spec.budget.clone(),
            spec: Arc::new(spec),
            created,
            created_at_ms,
            teacher_weights,
            state: StudyState::Running,
            proposals_ended: None,
            data: Data::default(),
            asks_data_hash: false,
            teacher,
            trials: Trials::default(),
            rungs,
            screening,
            tasks,
            clock: Clock::at(0, now),
            machines: Machines::default(),
            candidates: Candidates::default(),
        })
    }
}

/// What it is.
impl Study {
    pub fn spec(&self) -> &StudySpec {
        &self.spec
    }

    /// The study as its file describes it, without later extensions of the budget.
    pub fn as_filed(&self) -> StudySpec {
        let mut spec = StudySpec::clone(&self.spec);
        spec.set_budget(self.filed.clone(), None);
        spec
    }

    /// The study as text, as it is sent in leases and statuses.
    pub fn resolved(&self) -> Arc<str> {
        Arc::clone(&self.resolved)
    }

    /// Its place in the order of creation.
    pub fn created(&self) -> Creation {
        self.created
    }

    /// Wall clock time of its creation, milliseconds since 1970.
    pub fn created_at_ms(&self) -> u64 {
        self.created_at_ms
    }

    /// The uploaded file of the teacher: its weights, or its logits.
    pub fn teacher_weights(&self) -> Option<ArtifactHash> {
        self.teacher_weights
    }

    /// Whether its data are in files that a worker can check.
    pub fn has_data_files(&self) -> bool {
        self.spec.training().is_some_and(|work| !work.data.source.paths().is_empty())
    }

    /// The uploaded file of logits, if that teaches.
    pub fn given_logits(&self) -> Option<ArtifactHash> {
        let teach = self.spec.training().is_some_and(|work| work.logits.is_some());
        self.teacher_weights.filter(|_| teach)
    }
}

/// How it stands.
impl Study {
    pub fn state(&self) -> &StudyState {
        &self.state
    }

    /// Why no more trials will be proposed although the budget is not used up.
    pub fn proposals_ended(&self) -> Option<&str> {
        self.proposals_ended.as_deref()
    }

    pub fn data(&self) -> &Data {
        &self.data
    }

    pub fn teacher(&self) -> &Teacher {
        &self.teacher
    }

    pub fn trials(&self) -> &Trials {
        &self.trials
    }

    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Milliseconds for which it has been running, without pauses.
    pub fn elapsed_ms(&self, now: Time) -> u64 {
        self.clock.elapsed_ms(self.runs(), now)
    }

    /// How good its latency predictions are, one entry for each target with a limit.
    pub fn predictions(&self) -> Vec<PredictionView> {
        self.latency.view()
    }

    /// The machines that measured its latencies.
    pub fn machines(&self) -> impl Iterator<Item = &DeviceInfo> {
        self.machines.all()
    }

    /// Device classes whose latencies were measured on machines that differ.
    pub fn unlike_machines(&self) -> Vec<UnlikeMachines> {
        self.machines.unlike()
    }

    /// By how much figures break its constraints; 0 if all hold.
    pub fn violation(&self, figures: &Figures) -> f64 {
        violation(&self.spec, figures)
    }

    /// The front: complete trials that meet its constraints and all `filters`, and that no other
    /// such trial dominates. Gives number and point (less is better), ordered by the first
    /// objective, best first. With a device, only the objectives on it and those on no device
    /// count.
    pub fn front(
        &self,
        device: Option<&DeviceClass>,
        filters: &[Filter],
    ) -> Vec<(TrialNumber, Vec<f64>)> {
        self.fronts.front(&self.spec, &self.trials, device, filters)
    }

    /// Whether any trial is complete, feasible or not.
    pub fn any_complete(&self) -> bool {
        self.fronts.any_complete()
    }

    /// Highest validation accuracy of a complete trial, feasible or not.
    pub fn best_accuracy(&self) -> Option<f64> {
        self.fronts.best_accuracy()
    }

    /// The state of one of its trials.
    pub fn trial_state(&self, trial: &Trial) -> TrialState {
        let runs = |id| self.tasks.get(id).is_some_and(|task| task.attempt().is_some());
        let any_runs = match trial.stage() {
            Stage::Scoring(task) | Stage::Training(task) => runs(*task),
            Stage::Scored | Stage::OnRung => false,
            Stage::Measuring { pending, .. } => pending.iter().any(|id| runs(*id)),
            Stage::Complete(_) => return TrialState::Complete,
            Stage::Pruned | Stage::ScreenedOut => return TrialState::Pruned,
            Stage::Infeasible { reason, .. } => {
                return TrialState::Infeasible { reason: reason.clone() };
            }
            Stage::Failed { reason, .. } => return TrialState::Failed { reason: reason.clone() },
        };
        if any_runs { TrialState::Running } else { TrialState::Waiting }
    }

    fn runs(&self) -> bool {
        self.state == StudyState::Running
    }
}

/// What does not come from records, and does not last: where its algorithm is, and what it has to
/// ask or to look up.
impl Study {
    /// Sends the algorithm away with a question; `None` if it is away already.
    pub fn ask_algorithm(&mut self, build: BuildController) -> Option<ProposalRequest> {
        let leaving = self.learner.leave(&self.spec, &self.trials)?;
        let (spec, number) = (Arc::clone(&self.spec), self.trials.next_number());
        Some(ProposalRequest::new(self.created, spec, build, leaving, number, &self.latency))
    }

    /// The algorithm comes back.
    pub fn take_algorithm_back(&mut self, controller: Box<dyn Controller>) {
        self.learner.come_back(controller, self.state.is_ended());
    }

    /// The study comes from a coordinator of an earlier version, perhaps one that did not ask for
    /// the hash of its data.
    pub fn ask_for_data_hash(&mut self) {
        self.asks_data_hash = self.lacks_data_hash();
    }

    /// Whether to ask for the hash of its data now. Says so once.
    pub fn takes_up_data_hash(&mut self) -> bool {
        self.runs() && std::mem::take(&mut self.asks_data_hash) && self.lacks_data_hash()
    }

    fn lacks_data_hash(&self) -> bool {
        self.has_data_files() && self.data.lack_hash()
    }

    /// Whether no trial has this candidate.
    pub fn lacks_candidate(&mut self, genotype: &Genotype) -> bool {
        self.candidates.lack(&self.spec.space, &self.trials, genotype)
    }
}

/// All that a restart has to restore, as text.
#[cfg(test)]
impl Study {
    /// All that the algorithm is told.
    pub fn all_told(&self) -> Vec<Told> {
        self.learner.all_told(&self.spec, &self.trials)
    }

    pub fn lasting(&self) -> String {
        let what = (&self.filed, &self.resolved, self.created, self.created_at_ms);
        let how = (&self.teacher_weights, &self.state, &self.proposals_ended, &self.data);
        let work = (&self.teacher, &self.trials, &self.tasks, &self.rungs, &self.latency);
        format!("{what:?} {} {how:?} {work:?} {:?}", self.spec.source(), self.all_told())
    }
}
