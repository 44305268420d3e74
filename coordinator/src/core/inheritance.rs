//! Chooses the trained trial whose weights a new trial starts from, in studies with
//! `inherit_epochs`.
//!
//! A proposal's parents come first. If none of them fits, or there are none, as with proposals of a
//! policy or a model, the nearest trained architecture is used. Which weights are copied, and how,
//! is decided by the worker.

use edgesmith_common::{Donor, TrialNumber};
use edgesmith_graph::Graph;
use edgesmith_search_space::{Genotype, NetworkSpace, heritable_share};

use super::study::Study;

/// The least share of a network's weights that a donor must provide. Below it the network starts
/// from new weights, because a few epochs cannot train a larger part.
const LEAST_SHARE: f64 = 0.5;
/// How many of the latest trained trials are compared with a candidate to find the nearest.
const LATEST: usize = 4096;
/// How many of the nearest trials are compared; the one that provides most weights becomes the
/// donor.
const NEAREST: usize = 16;

impl Study {
    /// The donor of a candidate that was proposed as a child of `parents`.
    pub(super) fn choose_donor(
        &self,
        genotype: &Genotype,
        parents: &[TrialNumber],
    ) -> Option<TrialNumber> {
        let work = self.spec.training().filter(|work| work.training.inherit_epochs > 0)?;
        let network = work.space.decode(genotype).graph(work.space.data()).ok()?;
        let best = |numbers: &[TrialNumber]| self.best_donor(&work.space, &network, numbers);
        best(parents).or_else(|| best(&self.nearest(genotype)))
    }

    /// The donor of a trial, as a worker gets it.
    pub(super) fn donor_of(&self, number: TrialNumber) -> Option<Donor> {
        let number = self.trials[number.0 as usize].donor?;
        let donor = &self.trials[number.0 as usize];
        let [_, weights] = donor.stage.artifacts()?;
        Some(Donor { genotype: donor.genotype.clone(), weights })
    }

    /// The trial that provides the largest share of weights, at least [`LEAST_SHARE`]; the first of
    /// equal ones.
    fn best_donor(
        &self,
        space: &NetworkSpace,
        network: &Graph,
        numbers: &[TrialNumber],
    ) -> Option<TrialNumber> {
        let mut best: Option<(f64, TrialNumber)> = None;
        for &number in numbers.iter().filter(|number| self.has_weights(**number)) {
            let genotype = &self.trials[number.0 as usize].genotype;
            let Ok(donor) = space.decode(genotype).pruned_graph(space.data()) else { continue };
            let share = heritable_share(network, &donor);
            if share >= LEAST_SHARE && best.is_none_or(|(most, _)| share > most) {
                best = Some((share, number));
            }
        }
        best.map(|(_, number)| number)
    }

    /// The nearest of the latest trials with weights, ordered by the number of choices in which
    /// they differ. Among equally near ones the latest comes first, because its inherited weights
    /// have been trained longest.
    fn nearest(&self, genotype: &Genotype) -> Vec<TrialNumber> {
        let distance = |other: &Genotype| {
            let pairs = genotype.indices().iter().zip(other.indices());
            pairs.filter(|(own, other)| own != other).count()
        };
        let numbers = (0..self.trials.len() as u32).rev().map(TrialNumber);
        let mut near: Vec<(usize, TrialNumber)> = numbers
            .filter(|number| self.has_weights(*number))
            .take(LATEST)
            .map(|number| (distance(&self.trials[number.0 as usize].genotype), number))
            .collect();
        near.sort_by_key(|(distance, _)| *distance);
        near.into_iter().take(NEAREST).map(|(_, number)| number).collect()
    }

    /// Whether a trial was trained in this study, so that its weights are stored.
    fn has_weights(&self, number: TrialNumber) -> bool {
        let trial = self.trials.get(number.0 as usize);
        trial.is_some_and(|trial| trial.stage.artifacts().is_some())
    }
}
