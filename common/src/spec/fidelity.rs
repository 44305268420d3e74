//! `[fidelity]` in a study file: the rungs at which trials are compared while they train.

use super::reader::{Mistakes, Table};

/// Which trials stop before their last epoch, and the epochs at which this is decided.
#[derive(Debug, Clone, PartialEq)]
pub struct FidelitySpec {
    /// Which trials continue.
    pub rule: FidelityRule,
    /// Epochs at which trials are compared: ascending, all below those of the whole training, at
    /// least one.
    pub rungs: Vec<u32>,
    /// Under successive halving, one in this many trials that reach a rung continues. At least 2.
    pub reduction: u32,
}

/// Which trials continue from a rung.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FidelityRule {
    /// The best share of those that reached it: asynchronous successive halving, Li et al. 2020, *A
    /// System for Massively Parallel Hyperparameter Tuning*.
    Asha,
    /// Those no worse than the median of the trials before: median stopping, Golovin et al. 2017,
    /// *Google Vizier*.
    Median,
    /// Those that may still reach the front at their cost, according to the learning curves of
    /// finished trials.
    Curve {
        /// The share of trials whose further gain stays within the predicted allowance, in
        /// `0.5..1`.
        confidence: f64,
    },
}

impl FidelityRule {
    /// Every rule's name in study files.
    pub const NAMES: [&'static str; 3] = ["asha", "median", "curve"];

    /// The name in study files.
    pub fn name(self) -> &'static str {
        match self {
            FidelityRule::Asha => Self::NAMES[0],
            FidelityRule::Median => Self::NAMES[1],
            FidelityRule::Curve { .. } => Self::NAMES[2],
        }
    }
}

/// The rungs of a training of `epochs`: `first * reduction^k` below `epochs`.
fn geometric(first: u32, reduction: u32, epochs: u32) -> Vec<u32> {
    let next = |rung: &u32| rung.checked_mul(reduction);
    std::iter::successors(Some(first), next).take_while(|rung| *rung < epochs).collect()
}

/// Reads `[fidelity]`, if present, of a study whose trials train for `epochs`.
pub fn read_fidelity(root: &mut Table, epochs: u32, m: &mut Mistakes) -> Option<FidelitySpec> {
    let mut table = root.table("fidelity", m)?;
    let rule = read_rule(&mut table, m);
    let first = |rung: u32| match rung {
        0 => Err("0 is out of range; use 1 or more".to_owned()),
        rung if rung >= epochs => {
            let text =
                format!("{rung} is not below training.epochs, {epochs}; no trial would stop early");
            Err(text)
        }
        rung => Ok(rung),
    };
    let (given, span) = (table.has("min_epochs"), table.span());
    let min_epochs = table.checked("min_epochs", m, first).unwrap_or(1);
    if !given && epochs < 2 {
        let text = "is 1 where it is not given, which is not below training.epochs; no trial would \
                    stop early";
        m.add(&span, table.path("min_epochs"), text);
    }
    let reduction = read_reduction(&mut table, m);
    table.finish(m);
    Some(FidelitySpec { rule: rule?, rungs: geometric(min_epochs, reduction, epochs), reduction })
}

/// Reads `[fidelity]`, if present, of a study over a table with these rungs.
pub fn read_fidelity_of_table(
    root: &mut Table,
    rungs: Vec<u32>,
    m: &mut Mistakes,
) -> Option<FidelitySpec> {
    let mut table = root.table("fidelity", m)?;
    let rule = read_rule(&mut table, m);
    let none = |_: u32| {
        let text = "is for studies that train; with [table] the rungs are those of \
                    [[table.rungs]], leave it out";
        Err::<(), _>(text.to_owned())
    };
    table.checked("min_epochs", m, none);
    let reduction = read_reduction(&mut table, m);
    table.finish(m);
    Some(FidelitySpec { rule: rule?, rungs, reduction })
}

fn read_rule(table: &mut Table, m: &mut Mistakes) -> Option<FidelityRule> {
    let given = table.has("confidence").then(|| table.span_of("confidence"));
    let confidence = table.within("confidence", 0.95, (0.5, 0.999), m);
    let known = |name: String| match name.as_str() {
        "asha" => Ok(FidelityRule::Asha),
        "median" => Ok(FidelityRule::Median),
        "curve" => Ok(FidelityRule::Curve { confidence }),
        _ => {
            let known = FidelityRule::NAMES.join(", ");
            Err(format!("unknown rule {name:?}; use one of {known}"))
        }
    };
    if !table.has("rule") {
        let known = FidelityRule::NAMES.join(", ");
        m.refuse(&table.span(), table.path("rule"), format!("is missing; give one of {known}"));
    }
    let rule = table.checked("rule", m, known);
    if let (Some(span), Some(FidelityRule::Asha | FidelityRule::Median)) = (given, rule) {
        let text = "is for the rule \"curve\"; leave it out";
        m.add(&span, table.path("confidence"), text);
    }
    rule
}

fn read_reduction(table: &mut Table, m: &mut Mistakes) -> u32 {
    let reduction = table.within("reduction", 3, (2, 1000), m);
    // Also in an accepted study, because such rungs would not grow.
    if m.accepted() && reduction < 2 {
        let text = format!("{reduction} is out of range; use 2 to 1000");
        m.refuse(&table.span_of("reduction"), table.path("reduction"), text);
    }
    // The stand-in ends the list of rungs.
    reduction.max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_grow_by_the_reduction_and_stay_below_the_whole_training() {
        assert_eq!(geometric(1, 3, 27), [1, 3, 9]);
        assert_eq!(geometric(1, 3, 28), [1, 3, 9, 27]);
        assert_eq!(geometric(2, 4, 24), [2, 8]);
        assert_eq!(geometric(5, 2, 6), [5]);
        assert_eq!(geometric(1, 1000, 100_000), [1, 1000]);
        assert_eq!(geometric(4_000_000_000, 2, u32::MAX), [4_000_000_000]);
    }
}
