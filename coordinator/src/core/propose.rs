//! New trials: ask the controller, and decide by arithmetic what no training has to decide.

use edgesmith_common::{
    Bound, Constraint, Metric, Purpose, StudyName, StudySpec, TaskId, TrialNumber,
};
use edgesmith_search_space::{Cost, Genotype};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Record, Turn};

impl Turn<'_> {
    /// Proposes trials of `name` until one can be trained, or nothing more will be.
    pub(super) fn propose(&mut self, name: &StudyName) {
        let mut last = None;
        for _ in 0..self.core.config.max_infeasible {
            let study = &self.core.studies[name];
            let number = TrialNumber(study.trials.len() as u32);
            let mut rng = ChaCha8Rng::from_seed(study.spec.seed.derive(Purpose::Proposal(number)));
            let Some(proposal) = study.controller.suggest(number, &mut rng) else {
                let reason = "the space is exhausted: every candidate has been proposed".to_owned();
                return self.record(Record::ProposalsEnded { study: name.clone(), reason });
            };
            let genotype = proposal.genotype.indices().to_vec();
            let (study_name, parents) = (name.clone(), proposal.parents);
            match infeasibility(&study.spec, &proposal.genotype) {
                None => {
                    let task = TaskId(self.core.next.task);
                    let study = study_name;
                    return self.record(Record::TrialProposed {
                        study,
                        number,
                        task,
                        genotype,
                        parents,
                    });
                }
                Some(reason) => {
                    last = Some(reason.clone());
                    let study = study_name;
                    self.record(Record::TrialInfeasible {
                        study,
                        number,
                        genotype,
                        parents,
                        reason,
                    });
                }
            }
        }
        let reason = format!(
            "none of {} candidates in a row could be trained; of the last one: {}",
            self.core.config.max_infeasible,
            last.unwrap_or_default()
        );
        self.record(Record::ProposalsEnded { study: name.clone(), reason });
    }
}

/// Why a candidate need not be trained; `None` where it may.
fn infeasibility(spec: &StudySpec, genotype: &Genotype) -> Option<String> {
    let candidate = spec.space.decode(genotype);
    let cost = match candidate.pruned_plan(spec.space.data()) {
        Ok(plan) => plan.cost(candidate.recipe.precision),
        Err(why) => return Some(why.to_string()),
    };
    let broken = |constraint: &Constraint| {
        let value = analytic(constraint.metric, cost)?;
        let breaks = constraint.bound.violation(value) > 0.0;
        breaks.then(|| format!("{constraint} is broken: {} is {value}", constraint.metric))
    };
    spec.constraints.iter().find_map(broken)
}

/// What arithmetic says of a metric; `None` where it takes training or a device.
fn analytic(metric: Metric, cost: Cost) -> Option<f64> {
    match metric {
        Metric::Macs => Some(cost.macs as f64),
        Metric::Parameters => Some(cost.parameters as f64),
        Metric::PeakMemoryBytes => Some(cost.peak_memory_bytes as f64),
        Metric::ValidationAccuracy | Metric::LatencyMs | Metric::ModelBytes => None,
    }
}

/// A bound's violation as a share of its limit.
pub(super) fn relative_violation(bound: Bound, value: f64) -> f64 {
    let (Bound::Max(limit) | Bound::Min(limit)) = bound;
    let scale = if limit == 0.0 { 1.0 } else { limit.abs() };
    bound.violation(value) / scale
}
