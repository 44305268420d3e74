//! Times a coordinator's own work as a study grows: the proposals of each algorithm, and the front.
//!
//! The trials are made up and take no time, so only edgesmith itself is timed.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use edgesmith_common::spec::AlgorithmSpec;
use edgesmith_common::{
    ArtifactHash, DeviceClass, Figures, Metric, Outcome, Purpose, Role, ScopedMetric, StudySpec,
    TrainedTrial, TrialNumber, Work, WorkerInfo,
};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{invalid, number, print_text};
use edgesmith_coordinator::controller::{self, FinishedTrial, Proposal};
use edgesmith_coordinator::core::{Answer, Event};
use edgesmith_search_space::{Cost, Genotype, Precision, StagedSpace};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::algorithm::Algorithm;
use crate::study::{self, Driver};

/// Number of proposals that are timed at each size.
const TIMED: u32 = 50;

/// Number of queries of the front that are timed.
const QUERIES: u32 = 20;

/// A space of about 10^15 candidates, as real studies have.
pub const SPACE: &str = r#"
[space]
resolution = 8
stem_width = [4, 8, 16]
[[space.stages]]
depth = [1, 2, 3]
width = [8, 12, 16, 24]
kernel = [3, 5]
operation = ["conv", "separable", "inverted-residual"]
expansion = [2, 3, 4]
activation = ["relu", "relu6"]
[[space.stages]]
depth = [1, 2, 3]
width = [16, 24, 32, 48]
kernel = [3, 5]
operation = ["conv", "separable", "inverted-residual"]
expansion = [2, 3, 4]
stride = [1, 2]
activation = ["relu", "relu6"]
[[space.stages]]
depth = [0, 1, 2]
width = [32, 48, 64]
operation = ["conv", "separable", "inverted-residual"]
expansion = [2, 3, 4]
stride = [1, 2]
activation = ["relu", "relu6"]
"#;

/// A study on [`SPACE`].
const STUDY: &str = r#"
study = { name = "bench", seed = 1 }
data.source = "digits"
objectives = [{ metric = "validation_accuracy" }, { metric = "model_bytes" }]
recipe = { prune = [0.0, 0.25, 0.5], precision = ["fp32", "int8"] }
"#;

/// Arguments: the sizes of the studies and the algorithms.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Algorithms, with settings as NAME:KEY=VALUE
    #[arg(long, value_name = "NAME", value_delimiter = ',',
          default_values = AlgorithmSpec::NAMES)]
    pub algorithms: Vec<String>,
    /// Numbers of finished trials before the timed proposals
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100,1000,10000,100000",
          allow_negative_numbers = true, value_parser = number::whole(0..=u32::MAX))]
    pub trials: Vec<u32>,
    /// Number of trials in the study whose front is timed; 0 skips it
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          allow_negative_numbers = true, value_parser = number::whole(0..=u32::MAX))]
    pub front_trials: u32,
}

/// Times everything and prints the result.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let algorithms = Algorithm::parse_list(&args.algorithms)?;
    let specs: Vec<StudySpec> = algorithms.iter().map(spec).collect::<anyhow::Result<_>>()?;
    let mut sizes = args.trials.clone();
    sizes.sort_unstable();
    let mut rows = Vec::new();
    for (algorithm, spec) in algorithms.iter().zip(&specs) {
        eprintln!("{algorithm}");
        let mut row = vec![algorithm.to_string()];
        row.extend(proposals(spec, &sizes)?.into_iter().map(short));
        rows.push(row);
    }
    let headings: Vec<String> = sizes.iter().map(|n| format!("at {n}")).collect();
    let mut columns = vec![("proposal and result", Align::Left)];
    columns.extend(headings.iter().map(|heading| (heading.as_str(), Align::Right)));
    let mut text = table::render(&columns, &rows);
    if args.front_trials > 0 {
        eprintln!("front of {} trials", args.front_trials);
        let random = Algorithm::parse_list(&["random".to_owned()])?;
        text.push_str(&front(&spec(&random[0])?, args.front_trials)?);
    }
    print_text(&text)
}

fn spec(algorithm: &Algorithm) -> anyhow::Result<StudySpec> {
    let text =
        format!("{STUDY}{SPACE}[algorithm]\n{}[budget]\ntrials = 10000000\n", algorithm.toml());
    StudySpec::parse(&text).map_err(|errors| invalid(errors.to_string()))
}

/// Mean time of a proposal and its result, after each of these numbers of finished trials.
fn proposals(spec: &StudySpec, sizes: &[u32]) -> anyhow::Result<Vec<Duration>> {
    let space = staged(spec)?;
    let mut controller = controller::build(spec);
    let mut rng = ChaCha8Rng::from_seed(spec.seed.derive(Purpose::Split));
    let mut number = 0;
    let mut times = Vec::new();
    for &size in sizes {
        // The trials up to the size are random candidates; the algorithm is only told about them.
        while number < size {
            let genotype = spec.space.sample(&mut rng);
            let Some(finished) = finished(space, &genotype, TrialNumber(number)) else { continue };
            let proposal = Proposal { genotype, parents: Vec::new() };
            controller.proposed(TrialNumber(number), &proposal);
            controller.update(&finished);
            number += 1;
        }
        let mut spent = Duration::ZERO;
        for _ in 0..TIMED {
            let trial = TrialNumber(number);
            let mut rng = ChaCha8Rng::from_seed(spec.seed.derive(Purpose::Proposal(trial)));
            let started = Instant::now();
            let Some(next) = controller.suggest(trial, &mut rng) else {
                anyhow::bail!("the algorithm has nothing new to propose");
            };
            controller.proposed(trial, &next);
            spent += started.elapsed();
            let Some(finished) = finished(space, &next.genotype, trial) else {
                anyhow::bail!("an algorithm proposed a candidate that is not a valid network");
            };
            let started = Instant::now();
            controller.update(&finished);
            spent += started.elapsed();
            number += 1;
        }
        times.push(spent / TIMED);
    }
    Ok(times)
}

/// Times the front of a study with this many trials, in a coordinator's core.
fn front(spec: &StudySpec, trials: u32) -> anyhow::Result<String> {
    let space = staged(spec)?;
    let mut driver = Driver::new();
    let submitted = Box::new(spec.clone());
    driver.ask(0.0, |to| Event::Submit { to, spec: submitted, teacher_weights: None, at_ms: 0 })?;
    let info = WorkerInfo {
        name: "bench".to_owned(),
        class: DeviceClass::local(),
        engines: Default::default(),
        roles: [Role::Train].into(),
        slots: 1,
        backend: String::new(),
    };
    let joined = driver.ask(0.0, |to| Event::Join { to, worker: info, held: Vec::new() })?;
    let Some(Answer::Joined { worker, .. }) = joined else {
        anyhow::bail!("the core did not let the worker join")
    };
    let mut last = Duration::ZERO;
    for _ in 0..trials {
        let started = Instant::now();
        let leased =
            driver.ask(0.0, |to| Event::Lease { to, worker, deadline: study::time(1.0) })?;
        let Some(Answer::Leased(lease)) = leased else { anyhow::bail!("the core leased no task") };
        let leasing = started.elapsed();
        let Work::TrainTrial { genotype, .. } = &lease.work else {
            anyhow::bail!("the core leased a task other than training a trial");
        };
        let Some(result) = made_up(space, genotype) else {
            anyhow::bail!("the core leased a candidate that is not a valid network")
        };
        let outcome = Box::new(Ok(Outcome::TrialTrained(result)));
        let (task, attempt) = (lease.task, lease.attempt);
        let started = Instant::now();
        driver.ask(0.0, |to| Event::Report { to, worker, task, attempt, outcome })?;
        last = leasing + started.elapsed();
    }
    let (core, now) = (driver.core(), study::time(2.0));
    let timed = |what: &dyn Fn() -> anyhow::Result<usize>| -> anyhow::Result<(usize, Duration)> {
        let started = Instant::now();
        let mut count = 0;
        for _ in 0..QUERIES {
            count = what()?;
        }
        Ok((count, started.elapsed() / QUERIES))
    };
    let (points, query) = timed(&|| Ok(core.front(&spec.name, None, &[])?.len()))?;
    let bound: [edgesmith_common::Filter; 1] = ["model_bytes<=20000".parse().expect("a bound")];
    let (_, within) = timed(&|| Ok(core.front(&spec.name, None, &bound)?.len()))?;
    let other: [edgesmith_common::Filter; 1] = ["macs<=100000".parse().expect("a bound")];
    let (_, anew) = timed(&|| Ok(core.front(&spec.name, None, &other)?.len()))?;
    let (_, status) = timed(&|| Ok(core.study_status(&spec.name, now)?.front_size as usize))?;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\nstudy of {trials} trials, {points} on the front\n  \
         the last trial, from lease to front      {}\n  \
         pareto                                   {}\n  \
         pareto with a bound on an objective      {}\n  \
         pareto with another bound, full scan     {}\n  \
         status                                   {}\n",
        short(last),
        short(query),
        short(within),
        short(anew),
        short(status)
    );
    Ok(text)
}

fn staged(spec: &StudySpec) -> anyhow::Result<&StagedSpace> {
    match spec.training() {
        Some(work) => work.space.staged().ok_or_else(|| invalid("the study searches no stages")),
        None => Err(invalid("the study does not train")),
    }
}

/// Objective values of a candidate; `None` if it is not a valid network.
fn finished(
    space: &StagedSpace,
    genotype: &Genotype,
    number: TrialNumber,
) -> Option<FinishedTrial> {
    let result = made_up(space, genotype)?;
    let figures = &result.compressed;
    let objectives =
        vec![-figures.validation_accuracy()?, figures.get(&Metric::MODEL_BYTES.whole())?];
    Some(FinishedTrial::Complete { number, objectives, violation: 0.0 })
}

/// Made-up figures of a candidate: more parameters give more accuracy, plus a pseudo-random part
/// from the genotype. `None` if it is not a valid network.
fn made_up(space: &StagedSpace, genotype: &Genotype) -> Option<TrainedTrial> {
    let candidate = space.decode(genotype);
    let network = candidate.pruned_graph(space.data()).ok()?;
    let cost = Cost::of(&network, candidate.recipe.precision());
    let digest = genotype.indices().iter().fold(7u64, |sum, index| {
        sum.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(*index) + 1)
    });
    let luck = (digest >> 40) as f64 / (1u64 << 24) as f64;
    let bytes = match candidate.recipe.precision() {
        Precision::Fp32 => 4,
        Precision::Int8 => 1,
    };
    let accuracy = 0.5 + 0.03 * (cost.parameters as f64).ln() + 0.05 * luck;
    let figures = Figures::of_cost(&cost)
        .with(ScopedMetric::VALIDATION_ACCURACY, accuracy.min(1.0))
        .with(ScopedMetric::TEST_ACCURACY, accuracy.min(1.0))
        .with(Metric::MODEL_BYTES.whole(), (cost.parameters * bytes) as f64);
    // Nothing is trained.
    let spent = [Metric::TRAINING_SECONDS, Metric::IMAGES_SEEN].map(|metric| (metric.whole(), 0.0));
    let mut compressed = figures.clone();
    compressed.extend(&spent.into_iter().collect());
    Some(TrainedTrial {
        compressed,
        uncompressed: figures,
        model: ArtifactHash::of(b"model"),
        weights: ArtifactHash::of(b"weights"),
        stages: Vec::new(),
    })
}

fn short(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1000.0 { format!("{micros:.0} µs") } else { format!("{:.2} ms", micros / 1000.0) }
}
