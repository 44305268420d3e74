//! `edgesmith recommend`: which trial of a study serves a need, and why, from the study's own
//! measurements. Trials that break a constraint of the study are left out. It searches nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::str::FromStr;

use edgesmith_client::{Connection, Coordinator, TrialRow};
use edgesmith_common::{
    Constraint, DeviceClass, Figures, Metric, ScopedMetric, Target, TrialState,
};
use edgesmith_console::table;
use edgesmith_console::{ListFormat, Output, print};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::limits::{Limit, NONE_KEEPS};
use crate::output::{counted, json};

/// How far below the most accurate trial the others may be, if no limit says it.
const USUAL_DROP: &str = "accuracy_drop<=0.01";

/// Arguments: the study, the need, and limits.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    /// What matters most: accuracy, smallest, fastest (here) or fastest@CLASS
    #[arg(long = "for", value_name = "NEED", default_value = "accuracy")]
    pub need: Need,
    /// Limits, such as 'latency_ms@rpi4<=5' or 'model_bytes<=20000'. accuracy_drop is against the
    /// most accurate trial; for other needs than accuracy it is at most 0.01 unless it is given
    #[arg(value_name = "LIMIT")]
    pub limits: Vec<Limit>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub connection: Connection,
}

/// What matters most.
#[derive(Debug, Clone, PartialEq)]
pub enum Need {
    /// The most accurate trial.
    Accuracy,
    /// The one with the smallest file.
    Smallest,
    /// The one that is fastest on this target.
    Fastest(Target),
}

impl Need {
    fn metric(&self) -> ScopedMetric {
        match self {
            Need::Accuracy => ScopedMetric::VALIDATION_ACCURACY,
            Need::Smallest => Metric::MODEL_BYTES.whole(),
            Need::Fastest(target) => Metric::LATENCY_MS.at(target.clone()),
        }
    }

    /// Its value, less is better.
    fn cost(&self, figures: &Figures) -> Option<f64> {
        let metric = self.metric();
        Some(metric.metric.definition().goal.oriented(figures.get(&metric)?))
    }

    fn words(&self) -> String {
        match self {
            Need::Accuracy => "the most accurate".to_owned(),
            Need::Smallest => "the smallest".to_owned(),
            Need::Fastest(target) => format!("the fastest on {target}"),
        }
    }
}

impl FromStr for Need {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.strip_prefix("fastest@")) {
            ("accuracy", _) => Ok(Need::Accuracy),
            ("smallest", _) => Ok(Need::Smallest),
            ("fastest", _) => Ok(Need::Fastest(Target::on(DeviceClass::local()))),
            (_, Some(target)) => target.parse().map(Need::Fastest),
            _ => Err("use accuracy, smallest, fastest or fastest@CLASS".to_owned()),
        }
    }
}

/// Prints the trial that serves the need. The exit code says whether one does.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let (_, spec) = coordinator.study(&args.study).await?;
    let rows = coordinator.trials(&args.study).await?.into_iter();
    let rows = rows.map(|trial| TrialRow::new(trial, &spec)).collect::<anyhow::Result<Vec<_>>>()?;
    let complete = rows.into_iter().filter(|row| row.state == TrialState::Complete);
    let trials = complete.filter_map(|row| {
        let figures = row.values.as_ref()?.figures().clone();
        Some(Known { number: row.number, recipe: row.recipe(), figures })
    });
    let Args { study, need, limits, .. } = args;
    let constraints = spec.constraints.clone();
    let recommended = Recommendation::of(study, trials.collect(), constraints, need, limits);
    print(&recommended, args.format)?;
    let serves = !recommended.ranked().is_empty();
    Ok(if serves { ExitCode::SUCCESS } else { ExitCode::from(NONE_KEEPS) })
}

/// Whether figures meet the constraints of a study. What was not measured breaks none.
fn meets(constraints: &[Constraint], figures: &Figures) -> bool {
    constraints.iter().all(|constraint| {
        let value = figures.get(&constraint.of);
        value.is_none_or(|value| constraint.bound.violation(value) == 0.0)
    })
}

/// A complete trial.
struct Known {
    number: u32,
    recipe: String,
    figures: Figures,
}

/// The trials of a study that were compared, and for what.
struct Recommendation {
    study: String,
    need: Need,
    limits: Vec<Limit>,
    /// Whether the last limit is [`USUAL_DROP`], because no other one was given.
    usual: bool,
    /// What the study demands.
    constraints: Vec<Constraint>,
    /// All complete ones.
    trials: Vec<Known>,
    /// The accuracy of the most accurate trial that meets the constraints, or of all if none does.
    most_accurate: f64,
}

impl Recommendation {
    fn of(
        study: String,
        trials: Vec<Known>,
        constraints: Vec<Constraint>,
        need: Need,
        mut limits: Vec<Limit>,
    ) -> Self {
        let usual = need != Need::Accuracy && !limits.iter().any(Limit::is_of_accuracy_drop);
        if usual {
            limits.push(USUAL_DROP.parse().expect("a limit"));
        }
        let within = trials.iter().filter(|trial| meets(&constraints, &trial.figures));
        let most_accurate = highest(within).or_else(|| highest(trials.iter())).unwrap_or(0.0);
        Self { study, need, limits, usual, constraints, trials, most_accurate }
    }

    fn keeps(&self, limit: &Limit, trial: &Known) -> bool {
        let value = limit.value(&trial.figures, self.most_accurate);
        value.is_some_and(|value| limit.excess(value) == 0.0)
    }

    /// The trials within all limits that have the figure of the need, the best first. Of equal ones
    /// the more accurate comes first, then the smaller.
    fn ranked(&self) -> Vec<&Known> {
        let within = self
            .trials
            .iter()
            .filter(|trial| meets(&self.constraints, &trial.figures))
            .filter(|trial| self.limits.iter().all(|limit| self.keeps(limit, trial)))
            .filter(|trial| self.need.cost(&trial.figures).is_some());
        let mut ranked: Vec<&Known> = within.collect();
        let key = |trial: &Known| {
            let by = [&self.need, &Need::Accuracy, &Need::Smallest];
            by.map(|need| need.cost(&trial.figures).unwrap_or(f64::INFINITY))
        };
        ranked.sort_by(|a, b| {
            let pairs = key(a).into_iter().zip(key(b));
            pairs
                .map(|(a, b)| a.total_cmp(&b))
                .find(|order| order.is_ne())
                .unwrap_or(a.number.cmp(&b.number))
        });
        ranked
    }

    /// The limits in words.
    fn limits_in_words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.limits.iter().map(Limit::to_string).collect();
        if let Some(last) = words.last_mut().filter(|_| self.usual) {
            last.push_str(" (the default)");
        }
        words
    }

    /// How many complete trials keep a limit alone.
    fn kept_by(&self, limit: &Limit) -> usize {
        self.trials.iter().filter(|trial| self.keeps(limit, trial)).count()
    }

    /// Why no trial serves the need: how many of all complete trials each constraint of the study
    /// and each limit leaves.
    fn why_none(&self) -> String {
        let complete = self.trials.len();
        if complete == 0 {
            return format!("{} has no complete trials\n", self.study);
        }
        let metric = self.need.metric();
        let mut demands = Vec::new();
        if !self.constraints.is_empty() {
            demands.push("meets its constraints".to_owned());
        }
        if !self.limits.is_empty() {
            demands.push("keeps all limits".to_owned());
        }
        let has = format!("has {metric}");
        let demands = match &demands[..] {
            [] => has,
            demands => format!("{} and {has}", demands.join(", ")),
        };
        let all = counted(complete, "complete trial");
        let mut text = format!("{} has {all}; none {demands}\n", self.study);
        for constraint in &self.constraints {
            let figures = self.trials.iter().map(|trial| trial.figures.get(&constraint.of));
            let known: Vec<f64> = figures.flatten().collect();
            let holds = |value: &&f64| constraint.bound.violation(**value) == 0.0;
            let met = known.iter().filter(holds).count();
            let unknown = match complete - known.len() {
                0 => String::new(),
                unknown => format!(", not measured in {unknown}"),
            };
            let _ = writeln!(text, "constraint {constraint}: met by {met}{unknown}");
        }
        for (limit, words) in self.limits.iter().zip(self.limits_in_words()) {
            let _ = writeln!(text, "{words}: kept by {}", self.kept_by(limit));
        }
        text + &self.not_timed()
    }

    /// The devices that are asked for and that no complete trial was timed on.
    fn not_timed(&self) -> String {
        let metric = self.need.metric();
        let asked = metric.target().into_iter().chain(self.limits.iter().filter_map(Limit::target));
        let timed: BTreeSet<&Target> = self
            .trials
            .iter()
            .flat_map(|trial| trial.figures.latencies())
            .map(|(target, _)| target)
            .collect();
        let missing: BTreeSet<&Target> = asked.filter(|target| !timed.contains(target)).collect();
        let known: Vec<String> = timed.iter().map(ToString::to_string).collect();
        let known = match &known[..] {
            [] => "no latencies are known".to_owned(),
            known => format!("latencies are known on {}", known.join(", ")),
        };
        let line = |target: &&Target| format!("no complete trial was timed on {target}; {known}\n");
        missing.iter().map(line).collect()
    }
}

/// The accuracy of the most accurate of these trials.
fn highest<'a>(trials: impl Iterator<Item = &'a Known>) -> Option<f64> {
    trials.filter_map(|trial| trial.figures.validation_accuracy()).reduce(f64::max)
}

/// Figures of a trial in one line.
fn figures(figures: &Figures) -> String {
    let mut parts = Vec::new();
    if let Some(accuracy) = figures.validation_accuracy() {
        parts.push(format!("validation {}", table::percent(accuracy)));
    }
    if let Some(accuracy) = figures.test_accuracy() {
        parts.push(format!("test {}", table::percent(accuracy)));
    }
    if let Some(bytes) = figures.get(&Metric::MODEL_BYTES.whole()) {
        parts.push(table::bytes(bytes as u64));
    }
    let latencies = figures.latencies();
    parts.extend(latencies.map(|(target, ms)| format!("{} on {target}", table::milliseconds(ms))));
    parts.join(", ")
}

impl Output for Recommendation {
    fn table(&self) -> String {
        let ranked = self.ranked();
        let Some(best) = ranked.first() else { return self.why_none() };
        let limits = self.limits_in_words();
        let within = if limits.is_empty() {
            String::new()
        } else {
            format!(" within {}", limits.join(", "))
        };
        let count = ranked.len();
        let s = if count == 1 { "" } else { "s" };
        let mut text = format!(
            "trial {} of {}: {}\n{}\nIt is {} of {count} trial{s}{within}.\n",
            best.number,
            self.study,
            best.recipe,
            figures(&best.figures),
            self.need.words()
        );
        if let Some(next) = ranked.get(1) {
            let _ = writeln!(
                text,
                "The next one is trial {}: {}; {}",
                next.number,
                next.recipe,
                figures(&next.figures)
            );
        }
        let _ = writeln!(
            text,
            "\nedgesmith export {}/{} --format edge -o {}-{}.edge",
            self.study, best.number, self.study, best.number
        );
        text
    }

    fn json(&self) -> impl Serialize {
        let ranked = self.ranked();
        let trial = |known: &&Known| {
            let figures: Map<String, Value> =
                known.figures.iter().map(|(of, value)| (of.to_string(), value.into())).collect();
            json!({ "trial": known.number, "recipe": known.recipe, "metrics": figures })
        };
        let limits: Vec<Value> = self
            .limits
            .iter()
            .map(|limit| json!({ "limit": limit.to_string(), "kept_by": self.kept_by(limit) }))
            .collect();
        json!({
            "version": json::VERSION, "study": self.study, "by": self.need.metric().to_string(),
            "limits": limits, "trials": ranked.len(), "best": ranked.first().map(trial),
            "next": ranked.get(1).map(trial),
        })
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::Bound;

    use super::*;

    fn recommendation(need: &str, limits: &[&str]) -> Recommendation {
        constrained(&[], need, limits)
    }

    /// Of a study whose constraints are maxima.
    fn constrained(maxima: &[(Metric, f64)], need: &str, limits: &[&str]) -> Recommendation {
        let constraints = maxima.iter().map(|&(metric, limit)| {
            let of = metric.whole();
            Constraint { of, bound: Bound::Max(limit), scale: None }
        });
        let known = |number, accuracy, bytes, ms| {
            let figures = Figures::new()
                .with(ScopedMetric::VALIDATION_ACCURACY, accuracy)
                .with(Metric::MODEL_BYTES.whole(), bytes)
                .with(Metric::LATENCY_MS.at("rpi4".parse().unwrap()), ms);
            Known { number, recipe: "int8".to_owned(), figures }
        };
        let trials = vec![
            known(1, 0.95, 900.0, 3.0),
            known(2, 0.945, 400.0, 4.0),
            known(3, 0.8, 100.0, 1.0),
        ];
        let limits = limits.iter().map(|limit| limit.parse().unwrap()).collect();
        let need = need.parse().unwrap();
        Recommendation::of("s".to_owned(), trials, constraints.collect(), need, limits)
    }

    fn best(need: &str, limits: &[&str]) -> Option<u32> {
        recommendation(need, limits).ranked().first().map(|known| known.number)
    }

    #[test]
    fn the_need_decides_within_the_limits() {
        assert_eq!(best("accuracy", &[]), Some(1));
        assert_eq!(best("accuracy", &["model_bytes<=500"]), Some(2));
        assert_eq!(best("smallest", &["accuracy_drop<=0.2"]), Some(3));
        assert_eq!(best("smallest", &[]), Some(2));
        assert_eq!(best("fastest@rpi4", &["accuracy_drop<=0.01"]), Some(1));
        // It was not measured here.
        assert_eq!(best("fastest", &[]), None);
        assert_eq!(best("accuracy", &["latency_ms@rpi4<=0.5"]), None);
        assert!("quickest".parse::<Need>().unwrap_err().contains("fastest@CLASS"));
    }

    #[test]
    fn the_answer_says_why() {
        let text = recommendation("smallest", &["accuracy_drop<=0.01"]).table();
        assert!(
            text.contains("It is the smallest of 2 trials within accuracy_drop<=0.01."),
            "{text}"
        );
        assert!(text.contains("The next one is trial 1"), "{text}");
        assert!(text.contains("edgesmith export s/2 --format edge -o s-2.edge"), "{text}");
        let text = recommendation("smallest", &[]).table();
        assert!(text.contains("2 trials within accuracy_drop<=0.01 (the default).\n"), "{text}");
    }

    #[test]
    fn trials_that_break_a_constraint_are_not_recommended() {
        let small = constrained(&[(Metric::MODEL_BYTES, 500.0)], "accuracy", &[]);
        let ranked: Vec<u32> = small.ranked().iter().map(|known| known.number).collect();
        assert_eq!(ranked, [2, 3]);
        // A drop is from the most accurate of those that are left, and other trials count, too.
        let need = ["accuracy_drop<=0", "model_bytes<=400"];
        let small = constrained(&[(Metric::MODEL_BYTES, 500.0)], "accuracy", &need);
        let document = serde_json::to_value(small.json()).unwrap();
        assert_eq!((&document["best"]["trial"], &document["trials"]), (&2.into(), &1.into()));
        let kept = |place: usize| document["limits"][place]["kept_by"].clone();
        assert_eq!([kept(0), kept(1)], [Value::from(2), Value::from(2)]);
    }

    #[test]
    fn what_is_in_the_way_is_counted_over_all_complete_trials() {
        let none = recommendation("accuracy", &["latency_ms@rpi4<=0.5"]).table();
        let expected = "s has 3 complete trials; none keeps all limits and has \
                        validation_accuracy\nlatency_ms@rpi4<=0.5: kept by 0\n";
        assert_eq!(none, expected);
        let maxima = [(Metric::MODEL_BYTES, 50.0), (Metric::MACS, 10.0)];
        let none = constrained(&maxima, "smallest", &[]).table();
        let expected = "s has 3 complete trials; none meets its constraints, keeps all \
                        limits and has model_bytes\n\
                        constraint model_bytes <= 50: met by 0\n\
                        constraint macs <= 10: met by 0, not measured in 3\n\
                        accuracy_drop<=0.01 (the default): kept by 2\n";
        assert_eq!(none, expected);
        let none = Recommendation { trials: Vec::new(), ..recommendation("accuracy", &[]) };
        assert_eq!(none.table(), "s has no complete trials\n");
    }

    #[test]
    fn a_device_that_nothing_was_timed_on_is_named() {
        let text = recommendation("fastest@phone", &["latency_ms@rpi4<=3"]).table();
        let start = "s has 3 complete trials; none keeps all limits and has \
                     latency_ms@phone\n";
        assert!(text.starts_with(start), "{text}");
        let end = "no complete trial was timed on phone; latencies are known on rpi4\n";
        assert!(text.ends_with(end) && text.matches("was timed").count() == 1, "{text}");
    }
}
