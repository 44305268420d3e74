//! Which finished trial a new one starts from, in studies with `inherit_epochs`.
//!
//! A proposal's parents come first. Where it has none that fits, as those of a policy or a model, the
//! nearest finished architecture serves. What is handed down, and how, is the worker's.

use edgesmith_common::{Donor, TrialNumber, TrialValues};
use edgesmith_search_space::{Genotype, Plan, StagedSpace};

use super::study::Study;

/// Least share of a network's weights that a donor must have, else it starts fresh: a few epochs do not
/// make up for more.
const LEAST_SHARE: f64 = 0.5;
/// Trials that differ in the fewest choices, of which the one that can hand down most is taken.
const NEAREST: usize = 16;

impl Study {
    /// The trial that a candidate, proposed as a child of `parents`, starts from.
    pub(super) fn choose_donor(
        &self,
        genotype: &Genotype,
        parents: &[TrialNumber],
    ) -> Option<TrialNumber> {
        let work = self.spec.training().filter(|work| work.training.inherit_epochs > 0)?;
        let plan = work.space.decode(genotype).plan(work.space.data()).ok()?;
        let best = |numbers: &[TrialNumber]| self.best_donor(&work.space, &plan, numbers);
        best(parents).or_else(|| best(&self.nearest(genotype)))
    }

    /// What a trial starts from, for a worker.
    pub(super) fn donor_of(&self, number: TrialNumber) -> Option<Donor> {
        let number = self.trials[number.0 as usize].donor?;
        let donor = &self.trials[number.0 as usize];
        let weights = donor.stage.values().and_then(TrialValues::trained)?.weights;
        Some(Donor { genotype: donor.genotype.clone(), weights })
    }

    /// The one that can hand down the largest share, at least [`LEAST_SHARE`]; of equal ones the first.
    fn best_donor(
        &self,
        space: &StagedSpace,
        plan: &Plan,
        numbers: &[TrialNumber],
    ) -> Option<TrialNumber> {
        let mut best: Option<(f64, TrialNumber)> = None;
        for &number in numbers.iter().filter(|number| self.has_weights(**number)) {
            let genotype = &self.trials[number.0 as usize].genotype;
            let Ok(donor) = space.decode(genotype).pruned_plan(space.data()) else { continue };
            let share = plan.heritable_share(&donor);
            if share >= LEAST_SHARE && best.is_none_or(|(most, _)| share > most) {
                best = Some((share, number));
            }
        }
        best.map(|(_, number)| number)
    }

    /// Trials with weights by the number of choices that differ, the nearest first; of equally near ones
    /// the latest, whose own donors have learned longest.
    fn nearest(&self, genotype: &Genotype) -> Vec<TrialNumber> {
        let distance = |other: &Genotype| {
            let pairs = genotype.indices().iter().zip(other.indices());
            pairs.filter(|(own, other)| own != other).count()
        };
        let numbers = (0..self.trials.len() as u32).rev().map(TrialNumber);
        let mut near: Vec<(usize, TrialNumber)> = numbers
            .filter(|number| self.has_weights(*number))
            .map(|number| (distance(&self.trials[number.0 as usize].genotype), number))
            .collect();
        near.sort_by_key(|(distance, _)| *distance);
        near.into_iter().take(NEAREST).map(|(_, number)| number).collect()
    }

    /// Whether a trial was trained here and is not given up.
    fn has_weights(&self, number: TrialNumber) -> bool {
        let trial = self.trials.get(number.0 as usize);
        trial.is_some_and(|trial| trial.stage.values().and_then(TrialValues::trained).is_some())
    }
}
