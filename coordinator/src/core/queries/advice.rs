//! What a user could change in a study of which no trial was completed, read from the reasons that
//! are recorded of its trials. Nothing here changes the state.

use edgesmith_common::DIVERGED;

use super::constraints::{ConstraintView, constraints};
use crate::core::record::StudyState;
use crate::core::study::{Stage, Study, Trial};

/// Part of the reason of a candidate that breaks a constraint.
const BREAKS: &str = ", which breaks ";
/// Beginning of the reason of a candidate that is predicted to be too slow.
const PREDICTED: &str = "predicted ";

/// What to change, in sentences; empty while the study goes on, if it was cancelled, if a trial
/// of its own is complete, or if nothing is known.
pub fn advice(study: &Study) -> Vec<String> {
    let own = |trial: &Trial| !trial.is_imported() && matches!(trial.stage(), Stage::Complete(_));
    let ran_out = match study.state() {
        StudyState::Complete { .. } | StudyState::Failed { .. } => true,
        // Trials that were cut off have not failed by themselves, and nothing is retried.
        StudyState::Running | StudyState::Paused | StudyState::Cancelled => false,
    };
    if !ran_out || study.trials().iter().any(|(_, trial)| own(trial)) {
        return Vec::new();
    }
    let (mut infeasible, mut diverged, mut failed) = (0_u32, 0, 0);
    let (mut last_infeasible, mut last_failed) = (None, None);
    for (_, trial) in study.trials().iter() {
        match trial.stage() {
            Stage::Infeasible { reason, .. } if reason.starts_with(DIVERGED) => diverged += 1,
            Stage::Infeasible { reason, .. } => {
                infeasible += 1;
                let of_limit = reason.contains(BREAKS) || reason.starts_with(PREDICTED);
                last_infeasible = Some(reason).filter(|_| !of_limit).or(last_infeasible);
            }
            Stage::Failed { reason, .. } => {
                failed += 1;
                last_failed = Some(reason);
            }
            Stage::Scoring(_)
            | Stage::Scored
            | Stage::Training(_)
            | Stage::OnRung
            | Stage::Measuring { .. }
            | Stage::Complete(_)
            | Stage::Pruned
            | Stage::ScreenedOut => {}
        }
    }
    let mut advice = Vec::new();
    for ConstraintView { constraint, excluded, nearest, .. } in constraints(study) {
        if excluded > 0 {
            infeasible = infeasible.saturating_sub(excluded);
            let nearest = nearest.map(|(value, _)| format!(", the nearest has {value}"));
            advice.push(format!(
                "{} break {constraint}{}: relax this limit, or offer options in [space] and \
                 [recipe] that meet it",
                counted(excluded, "candidate"),
                nearest.unwrap_or_default()
            ));
        }
    }
    for of in study.predictions() {
        if of.trainings_saved > 0 {
            infeasible = infeasible.saturating_sub(of.trainings_saved);
            advice.push(format!(
                "{} would take more than {} ms on {}, as predicted: raise this limit, or offer \
                 faster options in [space]",
                counted(of.trainings_saved, "candidate"),
                of.limit_ms,
                of.target
            ));
        }
    }
    if diverged > 0 {
        advice.push(format!(
            "{} diverged: lower training.learning_rate",
            counted(diverged, "training")
        ));
    }
    if let (1.., Some(reason)) = (infeasible, last_infeasible) {
        let which = counted(infeasible, "candidate");
        advice.push(format!("{which} cannot work; one reason: {reason}"));
    }
    if !advice.is_empty() {
        let name = &study.spec().name;
        advice.push(format!(
            "submit the changed file under another study.name, or after `edgesmith delete {name}`"
        ));
    }
    if let Some(reason) = last_failed {
        advice.push(format!(
            "{} failed, the last one: {reason}; mend that, then run `edgesmith retry {}`",
            counted(failed, "trial"),
            study.spec().name
        ));
    }
    advice
}

fn counted(count: u32, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}
