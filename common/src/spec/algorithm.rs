//! `[algorithm]` in a study file: which algorithm proposes candidates.

use super::reader::{Mistakes, Table};
use crate::{Goal, Objective, Split};

/// The algorithm that proposes candidates, with its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum AlgorithmSpec {
    /// Uniform sampling.
    Random,
    /// Regularized (aging) evolution, Real et al. 2019.
    RegularizedEvolution {
        /// Number of living members.
        population: usize,
        /// Number of members that compete to be the parent.
        sample: usize,
        /// Number of choices changed in a child.
        mutations: usize,
    },
    /// A portfolio of model-based search and mutation.
    Auto,
    /// Gaussian processes over genotypes, after White et al. 2021.
    ModelBased {
        /// Number of random trials at the start.
        initial: usize,
    },
    /// NSGA-II, Deb et al. 2002.
    Nsga2 {
        /// Number of members that survive.
        population: usize,
        /// Probability that a child has two parents, `0..=1`.
        crossover: f64,
        /// Number of choices changed in a child.
        mutations: usize,
    },
    /// NSGA-III, Deb & Jain 2014.
    Nsga3 {
        /// Number of members that survive.
        population: usize,
        /// Probability that a child has two parents, `0..=1`.
        crossover: f64,
        /// Number of choices changed in a child.
        mutations: usize,
    },
    /// Hill climbing with restarts, White et al. 2021.
    LocalSearch,
    /// REINFORCE, Williams 1992.
    Reinforce {
        /// Step size of the policy's Adam.
        learning_rate: f64,
        /// Weight of the entropy bonus.
        entropy: f64,
        /// Decay of the moving baseline, `0..1`.
        baseline_decay: f64,
        /// What draws candidates.
        policy: PolicySpec,
        /// What a trial earns.
        reward: RewardSpec,
    },
    /// Proximal policy optimization, Schulman et al. 2017, as in MnasNet.
    Ppo {
        /// Step size of the policy's Adam.
        learning_rate: f64,
        /// Weight of the entropy bonus.
        entropy: f64,
        /// Trials per update.
        batch: usize,
        /// Optimization steps per update.
        epochs: usize,
        /// How far an update may move the odds of a trial, as a share.
        clip: f64,
        /// What draws candidates.
        policy: PolicySpec,
        /// What a trial earns.
        reward: RewardSpec,
    },
}

/// What a reinforcement-learning controller draws candidates from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicySpec {
    /// Independent logits for each choice.
    Categorical,
    /// An LSTM that draws one choice after the other, Zoph & Le 2017.
    Lstm,
}

/// What a trial earns a reinforcement-learning controller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RewardSpec {
    /// The share of recent trials that do not dominate it.
    Rank,
    /// MnasNet's `accuracy * (value / target)^w`, where `value` is the study's other objective.
    Target {
        /// Target for the other objective, in its unit; above 0.
        target: f64,
        /// `w` if the value is within the target.
        within: f64,
        /// `w` if the value is beyond the target.
        beyond: f64,
    },
}

impl AlgorithmSpec {
    /// Every algorithm's name in study files.
    pub const NAMES: [&'static str; 9] = [
        "random",
        "regularized-evolution",
        "nsga2",
        "nsga3",
        "local-search",
        "reinforce",
        "ppo",
        "model-based",
        "auto",
    ];

    /// The name in study files.
    pub fn name(&self) -> &'static str {
        match self {
            AlgorithmSpec::Random => Self::NAMES[0],
            AlgorithmSpec::RegularizedEvolution { .. } => Self::NAMES[1],
            AlgorithmSpec::Nsga2 { .. } => Self::NAMES[2],
            AlgorithmSpec::Nsga3 { .. } => Self::NAMES[3],
            AlgorithmSpec::LocalSearch => Self::NAMES[4],
            AlgorithmSpec::Reinforce { .. } => Self::NAMES[5],
            AlgorithmSpec::Ppo { .. } => Self::NAMES[6],
            AlgorithmSpec::ModelBased { .. } => Self::NAMES[7],
            AlgorithmSpec::Auto => Self::NAMES[8],
        }
    }
}

/// Reads `[algorithm]` of a study with these objectives.
pub fn read_algorithm(
    root: &mut Table,
    objectives: &[Objective],
    m: &mut Mistakes,
) -> AlgorithmSpec {
    let default = AlgorithmSpec::Auto;
    let Some(mut table) = root.table("algorithm", m) else { return default };
    let known = |name: String| {
        let all = AlgorithmSpec::NAMES;
        let found = all.contains(&name.as_str());
        let unknown = || format!("unknown algorithm {name:?}; use one of {}", all.join(", "));
        if found { Ok(name.clone()) } else { Err(unknown()) }
    };
    if !table.has("name") {
        m.refuse(&table.span(), "algorithm.name", "is missing; name an algorithm");
    }
    let Some(name) = table.checked("name", m, known) else { return default };
    let algorithm = match name.as_str() {
        "random" => AlgorithmSpec::Random,
        // Real et al. use 100 and 25 for budgets of tens of thousands; budgets here are hundreds.
        "regularized-evolution" => AlgorithmSpec::RegularizedEvolution {
            population: table.within("population", 20, (2, 10_000), m),
            sample: table.within("sample", 5, (1, 10_000), m),
            mutations: table.within("mutations", 1, (1, 100), m),
        },
        "auto" => AlgorithmSpec::Auto,
        "model-based" => {
            AlgorithmSpec::ModelBased { initial: table.within("initial", 12, (2, 10_000), m) }
        }
        // Deb et al. use a crossover rate of 0.9, mutate one gene in n, and keep 100 survivors for
        // budgets of tens of thousands.
        "nsga2" => AlgorithmSpec::Nsga2 {
            population: table.within("population", 20, (2, 10_000), m),
            crossover: table.within("crossover", 0.9, (0.0, 1.0), m),
            mutations: table.within("mutations", 1, (1, 100), m),
        },
        "nsga3" => AlgorithmSpec::Nsga3 {
            population: table.within("population", 20, (2, 10_000), m),
            crossover: table.within("crossover", 1.0, (0.0, 1.0), m),
            mutations: table.within("mutations", 1, (1, 100), m),
        },
        "local-search" => AlgorithmSpec::LocalSearch,
        "reinforce" => {
            let policy = read_policy(&mut table, m);
            AlgorithmSpec::Reinforce {
                policy,
                learning_rate: table.within("learning_rate", rate(policy), (1e-6, 10.0), m),
                entropy: table.within("entropy", 0.01, (0.0, 10.0), m),
                baseline_decay: table.within("baseline_decay", 0.9, (0.0, 0.999_999), m),
                reward: read_reward(&mut table, objectives, m),
            }
        }
        _ => {
            let policy = read_policy(&mut table, m);
            AlgorithmSpec::Ppo {
                policy,
                learning_rate: table.within("learning_rate", rate(policy), (1e-6, 10.0), m),
                entropy: table.within("entropy", 0.01, (0.0, 10.0), m),
                batch: table.within("batch", 10, (2, 10_000), m),
                epochs: table.within("epochs", 4, (1, 100), m),
                clip: table.within("clip", 0.2, (0.01, 10.0), m),
                reward: read_reward(&mut table, objectives, m),
            }
        }
    };
    table.finish(m);
    algorithm
}

/// A step size for budgets of hundreds of trials. Zoph & Le train the recurrent policy with 0.0006
/// for 12,800.
fn rate(policy: PolicySpec) -> f64 {
    match policy {
        PolicySpec::Categorical => 0.1,
        PolicySpec::Lstm => 0.01,
    }
}

fn read_policy(table: &mut Table, m: &mut Mistakes) -> PolicySpec {
    let known = |name: String| match name.as_str() {
        "categorical" => Ok(PolicySpec::Categorical),
        "lstm" => Ok(PolicySpec::Lstm),
        _ => Err(format!("unknown policy {name:?}; use categorical or lstm")),
    };
    table.checked("policy", m, known).unwrap_or(PolicySpec::Categorical)
}

fn read_reward(table: &mut Table, objectives: &[Objective], m: &mut Mistakes) -> RewardSpec {
    // Tan et al. 2019. Soft: doubling the latency is worth 5 % of accuracy. Hard: no more than the
    // target.
    let known = |name: String| match name.as_str() {
        "rank" => Ok(None),
        "soft-target" => Ok(Some((-0.07, -0.07))),
        "hard-target" => Ok(Some((0.0, -1.0))),
        _ => Err(format!("unknown reward {name:?}; use rank, soft-target or hard-target")),
    };
    let span = table.span_of("reward");
    let Some((within, beyond)) = table.checked("reward", m, known).flatten() else {
        return RewardSpec::Rank;
    };
    let accuracy = |o: &Objective| o.of.split() == Some(&Split::Validation);
    let minimised = |o: &Objective| !accuracy(o) && o.goal == Goal::Minimize;
    let fits = objectives.len() == 2
        && objectives.iter().any(|o| accuracy(o) && o.goal == Goal::Maximize)
        && objectives.iter().any(minimised);
    if !fits {
        let text = "needs two objectives: validation_accuracy, and one that is minimised";
        m.add(&span, table.path("reward"), text);
    }
    let positive = |target: f64| match target {
        target if target > 0.0 && target.is_finite() => Ok(target),
        target => Err(format!("{target} is out of range; use a number above 0")),
    };
    if !table.has("target") {
        let text = "is missing; give the value that the other objective should reach, in its unit";
        m.refuse(&span, table.path("target"), text);
    }
    let target = table.obeying("target", m, positive).unwrap_or(1.0);
    RewardSpec::Target { target, within, beyond }
}
