//! Tests that the algorithms learn: on problems with a known answer they must clearly beat random
//! sampling with the same number of trials, on average over seeds.

use edgesmith_common::{TrialNumber, pareto};
use edgesmith_search_space::{Choice, Genotype, Space};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::conformance::{ALL, Make, medium_space};
use super::{Controller, FinishedTrial};

const SEEDS: u64 = 12;
/// Number of seeds for algorithms that take milliseconds for a proposal.
const FEW_SEEDS: u64 = 3;
const TRIALS: u32 = 200;
/// Trials that run at the same time.
const WORKERS: usize = 4;

/// Objectives, less is better, and the violation of a candidate.
type Problem = fn(&Space, &Genotype) -> (Vec<f64>, f64);

/// Runs a study and returns the scores of its trials, in the order of proposal.
fn run(controller: &mut dyn Controller, seed: u64, problem: Problem) -> Vec<(Vec<f64>, f64)> {
    let space = medium_space();
    let mut out = Vec::new();
    let mut scores = Vec::new();
    for n in 0..TRIALS {
        let number = TrialNumber(n);
        let mut rng = ChaCha8Rng::seed_from_u64(seed << 32 | u64::from(n));
        let next = controller.suggest(number, &mut rng).expect("a large space");
        controller.proposed(number, &next);
        let (objectives, violation) = problem(&space, &next.genotype);
        scores.push((objectives.clone(), violation));
        out.push(FinishedTrial::Complete { number, objectives, violation });
        if out.len() == WORKERS {
            // Workers take different amounts of time.
            let done = rng.next_u32() as usize % out.len();
            controller.update(&out.swap_remove(done));
        }
    }
    scores
}

/// Mean over seeds of the `score` of a study.
fn mean(
    (name, make): (&str, Make),
    problem: Problem,
    score: impl Fn(&[(Vec<f64>, f64)]) -> f64,
) -> f64 {
    let slow = ["auto", "model-based"].contains(&name) || name.ends_with("lstm");
    let seeds = if slow { FEW_SEEDS } else { SEEDS };
    let of = |seed| score(&run(&mut *make(medium_space()), seed, problem));
    (0..seeds).map(of).sum::<f64>() / seeds as f64
}

/// Which choices of a genotype have an effect and pick their target option. The target differs by
/// choice. What has no effect meets nothing, because equal candidates have equal results.
fn hits(space: &Space, genotype: &Genotype) -> Vec<bool> {
    let picks = space.choices().iter().zip(genotype.indices()).zip(space.active(genotype));
    let hit = |(place, ((choice, index), active)): (usize, ((&Choice, &u16), bool))| {
        active && usize::from(*index) == place % choice.options.len()
    };
    picks.enumerate().map(hit).collect()
}

/// How many choices miss their target.
fn misses(space: &Space, genotype: &Genotype) -> f64 {
    hits(space, genotype).iter().filter(|hit| !**hit).count() as f64
}

fn best(scores: &[(Vec<f64>, f64)]) -> f64 {
    let feasible = scores.iter().filter(|(_, violation)| *violation == 0.0);
    feasible.map(|(objectives, _)| objectives[0]).fold(f64::INFINITY, f64::min)
}

/// Mean loss of the last quarter.
fn late_mean(scores: &[(Vec<f64>, f64)]) -> f64 {
    let late = &scores[scores.len() * 3 / 4..];
    late.iter().map(|(objectives, _)| objectives[0]).sum::<f64>() / late.len() as f64
}

#[test]
fn every_algorithm_beats_random_on_one_objective() {
    let problem: Problem = |space, genotype| (vec![misses(space, genotype)], 0.0);
    let [random, learners @ ..] = ALL;
    let (random_best, random_late) =
        (mean(random, problem, best), mean(random, problem, late_mean));
    for (name, make) in learners {
        let (best, late) =
            (mean((name, make), problem, best), mean((name, make), problem, late_mean));
        assert!(best < random_best - 1.5, "{name}: {best} against {random_best}");
        assert!(late < random_late - 3.0, "{name}: {late} against {random_late}");
    }
}

/// Multiply-accumulates and an artificial error, which falls with them and with the share of
/// choices that meet a target.
fn macs_and_error(space: &Space, genotype: &Genotype) -> (Vec<f64>, f64) {
    let Space::Staged(staged) = space else { panic!("a space of networks") };
    let candidate = staged.decode(genotype);
    let network = candidate.pruned_graph(staged.data()).expect("controllers propose networks");
    let macs = (network.cost().macs as f64).log10();
    let error = 0.3 * (6.5 - macs).max(0.0).powi(2)
        + misses(space, genotype) / space.choices().len() as f64;
    (vec![macs, error], 0.0)
}

/// Hypervolume of the trials, with 7 decades of multiply-accumulates and an error of 3 as
/// reference.
fn hypervolume(scores: &[(Vec<f64>, f64)]) -> f64 {
    let points: Vec<Vec<f64>> = scores.iter().map(|(objectives, _)| objectives.clone()).collect();
    pareto::hypervolume(&points, &[7.0, 3.0])
}

#[test]
fn every_algorithm_dominates_more_than_random_on_two_objectives() {
    let [random, learners @ ..] = ALL;
    let random = mean(random, macs_and_error, hypervolume);
    for (name, make) in learners {
        // NSGA-II is made for fronts, so its margin is larger.
        let margin = if name == "nsga2" { 1.05 } else { 1.01 };
        let found = mean((name, make), macs_and_error, hypervolume);
        assert!(found > random * margin, "{name}: {found} against {random}");
    }
}

#[test]
fn algorithms_for_fronts_dominate_more_than_random_on_three_objectives() {
    let problem: Problem = |space, genotype| {
        let (mut objectives, violation) = macs_and_error(space, genotype);
        // Distance of the compression recipe (the rest of the choices) from its target.
        let picks = genotype.indices().iter().zip(space.active(genotype)).rev().take(4);
        let active = picks.filter(|(_, active)| *active);
        objectives.push(active.map(|(index, _)| f64::from(*index)).sum());
        (objectives, violation)
    };
    let volume = |scores: &[(Vec<f64>, f64)]| {
        let points: Vec<Vec<f64>> = scores.iter().map(|(o, _)| o.clone()).collect();
        pareto::hypervolume(&points, &[7.0, 3.0, 8.0])
    };
    let [random, learners @ ..] = ALL;
    let random = mean(random, problem, volume);
    let for_fronts = ["nsga2", "nsga3", "model-based", "auto"];
    for (name, make) in learners.into_iter().filter(|(name, _)| for_fronts.contains(name)) {
        let found = mean((name, make), problem, volume);
        assert!(found > random * 1.01, "{name}: {found} against {random}");
    }
}

#[test]
fn every_algorithm_learns_what_a_constraint_forbids() {
    // The objective and the constraint conflict: the loss falls with every choice that meets its
    // target, but each such choice in the first half breaks the constraint.
    let problem: Problem = |space, genotype| {
        let hits = hits(space, genotype);
        let meets = |place: &usize| space.choices()[*place].options.len() > 1 && hits[*place];
        let half = space.choices().len() / 2;
        (vec![misses(space, genotype)], (0..half).filter(meets).count() as f64)
    };
    let late_violation = |scores: &[(Vec<f64>, f64)]| {
        let late = &scores[scores.len() * 3 / 4..];
        late.iter().map(|(_, violation)| violation).sum::<f64>() / late.len() as f64
    };
    let [random, learners @ ..] = ALL;
    let random = mean(random, problem, late_violation);
    for (name, make) in learners {
        let found = mean((name, make), problem, late_violation);
        assert!(found < random / 2.0, "{name}: {found} against {random}");
    }
}
