//! New trials: asks the controller for candidates. Those that arithmetic or earlier measurements
//! rule out are recorded as infeasible, without training.

use edgesmith_common::{Purpose, StudyName, StudySpec, Target, TaskId, TrialNumber};
use edgesmith_search_space::{Cost, Genotype};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::latency::Judge;
use super::{Record, Turn};

impl Turn<'_> {
    /// Proposes trials of study `name` until one can be trained or the study stops proposing.
    pub(super) fn propose(&mut self, name: &StudyName) {
        let mut last = None;
        // One judge is enough, because no measurement comes in during this loop.
        let judge = self.core.studies[name].latency.judge();
        for _ in 0..self.core.config.max_infeasible {
            let study = &self.core.studies[name];
            let number = TrialNumber(study.trials.len() as u32);
            let mut rng = ChaCha8Rng::from_seed(study.spec.seed.derive(Purpose::Proposal(number)));
            let Some(proposal) = study.controller.suggest(number, &mut rng) else {
                let reason = "the space is exhausted: every candidate has been proposed".to_owned();
                return self.record(Record::ProposalsEnded { study: name.clone(), reason });
            };
            let genotype = proposal.genotype.indices().to_vec();
            let parents = proposal.parents;
            let verdict = judged(&study.spec, &judge, number, &proposal.genotype);
            let task = TaskId(self.core.next.ids.tasks_below);
            let record = match verdict {
                Verdict::Trainable => {
                    let donor = study.choose_donor(&proposal.genotype, &parents);
                    let study = name.clone();
                    self.record(Record::TrialProposed { study, number, task, genotype, parents });
                    if let Some(donor) = donor {
                        self.record(Record::TrialInherits { study: name.clone(), number, donor });
                    }
                    return;
                }
                Verdict::Impossible(reason) => {
                    last = Some(reason.clone());
                    let study = name.clone();
                    Record::TrialInfeasible { study, number, genotype, parents, reason }
                }
                Verdict::TooSlow(target, reason) => {
                    last = Some(reason.clone());
                    let study = name.clone();
                    Record::TrialTooSlow { study, number, genotype, parents, target, reason }
                }
            };
            self.record(record);
        }
        let reason = format!(
            "none of {} candidates in a row could be trained; the reason for the last one: {}",
            self.core.config.max_infeasible,
            last.unwrap_or_default()
        );
        self.record(Record::ProposalsEnded { study: name.clone(), reason });
    }
}

/// What to do with a candidate.
enum Verdict {
    /// It can be trained.
    Trainable,
    /// Arithmetic rules it out, for this reason.
    Impossible(String),
    /// Measurements of other networks rule it out on this target, for this reason.
    TooSlow(Target, String),
}

fn judged(spec: &StudySpec, judge: &Judge, number: TrialNumber, genotype: &Genotype) -> Verdict {
    // A look-up in a table is cheap and answers everything, so nothing is ruled out before it.
    let Some(work) = spec.training() else { return Verdict::Trainable };
    let candidate = work.space.decode(genotype);
    let network = match candidate.pruned_graph(work.space.data()) {
        Ok(network) => network,
        Err(why) => return Verdict::Impossible(why.to_string()),
    };
    if !candidate.recipe.fixes_costs() {
        // Its size is only known once it is pruned.
        return Verdict::Trainable;
    }
    let cost = Cost::of(&network, candidate.recipe.precision());
    if let Some(reason) = spec.analytic_violation(&cost) {
        return Verdict::Impossible(reason);
    }
    match judge.too_slow(number, &candidate, &network) {
        Some((target, reason)) => Verdict::TooSlow(target, reason),
        None => Verdict::Trainable,
    }
}
