//! The search algorithm of a study: what it is told, in which order, and where it is.
//!
//! The core does not run the algorithm. It keeps a note of each trial that was proposed or has
//! finished, in the order of the records. When a proposal is wanted, the algorithm leaves the core
//! with the notes that it has not been told ([`ProposalRequest`](super::ProposalRequest)) and comes
//! back with the candidate. So neither a proposal nor what an algorithm learns from a result holds
//! up the core. After a restart, the algorithm is built when it is first needed, and the same notes
//! bring it to the same state. A study that has ended keeps its notes only.

use edgesmith_common::{StudySpec, TrialNumber, pareto};

use super::fronts::violation;
use super::trial::Stage;
use super::trials::Trials;
use crate::controller::{self, Controller, FinishedTrial, Part, Portfolio, Proposal};
use crate::core::record::Contradiction;

/// The most notes that go with one request. After a restart there may be many, and to write them
/// out takes time of the core.
const MOST_NOTES: usize = 4096;

/// The algorithm of one study.
pub struct Learner {
    /// All that it is told.
    notes: Vec<Note>,
    /// How many of the notes it has been told, or is being told.
    told: usize,
    place: Place,
    /// Whether it has to be built again when it comes back.
    is_outdated: bool,
    /// Counts the notes, if the algorithm is a portfolio.
    portfolio: Option<Portfolio>,
}

/// Where an algorithm is.
enum Place {
    /// It has to be built.
    Unbuilt,
    /// It waits for the next request.
    Here(Box<dyn Controller>),
    /// It computes a proposal, or learns from notes.
    Away,
}

/// What an algorithm is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    /// The trial was proposed, or is tried again.
    Proposed(TrialNumber),
    /// The trial has finished for good; its result is in the trial.
    Finished(TrialNumber),
    /// The trial has failed. It may be tried again and then have another result.
    Failed(TrialNumber),
}

/// A note, written out.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Proposed(TrialNumber, Proposal),
    Finished(FinishedTrial),
}

impl Told {
    /// Tells it.
    pub(super) fn to(&self, controller: &mut dyn Controller) {
        match self {
            Told::Proposed(number, proposal) => controller.proposed(*number, proposal),
            Told::Finished(finished) => controller.update(finished),
        }
    }
}

impl Learner {
    /// The algorithm that a study asks for, with nothing proposed yet.
    pub(super) fn new(spec: &StudySpec) -> Self {
        let portfolio = controller::portfolio(spec);
        Self { notes: Vec::new(), told: 0, place: Place::Unbuilt, is_outdated: false, portfolio }
    }

    /// Notes that a trial was proposed, or is tried again. Returns the part of the portfolio that
    /// proposes at this moment; `None` if the algorithm has no parts.
    pub(super) fn propose(&mut self, number: TrialNumber) -> Option<Part> {
        self.notes.push(Note::Proposed(number));
        let portfolio = self.portfolio.as_mut()?;
        let part = portfolio.part(number);
        portfolio.propose();
        Some(part)
    }

    /// Notes that a trial has finished.
    ///
    /// # Errors
    /// If it has not finished, or is complete without all its objectives.
    pub(super) fn finish(
        &mut self,
        number: TrialNumber,
        spec: &StudySpec,
        trials: &Trials,
    ) -> Result<(), Contradiction> {
        let finished = finished(number, spec, trials)?;
        self.notes.push(match finished {
            FinishedTrial::Complete { .. }
            | FinishedTrial::Pruned { .. }
            | FinishedTrial::Infeasible { .. } => Note::Finished(number),
            FinishedTrial::Failed { .. } => Note::Failed(number),
        });
        self.portfolio.iter_mut().for_each(|of| of.finish(&finished));
        Ok(())
    }

    /// Whether it computes a proposal.
    pub fn is_away(&self) -> bool {
        matches!(self.place, Place::Away)
    }

    /// Sends the algorithm away with what it has not been told; `None` if it is away already.
    pub(super) fn leave(&mut self, spec: &StudySpec, trials: &Trials) -> Option<Leaving> {
        let controller = match std::mem::replace(&mut self.place, Place::Away) {
            Place::Away => return None,
            Place::Unbuilt => None,
            Place::Here(controller) => Some(controller),
        };
        let to = self.notes.len().min(self.told + MOST_NOTES);
        let notes = self.written_out(self.told..to, spec, trials);
        self.told = to;
        Some(Leaving { controller, notes, is_told_all: to == self.notes.len() })
    }

    /// It comes back from a request. If the study has ended meanwhile, it is not needed.
    pub(super) fn come_back(&mut self, controller: Box<dyn Controller>, ended: bool) {
        self.place = Place::Here(controller);
        if std::mem::take(&mut self.is_outdated) || ended {
            self.rest();
        }
    }

    /// The study has changed, and algorithms look at it when they are built. So that a restart
    /// makes no difference, it is built again.
    pub(super) fn renew(&mut self, spec: &StudySpec) {
        if let Some(portfolio) = &mut self.portfolio {
            portfolio.extend_to(spec.budget.trials);
        }
        self.is_outdated = self.is_away();
        self.rest();
    }

    /// Lets go of an algorithm that is here; the notes stay. It is built again when it is needed.
    pub(super) fn rest(&mut self) {
        if let Place::Here(_) = self.place {
            self.place = Place::Unbuilt;
            self.told = 0;
        }
    }

    /// All that it is told.
    #[cfg(test)]
    pub(super) fn all_told(&self, spec: &StudySpec, trials: &Trials) -> Vec<Told> {
        self.written_out(0..self.notes.len(), spec, trials)
    }

    fn written_out(
        &self,
        which: std::ops::Range<usize>,
        spec: &StudySpec,
        trials: &Trials,
    ) -> Vec<Told> {
        let write = |note: &Note| match *note {
            Note::Proposed(number) => {
                let trial = &trials[number];
                let (genotype, parents) = (trial.genotype().clone(), trial.parents().to_vec());
                Told::Proposed(number, Proposal { genotype, parents })
            }
            Note::Finished(number) => Told::Finished(
                finished(number, spec, trials)
                    .unwrap_or_else(|why| unreachable!("its end was noted, but {why}")),
            ),
            Note::Failed(number) => Told::Finished(FinishedTrial::Failed { number }),
        };
        self.notes[which].iter().map(write).collect()
    }
}

/// An algorithm that leaves the core.
pub struct Leaving {
    /// `None` if it has to be built.
    pub controller: Option<Box<dyn Controller>>,
    /// What to tell it first.
    pub notes: Vec<Told>,
    /// Whether it then knows all.
    pub is_told_all: bool,
}

/// A finished trial in the form in which its algorithm is told.
///
/// # Errors
/// If it has not finished, or is complete without all its objectives.
fn finished(
    number: TrialNumber,
    spec: &StudySpec,
    trials: &Trials,
) -> Result<FinishedTrial, Contradiction> {
    Ok(match trials[number].stage() {
        Stage::Complete(kept) => FinishedTrial::Complete {
            number,
            objectives: pareto::oriented(&spec.objectives, kept.figures())
                .ok_or_else(|| format!("trial {number} is complete without all its objectives"))?,
            violation: violation(spec, kept.figures()),
        },
        Stage::Pruned => FinishedTrial::Pruned { number },
        Stage::Infeasible { .. } => FinishedTrial::Infeasible { number },
        Stage::Failed { .. } | Stage::ScreenedOut => FinishedTrial::Failed { number },
        Stage::Scoring(_)
        | Stage::Scored
        | Stage::Training(_)
        | Stage::OnRung
        | Stage::Measuring { .. } => {
            return Err(format!("trial {number} is not finished"));
        }
    })
}
