//! What successive halving saves, and what it loses: the same studies with and without it.

use super::algorithm::Algorithm;
use super::curve::percent;
use super::study::{LookUp, Run, Template};
use super::{Runs, load, single};
use crate::args::BenchFidelityArgs;
use crate::output::table::{self, Align};

/// Runs and prints `bench fidelity`.
pub fn run(args: &BenchFidelityArgs) -> anyhow::Result<()> {
    let algorithms = Algorithm::parse_list(&args.algorithms)?;
    let (all, halved) = (Template::of_fidelity(args, false), Template::of_fidelity(args, true));
    // Every study file is checked before the first run starts.
    for algorithm in &algorithms {
        all.spec(algorithm, args.seed)?;
        halved.spec(algorithm, args.seed)?;
    }
    // The one with rungs names all columns.
    let table = load(&halved.spec(&algorithms[0], args.seed)?)?;
    let runs = Runs { count: args.runs, seed: args.seed, jobs: args.jobs };
    let mut rows = Vec::new();
    for algorithm in &algorithms {
        let all = runs.all(&all, algorithm, &table)?;
        let halved = runs.all(&halved, algorithm, &table)?;
        rows.push(row(algorithm, &all, &halved));
    }
    let columns = [
        ("algorithm", Align::Left),
        ("runs", Align::Right),
        ("validation, all", Align::Right),
        ("validation, halved", Align::Right),
        ("test, all", Align::Right),
        ("test, halved", Align::Right),
        ("test, cut", Align::Right),
        ("epochs", Align::Right),
        ("same test", Align::Right),
    ];
    let mut text = table::render(&columns, &rows);
    text.push_str(
        "percent, mean±standard deviation, of the complete trial with the best validation accuracy;\n\
         all: each trial goes to 200 epochs; halved: to 12, and who goes on begins anew and goes to 200;\n\
         cut: the first trials of all, as many as the epochs of halved pay for; epochs: share of those of\n\
         all that halved spends; same test: runs in which all and halved come to the same test accuracy\n",
    );
    crate::output::print(&text)
}

/// One algorithm, its runs by seed both ways.
fn row(algorithm: &Algorithm, all: &[Run], halved: &[Run]) -> Vec<String> {
    let chosen = |look_ups: &[LookUp]| {
        let figures = |look_up: &LookUp| {
            let test = look_up.figures.test_accuracies.first().map_or(0.0, |(_, share)| *share);
            (look_up.figures.validation_accuracy, test)
        };
        single::chosen(look_ups).map(figures)
    };
    let each = |runs: &[Run]| -> Vec<_> { runs.iter().map(|run| chosen(&run.look_ups)).collect() };
    let (by_all, by_halved) = (each(all), each(halved));
    // What the same epochs buy without rungs.
    let cut: Vec<_> = all
        .iter()
        .zip(halved)
        .map(|(all, halved)| {
            let trials = halved.epochs * all.look_ups.len() as u64 / all.epochs.max(1);
            chosen(&all.look_ups[..all.look_ups.len().min(trials as usize)])
        })
        .collect();
    let pairs = by_all.iter().zip(&by_halved);
    let same = pairs.filter(|(a, b)| a.map(|(_, test)| test) == b.map(|(_, test)| test)).count();
    let epochs = |runs: &[Run]| runs.iter().map(|run| run.epochs).sum::<u64>() as f64;
    let validation =
        |of: &[Option<(f64, f64)>]| percent(of.iter().flatten().map(|(validation, _)| *validation));
    let test = |of: &[Option<(f64, f64)>]| percent(of.iter().flatten().map(|(_, test)| *test));
    vec![
        algorithm.to_string(),
        all.len().to_string(),
        validation(&by_all),
        validation(&by_halved),
        test(&by_all),
        test(&by_halved),
        test(&cut),
        format!("{:.1} %", 100.0 * epochs(halved) / epochs(all)),
        format!("{same} of {}", all.len()),
    ]
}
