//! Converts the core's views to messages.

use edgesmith_common::{EngineName, TrialValues};
use edgesmith_proto::{MAX_PAGE, optional_hash_bytes, trial_state_parts, v1};
use prost::Message as _;

use crate::core::{
    ConstraintView, Exclusion, PredictionView, StudyState, StudyView, TeacherView, TrialView,
    UnlikeMachines, WorkerView,
};

/// A study's status.
pub fn study(view: StudyView) -> v1::StudyStatus {
    let (state, reason) = match view.state {
        StudyState::Running => (v1::StudyState::Running, None),
        StudyState::Paused => (v1::StudyState::Paused, None),
        StudyState::Complete { reason } => (v1::StudyState::Complete, reason),
        StudyState::Cancelled => (v1::StudyState::Cancelled, None),
        StudyState::Failed { reason } => (v1::StudyState::Failed, Some(reason)),
    };
    v1::StudyStatus {
        name: view.name.to_string(),
        state: state.into(),
        reason: reason.unwrap_or_default(),
        waiting: view.counts.waiting,
        running: view.counts.running,
        complete: view.counts.complete,
        imported: view.counts.imported,
        pruned: view.counts.pruned,
        screened_out: view.counts.screened_out,
        infeasible: view.counts.infeasible,
        failed: view.counts.failed,
        cancelled: view.counts.cancelled,
        budget_trials: view.budget_trials,
        budget_hours: view.budget_hours,
        best_validation_accuracy: view.best_validation_accuracy,
        hypervolume: view.hypervolume,
        front_size: view.front_size,
        algorithm: view.algorithm.to_owned(),
        data: view.data.as_ref().map(Into::into),
        data_problem: view.data_problem.unwrap_or_default(),
        exclusions: view.exclusions.into_iter().map(exclusion).collect(),
        problems: view.problems,
        blocked: view.blocked,
        advice: view.advice,
        teacher: view.teacher.map(teacher),
        missing_devices: view.missing_targets.iter().map(ToString::to_string).collect(),
        missing_trainer: view.missing_trainer,
        missing_table: view.missing_table,
        latency_predictions: view.predictions.iter().map(prediction).collect(),
        connected_workers: view.connected_workers,
        silent_workers: view.silent_workers,
        constraints: view.constraints.iter().map(constraint).collect(),
        elapsed_ms: view.elapsed.as_millis() as u64,
        spec_toml: view.spec_toml,
        resolved_study: view.resolved_study.to_string(),
        activity: view.activity,
        unlike_machines: view.unlike_machines.into_iter().map(unlike_machines).collect(),
        // Not of the study, and set where it is sent.
        waits: String::new(),
    }
}

/// A device class of machines that differ.
pub fn unlike_machines(unlike: UnlikeMachines) -> v1::UnlikeMachines {
    v1::UnlikeMachines {
        device_class: unlike.class.to_string(),
        machines: unlike.machines.iter().map(Into::into).collect(),
    }
}

fn prediction(view: &PredictionView) -> v1::LatencyPrediction {
    v1::LatencyPrediction {
        device_class: view.target.to_string(),
        limit_ms: view.limit_ms,
        measurements: view.measurements,
        predicted: view.predicted,
        within_tenth: view.within_tenth,
        trainings_saved: view.trainings_saved,
    }
}

fn constraint(view: &ConstraintView) -> v1::ConstraintStatus {
    v1::ConstraintStatus {
        constraint: view.constraint.to_string(),
        excluded: view.excluded,
        met: view.met,
        measured: view.measured,
        nearest: view.nearest.map(|(value, _)| value),
        nearest_trial: view.nearest.map(|(_, number)| number.0),
    }
}

fn teacher(view: TeacherView) -> v1::Teacher {
    v1::Teacher {
        architecture: view.architecture,
        trained: view.trained.as_ref().map(Into::into),
        measurements: view.measurements.iter().map(Into::into).collect(),
        soft_targets: optional_hash_bytes(view.soft_targets),
    }
}

/// A trial.
pub fn trial(view: TrialView) -> v1::Trial {
    let (state, reason) = trial_state_parts(&view.state);
    v1::Trial {
        number: view.number.0,
        state: state.into(),
        reason,
        genotype: view.genotype.indices().iter().map(|&i| u32::from(i)).collect(),
        trained: view.trained().map(Into::into),
        measurements: view.measurements().iter().map(Into::into).collect(),
        architecture: view.architecture,
        attempts: view.attempts,
        training_attempts: view.training_attempts,
        parents: view.parents.iter().map(|n| n.0).collect(),
        inherits_from: view.inherits_from.map(|n| n.0),
        score: view.score,
        proposed_by: view.proposed_by.unwrap_or_default().to_owned(),
        rungs: view.rungs.iter().map(Into::into).collect(),
        figures: match &view.values {
            Some(TrialValues::Known(figures)) => Some((&**figures).into()),
            Some(TrialValues::Trained { .. }) | None => None,
        },
    }
}

/// Most bytes of the trials in a page, unless its first one alone is larger.
const MAX_PAGE_BYTES: usize = 2 << 20;

/// A page of the trials from `first` on: all of them, or as many as fit. `is_last` says that no
/// more follow.
pub fn page(trials: Vec<TrialView>, first: u32, is_last: bool) -> v1::ListTrialsResponse {
    let (all, mut bytes) = (trials.len(), 0);
    let mut page = Vec::with_capacity(all);
    for trial in trials.into_iter().map(trial) {
        bytes += trial.encoded_len();
        if bytes > MAX_PAGE_BYTES && !page.is_empty() {
            break;
        }
        page.push(trial);
    }
    let sent_all = is_last && page.len() == all;
    // Numbers of trials are below the limit of a budget, so this does not overflow.
    let next = (!sent_all).then(|| first.saturating_add(page.len() as u32));
    v1::ListTrialsResponse { trials: page, next }
}

/// Most bytes of a front that is sent at once.
const MAX_FRONT_BYTES: usize = 32 << 20;

/// A front. If it is `paged`, as many trials as fit into a page, and the numbers of the others;
/// otherwise all of them, or `None` if they are too large.
pub fn front(trials: Vec<TrialView>, paged: bool) -> Option<v1::GetParetoFrontResponse> {
    let (mut answer, mut bytes) = (v1::GetParetoFrontResponse::default(), 0);
    for view in trials {
        if !answer.more.is_empty() {
            answer.more.push(view.number.0);
            continue;
        }
        let number = view.number.0;
        let trial = trial(view);
        bytes += trial.encoded_len();
        if !paged && bytes > MAX_FRONT_BYTES {
            return None;
        }
        let full = answer.trials.len() >= MAX_PAGE as usize
            || (bytes > MAX_PAGE_BYTES && !answer.trials.is_empty());
        if paged && full {
            answer.more.push(number);
        } else {
            answer.trials.push(trial);
        }
    }
    Some(answer)
}

/// A connected worker.
pub fn worker(view: WorkerView) -> v1::WorkerStatus {
    v1::WorkerStatus {
        worker_id: view.id.0,
        name: view.info.name,
        device_class: view.info.class.to_string(),
        roles: view.info.roles.iter().map(|role| v1::Role::from(*role).into()).collect(),
        engines: view.info.engines.iter().map(EngineName::to_string).collect(),
        slots: view.info.slots,
        activity: view.activity,
        silent_ms: view.silent.as_millis() as u64,
        backend: view.info.backend,
        exclusions: view.exclusions.into_iter().map(exclusion).collect(),
    }
}

fn exclusion(view: Exclusion) -> v1::Exclusion {
    v1::Exclusion {
        study: view.study.to_string(),
        worker_id: view.worker.0,
        worker: view.name.clone(),
        what: view.what(),
        reason: view.reason,
    }
}
