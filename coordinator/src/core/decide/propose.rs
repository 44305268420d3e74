//! New trials: asks the algorithm of a study for a candidate. One that arithmetic or earlier
//! measurements rule out is recorded as infeasible, without training.
//!
//! The answer is computed beside the core, because it may take long: the core hands out a
//! [`ProposalRequest`](crate::core::ProposalRequest) and goes on; the runtime has it computed and
//! sends the answer back as an event. A study has one request at a time, so each proposal knows all
//! earlier ones. With one worker, everything that was recorded before is known to it, too, and a
//! study repeats bit for bit.

use edgesmith_common::{StudyName, TrialNumber};

use super::inheritance::choose_donor;
use super::turn::Turn;
use crate::controller::Proposal;
use crate::core::record::Record;
use crate::core::study::{Found, ProposalAnswer, Stage, Verdict};

impl Turn<'_> {
    /// Asks the algorithm of study `name` for the next trial, or for a step towards it. It must not
    /// be away.
    pub(super) fn propose(&mut self, name: &StudyName) {
        if let Some(request) = self.core.ask_algorithm(name) {
            self.send(request);
        }
    }

    /// Takes the answer of an algorithm, and asks again until there is a candidate to train. The
    /// candidate is dropped if the study wants none any more, or if its number was taken meanwhile
    /// by an imported trial.
    pub(super) fn proposed(&mut self, answer: ProposalAnswer) {
        let Some((name, found)) = self.core.take_algorithm_back(answer) else { return };
        // It may be asked again, for the workers that wait.
        self.open_work();
        let study = self.core.known(&name);
        if !study.wants_proposal() {
            return;
        }
        let next = study.trials().next_number();
        match found {
            Found::Nothing => {}
            Found::Exhausted => {
                let reason = "the space is exhausted: every candidate has been proposed".to_owned();
                self.record(Record::ProposalsEnded { study: name.clone(), reason });
            }
            Found::Candidate { number, proposal, verdict } => {
                if number == next {
                    self.take_candidate(&name, number, proposal, verdict);
                }
            }
        }
        // Without this, a study that has no candidate to train would not end while workers get
        // work from others.
        let study = self.core.known(&name);
        let trains = study.trials().get(next).is_some_and(|trial| !trial.stage().is_finished());
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
                let donor = choose_donor(self.core.known(name), &genotype, &parents);
                let task = self.core.next_task();
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
        let trials = self.core.known(name).trials();
        let count = trials.ruled_out_in_a_row();
        if count < self.core.config().max_infeasible {
            return;
        }
        let last = match trials.iter().next_back().map(|(_, trial)| trial.stage()) {
            Some(Stage::Infeasible { reason, .. }) => reason.as_str(),
            _ => "",
        };
        let reason = format!(
            "none of {count} candidates in a row could be trained; the reason for the last one: \
             {last}"
        );
        self.record(Record::ProposalsEnded { study: name.clone(), reason });
    }
}
