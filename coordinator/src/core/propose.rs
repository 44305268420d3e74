//! New trials: ask the controller, and decide by arithmetic what no training has to decide.

use edgesmith_common::{Purpose, StudyName, StudySpec, TaskId, TrialNumber};
use edgesmith_search_space::Genotype;
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
                    let donor = study.choose_donor(&proposal.genotype, &parents);
                    let task = TaskId(self.core.next.task);
                    let study = study_name.clone();
                    self.record(Record::TrialProposed { study, number, task, genotype, parents });
                    if let Some(donor) = donor {
                        self.record(Record::TrialInherits { study: study_name, number, donor });
                    }
                    return;
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
    // Of a cell the table knows everything, and it costs nothing to ask.
    let space = &spec.training()?.space;
    let candidate = space.decode(genotype);
    let cost = match candidate.pruned_plan(space.data()) {
        Ok(plan) => plan.cost(candidate.recipe.precision),
        Err(why) => return Some(why.to_string()),
    };
    spec.analytic_violation(&cost)
}
