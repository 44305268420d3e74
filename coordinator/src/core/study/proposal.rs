//! A question to the algorithm of a study, and its answer. The question holds all that the answer
//! depends on, so it may be computed on any thread, beside the core.

use std::sync::Arc;

use edgesmith_common::{Purpose, StudySpec, Target, TrialNumber};
use edgesmith_search_space::{Cost, Genotype};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::latency::{Judge, Predictors};
use super::learner::{Leaving, Told};
use crate::controller::{Controller, Proposal};

/// Notes that a quick algorithm is told at once.
const FEW_NOTES: usize = 64;

/// Makes the controller of a study: [`build`](crate::controller::build), except in tests.
pub(crate) type BuildController = fn(&StudySpec) -> Box<dyn Controller>;

/// Names a study by its place in the order of creation, deleted studies included. Unlike a name it
/// never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Creation(pub u64);

/// A question to the algorithm of a study. [`ProposalRequest::answer`] may run on any thread, and
/// depends on nothing else.
pub struct ProposalRequest {
    study: Creation,
    spec: Arc<StudySpec>,
    build: BuildController,
    /// `None` if it has to be built.
    controller: Option<Box<dyn Controller>>,
    /// What to tell it first.
    notes: Vec<Told>,
    /// `None` if it has to be told more before it can propose.
    wanted: Option<Wanted>,
}

/// The trial that is wanted.
struct Wanted {
    number: TrialNumber,
    /// What the study's measurements say about latencies.
    predictors: Predictors,
}

/// The answer to a [`ProposalRequest`].
pub struct ProposalAnswer {
    study: Creation,
    controller: Box<dyn Controller>,
    found: Found,
}

/// What an algorithm found.
pub enum Found {
    /// It has only learned.
    Nothing,
    /// Every candidate of the space has been proposed.
    Exhausted,
    /// A candidate for this trial.
    Candidate { number: TrialNumber, proposal: Proposal, verdict: Verdict },
}

/// What to do with a candidate.
#[derive(Debug)]
pub enum Verdict {
    /// It can be trained.
    Trainable,
    /// Arithmetic rules it out, for this reason.
    Impossible(String),
    /// Measurements of other networks rule it out on this target, for this reason.
    TooSlow(Target, String),
}

impl std::fmt::Debug for ProposalRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = self.wanted.as_ref().map(|wanted| wanted.number);
        f.debug_struct("ProposalRequest").field("number", &number).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ProposalAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProposalAnswer").field("study", &self.study).finish_non_exhaustive()
    }
}

impl ProposalRequest {
    /// Asks for trial `number`, or for a step towards it.
    pub(super) fn new(
        study: Creation,
        spec: Arc<StudySpec>,
        build: BuildController,
        leaving: Leaving,
        number: TrialNumber,
        predictors: &Predictors,
    ) -> Self {
        let Leaving { controller, notes, is_told_all } = leaving;
        let wanted = is_told_all.then(|| Wanted { number, predictors: predictors.clone() });
        Self { study, spec, build, controller, notes, wanted }
    }

    /// Whether the answer takes only some ten microseconds: the algorithm is quick and has little
    /// to learn first, and no network is lowered to judge a candidate.
    pub fn is_quick(&self) -> bool {
        let quick = self.controller.as_ref().is_some_and(|controller| controller.is_quick());
        quick && self.notes.len() <= FEW_NOTES && self.spec.training().is_none()
    }

    /// Computes the answer; send it to the core as an event.
    pub fn answer(self) -> ProposalAnswer {
        let Self { study, spec, build, controller, notes, wanted } = self;
        let mut controller = controller.unwrap_or_else(|| build(&spec));
        notes.iter().for_each(|note| note.to(&mut *controller));
        let found = match wanted {
            None => Found::Nothing,
            Some(Wanted { number, predictors }) => {
                let seed = spec.seed.derive(Purpose::Proposal(number));
                match controller.suggest(number, &mut ChaCha8Rng::from_seed(seed)) {
                    None => Found::Exhausted,
                    Some(proposal) => {
                        let verdict = judged(&spec, &predictors, number, &proposal.genotype);
                        Found::Candidate { number, proposal, verdict }
                    }
                }
            }
        };
        ProposalAnswer { study, controller, found }
    }
}

impl ProposalAnswer {
    /// The study, its algorithm, which comes back, and what that found.
    pub(in crate::core) fn into_parts(self) -> (Creation, Box<dyn Controller>, Found) {
        (self.study, self.controller, self.found)
    }
}

fn judged(
    spec: &StudySpec,
    predictors: &Predictors,
    number: TrialNumber,
    genotype: &Genotype,
) -> Verdict {
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
    match Judge::of(predictors).too_slow(number, &candidate, &network) {
        Some((target, reason)) => Verdict::TooSlow(target, reason),
        None => Verdict::Trainable,
    }
}
