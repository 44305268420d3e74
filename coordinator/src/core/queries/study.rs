//! One study, as shown to users.

use std::sync::Arc;
use std::time::Duration;

use edgesmith_common::{
    ArtifactHash, DataReport, Measurement, Needs, StudyName, Target, TrainedTrial, TrialState,
    pareto,
};
use edgesmith_search_space::Space;

use super::advice::advice;
use super::constraints::{ConstraintView, constraints};
use super::problems::problems;
use super::workers::Exclusion;
use crate::core::command::Refusal;
use crate::core::record::StudyState;
use crate::core::state::Core;
use crate::core::study::{Check, PredictionView, Queue, Stage, Study, UnlikeMachines};
use crate::core::time::Time;
use crate::core::workers::Workers;

/// A study and its progress, as shown to users.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyView {
    /// Its name.
    pub name: StudyName,
    /// Its state.
    pub state: StudyState,
    /// Trials by state.
    pub counts: TrialCounts,
    /// The budget, in trials; infeasible and screened-out trials do not count against it.
    pub budget_trials: u32,
    /// The budget, in hours of running time; `None` if it has no such limit.
    pub budget_hours: Option<f64>,
    /// Best validation accuracy of a complete trial; `None` if no complete trial has one.
    pub best_validation_accuracy: Option<f64>,
    /// [`pareto::study_hypervolume`] of the front; `None` before the first complete trial.
    pub hypervolume: Option<f64>,
    /// Number of trials on the front over all objectives.
    pub front_size: u32,
    /// Name of the algorithm.
    pub algorithm: &'static str,
    /// What a worker found in the data; `None` before the data check, and if no check is needed.
    pub data: Option<DataReport>,
    /// What is wrong with the data, if a worker found them damaged; nothing that reads them starts
    /// until the user has mended them.
    pub data_problem: Option<String>,
    /// What connected workers cannot do for this study.
    pub exclusions: Vec<Exclusion>,
    /// What is in the way, in sentences; includes `data_problem` and `exclusions`.
    pub problems: Vec<String>,
    /// Whether nothing runs and one of `problems` has to be mended before the study goes on.
    pub blocked: bool,
    /// What to change, in sentences, if the study has ended and none of its trials was completed.
    pub advice: Vec<String>,
    /// The teacher; `None` if the study has none.
    pub teacher: Option<TeacherView>,
    /// Targets that the study needs, but on which no connected worker measures.
    pub missing_targets: Vec<Target>,
    /// Whether training waits because no connected worker trains.
    pub missing_trainer: bool,
    /// Whether look-ups wait because no connected worker reads tables.
    pub missing_table: bool,
    /// How good latency predictions are, one entry for each target with a limit.
    pub predictions: Vec<PredictionView>,
    /// Number of connected workers, of all studies.
    pub connected_workers: u32,
    /// How many of them missed at least two heartbeats.
    pub silent_workers: u32,
    /// What each constraint excluded, in the order of the study file.
    pub constraints: Vec<ConstraintView>,
    /// How long it has been running, without pauses and without the time when no coordinator ran.
    pub elapsed: Duration,
    /// Wall clock time of its creation, milliseconds since 1970.
    pub created_at_ms: u64,
    /// The text of the study file.
    pub spec_toml: String,
    /// The study with all defaults filled in.
    pub resolved_study: Arc<str>,
    /// What is running now, in words, ordered by worker.
    pub activity: Vec<String>,
    /// Device classes whose latencies were measured on machines that differ.
    pub unlike_machines: Vec<UnlikeMachines>,
}

/// Trials by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrialCounts {
    /// Not finished, and none of their tasks is running.
    pub waiting: u32,
    /// A worker runs one of their tasks.
    pub running: u32,
    /// Trained and measured.
    pub complete: u32,
    /// Imported with known results; not counted in `complete`.
    pub imported: u32,
    /// Stopped early at a rung, or screened out.
    pub pruned: u32,
    /// Those of `pruned` that were not trained because of their proxy score; they use no budget.
    pub screened_out: u32,
    /// Cannot work.
    pub infeasible: u32,
    /// Given up.
    pub failed: u32,
    /// Those of `failed` that were cut off when the study was cancelled.
    pub cancelled: u32,
}

/// A study's teacher.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherView {
    /// Its network in words, or where its logits are from.
    pub architecture: String,
    /// `None` until it is trained, and of logits that are given.
    pub trained: Option<TrainedTrial>,
    /// Its soft targets, or the file of logits; `None` until it is trained.
    pub soft_targets: Option<ArtifactHash>,
    /// The measurements so far, one for each target.
    pub measurements: Vec<Measurement>,
}

impl Core {
    /// One study as of `now`.
    ///
    /// # Errors
    /// [`Refusal::UnknownStudy`].
    pub fn study_status(&self, name: &StudyName, now: Time) -> Result<StudyView, Refusal> {
        let study = self.study(name)?;
        let training = study.spec().training();
        let spec = training.and_then(|work| work.teacher.as_ref());
        let teacher = spec.map(|spec| {
            let (values, soft_targets) = study.teacher().trained().unzip();
            TeacherView {
                architecture: spec.architecture.to_string(),
                trained: values.and_then(|v| v.trained().cloned()),
                soft_targets,
                measurements: values.map(|v| v.measurements().to_vec()).unwrap_or_default(),
            }
        });
        let logits = training.and_then(|work| {
            let beside = work.logits_beside.iter().map(|beside| beside.given.path.as_str());
            let all: Vec<&str> = work.logits.as_deref().into_iter().chain(beside).collect();
            match &all[..] {
                [] => None,
                [alone] => Some(format!("the logits in {alone}")),
                several => Some(format!("the mean of the logits in {}", several.join(", "))),
            }
        });
        let teacher = teacher.or_else(|| {
            Some(TeacherView {
                architecture: logits?,
                trained: None,
                soft_targets: study.given_logits(),
                measurements: Vec::new(),
            })
        });
        let points: Vec<Vec<f64>> =
            study.front(None, &[]).into_iter().map(|(_, point)| point).collect();
        let front_size = points.len() as u32;
        let (data, data_problem) = match study.data().check() {
            Check::Checked(report) => (Some(*report), None),
            Check::Damaged { reason } => (None, Some(reason.clone())),
            Check::Trusted | Check::Pending(_) => (None, None),
        };
        let exclusions = self.exclusions(|of, _| of == name);
        let (problems, blocked) = problems(self, study, &exclusions);
        let volume = || pareto::study_hypervolume(&study.spec().objectives, &points);
        Ok(StudyView {
            name: name.clone(),
            state: study.state().clone(),
            counts: counts(study),
            budget_trials: study.spec().budget.trials,
            budget_hours: study.spec().budget.hours,
            best_validation_accuracy: study.best_accuracy(),
            hypervolume: study.any_complete().then(volume),
            front_size,
            algorithm: study.spec().algorithm.name(),
            data,
            data_problem,
            exclusions,
            problems,
            blocked,
            advice: advice(study),
            teacher,
            missing_targets: missing_targets(study, self.connected()),
            missing_trainer: study.awaits_trainer()
                && !self.connected().any_can_do(name, &Needs::training()),
            missing_table: study.awaits_table()
                && !self.connected().any_can_do(name, &Needs::looking_up()),
            predictions: study.predictions(),
            connected_workers: self.connected().count() as u32,
            silent_workers: self.silent_workers(now),
            constraints: constraints(study),
            elapsed: Duration::from_millis(study.elapsed_ms(now)),
            created_at_ms: study.created_at_ms(),
            spec_toml: study.spec().source().to_owned(),
            resolved_study: study.resolved(),
            activity: self.activity(|attempt| attempt.study() == name),
            unlike_machines: study.unlike_machines(),
        })
    }

    /// The space that a study searches.
    ///
    /// # Errors
    /// [`Refusal::UnknownStudy`].
    pub fn space(&self, name: &StudyName) -> Result<Space, Refusal> {
        Ok(self.study(name)?.spec().space.clone())
    }
}

/// Targets on which something has to be measured now or later, but no connected worker measures.
fn missing_targets(study: &Study, workers: &Workers) -> Vec<Target> {
    // Latencies come from the table, so no worker has to measure them.
    if study.state().is_ended() || study.spec().training().is_none() {
        return Vec::new();
    }
    let trains = |stage: &Stage| {
        matches!(stage, Stage::Scoring(_) | Stage::Scored | Stage::Training(_) | Stage::OnRung)
    };
    let comes = study.may_propose()
        || study.teacher().is_pending()
        || study.trials().iter().any(|(_, trial)| trains(trial.stage()));
    let mut targets = study.spec().targets();
    targets.retain(|target| {
        let queue = Queue::Measure(target.clone());
        let wanted = comes || study.tasks().first_waiting(queue).is_some();
        let needs = Needs::measuring_on(target.clone());
        wanted && !workers.any_can_do(&study.spec().name, &needs)
    });
    targets
}

fn counts(study: &Study) -> TrialCounts {
    let mut counts = TrialCounts::default();
    for (_, trial) in study.trials().iter() {
        counts.screened_out += u32::from(matches!(trial.stage(), Stage::ScreenedOut));
        counts.cancelled += u32::from(match trial.stage() {
            Stage::Failed { reason, .. } => {
                *study.state() == StudyState::Cancelled && reason == TrialState::CANCELLED
            }
            _ => false,
        });
        *match trial.stage() {
            Stage::Complete(_) if trial.is_imported() => &mut counts.imported,
            Stage::Complete(_) => &mut counts.complete,
            Stage::Pruned | Stage::ScreenedOut => &mut counts.pruned,
            Stage::Infeasible { .. } => &mut counts.infeasible,
            Stage::Failed { .. } => &mut counts.failed,
            Stage::Scoring(_)
            | Stage::Scored
            | Stage::Training(_)
            | Stage::OnRung
            | Stage::Measuring { .. } => match study.trial_state(trial) {
                TrialState::Running => &mut counts.running,
                _ => &mut counts.waiting,
            },
        } += 1;
    }
    counts
}
