//! Mistakes that lie between tables: each is fine alone, together they cannot be.

use edgesmith_search_space::{Cost, StagedSpace};

use super::reader::{Mistakes, Table};
use super::{StudySpec, TableSpec};
use crate::{Bound, Constraint, Metric};

/// A space that distills needs a teacher.
pub fn distillation_has_a_teacher(
    root: &Table,
    space: Option<&StagedSpace>,
    has_teacher: bool,
    m: &mut Mistakes,
) {
    let distills = space.is_some_and(|s| s.definition().recipe.alpha.iter().any(|a| *a > 0.0));
    if distills && !has_teacher && !root.knew("teacher") {
        let text = "candidates may distill, but there is no teacher; add a [teacher] table or take \
                    values above 0 out of recipe.alpha";
        m.add(&root.span_of("recipe"), "recipe.alpha", text);
    }
}

/// Constraints on what the table does not hold.
pub fn the_table_holds(
    root: &Table,
    table: &TableSpec,
    constraints: &[Constraint],
    m: &mut Mistakes,
) {
    for constraint in constraints {
        let text = match constraint.metric {
            Metric::LatencyMs if table.latencies.is_none() => {
                "is on latency_ms; name the file of latencies as table.latencies".to_owned()
            }
            Metric::ModelBytes | Metric::PeakMemoryBytes => {
                format!("the table does not hold {}", constraint.metric)
            }
            _ => continue,
        };
        m.add(&root.span_of("constraints"), "constraints", text);
    }
}

/// Why nothing can meet a constraint, where that is certain: bounds outside a metric's range, and
/// bounds that no network of the space meets.
pub fn unsatisfiable(constraint: &Constraint, space: Option<&StagedSpace>) -> Option<String> {
    let metric = constraint.metric;
    match constraint.bound {
        Bound::Min(limit) if metric == Metric::ValidationAccuracy && limit > 1.0 => {
            Some(format!("no accuracy is above 1, so nothing reaches {limit}; 95 % is 0.95"))
        }
        Bound::Max(limit) if metric == Metric::ValidationAccuracy && limit < 0.0 => {
            Some(format!("no accuracy is below 0; nothing is within {limit}"))
        }
        Bound::Max(limit) if metric != Metric::ValidationAccuracy && limit <= 0.0 => {
            Some(format!("{metric} is always above 0; nothing is within {limit}"))
        }
        Bound::Max(limit) => {
            let least = least(space?, metric)?;
            (least > limit).then(|| {
                format!(
                    "no network of the space has {metric} below {least}; nothing is within {limit}"
                )
            })
        }
        Bound::Min(limit) => {
            let greatest = greatest(space?, metric)?;
            (greatest < limit).then(|| {
                format!(
                    "no network of the space has {metric} above {greatest}; nothing reaches {limit}"
                )
            })
        }
    }
}

/// What no network of the space is below, where arithmetic is certain of it.
fn least(space: &StagedSpace, metric: Metric) -> Option<f64> {
    let value = match metric {
        Metric::Macs => space.least()?.macs,
        Metric::Parameters => space.least()?.parameters,
        Metric::PeakMemoryBytes => space.least_peak_memory(),
        // A file holds more than the weights.
        Metric::ModelBytes => {
            let precisions = space.definition().recipe.precision.iter();
            space.least()?.parameters * precisions.map(|p| p.weight_bytes()).min()?
        }
        Metric::ValidationAccuracy | Metric::LatencyMs => return None,
    };
    Some(value as f64)
}

/// What no network of the space is above, where arithmetic is certain of it.
fn greatest(space: &StagedSpace, metric: Metric) -> Option<f64> {
    let value = match metric {
        Metric::Macs => space.greatest()?.macs,
        Metric::Parameters => space.greatest()?.parameters,
        Metric::PeakMemoryBytes => space.greatest_peak_memory(),
        Metric::ValidationAccuracy | Metric::LatencyMs | Metric::ModelBytes => return None,
    };
    Some(value as f64)
}

impl StudySpec {
    /// Why a network of this cost is infeasible: the first constraint that arithmetic decides and
    /// that it breaks, in words. `None` where training has to tell.
    pub fn analytic_violation(&self, cost: &Cost) -> Option<String> {
        self.constraints.iter().find_map(|constraint| {
            let value = constraint.metric.of_cost(cost)?;
            (constraint.bound.violation(value) > 0.0)
                .then(|| format!("{} is {value}, which breaks {constraint}", constraint.metric))
        })
    }
}
