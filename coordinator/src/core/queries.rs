//! Queries: what users may ask the core. Nothing here changes the state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edgesmith_common::{
    ArtifactHash, DataReport, DeviceClass, Filter, Measurement, Needs, Role, RungReport, StudyName,
    Target, TrainedTrial, TrialNumber, TrialState, TrialValues, WorkerId, WorkerInfo, pareto,
};
use edgesmith_search_space::{Genotype, Space};

use super::constraints::ConstraintView;
use super::machines::{Machines, UnlikeMachines};
use super::study::{Data, Stage, Study, Teacher, Trial};
use super::task::Queue;
use super::{Core, PredictionView, Refusal, StagesKey, StudyState, Time};
use crate::controller::Part;

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

/// One trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialView {
    /// Its number.
    pub number: TrialNumber,
    /// Its state.
    pub state: TrialState,
    /// The candidate, as option indices.
    pub genotype: Genotype,
    /// The candidate, in words.
    pub architecture: String,
    /// Its values so far, without the stages of its network.
    pub values: Option<TrialValues>,
    /// What names these stages; `None` if they are not known.
    pub stages: Option<StagesKey>,
    /// The score of its untrained network; `None` if it has not been scored.
    pub score: Option<f64>,
    /// The reports from the rungs that it has reached, in ascending order.
    pub rungs: Vec<RungReport>,
    /// Number of attempts of all its tasks, lost ones included.
    pub attempts: u32,
    /// How many of them were of its training, or of its look-up; one per rung if none failed.
    pub training_attempts: u32,
    /// What it was derived from.
    pub parents: Vec<TrialNumber>,
    /// The trial whose weights it started from; `None` if it started from new weights.
    pub inherits_from: Option<TrialNumber>,
    /// Which part of a portfolio proposed it, or `import`; `None` if the algorithm has no parts.
    pub proposed_by: Option<&'static str>,
}

impl TrialView {
    /// The result of training, if it is trained.
    pub fn trained(&self) -> Option<&TrainedTrial> {
        self.values.as_ref()?.trained()
    }

    /// The measurements so far, one for each target.
    pub fn measurements(&self) -> &[Measurement] {
        self.values.as_ref().map(TrialValues::measurements).unwrap_or_default()
    }
}

/// A connected worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Id of this connection.
    pub id: WorkerId,
    /// What it reported about itself when it joined.
    pub info: WorkerInfo,
    /// The tasks that it is running, in words.
    pub activity: Vec<String>,
    /// The time since its last message.
    pub silent: Duration,
    /// What it cannot do.
    pub exclusions: Vec<Exclusion>,
}

/// Tasks of a study that a worker cannot do: it said so, or it failed several in a row while
/// another worker is there that does them. It gets none of them until it joins again or the study
/// is retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// Which study.
    pub study: StudyName,
    /// Which connection.
    pub worker: WorkerId,
    /// The name of the worker's machine.
    pub name: String,
    /// What such tasks need.
    pub needs: Needs,
    /// Whether it failed several of them in a row, while another worker did such tasks.
    pub failing: bool,
    /// Why the worker cannot do them.
    pub reason: String,
}

impl Exclusion {
    /// What the worker cannot do, to follow `cannot`.
    pub fn what(&self) -> String {
        match (&self.needs.target, self.failing) {
            (Some(target), false) => format!("measure on {target}"),
            (Some(target), true) => format!("do the measurements on {target}"),
            (None, false) => "read the data".to_owned(),
            (None, true) => match self.needs.role {
                Role::Train => "do the trainings".to_owned(),
                Role::Table => "do the look-ups".to_owned(),
                Role::Measure => "do the measurements".to_owned(),
            },
        }
    }
}

impl std::fmt::Display for Exclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (worker, name, what, reason) = (self.worker, &self.name, self.what(), &self.reason);
        write!(f, "worker {worker} ({name}) cannot {what} of this study: {reason}")
    }
}

impl Core {
    /// Names of all studies, oldest first.
    pub fn studies(&self) -> Vec<StudyName> {
        let mut all: Vec<_> = self.studies.iter().collect();
        all.sort_by_key(|(_, study)| study.created);
        all.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// One study as of `now`.
    ///
    /// # Errors
    /// [`Refusal::UnknownStudy`].
    pub fn study_status(&self, name: &StudyName, now: Time) -> Result<StudyView, Refusal> {
        let study = self.study(name)?;
        let training = study.spec.training();
        let spec = training.and_then(|work| work.teacher.as_ref());
        let teacher = spec.map(|spec| {
            let (values, soft_targets) = match &study.teacher {
                Teacher::Trained { values, soft_targets } => (Some(values), Some(*soft_targets)),
                Teacher::None | Teacher::Pending(_) => (None, None),
            };
            TeacherView {
                architecture: spec.architecture.to_string(),
                trained: values.and_then(|v| v.trained().cloned()),
                soft_targets,
                measurements: values.map(|v| v.measurements().to_vec()).unwrap_or_default(),
            }
        });
        let logits = training.and_then(|work| work.logits.as_ref());
        let teacher = teacher.or_else(|| {
            Some(TeacherView {
                architecture: format!("the logits in {}", logits?),
                trained: None,
                soft_targets: study.given_logits(),
                measurements: Vec::new(),
            })
        });
        let points: Vec<Vec<f64>> =
            study.front(None, &[]).into_iter().map(|(_, point)| point).collect();
        let front_size = points.len() as u32;
        let data_problem = match &study.data {
            Data::Damaged { reason } => Some(reason.clone()),
            Data::Trusted | Data::Pending(_) | Data::Checked(_) => None,
        };
        let exclusions = self.exclusions(|of, _| of == name);
        let (problems, blocked) = self.problems(study, &exclusions);
        let volume = || pareto::study_hypervolume(&study.spec.objectives, &points);
        Ok(StudyView {
            name: name.clone(),
            state: study.state.clone(),
            counts: study.counts(),
            budget_trials: study.spec.budget.trials,
            budget_hours: study.spec.budget.hours,
            best_validation_accuracy: study.fronts.best_accuracy(),
            hypervolume: study.fronts.any_complete().then(volume),
            front_size,
            algorithm: study.spec.algorithm.name(),
            data: match study.data {
                Data::Checked(report) => Some(report),
                Data::Trusted | Data::Pending(_) | Data::Damaged { .. } => None,
            },
            data_problem,
            exclusions,
            problems,
            blocked,
            advice: study.advice(),
            teacher,
            missing_targets: self.missing_targets(study),
            missing_trainer: study.awaits_trainer()
                && !self.workers.any_can_do(name, &Needs::training()),
            missing_table: study.awaits_table()
                && !self.workers.any_can_do(name, &Needs::looking_up()),
            predictions: study.latency.view(),
            connected_workers: self.workers.0.len() as u32,
            silent_workers: self.silent_workers(now),
            constraints: study.constraints(),
            elapsed: Duration::from_millis(study.elapsed_ms(now)),
            created_at_ms: study.created_at_ms,
            spec_toml: study.spec.source().to_owned(),
            resolved_study: Arc::clone(&study.resolved),
            activity: self.activity(|attempt| attempt.study == *name),
            unlike_machines: study.machines.unlike(),
        })
    }

    /// The space that a study searches.
    ///
    /// # Errors
    /// [`Refusal::UnknownStudy`].
    pub fn space(&self, name: &StudyName) -> Result<Space, Refusal> {
        Ok(self.study(name)?.spec.space.clone())
    }

    /// All trials of a study, ordered by number.
    ///
    /// # Errors
    /// [`Refusal::UnknownStudy`].
    pub fn trials(&self, name: &StudyName) -> Result<Vec<TrialView>, Refusal> {
        let study = self.study(name)?;
        Ok((0..study.trials.len()).map(|number| study.view(number)).collect())
    }

    /// One trial.
    ///
    /// # Errors
    /// [`Refusal::UnknownStudy`], [`Refusal::UnknownTrial`].
    pub fn trial(&self, name: &StudyName, number: TrialNumber) -> Result<TrialView, Refusal> {
        let study = self.study(name)?;
        if study.trials.get(number.0 as usize).is_none() {
            let trials = study.trials.len() as u32;
            return Err(Refusal::UnknownTrial { study: name.clone(), number, trials });
        }
        Ok(study.view(number.0 as usize))
    }

    /// The front: complete trials that meet the study's constraints and all `filters`, and that no
    /// other such trial dominates. They are ordered by the first objective, best first. With a
    /// device, only the objectives on it and those on no device count.
    ///
    /// # Errors
    /// [`Refusal::UnknownStudy`]; [`Refusal::NoObjectives`] if no objective is on `device`.
    pub fn front(
        &self,
        name: &StudyName,
        device: Option<&DeviceClass>,
        filters: &[Filter],
    ) -> Result<Vec<TrialView>, Refusal> {
        let study = self.study(name)?;
        if let Some(device) = device
            && !study.spec.objectives.iter().any(|o| o.device() == Some(device))
        {
            let (study, device) = (name.clone(), device.clone());
            return Err(Refusal::NoObjectives { study, device });
        }
        let front = study.front(device, filters);
        Ok(front.into_iter().map(|(number, _)| study.view(number)).collect())
    }

    /// Whether a worker is connected.
    pub fn is_connected(&self, worker: WorkerId) -> bool {
        self.workers.get(worker).is_some()
    }

    /// Connected workers, ordered by id.
    pub fn workers(&self, now: Time) -> Vec<WorkerView> {
        let view = |(id, worker): (&WorkerId, &super::workers::Worker)| WorkerView {
            id: *id,
            info: worker.info.clone(),
            activity: self.activity(|attempt| attempt.worker == *id),
            silent: now.since(worker.seen),
            exclusions: self.exclusions(|_, of| of == *id),
        };
        self.workers.0.iter().map(view).collect()
    }

    /// Classes of connected workers whose latencies were measured on machines that differ, in any
    /// study.
    pub fn unlike_machines(&self) -> Vec<UnlikeMachines> {
        let mut machines = Machines::default();
        self.studies
            .values()
            .flat_map(|study| study.machines.all())
            .for_each(|of| machines.note(of));
        let mut unlike = machines.unlike();
        unlike.retain(|of| self.workers.0.values().any(|worker| worker.info.class == of.class));
        unlike
    }

    fn study(&self, name: &StudyName) -> Result<&Study, Refusal> {
        self.studies.get(name).ok_or_else(|| self.unknown_study(name))
    }

    /// Targets on which something has to be measured now or later, but no connected worker
    /// measures.
    fn missing_targets(&self, study: &Study) -> Vec<Target> {
        // Latencies come from the table, so no worker has to measure them.
        if study.state.is_ended() || study.spec.training().is_none() {
            return Vec::new();
        }
        let trains = |stage: &Stage| {
            matches!(stage, Stage::Scoring(_) | Stage::Scored | Stage::Training(_) | Stage::OnRung)
        };
        let comes = study.may_propose()
            || study.teacher_pending()
            || study.trials.iter().any(|trial| trains(&trial.stage));
        let mut targets = study.spec.targets();
        targets.retain(|target| {
            let queue = Queue::Measure(target.clone());
            let wanted = comes || study.tasks.first_waiting(queue).is_some();
            let needs = Needs::measuring_on(target.clone());
            wanted && !self.workers.any_can_do(&study.spec.name, &needs)
        });
        targets
    }

    /// Number of connected workers that missed at least two heartbeats.
    fn silent_workers(&self, now: Time) -> u32 {
        let late = 2 * self.config.heartbeat;
        self.workers.0.values().filter(|worker| now.since(worker.seen) > late).count() as u32
    }

    /// What workers cannot do, ordered by worker. Where a worker is asked nevertheless, because no
    /// other is good for such tasks, that is left out.
    fn exclusions(&self, which: impl Fn(&StudyName, WorkerId) -> bool) -> Vec<Exclusion> {
        let mut all = Vec::new();
        for (id, worker) in &self.workers.0 {
            let holds = |study, needs| !self.workers.can_do(*id, study, needs);
            let of_worker = worker.excluded.iter();
            let of_worker =
                of_worker.filter(|((study, needs), _)| which(study, *id) && holds(study, needs));
            all.extend(of_worker.map(|((study, needs), why)| Exclusion {
                study: study.clone(),
                worker: *id,
                name: worker.info.name.clone(),
                needs: needs.clone(),
                failing: why.failing,
                reason: why.reason.clone(),
            }));
        }
        all
    }

    /// What is in the way of a study, and whether it waits until that is mended.
    fn problems(&self, study: &Study, exclusions: &[Exclusion]) -> (Vec<String>, bool) {
        if study.state.is_ended() {
            return (Vec::new(), false);
        }
        let name = &study.spec.name;
        let mut problems = Vec::new();
        let mut blocked = false;
        if let Data::Damaged { reason } = &study.data {
            let mend = if study.keeps_data() && study.data_hash.is_some() {
                format!(
                    "it has results, so restore the very files that it began with, then run \
                     `edgesmith retry {name}`"
                )
            } else {
                format!(
                    "mend them, then run `edgesmith retry {name}`; or correct the study file, and \
                     submit it again"
                )
            };
            problems.push(format!("its data are damaged or do not fit it: {reason}; {mend}"));
            blocked = true;
        }
        problems.extend(self.unlike_earlier(study));
        problems.extend(exclusions.iter().map(ToString::to_string));
        let needs: BTreeSet<&Needs> = exclusions.iter().map(|of| &of.needs).collect();
        let waits = |needs: &&Needs| match &needs.target {
            Some(target) => study.tasks.first_waiting(Queue::Measure(target.clone())).is_some(),
            None => study.awaits_trainer() || study.awaits_table(),
        };
        let unmet = |needs: &&Needs| waits(needs) && !self.workers.any_can_do(name, needs);
        for needs in needs.into_iter().filter(unmet) {
            let what = match &needs.target {
                Some(target) => format!("measures on {target}"),
                // Workers that failed such tasks are asked, so these ones lack the data.
                None => "can read its data".to_owned(),
            };
            problems.push(format!(
                "no connected worker {what}; mend this one and run `edgesmith retry {name}`, or \
                 start another worker"
            ));
            blocked = true;
        }
        (problems, blocked && study.tasks.running() == 0)
    }

    /// Current attempts in words, ordered by worker.
    fn activity(&self, which: impl Fn(&super::Attempt) -> bool) -> Vec<String> {
        let mut attempts: Vec<_> = self.running.values().filter(|a| which(a)).collect();
        attempts.sort_by_key(|attempt| attempt.worker);
        let words = |attempt: &super::Attempt| {
            let task = self.studies.get(&attempt.study)?.tasks.get(attempt.task)?;
            Some(match &attempt.progress {
                Some((_, stage)) if !stage.is_empty() => {
                    format!("{} ({stage})", task.kind.words())
                }
                _ => task.kind.words(),
            })
        };
        attempts.into_iter().filter_map(words).collect()
    }
}

impl Study {
    fn view(&self, number: usize) -> TrialView {
        let trial = &self.trials[number];
        TrialView {
            number: TrialNumber(number as u32),
            state: self.trial_state(trial),
            genotype: trial.genotype.clone(),
            architecture: self.spec.space.describe(&trial.genotype),
            values: trial.stage.values(&self.setups),
            stages: trial.stages,
            score: trial.score,
            rungs: trial.rungs.clone(),
            attempts: trial.attempts,
            training_attempts: trial.training_attempts,
            parents: trial.parents.clone(),
            inherits_from: trial.donor,
            proposed_by: if trial.imported { Some("import") } else { trial.part.map(Part::name) },
        }
    }

    pub(super) fn trial_state(&self, trial: &Trial) -> TrialState {
        let runs = |id| self.tasks.get(id).is_some_and(|task| task.attempt.is_some());
        let any_runs = match &trial.stage {
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

    fn counts(&self) -> TrialCounts {
        let mut counts = TrialCounts::default();
        for trial in &self.trials {
            counts.screened_out += u32::from(matches!(trial.stage, Stage::ScreenedOut));
            counts.cancelled += u32::from(match &trial.stage {
                Stage::Failed { reason, .. } => {
                    self.state == StudyState::Cancelled && reason == TrialState::CANCELLED
                }
                _ => false,
            });
            *match &trial.stage {
                Stage::Complete(_) if trial.imported => &mut counts.imported,
                Stage::Complete(_) => &mut counts.complete,
                Stage::Pruned | Stage::ScreenedOut => &mut counts.pruned,
                Stage::Infeasible { .. } => &mut counts.infeasible,
                Stage::Failed { .. } => &mut counts.failed,
                Stage::Scoring(_)
                | Stage::Scored
                | Stage::Training(_)
                | Stage::OnRung
                | Stage::Measuring { .. } => match self.trial_state(trial) {
                    TrialState::Running => &mut counts.running,
                    _ => &mut counts.waiting,
                },
            } += 1;
        }
        counts
    }
}
