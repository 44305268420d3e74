//! Images that a training step takes in per second, on networks of three image sizes.
//!
//! The images are random: how long a step takes does not depend on what they show. All of a step is
//! timed (batch, forward, loss, backward, optimizer), as a study's trials without augmentation do it; the first
//! steps are not.
//! `tests/compare_pytorch.py` reads the layers printed with `--format json` and trains the same in PyTorch.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use edgesmith_common::Seed;
use edgesmith_common::spec::{Augmentation, OptimizerSpec, TrainingSpec};
use edgesmith_search_space::{
    Activation, Architecture, DataShape, Operation, Plan, Precision, Stage,
};
use edgesmith_worker::data::{Dataset, ImageSet, Normalization, Views};
use edgesmith_worker::network::Weights;
use edgesmith_worker::train::{Checkpoint, Cores, TrainDevice, TrainError, TrainRequest, train};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::args::{BenchTrainArgs, ListFormat};
use crate::failure::invalid;
use crate::output::table::{self, Align};

/// Batches of the made-up data set, drawn from it again and again; more where they are small, up to
/// [`IMAGES`].
const BATCHES: usize = 16;
const IMAGES: usize = 1024;
/// Steps that are not timed, at least: in these kernels are tuned.
const WARM_UP: u64 = 3;
const CLASSES: u32 = 10;
/// Images of a step where nobody says.
const BATCH_SIZE: u32 = 64;

/// A network by name.
struct Candidate {
    name: &'static str,
    channels: u32,
    architecture: Architecture,
}

/// One network on a number of threads, in batches of one size.
#[derive(Debug, Serialize)]
struct Row<'a> {
    network: &'static str,
    architecture: String,
    threads: usize,
    batch_size: u32,
    steps: u64,
    seconds: f64,
    images_per_second: f64,
    parameters: u64,
    plan: &'a Plan,
}

/// All rows of a run.
#[derive(Debug, Serialize)]
struct Output<'a> {
    version: u32,
    optimizer: &'static str,
    label_smoothing: f64,
    weight_decay: f64,
    learning_rate: f64,
    rows: Vec<Row<'a>>,
}

/// Runs and prints `bench train`.
pub fn run(args: &BenchTrainArgs) -> anyhow::Result<()> {
    let all = candidates();
    let chosen: Vec<&Candidate> = match &args.networks[..] {
        [] => all.iter().collect(),
        names => names
            .iter()
            .map(|name| {
                all.iter().find(|candidate| candidate.name == name).ok_or_else(|| {
                    let known: Vec<&str> = all.iter().map(|candidate| candidate.name).collect();
                    invalid(format!("unknown network {name:?}; use {}", known.join(", ")))
                })
            })
            .collect::<anyhow::Result<_>>()?,
    };
    let seconds = Duration::try_from_secs_f64(args.seconds).map_err(|_| {
        invalid(format!("--seconds {} is no time; use 3, for example", args.seconds))
    })?;
    let device = TrainDevice::parse(&args.backend).map_err(|error| invalid(error.to_string()))?;
    let mut plans = Vec::new();
    for candidate in chosen {
        let shape = DataShape { channels: candidate.channels, classes: CLASSES };
        plans.push((candidate, Plan::lower(&candidate.architecture, shape)?));
    }
    let mut rows = Vec::new();
    for (candidate, plan) in &plans {
        for &threads in &args.threads {
            for &batch_size in &args.batch_size {
                let cores = Cores::new(threads)?;
                let (steps, took) = time(plan, &training(batch_size), device, &cores, seconds)?;
                rows.push(Row {
                    network: candidate.name,
                    architecture: candidate.architecture.to_string(),
                    threads: threads.get(),
                    batch_size,
                    steps,
                    seconds: took.as_secs_f64(),
                    images_per_second: rate(steps, batch_size, took),
                    parameters: plan.cost(Precision::Fp32).parameters,
                    plan,
                });
            }
        }
    }
    crate::output::print(&match args.format {
        ListFormat::Json => json(rows)?,
        ListFormat::Table => text(&rows),
    })
}

/// Images per second of one training of a middling network, for whoever has to choose how to train.
pub fn training_rate(device: TrainDevice, cores: &Cores, enough: Duration) -> anyhow::Result<f64> {
    let all = candidates();
    let candidate = all.iter().find(|candidate| candidate.name == "inverted-28");
    let candidate = candidate.ok_or_else(|| anyhow::anyhow!("no network to time"))?;
    let shape = DataShape { channels: candidate.channels, classes: CLASSES };
    let plan = Plan::lower(&candidate.architecture, shape)?;
    let (steps, took) = time(&plan, &training(BATCH_SIZE), device, cores, enough)?;
    Ok(rate(steps, BATCH_SIZE, took))
}

/// Images per second of so many full batches.
fn rate(steps: u64, batch_size: u32, took: Duration) -> f64 {
    steps as f64 * f64::from(batch_size) / took.as_secs_f64()
}

/// Steps until `enough` has passed, and the time they took.
fn time(
    plan: &Plan,
    spec: &TrainingSpec,
    device: TrainDevice,
    cores: &Cores,
    enough: Duration,
) -> anyhow::Result<(u64, Duration)> {
    // Full batches alone.
    let batch_size = spec.batch_size as usize;
    let dataset = noise(plan, batch_size * (IMAGES / batch_size).max(BATCHES));
    let request = TrainRequest {
        plan,
        start: Checkpoint::fresh(Weights::init(plan, [1; 32])),
        dataset: &dataset,
        views: &Views::new(&spec.augmentation, Seed(1)),
        spec,
        epochs: u32::MAX,
        until: u32::MAX,
        learning_rate: spec.learning_rate,
        shuffle_seed: [2; 32],
        distillation: None,
        device,
        cores,
    };
    let mut since: Option<(u64, Instant)> = None;
    let (mut steps, mut took) = (0, Duration::ZERO);
    let ended = train(request, &mut |progress| {
        let done =
            u64::from(progress.epoch) * u64::from(progress.steps) + u64::from(progress.step) + 1;
        match since {
            None if done >= WARM_UP => since = Some((done, Instant::now())),
            None => {}
            Some((before, start)) => (steps, took) = (done - before, start.elapsed()),
        }
        if steps > 0 && took >= enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match ended {
        Err(TrainError::Stopped) => Ok((steps, took)),
        Err(error) => Err(error.into()),
        Ok(_) => Ok((steps, took)),
    }
}

/// Random images of a plan's size.
fn noise(plan: &Plan, images: usize) -> Dataset {
    let input = plan.input();
    let (channels, side) = (input.channels as usize, input.height as usize);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut set = |images: usize| ImageSet {
        channels,
        height: side,
        width: side,
        pixels: (0..images * channels * side * side).map(|_| rng.random()).collect(),
        labels: (0..images).map(|i| (i % CLASSES as usize) as u16).collect(),
    };
    let (train, validation, test) = (set(images), set(1), set(1));
    let normalization = Normalization::of(&train);
    Dataset { train, validation, test, classes: CLASSES as usize, normalization }
}

fn training(batch_size: u32) -> TrainingSpec {
    TrainingSpec {
        epochs: 1,
        fine_tune_epochs: 0,
        inherit_epochs: 0,
        batch_size,
        optimizer: OptimizerSpec::AdamW,
        learning_rate: 1e-3,
        fine_tune_learning_rate: 1e-3,
        warmup_fraction: 0.0,
        weight_decay: 0.01,
        label_smoothing: 0.1,
        augmentation: Augmentation { shift: 0, flip: false, views: 1 },
    }
}

fn json(rows: Vec<Row>) -> anyhow::Result<String> {
    // The same in every row but for its batch size.
    let spec = training(BATCH_SIZE);
    let output = Output {
        version: 1,
        optimizer: "adamw",
        label_smoothing: spec.label_smoothing,
        weight_decay: spec.weight_decay,
        learning_rate: spec.learning_rate,
        rows,
    };
    Ok(serde_json::to_string_pretty(&output)? + "\n")
}

fn text(rows: &[Row]) -> String {
    let columns = [
        ("network", Align::Left),
        ("threads", Align::Right),
        ("batch", Align::Right),
        ("images/s", Align::Right),
        ("MACs", Align::Right),
        ("parameters", Align::Right),
        ("layers", Align::Left),
    ];
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.network.to_owned(),
                row.threads.to_string(),
                row.batch_size.to_string(),
                format!("{:.0}", row.images_per_second),
                table::count(row.plan.cost(Precision::Fp32).macs),
                table::count(row.parameters),
                row.architecture.clone(),
            ]
        })
        .collect();
    table::render(&columns, &cells)
}

/// Plain, separable and inverted-residual networks on images like the digits, like Fashion-MNIST and like
/// CIFAR-10.
fn candidates() -> Vec<Candidate> {
    let conv = Operation::Conv;
    let inverted = |expansion| Operation::InvertedResidual { expansion };
    let stage = |operation, kernel, width, stride| Stage {
        depth: 2,
        width,
        kernel,
        operation,
        stride,
        activation: Activation::Relu,
    };
    let candidate = |name, channels, resolution, stages| Candidate {
        name,
        channels,
        architecture: Architecture { resolution, stem_width: 16, stages },
    };
    let three = |operation| {
        vec![stage(operation, 3, 24, 1), stage(operation, 3, 48, 2), stage(operation, 3, 96, 2)]
    };
    vec![
        candidate("plain-8", 1, 8, vec![stage(conv, 3, 24, 1), stage(conv, 3, 48, 2)]),
        candidate(
            "inverted-8",
            1,
            8,
            vec![stage(inverted(3), 3, 24, 1), stage(inverted(3), 3, 48, 2)],
        ),
        candidate("plain-28", 1, 28, vec![stage(conv, 3, 24, 2), stage(conv, 3, 48, 2)]),
        candidate(
            "inverted-28",
            1,
            28,
            vec![stage(inverted(4), 3, 24, 2), stage(inverted(4), 5, 48, 2)],
        ),
        candidate(
            "separable-28",
            1,
            28,
            vec![stage(Operation::Separable, 5, 32, 1), stage(Operation::Separable, 3, 64, 2)],
        ),
        candidate("plain-32", 3, 32, three(conv)),
        candidate("inverted-32", 3, 32, three(inverted(4))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_network() {
        let mut command = <crate::args::Args as clap::CommandFactory>::command();
        let bench = command.find_subcommand_mut("bench").unwrap();
        let help = bench.find_subcommand_mut("train").unwrap().render_long_help().to_string();
        for candidate in candidates() {
            assert!(help.contains(candidate.name), "{} is not in {help}", candidate.name);
        }
    }

    #[test]
    fn every_network_trains_on_every_number_of_threads() {
        let spec = training(4);
        for candidate in candidates() {
            let shape = DataShape { channels: candidate.channels, classes: CLASSES };
            let plan = Plan::lower(&candidate.architecture, shape).unwrap();
            for cores in [Cores::one(), Cores::new(2.try_into().unwrap()).unwrap()] {
                let enough = Duration::from_nanos(1);
                let (steps, took) = time(&plan, &spec, TrainDevice::Flex, &cores, enough).unwrap();
                assert_eq!(steps, 1, "{}", candidate.name);
                assert!(took > Duration::ZERO);
            }
        }
    }
}
