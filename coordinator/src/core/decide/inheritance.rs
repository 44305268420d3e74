//! Chooses the trained trial whose weights a new trial starts from, in studies with
//! `inherit_epochs`.
//!
//! A proposal's parents come first. If none of them fits, or there are none, as with proposals of a
//! policy or a model, the nearest trained architecture is used. Which weights are copied, and how,
//! is decided by the worker.

use edgesmith_common::{Donor, TrialNumber};
use edgesmith_graph::Graph;
use edgesmith_search_space::{Genotype, NetworkSpace, heritable_share};

use crate::core::study::{Study, Trial};

/// The least share of a network's weights that a donor must provide. Below it the network starts
/// from new weights, because a few epochs cannot train a larger part.
const LEAST_SHARE: f64 = 0.5;
/// How many of the latest trained trials are compared with a candidate to find the nearest.
const LATEST: usize = 4096;
/// How many of the nearest trials are compared; the one that provides most weights becomes the
/// donor.
const NEAREST: usize = 16;

/// The donor of a candidate of `study` that was proposed as a child of `parents`.
pub fn choose_donor(
    study: &Study,
    genotype: &Genotype,
    parents: &[TrialNumber],
) -> Option<TrialNumber> {
    let work = study.spec().training().filter(|work| work.training.inherit_epochs > 0)?;
    let network = work.space.decode(genotype).graph(work.space.data()).ok()?;
    let best = |numbers: &[TrialNumber]| best_donor(study, &work.space, &network, numbers);
    best(parents).or_else(|| best(&nearest(study, genotype)))
}

/// The donor of a trial, as a worker gets it.
pub fn donor_of(study: &Study, number: TrialNumber) -> Option<Donor> {
    let donor = &study.trials()[study.trials()[number].donor()?];
    let [_, weights] = donor.stage().artifacts()?;
    Some(Donor { genotype: donor.genotype().clone(), weights })
}

/// The trial that provides the largest share of weights, at least [`LEAST_SHARE`]; the first of
/// equal ones.
fn best_donor(
    study: &Study,
    space: &NetworkSpace,
    network: &Graph,
    numbers: &[TrialNumber],
) -> Option<TrialNumber> {
    let mut best: Option<(f64, TrialNumber)> = None;
    let trials = numbers.iter().filter_map(|number| Some((*number, study.trials().get(*number)?)));
    for (number, trial) in trials.filter(|(_, trial)| has_weights(trial)) {
        let Ok(donor) = space.decode(trial.genotype()).pruned_graph(space.data()) else { continue };
        let share = heritable_share(network, &donor);
        if share >= LEAST_SHARE && best.is_none_or(|(most, _)| share > most) {
            best = Some((share, number));
        }
    }
    best.map(|(_, number)| number)
}

/// The nearest of the latest trials with weights, ordered by the number of choices in which they
/// differ. Among equally near ones the latest comes first, because its inherited weights have been
/// trained longest.
fn nearest(study: &Study, genotype: &Genotype) -> Vec<TrialNumber> {
    let distance = |other: &Genotype| {
        let pairs = genotype.indices().iter().zip(other.indices());
        pairs.filter(|(own, other)| own != other).count()
    };
    let latest = study.trials().iter().rev().filter(|(_, trial)| has_weights(trial)).take(LATEST);
    let mut near: Vec<(usize, TrialNumber)> =
        latest.map(|(number, trial)| (distance(trial.genotype()), number)).collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().take(NEAREST).map(|(_, number)| number).collect()
}

/// Whether a trial was trained in this study, so that its weights are stored.
fn has_weights(trial: &Trial) -> bool {
    trial.stage().artifacts().is_some()
}
