//! What constraints exclude, as shown to users: how many trials meet each, and how near the nearest
//! comes where none does. Nothing here decides which trials are feasible.

use edgesmith_common::{Constraint, TrialNumber};

use crate::core::study::{Stage, Study};

/// What a constraint excluded.
#[derive(Debug, Clone, PartialEq)]
pub struct ConstraintView {
    /// The constraint.
    pub constraint: Constraint,
    /// Number of candidates that it ruled out before they were trained.
    pub excluded: u32,
    /// Number of complete trials that meet it.
    pub met: u32,
    /// Number of complete trials of which its figure is known.
    pub measured: u32,
    /// While no trial meets it: the figure that comes nearest to the limit, with its trial, which
    /// is complete or was ruled out. `None` if some trial meets it or none has the figure.
    pub nearest: Option<(f64, TrialNumber)>,
}

/// What each constraint excluded.
pub fn constraints(study: &Study) -> Vec<ConstraintView> {
    study.spec().constraints.iter().map(|constraint| view(study, constraint)).collect()
}

fn view(study: &Study, constraint: &Constraint) -> ConstraintView {
    let (mut met, mut measured, mut excluded) = (0, 0, 0);
    let mut broken = Vec::new();
    let by_it = RuledOut::by(constraint);
    for (number, trial) in study.trials().iter() {
        match trial.stage() {
            Stage::Complete(kept) => {
                let Some(value) = kept.figures().get(&constraint.of) else { continue };
                measured += 1;
                if constraint.bound.violation(value) == 0.0 {
                    met += 1;
                } else {
                    broken.push((value, number));
                }
            }
            Stage::Infeasible { reason, .. } => {
                let Some(value) = by_it.value(reason) else { continue };
                excluded += 1;
                broken.push((value, number));
            }
            Stage::Scoring(_)
            | Stage::Scored
            | Stage::Training(_)
            | Stage::OnRung
            | Stage::Measuring { .. }
            | Stage::Pruned
            | Stage::ScreenedOut
            | Stage::Failed { .. } => {}
        }
    }
    let by = |value: f64| constraint.bound.violation(value);
    let nearest = broken.into_iter().min_by(|(a, _), (b, _)| by(*a).total_cmp(&by(*b)));
    let nearest = nearest.filter(|_| met == 0);
    ConstraintView { constraint: constraint.clone(), excluded, met, measured, nearest }
}

/// Recognises the candidates that a constraint ruled out before training, by the reason that
/// [`edgesmith_common::StudySpec::analytic_violation`] wrote, which is all that is stored of such a
/// candidate. Made once for all trials, of which there may be many.
struct RuledOut {
    begins: String,
    ends: String,
}

impl RuledOut {
    fn by(constraint: &Constraint) -> Self {
        let (begins, ends) =
            (format!("{} is ", constraint.of), format!(", which breaks {constraint}"));
        Self { begins, ends }
    }

    /// The figure for which a candidate was ruled out; `None` if another reason did that.
    fn value(&self, reason: &str) -> Option<f64> {
        reason.strip_prefix(&self.begins)?.strip_suffix(&self.ends)?.parse().ok()
    }
}
