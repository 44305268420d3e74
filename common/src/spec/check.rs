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
/// bounds on analytic metrics that even the smallest network of the space breaks.
pub fn unsatisfiable(constraint: &Constraint, space: Option<&StagedSpace>) -> Option<String> {
    let accuracy = constraint.metric == Metric::ValidationAccuracy;
    match constraint.bound {
        Bound::Min(limit) if accuracy && limit > 1.0 => {
            Some(format!("no accuracy is above 1, so nothing reaches {limit}; 95 % is 0.95"))
        }
        Bound::Max(limit) if limit <= 0.0 => {
            Some(format!("{} is always above 0; nothing is within {limit}", constraint.metric))
        }
        Bound::Max(limit) if constraint.metric.is_analytic() => {
            let least = smallest(space?, constraint.metric)?;
            (least > limit).then(|| {
                format!(
                    "the smallest network of the space has {} {least}; nothing is within {limit}",
                    constraint.metric
                )
            })
        }
        Bound::Max(_) | Bound::Min(_) => None,
    }
}

/// The least value of an analytic metric in the space: greedy, choice by choice, which is exact
/// where each choice's best option does not depend on the others, and an upper bound elsewhere; so
/// compare with some room.
fn smallest(space: &StagedSpace, metric: Metric) -> Option<f64> {
    let genotype = space.smallest(|plan, precision| {
        metric.of_cost(&plan.cost(precision)).unwrap_or(f64::INFINITY)
    })?;
    let candidate = space.decode(&genotype);
    let plan = candidate.pruned_plan(space.data()).ok()?;
    metric.of_cost(&plan.cost(candidate.recipe.precision))
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
