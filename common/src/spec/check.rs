//! Mistakes that involve several tables: each table is valid alone, but not together.

use std::cell::OnceCell;
use std::ops::Range;

use edgesmith_search_space::{Cost, Extent, Further, NetworkSpace};

use super::reader::{Mistakes, Table};
use super::{StudySpec, TableSpec, TrainingSpec};
use crate::metric::Definition;
use crate::{Bound, Constraint, Metric, ScopedMetric};

/// Most weights that a byte of a model file holds (docs/model-format.md).
const WEIGHTS_PER_BYTE: u64 = 16;

/// Reports a list that is too long, and leaves only its beginning to look at. In a study that was
/// accepted before, the list is kept.
pub fn not_too_many<T>(
    list: &mut Vec<T>,
    most: usize,
    span: &Range<usize>,
    field: impl Into<String>,
    m: &mut Mistakes,
) {
    if list.len() > most && !m.accepted() {
        m.add(span, field, format!("{} are too many; at most {most} are allowed", list.len()));
        list.truncate(most);
    }
}

/// What the networks of a space cost at least and at most. Computing it tries thousands of
/// networks, so it is done once for all constraints, and only if one of them asks for it.
pub struct Limits<'s> {
    space: &'s NetworkSpace,
    least: OnceCell<Option<Extent>>,
    greatest: OnceCell<Option<Extent>>,
}

impl<'s> Limits<'s> {
    /// Of this space.
    pub fn new(space: &'s NetworkSpace) -> Self {
        Self { space, least: OnceCell::new(), greatest: OnceCell::new() }
    }

    fn least(&self) -> Option<Extent> {
        *self.least.get_or_init(|| self.space.least())
    }

    fn greatest(&self) -> Option<Extent> {
        *self.greatest.get_or_init(|| self.space.greatest())
    }
}

/// If the space distills, there must be a teacher.
pub fn distillation_has_a_teacher(
    root: &Table,
    space: Option<&NetworkSpace>,
    has_teacher: bool,
    m: &mut Mistakes,
) {
    let distills = space.is_some_and(|space| space.recipe().learns());
    if distills && !has_teacher && !root.knew("teacher") {
        let text = "candidates may distill, but there is no teacher; add a [teacher] table or take \
                    values of alpha above 0 out of [recipe]";
        m.add(&root.span_of("recipe"), "recipe", text);
    }
}

/// A teacher that is given by its logits has no features that a student could copy.
pub fn logits_have_no_features(
    root: &Table,
    space: Option<&NetworkSpace>,
    has_logits: bool,
    m: &mut Mistakes,
) {
    let features = space.map(|space| space.recipe().features()).unwrap_or_default();
    if let (Some(first), true) = (features.first(), has_logits) {
        let text = format!(
            "candidates may copy features of the teacher ({first}), but teacher.logits has only \
             answers; name the teacher's network instead, or take features out of the recipe"
        );
        m.add(&root.span_of("recipe"), "recipe", text);
    }
}

/// What runs by reference has no latency that an objective or a constraint could ask for.
pub fn latencies_are_of_devices(
    root: &Table,
    space: Option<&NetworkSpace>,
    metrics: &[&ScopedMetric],
    m: &mut Mistakes,
) {
    let step = space.and_then(|space| space.recipe().by_reference());
    let timed = metrics.iter().find(|of| of.target().is_some());
    if let (Some(step), Some(of)) = (step, timed) {
        let text = format!(
            "no engine on a device computes affine weights, weights of 16 bits with values of 8, \
             or values of 16 bits, so such candidates run by reference and have no {of}; take \
             these out of {step}, or {of} out of the objectives and constraints"
        );
        m.add(&root.span_of("recipe"), "recipe", text);
    }
}

/// Trials on a user's network start from its weights, and so from nobody else's.
pub fn no_inheritance(root: &Table, training: &TrainingSpec, m: &mut Mistakes) {
    if training.inherit_epochs > 0 {
        let text = "is not for studies on a network of one's own, whose trials all start from its \
                    weights; leave it out";
        m.add(&root.span_of("training"), "training.inherit_epochs", text);
    }
}

/// Trainings can go back only to weights of a first training that begins with the trial and is not
/// interrupted.
pub fn goes_back_to_a_first_training(
    root: &Table,
    space: Option<&NetworkSpace>,
    training: &TrainingSpec,
    m: &mut Mistakes,
) {
    let Some(space) = space else { return };
    let Some(field) = space.recipe().goes_back_to_weights() else { return };
    let as_it_is = match space {
        NetworkSpace::Model(model) => model.definition().train.contains(&Further::AsItIs),
        NetworkSpace::Staged(_) => false,
    };
    let why = if as_it_is {
        "a network that is taken as it is has none; use \"rate\", or take \"as-it-is\" out of \
         space.train"
    } else if root.knew("fidelity") {
        "with [fidelity] it goes from rung to rung; use \"rate\", or leave [fidelity] out"
    } else if training.inherit_epochs > 0 {
        "with training.inherit_epochs it may begin with weights of another trial; use \"rate\", or \
         leave inherit_epochs out"
    } else {
        return;
    };
    let text = format!("\"weights\" goes back to weights of the first training, but {why}");
    m.add(&root.span_of("recipe"), field, text);
}

/// Reports constraints on figures that the table does not hold.
pub fn the_table_holds(
    root: &Table,
    table: &TableSpec,
    constraints: &[Constraint],
    m: &mut Mistakes,
) {
    for constraint in constraints {
        if let Some(text) = not_in_table(&constraint.of, table.latencies.is_some()) {
            let text = match constraint.of.metric {
                Metric::LATENCY_MS => {
                    "is on latency_ms; name the file of latencies as table.latencies".to_owned()
                }
                _ => text,
            };
            m.add(&root.span_of("constraints"), "constraints", text);
        }
    }
}

/// Why a table does not give a figure; `None` if it does.
pub fn not_in_table(of: &ScopedMetric, has_latencies: bool) -> Option<String> {
    let known = match of.metric {
        Metric::LATENCY_MS => has_latencies,
        Metric::ACCURACY | Metric::MACS | Metric::PARAMETERS => true,
        _ => false,
    };
    (!known).then(|| format!("the table does not hold {of}"))
}

/// Why nothing can meet a constraint, if that is certain: its bound is outside the metric's range,
/// or no network of the space meets it.
pub fn unsatisfiable(constraint: &Constraint, limits: Option<&Limits>) -> Option<String> {
    let metric = constraint.of.metric;
    let Definition { range: (lowest, highest), .. } = metric.definition();
    match constraint.bound {
        Bound::Min(limit) if limit > *highest => {
            let hint = if metric == Metric::ACCURACY { "; 95 % is 0.95" } else { "" };
            Some(format!("no {metric} is above {highest}, so nothing reaches {limit}{hint}"))
        }
        // A network that ships computes something, so its cost is above 0.
        Bound::Max(limit) if limit <= 0.0 && !metric.is_evaluated() => {
            Some(format!("{metric} is always above 0; nothing is within {limit}"))
        }
        Bound::Max(limit) if limit < *lowest => {
            Some(format!("no {metric} is below {lowest}; nothing is within {limit}"))
        }
        Bound::Max(limit) => {
            let least = least(limits?, metric)?;
            (least > limit).then(|| {
                format!(
                    "no network of the space has {metric} below {least}; nothing is within {limit}"
                )
            })
        }
        Bound::Min(limit) => {
            let greatest = greatest(limits?, metric)?;
            (greatest < limit).then(|| {
                format!(
                    "no network of the space has {metric} above {greatest}; nothing reaches {limit}"
                )
            })
        }
    }
}

/// A lower bound for every network of the space, if one follows by arithmetic.
fn least(limits: &Limits, metric: Metric) -> Option<f64> {
    let value = match metric {
        Metric::MACS => limits.least()?.macs,
        Metric::PARAMETERS => limits.least()?.parameters,
        Metric::PEAK_MEMORY_BYTES => limits.space.least_peak_memory(),
        // Zeros and weights with few values are stored in fewer bytes, in any network, but a byte
        // of a model file holds at most so many weights.
        Metric::MODEL_BYTES => limits.least()?.parameters / WEIGHTS_PER_BYTE,
        _ => return None,
    };
    Some(value as f64)
}

/// An upper bound for every network of the space, if one follows by arithmetic.
fn greatest(limits: &Limits, metric: Metric) -> Option<f64> {
    let value = match metric {
        Metric::MACS => limits.greatest()?.macs,
        Metric::PARAMETERS => limits.greatest()?.parameters,
        Metric::PEAK_MEMORY_BYTES => limits.space.greatest_peak_memory(),
        _ => return None,
    };
    Some(value as f64)
}

impl StudySpec {
    /// Why a network of this cost is infeasible: the first constraint that it breaks, among those
    /// that arithmetic decides. `None` if only training can tell.
    pub fn analytic_violation(&self, cost: &Cost) -> Option<String> {
        self.constraints.iter().find_map(|constraint| {
            let value = constraint.of.metric.of_cost(cost)?;
            (constraint.bound.violation(value) > 0.0)
                .then(|| format!("{} is {value}, which breaks {constraint}", constraint.of))
        })
    }
}
