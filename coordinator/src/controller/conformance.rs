//! Tests that every controller must pass, and the search spaces that the tests use.

use std::collections::{BTreeSet, HashSet, VecDeque};

use edgesmith_common::spec::{PolicySpec, RewardSpec};
use edgesmith_common::{Objective, Purpose, Seed, StudySpec, TrialNumber};
use edgesmith_graph::{Flatten, GraphBuilder, Linear, Place, Role, Shape};
use edgesmith_search_space::{
    Activation, BlockOption, CanonicalHash, CellIdentity, CellSpace, DataShape, FlatRecipe,
    Further, Genotype, Head, ModelDefinition, ModelSpace, Precision, RecipeSpace, Skip, Space,
    SpaceDefinition, StageSpace, StagedSpace, StepSpace,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::policy::Policy;
use super::ppo::PpoSettings;
use super::reward::Reward;
use super::{
    Auto, Controller, FinishedTrial, LocalSearch, ModelBased, Nsga2, Nsga3, Ppo, Proposal, Random,
    RegularizedEvolution, Reinforce, build,
};

/// Makes a fresh controller of a space.
pub(super) type Make = fn(Space) -> Box<dyn Controller>;

/// Every algorithm with its default settings.
pub(super) const ALL: [(&str, Make); 11] = [
    ("random", |space| Box::new(Random::new(space))),
    ("regularized evolution", |space| Box::new(RegularizedEvolution::new(space, 20, 5, 1))),
    ("nsga2", |space| Box::new(Nsga2::new(space, 16, 0.5, 2))),
    ("auto", |space| Box::new(Auto::new(space, 200, None))),
    ("model-based", |space| Box::new(ModelBased::new(space, 12, None))),
    ("nsga3", |space| Box::new(Nsga3::new(space, 16, 1.0, 1))),
    ("local search", |space| Box::new(LocalSearch::new(space))),
    ("reinforce", |space| reinforce(space, PolicySpec::Categorical, 0.1)),
    ("reinforce with an lstm", |space| reinforce(space, PolicySpec::Lstm, 0.01)),
    ("ppo", |space| ppo(space, PolicySpec::Categorical, 0.1)),
    ("ppo with an lstm", |space| ppo(space, PolicySpec::Lstm, 0.01)),
];

fn reinforce(space: Space, policy: PolicySpec, learning_rate: f64) -> Box<dyn Controller> {
    let policy = Policy::new(policy, &space, [1; 32]);
    let reward = Reward::new(RewardSpec::Rank, &[]);
    Box::new(Reinforce::new(space, policy, reward, learning_rate, 0.01, 0.9))
}

fn ppo(space: Space, policy: PolicySpec, learning_rate: f64) -> Box<dyn Controller> {
    let policy = Policy::new(policy, &space, [1; 32]);
    let reward = Reward::new(RewardSpec::Rank, &[]);
    let settings = PpoSettings { learning_rate, entropy: 0.01, batch: 10, epochs: 4, clip: 0.2 };
    Box::new(Ppo::new(space, policy, reward, settings))
}

pub(super) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The suggestion of `controller` for trial `number`, with a random generator made for that trial.
pub(super) fn proposal(controller: &dyn Controller, number: u32) -> Proposal {
    suggest(controller, number).expect("something new is left")
}

fn suggest(controller: &dyn Controller, number: u32) -> Option<Proposal> {
    controller.suggest(TrialNumber(number), &mut rng(u64::from(number) + 1000))
}

/// A space of recipes for one small network as it is.
pub(super) fn recipes_of(steps: Vec<StepSpace>) -> Space {
    let mut builder = GraphBuilder::new();
    let image = builder.input("image", Shape::new(1, &[2, 2]).unwrap()).unwrap();
    let flat = builder.node("flat", Flatten, &[image], &[], Place::default()).unwrap();
    let weight = builder.parameter("weight", &[3, 4], Role::Weight).unwrap();
    let output = builder.node("classes", Linear, &[flat], &[weight], Place::default()).unwrap();
    let definition = ModelDefinition {
        network: builder.finish(&[output]).unwrap(),
        weights: [1; 32],
        head: Head::Kept,
        resolution: Vec::new(),
        width: vec![1.0],
        blocks: vec![BlockOption::Kept],
        train: vec![Further::AsItIs],
        recipe: RecipeSpace::Steps(steps),
    };
    let data = DataShape { channels: 1, classes: 3 };
    Space::Model(ModelSpace::new(definition, data).unwrap())
}

/// Three stages, 29 choices, some without effect (an expansion on a plain convolution) and some
/// with one option.
pub(super) fn medium_space() -> Space {
    let stage = |width: [u32; 3]| StageSpace {
        depth: vec![1, 2, 3],
        width: width.to_vec(),
        kernel: vec![3, 5],
        operation: ["conv", "separable", "inverted-residual"].map(String::from).to_vec(),
        expansion: vec![2, 4],
        stride: vec![1, 2],
        activation: vec![Activation::Relu, Activation::Relu6],
        squeeze: vec![0],
        skip: vec![Skip::Add],
    };
    let definition = SpaceDefinition {
        resolution: vec![8],
        stem_width: vec![8, 16],
        stages: vec![stage([8, 12, 16]), stage([16, 24, 32]), stage([32, 48, 64])],
        recipe: RecipeSpace::Flat(FlatRecipe {
            prune: vec![0.0, 0.25, 0.5],
            precision: Precision::ALL.to_vec(),
            alpha: vec![0.0, 0.5],
            temperature: vec![2.0, 4.0],
        }),
    };
    StagedSpace::new(definition, DataShape { channels: 1, classes: 10 }).unwrap().into()
}

/// A few hundred genotypes. There are fewer networks, because some expansions and temperatures have
/// no effect and some pruning ratios round to the same channels. Some genotypes are not valid
/// networks.
pub(super) fn tiny_space() -> Space {
    tiny_staged().into()
}

fn tiny_staged() -> StagedSpace {
    let stage = |stride: Vec<u32>| StageSpace {
        depth: vec![1],
        width: vec![4],
        kernel: vec![3],
        operation: ["conv", "inverted-residual"].map(String::from).to_vec(),
        expansion: vec![1, 2],
        stride,
        activation: vec![Activation::Relu],
        squeeze: vec![0],
        skip: vec![Skip::Add],
    };
    let definition = SpaceDefinition {
        resolution: vec![1, 2],
        stem_width: vec![4],
        stages: vec![stage(vec![1, 2]), stage(vec![1])],
        recipe: RecipeSpace::Flat(FlatRecipe {
            prune: vec![0.0, 0.01],
            precision: vec![Precision::Int8],
            alpha: vec![0.0, 1.0],
            temperature: vec![2.0],
        }),
    };
    StagedSpace::new(definition, DataShape { channels: 1, classes: 2 }).unwrap()
}

/// Every genotype of a small space.
fn all_genotypes(space: &Space) -> Vec<Genotype> {
    let mut all = vec![Vec::new()];
    for choice in space.choices() {
        let longer = |head: &Vec<u16>| {
            let head = head.clone();
            (0..choice.options.len() as u16).map(move |i| [&*head, &[i]].concat())
        };
        all = all.iter().flat_map(longer).collect();
    }
    all.into_iter().map(|indices| space.genotype(indices).unwrap()).collect()
}

/// A result of any kind, computed from the candidate and the trial's number.
pub(super) fn result(number: u32, proposal: &Proposal) -> FinishedTrial {
    let trial = TrialNumber(number);
    let indices = proposal.genotype.indices();
    let sum = f64::from(indices.iter().sum::<u16>());
    let first = f64::from(indices.iter().take(5).sum::<u16>());
    match number % 10 {
        3 => FinishedTrial::Infeasible { number: trial },
        6 => FinishedTrial::Failed { number: trial },
        8 => FinishedTrial::Pruned { number: trial },
        9 => {
            let objectives = vec![f64::NAN, first];
            FinishedTrial::Complete { number: trial, objectives, violation: 0.0 }
        }
        n => {
            let (objectives, violation) = (vec![sum, -first], f64::from(n / 5) * first);
            FinishedTrial::Complete { number: trial, objectives, violation }
        }
    }
}

/// A call to a controller.
pub(super) enum Call {
    /// A trial of this number was proposed.
    Proposed(u32, Proposal),
    /// A trial finished.
    Finished(FinishedTrial),
}

fn replay(make: Make, space: &Space, calls: &[Call]) -> Box<dyn Controller> {
    let mut fresh = make(space.clone());
    for call in calls {
        match call {
            Call::Proposed(number, proposal) => fresh.proposed(TrialNumber(*number), proposal),
            Call::Finished(finished) => fresh.update(finished),
        }
    }
    fresh
}

/// Runs `trials` trials with results of all kinds. Returns all calls to the controller.
fn study(controller: &mut dyn Controller, trials: u32) -> Vec<Call> {
    study_with(controller, trials, result)
}

/// Runs `trials` trials, seven at a time, or fewer if nothing new is left. They finish out of
/// order, and `result` computes their results from number and proposal. Returns all calls to the
/// controller.
pub(super) fn study_with(
    controller: &mut dyn Controller,
    trials: u32,
    result: impl Fn(u32, &Proposal) -> FinishedTrial,
) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut out: Vec<(u32, Proposal)> = Vec::new();
    let mut order = rng(77);
    for number in 0..trials {
        let Some(next) = suggest(controller, number) else { break };
        controller.proposed(TrialNumber(number), &next);
        calls.push(Call::Proposed(number, next.clone()));
        out.push((number, next));
        if out.len() == 7 {
            let (number, proposal) = out.swap_remove(order.random_range(0..out.len()));
            let finished = result(number, &proposal);
            controller.update(&finished);
            calls.push(Call::Finished(finished));
        }
    }
    calls
}

fn hashes(space: &Space, calls: &[Call]) -> Vec<CanonicalHash> {
    let hash = |call: &Call| match call {
        Call::Proposed(_, proposal) => Some(space.canonical_hash(&proposal.genotype).unwrap()),
        Call::Finished(_) => None,
    };
    calls.iter().filter_map(hash).collect()
}

#[test]
fn no_candidate_is_proposed_twice() {
    let space = medium_space();
    for (name, make) in ALL {
        let calls = study(&mut *make(space.clone()), 500);
        let hashes = hashes(&space, &calls);
        assert_eq!(hashes.len(), 500);
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 500, "{name}");
    }
}

#[test]
fn cells_with_three_objectives_can_be_searched() {
    let space = Space::Cell(CellSpace::nas_bench_201(CellIdentity::Network));
    let result = |number: u32, proposal: &Proposal| {
        let picks = |option: u16| {
            let indices = proposal.genotype.indices().iter();
            indices.filter(|index| **index == option).count() as f64
        };
        FinishedTrial::Complete {
            number: TrialNumber(number),
            objectives: vec![picks(0), picks(1) - picks(3), 6.0 - picks(4)],
            violation: (picks(2) - 2.0).max(0.0),
        }
    };
    for (name, make) in ALL {
        let mut controller = make(space.clone());
        let calls = study_with(&mut *controller, 70, result);
        let hashes = hashes(&space, &calls);
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 70, "{name}");
        let restored = replay(make, &space, &calls);
        for number in 70..75 {
            assert_eq!(proposal(&*restored, number), proposal(&*controller, number), "{name}");
        }
    }
}

#[test]
fn replay_restores_the_controller() {
    let space = medium_space();
    for (name, make) in ALL {
        let mut original = make(space.clone());
        let calls = study(&mut *original, 150);
        let mut restored = replay(make, &space, &calls);
        for number in 150..200 {
            let next = proposal(&*original, number);
            assert_eq!(next, proposal(&*restored, number), "{name}, trial {number}");
            for controller in [&mut original, &mut restored] {
                controller.proposed(TrialNumber(number), &next);
                controller.update(&result(number, &next));
            }
        }
    }
}

#[test]
fn replay_restores_a_controller_that_has_listed_its_space() {
    let space = tiny_space();
    for (name, make) in ALL {
        let mut original = make(space.clone());
        let mut calls = Vec::new();
        let mut number = 0;
        while let Some(next) = suggest(&*original, number) {
            assert_eq!(
                suggest(&*replay(make, &space, &calls), number),
                Some(next.clone()),
                "{name}"
            );
            let finished = result(number, &next);
            original.proposed(TrialNumber(number), &next);
            original.update(&finished);
            calls.extend([Call::Proposed(number, next), Call::Finished(finished)]);
            number += 1;
        }
        assert_eq!(suggest(&*replay(make, &space, &calls), number), None, "{name}");
    }
}

#[test]
fn suggesting_changes_nothing() {
    for (name, make) in ALL {
        let mut controller = make(medium_space());
        study(&mut *controller, 60);
        let first = proposal(&*controller, 60);
        for other in 61..80 {
            proposal(&*controller, other);
        }
        assert_eq!(proposal(&*controller, 60), first, "{name}");
    }
}

#[test]
fn different_seeds_give_different_proposals() {
    for (name, make) in ALL {
        let mut controller = make(medium_space());
        study(&mut *controller, 60);
        let proposals: BTreeSet<Genotype> =
            (0..20).map(|seed| proposal(&*controller, seed).genotype).collect();
        // A confident model proposes the same candidate from most pools.
        let enough = if ["auto", "model-based"].contains(&name) { 2 } else { 11 };
        assert!(proposals.len() >= enough, "{name}");
    }
}

#[test]
fn every_network_of_a_tiny_space_is_proposed_and_then_nothing() {
    let space = tiny_space();
    let all = all_genotypes(&space);
    let networks: BTreeSet<CanonicalHash> =
        all.iter().filter_map(|g| space.canonical_hash(g).ok()).collect();
    assert!(all.iter().any(|g| space.canonical_hash(g).is_err()), "some are not valid networks");
    assert!(networks.len() * 4 < all.len() && networks.len() > 10, "{}", networks.len());
    for (name, make) in ALL {
        let mut controller = make(space.clone());
        let mut proposed = BTreeSet::new();
        // Every third result comes late, so that some trials are always running.
        let mut late = VecDeque::new();
        for number in 0..networks.len() as u32 {
            let next = suggest(&*controller, number).unwrap_or_else(|| {
                panic!("{name} stopped at {number} of {} networks", networks.len())
            });
            assert!(proposed.insert(space.canonical_hash(&next.genotype).unwrap()), "{name}");
            controller.proposed(TrialNumber(number), &next);
            late.push_back(result(number, &next));
            if number % 3 != 0 {
                controller.update(&late.pop_front().unwrap());
            }
        }
        assert_eq!(proposed, networks, "{name}");
        for number in 1000..1010 {
            assert_eq!(suggest(&*controller, number), None, "{name}");
        }
        late.iter().for_each(|finished| controller.update(finished));
        assert_eq!(suggest(&*controller, 1010), None, "{name}");
    }
}

#[test]
fn a_space_without_valid_networks_has_no_proposals() {
    let mut definition = tiny_staged().definition().clone();
    definition.resolution = vec![1];
    definition.stages[0].stride = vec![2];
    let space = StagedSpace::new(definition, DataShape { channels: 1, classes: 2 }).unwrap();
    let space = Space::from(space);
    for (name, make) in ALL {
        assert_eq!(suggest(&*make(space.clone()), 0), None, "{name}");
    }
}

#[test]
fn no_controller_waits_for_results() {
    let space = medium_space();
    for (name, make) in ALL {
        let mut controller = make(space.clone());
        let mut proposed = HashSet::new();
        for number in 0..200 {
            let next = proposal(&*controller, number);
            assert!(proposed.insert(space.canonical_hash(&next.genotype).unwrap()), "{name}");
            controller.proposed(TrialNumber(number), &next);
        }
        // One result in two hundred is enough to continue.
        let complete = FinishedTrial::Complete {
            number: TrialNumber(150),
            objectives: vec![1.0],
            violation: 0.0,
        };
        controller.update(&complete);
        proposal(&*controller, 200);
    }
}

#[test]
fn a_study_in_which_every_trial_fails_goes_on() {
    for (name, make) in ALL {
        let mut controller = make(medium_space());
        for n in 0..100 {
            let next = suggest(&*controller, n).unwrap_or_else(|| panic!("{name} at {n}"));
            controller.proposed(TrialNumber(n), &next);
            let number = TrialNumber(n);
            controller.update(&match n % 3 {
                0 => FinishedTrial::Failed { number },
                1 => FinishedTrial::Infeasible { number },
                _ => FinishedTrial::Pruned { number },
            });
        }
    }
}

#[test]
fn results_of_unknown_or_finished_trials_change_nothing() {
    let space = medium_space();
    for (name, make) in ALL {
        let mut controller = make(space.clone());
        let calls = study(&mut *controller, 80);
        for call in &calls {
            if let Call::Finished(finished) = call {
                controller.update(finished);
            }
        }
        controller.update(&FinishedTrial::Infeasible { number: TrialNumber(9999) });
        let untouched = replay(make, &space, &calls);
        for number in 80..100 {
            assert_eq!(proposal(&*controller, number), proposal(&*untouched, number), "{name}");
        }
    }
}

#[test]
fn parents_are_trials_that_were_proposed_before() {
    for (name, make) in ALL {
        let mut controller = make(medium_space());
        for call in study(&mut *controller, 150) {
            if let Call::Proposed(number, proposal) = call {
                assert!(proposal.parents.iter().all(|p| p.0 < number), "{name}, trial {number}");
            }
        }
    }
}

#[test]
fn a_study_gets_the_controller_and_the_settings_that_it_names() {
    let settings = [
        "name = \"random\"",
        "name = \"regularized-evolution\"\npopulation = 9\nsample = 3\nmutations = 2",
        "name = \"nsga2\"\npopulation = 8\ncrossover = 0.7\nmutations = 3",
        "name = \"reinforce\"\nlearning_rate = 0.2\nentropy = 0.02\nbaseline_decay = 0.8",
        "name = \"nsga3\"\npopulation = 8\ncrossover = 0.7\nmutations = 3",
        "name = \"local-search\"",
        "name = \"ppo\"\npolicy = \"lstm\"\nlearning_rate = 0.02\nentropy = 0.02\nbatch = 5\n\
         epochs = 2\nclip = 0.3\nreward = \"hard-target\"\ntarget = 1000.0",
    ];
    let makes: [Make; 7] = [
        |space| Box::new(Random::new(space)),
        |space| Box::new(RegularizedEvolution::new(space, 9, 3, 2)),
        |space| Box::new(Nsga2::new(space, 8, 0.7, 3)),
        |space| {
            let policy = Policy::new(PolicySpec::Categorical, &space, [0; 32]);
            let reward = Reward::new(RewardSpec::Rank, &[]);
            Box::new(Reinforce::new(space, policy, reward, 0.2, 0.02, 0.8))
        },
        |space| Box::new(Nsga3::new(space, 8, 0.7, 3)),
        |space| Box::new(LocalSearch::new(space)),
        |space| {
            let policy = Policy::new(PolicySpec::Lstm, &space, Seed(0).derive(Purpose::Policy));
            let objectives =
                ["validation_accuracy", "macs"].map(|of| Objective::natural(of.parse().unwrap()));
            let target = RewardSpec::Target { target: 1000.0, within: 0.0, beyond: -1.0 };
            let reward = Reward::new(target, &objectives);
            let settings =
                PpoSettings { learning_rate: 0.02, entropy: 0.02, batch: 5, epochs: 2, clip: 0.3 };
            Box::new(Ppo::new(space, policy, reward, settings))
        },
    ];
    for (settings, make) in settings.into_iter().zip(makes) {
        let text = format!(
            r#"
            study.name = "digits"
            data.source = "digits"
            budget.trials = 1
            space = {{ resolution = [8], stem_width = [4, 8, 12, 16], stages = [
                {{ depth = [1, 2, 3, 4], width = [8, 12, 16, 24], kernel = [3, 5] }},
                {{ depth = [1, 2, 3, 4], width = [8, 12, 16, 24], kernel = [3, 5] }},
            ] }}
            objectives = [{{ metric = "validation_accuracy" }}, {{ metric = "macs" }}]
            [algorithm]
            {settings}
            "#
        );
        let spec = StudySpec::parse(&text).unwrap();
        let mut built = build(&spec);
        let calls = study(&mut *built, 90);
        let expected = replay(make, &spec.space, &calls);
        for number in 90..140 {
            assert_eq!(proposal(&*built, number), proposal(&*expected, number), "{settings}");
        }
    }
}
