//! Tests that every algorithm still makes the same proposals as when the values here were recorded.
//!
//! Each value is a hash of the proposals of a study with a fixed seed: the genotypes, the parents
//! and which part of a portfolio proposed them. A change of the code that is not meant to change
//! the search must leave all values as they are. After a change that is meant to change it, record
//! new values: a failing test prints them in the form of the tables below.
//!
//! Values do not depend on the number of cores or on the order of threads. The model-based
//! algorithms and the policies use floating point numbers. Their sums have a fixed order, but the
//! last bit of a logarithm, an exponential or a product of matrices may differ between processors
//! and versions of the C library. That changes a proposal only if two candidates are equally good,
//! or a draw lies on the border of two options, to about the last digit. No such case is known in
//! these studies.

use edgesmith_common::{StudySpec, TrialNumber};
use edgesmith_search_space::{CellIdentity, CellSpace, Genotype, Space};

use super::conformance::{ALL, Call, Make, medium_space, result, study_with, tiny_space};
use super::{Controller, FinishedTrial, Portfolio, Proposal, build, portfolio};

const TRIALS: u32 = 60;

/// Makes the result of a trial from its number and proposal.
type Problem = fn(u32, &Proposal) -> FinishedTrial;

/// One objective, two, and results of all kinds: complete, with and without violations, infeasible,
/// failed, pruned, and not a number.
const PROBLEMS: [Problem; 3] = [
    |number, proposal| complete(number, vec![loss(&proposal.genotype, 37)]),
    |number, proposal| {
        let genotype = &proposal.genotype;
        complete(number, vec![loss(genotype, 37), loss(genotype, 53)])
    },
    result,
];

fn complete(number: u32, objectives: Vec<f64>) -> FinishedTrial {
    FinishedTrial::Complete { number: TrialNumber(number), objectives, violation: 0.0 }
}

/// A whole number above 0 that depends on every choice, differently for each `factor`.
fn loss(genotype: &Genotype, factor: usize) -> f64 {
    let penalty = |(place, index): (usize, &u16)| {
        let option = usize::from(*index) + 1;
        (option * factor + place * 7) % 19 + option * (place % 3)
    };
    1.0 + genotype.indices().iter().enumerate().map(penalty).sum::<usize>() as f64
}

/// The first four bytes of a hash over all proposals of a study.
fn fingerprint(
    controller: &mut dyn Controller,
    mut portfolio: Option<Portfolio>,
    problem: Problem,
) -> u32 {
    let calls = study_with(controller, TRIALS, problem);
    let mut hasher = blake3::Hasher::new();
    for call in &calls {
        let (number, proposal) = match call {
            Call::Proposed(number, proposal) => (number, proposal),
            Call::Finished(finished) => {
                portfolio.iter_mut().for_each(|of| of.finish(finished));
                continue;
            }
        };
        hasher.update(&number.to_le_bytes());
        for index in proposal.genotype.indices() {
            hasher.update(&index.to_le_bytes());
        }
        for parent in &proposal.parents {
            hasher.update(&parent.0.to_le_bytes());
        }
        let part = portfolio.map(|of| of.part(TrialNumber(*number)).name()).unwrap_or_default();
        hasher.update(part.as_bytes());
        portfolio.iter_mut().for_each(Portfolio::propose);
    }
    u32::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes"))
}

/// Fails if `found` differs from `expected`, and prints a table to replace the old one.
fn compare<const N: usize>(found: &[(&str, [u32; N])], expected: &[(&str, [u32; N])]) {
    let row = |(name, values): &(&str, [u32; N])| {
        let values = values.map(|value| format!("{value:#010x}")).join(", ");
        format!("    (\"{name}\", [{values}]),\n")
    };
    let table: String = found.iter().map(row).collect();
    assert!(found == expected, "proposals have changed; they are now\n{table}");
}

fn compare_all(space: &Space, expected: &[(&str, [u32; 3])]) {
    let fingerprints = |name: &str, make: Make| {
        let portfolio = (name == "auto").then(|| Portfolio::new(200));
        PROBLEMS.map(|problem| fingerprint(&mut *make(space.clone()), portfolio, problem))
    };
    compare(&ALL.map(|(name, make)| (name, fingerprints(name, make))), expected);
}

#[test]
fn cells_are_searched_as_before() {
    let space = Space::Cell(CellSpace::nas_bench_201(CellIdentity::Network));
    compare_all(&space, &CELLS);
}

const CELLS: [(&str, [u32; 3]); 11] = [
    ("random", [0x9ec721f3, 0x9ec721f3, 0x9ec721f3]),
    ("regularized evolution", [0x83d54f81, 0x3106802a, 0x35891407]),
    ("nsga2", [0x2bf5a3cd, 0x3b7bece7, 0x8da1fe10]),
    ("auto", [0x0771bf0f, 0xd1a262bc, 0xa50893c3]),
    ("model-based", [0xc5a688c2, 0xbd14900b, 0xb2a759ab]),
    ("nsga3", [0xb784b8f9, 0xba5f6bca, 0xe94a36f7]),
    ("local search", [0x370ebac5, 0x169d049e, 0x6f3fdc7d]),
    ("reinforce", [0xa89f366b, 0x7c20758d, 0x00c0f106]),
    ("reinforce with an lstm", [0x3ce791d5, 0x0b16dada, 0x87a7af43]),
    ("ppo", [0x05ce47ee, 0x91ce290a, 0x901c9a9c]),
    ("ppo with an lstm", [0x13d3e295, 0x6b004a0b, 0x5f872a66]),
];

#[test]
fn staged_networks_are_searched_as_before() {
    compare_all(&medium_space(), &STAGED);
}

const STAGED: [(&str, [u32; 3]); 11] = [
    ("random", [0x5bec28d5, 0x5bec28d5, 0x5bec28d5]),
    ("regularized evolution", [0xc66786b6, 0x67b92d63, 0x22e19381]),
    ("nsga2", [0xc63bd3b3, 0x04bdc31e, 0x1eb02f0f]),
    ("auto", [0xbbb75be2, 0xf12a1f20, 0xeb7badf7]),
    ("model-based", [0xd82f4fd0, 0x5744bce6, 0x9a093a83]),
    ("nsga3", [0x775e4103, 0xbdc1e1ee, 0xd904e2ff]),
    ("local search", [0x654a6202, 0x6415f466, 0x2b59e090]),
    ("reinforce", [0x5fe3353f, 0xa4f399b9, 0xa7d786f7]),
    ("reinforce with an lstm", [0xb852864e, 0xfacff925, 0x8f10d7ca]),
    ("ppo", [0xe236c239, 0xe4d47e51, 0x090f29d0]),
    ("ppo with an lstm", [0x4eaa34d4, 0xda1cb849, 0x3fb3aa34]),
];

#[test]
fn a_small_space_is_searched_to_its_end_as_before() {
    compare_all(&tiny_space(), &TINY);
}

const TINY: [(&str, [u32; 3]); 11] = [
    ("random", [0x26b3582b, 0x26b3582b, 0x26b3582b]),
    ("regularized evolution", [0x86a99568, 0xc47f7d27, 0x4348326b]),
    ("nsga2", [0x9eb2ae27, 0xd2b12bc1, 0x1e835af2]),
    ("auto", [0xc4167a75, 0x8136c3e6, 0xb320bd81]),
    ("model-based", [0x3dc15b9f, 0x04eead44, 0xa8cbfef9]),
    ("nsga3", [0xe4306659, 0xc5c0f989, 0x37b4dbc4]),
    ("local search", [0x6a3b306c, 0xa5e34927, 0x3bfa48ca]),
    ("reinforce", [0x7e5b3d4c, 0x2934c13a, 0xd95ca71b]),
    ("reinforce with an lstm", [0x11543a16, 0xac1030fa, 0x7b503ed1]),
    ("ppo", [0x9785dba8, 0x3947409c, 0x9b28c79e]),
    ("ppo with an lstm", [0xacf23439, 0x572d9a21, 0x1bb37050]),
];

/// Features of studies that train networks: costs that are known before training, and rewards with
/// a target.
#[test]
fn studies_that_train_are_searched_as_before() {
    let found = STUDIES.map(|(name, objectives, settings)| {
        let spec = spec(objectives, settings);
        let run = |problem: Problem| fingerprint(&mut *build(&spec), portfolio(&spec), problem);
        let values = if objectives == 2 {
            [run(PROBLEMS[1]), run(PROBLEMS[2])]
        } else {
            [run(three_losses), run(three_losses_and_violations)]
        };
        (name, values)
    });
    compare(&found, &TRAINED);
}

/// A name, the number of objectives, and the settings of the algorithm.
const STUDIES: [(&str, usize, &str); 7] = [
    ("auto", 2, "name = 'auto'"),
    ("auto, three objectives", 3, "name = 'auto'"),
    ("model-based", 2, "name = 'model-based', initial = 6"),
    ("model-based, three objectives", 3, "name = 'model-based', initial = 6"),
    ("reinforce", 2, "name = 'reinforce', reward = 'soft-target', target = 100.0"),
    ("ppo", 2, "name = 'ppo', reward = 'hard-target', target = 100.0"),
    ("ppo with an lstm", 2, "name = 'ppo', policy = 'lstm', reward = 'soft-target', target = 9.0"),
];

const TRAINED: [(&str, [u32; 2]); 7] = [
    ("auto", [0x66115b07, 0xdf12a539]),
    ("auto, three objectives", [0x03c860f4, 0xc766c9b4]),
    ("model-based", [0x93e2a82b, 0xddc17f68]),
    ("model-based, three objectives", [0xc220dfa3, 0x66ea1d11]),
    ("reinforce", [0x10681bd3, 0x4cf0126d]),
    ("ppo", [0x69eb1a46, 0xb66328f3]),
    ("ppo with an lstm", [0x129afa92, 0x8b2b43a4]),
];

fn three_losses(number: u32, proposal: &Proposal) -> FinishedTrial {
    complete(number, [37, 53, 71].map(|factor| loss(&proposal.genotype, factor)).to_vec())
}

fn three_losses_and_violations(number: u32, proposal: &Proposal) -> FinishedTrial {
    FinishedTrial::Complete {
        number: TrialNumber(number),
        objectives: [37, 53, 71].map(|factor| loss(&proposal.genotype, factor)).to_vec(),
        violation: (loss(&proposal.genotype, 11) - 120.0).max(0.0),
    }
}

fn spec(objectives: usize, settings: &str) -> StudySpec {
    let objectives = &["validation_accuracy", "macs", "parameters"][..objectives];
    let objectives: String =
        objectives.iter().map(|metric| format!("{{ metric = \"{metric}\" }},")).collect();
    let text = format!(
        r#"
        study.name = "digits"
        data.source = "digits"
        budget.trials = {TRIALS}
        objectives = [{objectives}]
        recipe = {{ prune = [0.0, 0.5] }}
        space = {{ resolution = [8], stem_width = [4, 8, 12, 16], stages = [
            {{ depth = [1, 2, 3, 4], width = [8, 12, 16, 24], kernel = [3, 5] }},
            {{ depth = [1, 2, 3, 4], width = [8, 12, 16, 24], kernel = [3, 5] }},
        ] }}
        algorithm = {{ {settings} }}
        "#
    );
    StudySpec::parse(&text).unwrap()
}
