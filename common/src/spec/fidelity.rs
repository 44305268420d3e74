//! `[fidelity]` in a study file: the rungs at which trials are compared while they train.

use super::reader::{Mistakes, Table};

/// Which trials stop before their last epoch, and at which epochs that is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FidelitySpec {
    /// Who goes on.
    pub rule: FidelityRule,
    /// Epochs of the first rung; at least 1 and below the epochs of training.
    pub min_epochs: u32,
    /// Each rung has this many times the epochs of the one before; of those that reach it, one in
    /// this many goes on under successive halving. At least 2.
    pub reduction: u32,
}

/// Who goes on from a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FidelityRule {
    /// The best share of those that reached it: asynchronous successive halving, Li et al. 2020,
    /// *A System for Massively Parallel Hyperparameter Tuning*.
    Asha,
    /// Who is no worse than the median of those before: median stopping, Golovin et al. 2017,
    /// *Google Vizier*.
    Median,
}

impl FidelityRule {
    /// Every rule's name in study files.
    pub const NAMES: [&'static str; 2] = ["asha", "median"];

    /// The name in study files.
    pub fn name(self) -> &'static str {
        match self {
            FidelityRule::Asha => Self::NAMES[0],
            FidelityRule::Median => Self::NAMES[1],
        }
    }
}

impl FidelitySpec {
    /// The rungs of a training of `epochs`, ascending: `min_epochs * reduction^k` below `epochs`, then
    /// `epochs` itself.
    pub fn rungs(&self, epochs: u32) -> Vec<u32> {
        let next = |rung: &u32| rung.checked_mul(self.reduction);
        let below = |rung: &u32| *rung < epochs;
        let mut rungs: Vec<u32> =
            std::iter::successors(Some(self.min_epochs), next).take_while(below).collect();
        rungs.push(epochs);
        rungs
    }
}

/// `[fidelity]`, where it is there, of a study whose trials train for `epochs`.
pub fn read_fidelity(root: &mut Table, epochs: u32, m: &mut Mistakes) -> Option<FidelitySpec> {
    let mut table = root.table("fidelity", m)?;
    let known = |name: String| match name.as_str() {
        "asha" => Ok(FidelityRule::Asha),
        "median" => Ok(FidelityRule::Median),
        _ => {
            let known = FidelityRule::NAMES.join(", ");
            Err(format!("unknown rule {name:?}; use one of {known}"))
        }
    };
    if !table.has("rule") {
        let known = FidelityRule::NAMES.join(" or ");
        m.add(&table.span(), table.path("rule"), format!("is missing; give {known}"));
    }
    let rule = table.checked("rule", m, known);
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
    let reduction = table.within("reduction", 3, (2, 1000), m);
    table.finish(m);
    Some(FidelitySpec { rule: rule?, min_epochs, reduction })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_grow_by_the_reduction_and_end_with_the_whole_training() {
        let spec = |min_epochs, reduction| FidelitySpec {
            rule: FidelityRule::Asha,
            min_epochs,
            reduction,
        };
        assert_eq!(spec(1, 3).rungs(27), [1, 3, 9, 27]);
        assert_eq!(spec(1, 3).rungs(28), [1, 3, 9, 27, 28]);
        assert_eq!(spec(2, 4).rungs(24), [2, 8, 24]);
        assert_eq!(spec(5, 2).rungs(6), [5, 6]);
        assert_eq!(spec(1, 1000).rungs(100_000), [1, 1000, 100_000]);
        assert_eq!(spec(4_000_000_000, 2).rungs(u32::MAX), [4_000_000_000, u32::MAX]);
    }
}
