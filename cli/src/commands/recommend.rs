//! `edgesmith recommend`: which trial of a study serves a need, and why, from the study's own
//! measurements. Trials that break a constraint of the study are left out. It searches nothing.

use std::fmt::Write as _;
use std::str::FromStr;

use edgesmith_client::{Connection, Coordinator, TrialRow};
use edgesmith_common::{
    Constraint, DeviceClass, Figures, Metric, ScopedMetric, Target, TrialState,
};
use edgesmith_console::table;
use edgesmith_console::{ListFormat, Output, print};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::limits::Limit;
use crate::output::json;

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

/// Prints the trial that serves the need.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let (_, spec) = coordinator.study(&args.study).await?;
    let rows = coordinator.trials(&args.study).await?.into_iter();
    let rows = rows.map(|trial| TrialRow::new(trial, &spec)).collect::<anyhow::Result<Vec<_>>>()?;
    let complete = rows.into_iter().filter(|row| {
        row.state == TrialState::Complete
            && row.values.as_ref().is_some_and(|values| meets(&spec.constraints, values.figures()))
    });
    let trials = complete.filter_map(|row| {
        let figures = row.values.as_ref()?.figures().clone();
        Some(Known { number: row.number, recipe: row.recipe(), figures })
    });
    let Args { study, need, mut limits, .. } = args;
    if need != Need::Accuracy && !limits.iter().any(Limit::is_of_accuracy_drop) {
        limits.push(USUAL_DROP.parse().expect("a limit"));
    }
    let recommended = Recommendation::of(study, trials.collect(), need, limits);
    print(&recommended, args.format)
}

/// Whether figures meet the constraints of a study. What was not measured breaks none.
fn meets(constraints: &[Constraint], figures: &Figures) -> bool {
    constraints.iter().all(|constraint| {
        let value = figures.get(&constraint.of);
        value.is_none_or(|value| constraint.bound.violation(value) == 0.0)
    })
}

/// A complete trial that meets the constraints of its study.
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
    trials: Vec<Known>,
    /// The accuracy of the most accurate trial.
    most_accurate: f64,
}

impl Recommendation {
    fn of(study: String, trials: Vec<Known>, need: Need, limits: Vec<Limit>) -> Self {
        let accuracies = trials.iter().filter_map(|trial| trial.figures.validation_accuracy());
        let most_accurate = accuracies.fold(0.0, f64::max);
        Self { study, need, limits, trials, most_accurate }
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

    /// Why no trial serves the need: what each limit leaves.
    fn why_none(&self) -> String {
        let metric = self.need.metric();
        let mut text = format!(
            "none of the {} complete trials of {} that meet its constraints keeps all limits and has \
             {metric}\n",
            self.trials.len(),
            self.study
        );
        for limit in &self.limits {
            let keep = self.trials.iter().filter(|trial| self.keeps(limit, trial)).count();
            let _ = writeln!(text, "{limit}: kept by {keep}");
        }
        text
    }
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
        let limits: Vec<String> = self.limits.iter().map(Limit::to_string).collect();
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
            .map(|limit| {
                let kept = self.trials.iter().filter(|known| self.keeps(limit, known)).count();
                json!({ "limit": limit.to_string(), "kept_by": kept })
            })
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
    use super::*;

    fn recommendation(need: &str, limits: &[&str]) -> Recommendation {
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
        Recommendation::of("s".to_owned(), trials, need.parse().unwrap(), limits)
    }

    fn best(need: &str, limits: &[&str]) -> Option<u32> {
        recommendation(need, limits).ranked().first().map(|known| known.number)
    }

    #[test]
    fn the_need_decides_within_the_limits() {
        assert_eq!(best("accuracy", &[]), Some(1));
        assert_eq!(best("accuracy", &["model_bytes<=500"]), Some(2));
        assert_eq!(best("smallest", &["accuracy_drop<=0.01"]), Some(2));
        assert_eq!(best("smallest", &[]), Some(3));
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
        let none = recommendation("accuracy", &["latency_ms@rpi4<=0.5"]).table();
        assert!(none.contains("latency_ms@rpi4<=0.5: kept by 0"), "{none}");
    }
}
