//! What constraints exclude, as shown to users: how many trials meet each, and how near the nearest
//! comes where none does. Nothing here decides which trials are feasible.

use edgesmith_common::{Constraint, TrialNumber};

use super::study::{Stage, Study};

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

impl Study {
    /// What each constraint excluded.
    pub(super) fn constraints(&self) -> Vec<ConstraintView> {
        self.spec.constraints.iter().map(|constraint| self.constraint(constraint)).collect()
    }

    fn constraint(&self, constraint: &Constraint) -> ConstraintView {
        let (mut met, mut measured, mut excluded) = (0, 0, 0);
        let mut broken = Vec::new();
        for (number, trial) in self.trials.iter().enumerate() {
            match &trial.stage {
                Stage::Complete(values) => {
                    let Some(value) = values.get(&constraint.of) else { continue };
                    measured += 1;
                    if constraint.bound.violation(value) == 0.0 {
                        met += 1;
                    } else {
                        broken.push((value, number));
                    }
                }
                Stage::Infeasible { reason, .. } => {
                    let Some(value) = ruled_out(reason, constraint) else { continue };
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
        ConstraintView {
            constraint: constraint.clone(),
            excluded,
            met,
            measured,
            nearest: nearest.map(|(value, number)| (value, TrialNumber(number as u32))),
        }
    }
}

/// The figure for which `constraint` ruled a candidate out before training; `None` if another
/// reason did. It is read from the reason that [`edgesmith_common::StudySpec::analytic_violation`]
/// wrote, which is all that is stored of such a candidate.
fn ruled_out(reason: &str, constraint: &Constraint) -> Option<f64> {
    let value = reason.strip_suffix(&format!(", which breaks {constraint}"))?;
    value.strip_prefix(&format!("{} is ", constraint.of))?.parse().ok()
}
