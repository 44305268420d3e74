//! New trials: asks the algorithm of a study for a candidate. One that arithmetic or earlier
//! measurements rule out is recorded as infeasible, without training.
//!
//! The answer is computed beside the core, because it may take long: the core hands out a
//! [`ProposalRequest`] and goes on; the runtime has it computed and sends the answer back as an
//! event. A study has one request at a time, so each proposal knows all earlier ones. With one
//! worker, everything that was recorded before is known to it, too, and a study repeats bit for
//! bit.

use std::sync::Arc;

use edgesmith_common::{Purpose, StudyName, StudySpec, Target, TaskId, TrialNumber};
use edgesmith_search_space::{Cost, Genotype};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::latency::{Judge, Predictors};
use super::learner::Told;
use super::study::Stage;
use super::{BuildController, Command, Event, Record, Turn};
use crate::controller::{Controller, Proposal};

/// Names a study by its place in the order of creation, deleted studies included. Unlike a name it
/// never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Creation(pub(super) u64);

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
enum Found {
    /// It has only learned.
    Nothing,
    /// Every candidate of the space has been proposed.
    Exhausted,
    /// A candidate for this trial.
    Candidate { number: TrialNumber, proposal: Proposal, verdict: Verdict },
}

/// What to do with a candidate.
#[derive(Debug)]
enum Verdict {
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
    /// Computes the answer: the event to send to the core.
    pub fn answer(self) -> Event {
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
        Event::Proposed { answer: Box::new(ProposalAnswer { study, controller, found }) }
    }
}

impl Turn<'_> {
    /// Asks the algorithm of study `name` for the next trial, or for a step towards it. It must not
    /// be away.
    pub(super) fn propose(&mut self, name: &StudyName) {
        let build = self.core.build_controller;
        let Some(study) = self.core.studies.get_mut(name) else { return };
        let Some(leaving) = study.send_learner() else { return };
        let number = TrialNumber(study.trials.len() as u32);
        let predictors = || study.latency.clone();
        let wanted = leaving.is_told_all.then(|| Wanted { number, predictors: predictors() });
        let request = ProposalRequest {
            study: Creation(study.created),
            spec: Arc::clone(&study.spec),
            build,
            controller: leaving.controller,
            notes: leaving.notes,
            wanted,
        };
        self.commands.push(Command::Propose(Box::new(request)));
    }

    /// Takes the answer of an algorithm, and asks again until there is a candidate to train. The
    /// candidate is dropped if the study wants none any more, or if its number was taken meanwhile
    /// by an imported trial.
    pub(super) fn proposed(&mut self, answer: ProposalAnswer) {
        let ProposalAnswer { study: creation, controller, found } = answer;
        let mut studies = self.core.studies.iter_mut();
        let Some((name, study)) = studies.find(|(_, of)| of.created == creation.0) else { return };
        let name = name.clone();
        study.learner.come_back(controller, study.state.is_ended());
        // It may be asked again, for the workers that wait.
        self.opens = true;
        if !study.wants_proposal() {
            return;
        }
        let next = study.trials.len();
        match found {
            Found::Nothing => {}
            Found::Exhausted => {
                let reason = "the space is exhausted: every candidate has been proposed".to_owned();
                self.record(Record::ProposalsEnded { study: name.clone(), reason });
            }
            Found::Candidate { number, proposal, verdict } => {
                if number.0 as usize == next {
                    self.take_candidate(&name, number, proposal, verdict);
                }
            }
        }
        // Without this, a study that has no candidate to train would not end while workers get
        // work from others.
        let study = &self.core.studies[&name];
        let trains = study.trials.get(next).is_some_and(|trial| !trial.stage.is_finished());
        if !trains && study.asks_for_proposal() {
            self.propose(&name);
        }
    }

    fn take_candidate(
        &mut self,
        name: &StudyName,
        number: TrialNumber,
        proposal: Proposal,
        verdict: Verdict,
    ) {
        let Proposal { genotype, parents } = proposal;
        let indices = genotype.indices().to_vec();
        let study = name.clone();
        match verdict {
            Verdict::Trainable => {
                let donor = self.core.studies[name].choose_donor(&genotype, &parents);
                let task = TaskId(self.core.next.ids.tasks_below);
                let genotype = indices;
                self.record(Record::TrialProposed { study, number, task, genotype, parents });
                if let Some(donor) = donor {
                    self.record(Record::TrialInherits { study: name.clone(), number, donor });
                }
            }
            Verdict::Impossible(reason) => {
                let genotype = indices;
                self.record(Record::TrialInfeasible { study, number, genotype, parents, reason });
                self.stop_if_all_ruled_out(name);
            }
            Verdict::TooSlow(target, reason) => {
                let genotype = indices;
                self.record(Record::TrialTooSlow {
                    study,
                    number,
                    genotype,
                    parents,
                    target,
                    reason,
                });
                self.stop_if_all_ruled_out(name);
            }
        }
    }

    /// Stops the proposals of a study if too many candidates in a row were ruled out.
    fn stop_if_all_ruled_out(&mut self, name: &StudyName) {
        let study = &self.core.studies[name];
        if study.ruled_out_in_a_row < self.core.config.max_infeasible {
            return;
        }
        let last = match study.trials.last().map(|trial| &trial.stage) {
            Some(Stage::Infeasible { reason, .. }) => reason.as_str(),
            _ => "",
        };
        let reason = format!(
            "none of {} candidates in a row could be trained; the reason for the last one: {last}",
            study.ruled_out_in_a_row,
        );
        self.record(Record::ProposalsEnded { study: name.clone(), reason });
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
