//! New trials: asks the algorithm of a study for a candidate. One that arithmetic or earlier
//! measurements rule out is recorded as infeasible, without training.
//!
//! The answer is computed beside the core, because it may take long: the core hands out a
//! [`ProposalRequest`] and goes on; the runtime has it computed and sends the answer back as an
//! event. A study has one request at a time, so each proposal knows all earlier ones. With one
//! worker, everything that was recorded before is known to it, too, and a study repeats bit for
//! bit.

use std::sync::Arc;

use edgesmith_common::{StudyName, TaskId, TrialNumber};

use super::proposal::{Creation, Found, ProposalAnswer, ProposalRequest, Verdict};
use super::study::Stage;
use super::{Command, Record, Turn};
use crate::controller::Proposal;

impl Turn<'_> {
    /// Asks the algorithm of study `name` for the next trial, or for a step towards it. It must not
    /// be away.
    pub(super) fn propose(&mut self, name: &StudyName) {
        let build = self.core.build_controller;
        let Some(study) = self.core.studies.get_mut(name) else { return };
        let Some(leaving) = study.send_learner() else { return };
        let (creation, spec) = (Creation(study.created), Arc::clone(&study.spec));
        let number = TrialNumber(study.trials.len() as u32);
        let latency = &study.latency;
        let request = ProposalRequest::new(creation, spec, build, leaving, number, latency);
        self.commands.push(Command::Propose(Box::new(request)));
    }

    /// Takes the answer of an algorithm, and asks again until there is a candidate to train. The
    /// candidate is dropped if the study wants none any more, or if its number was taken meanwhile
    /// by an imported trial.
    pub(super) fn proposed(&mut self, answer: ProposalAnswer) {
        let (creation, controller, found) = answer.into_parts();
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
