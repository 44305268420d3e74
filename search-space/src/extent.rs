//! What the networks of a staged space cost at least and at most, for refusing bounds that nothing can
//! meet. A bound that is given here is certain: where the space is too large to be sure, there is none.
//!
//! Multiply-accumulates and parameters only grow with widths, kernels, expansions and depths and only
//! shrink with pruning, so of those choices the ends are enough; which operation, which stride, which
//! resolution and whether a stage is there at all depend on each other and are gone through.

use crate::{DataShape, Genotype, Plan, PlanError, Precision, StagedSpace};

/// Most combinations of what has to be gone through.
const MAX_COMBINATIONS: u64 = 8_000;

/// Least or greatest cost of a space's shipped networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Multiply-accumulates.
    pub macs: u64,
    /// Weights and biases that ship.
    pub parameters: u64,
}

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Least,
    Greatest,
}

impl StagedSpace {
    /// The least of each cost, not necessarily of one network. `None` where the space has too many
    /// combinations to go through, or no network.
    pub fn least(&self) -> Option<Extent> {
        self.extent(End::Least)
    }

    /// The greatest of each cost; as [`StagedSpace::least`].
    pub fn greatest(&self) -> Option<Extent> {
        self.extent(End::Greatest)
    }

    /// Fewer bytes than the feature maps of any network of the space: those of the image and of the
    /// stem's output, which are always alive together.
    pub fn least_peak_memory(&self) -> u64 {
        let d = self.definition();
        let least = |values: &[u32]| u64::from(values.iter().copied().min().unwrap_or(1));
        let prune = d.recipe.prune.iter().copied().fold(0.0, f64::max);
        let stem = (least(&d.stem_width) as f64 * (1.0 - prune)).round().max(1.0) as u64;
        let bytes = d.recipe.precision.iter().map(|p| p.weight_bytes()).min().unwrap_or(1);
        (u64::from(self.data().channels) + stem) * least(&d.resolution).pow(2) * bytes
    }

    /// More bytes than the feature maps of any network of the space: at no time are more than three
    /// alive, and none is larger than the widest layer at full resolution.
    pub fn greatest_peak_memory(&self) -> u64 {
        let d = self.definition();
        let most = |values: &[u32]| u64::from(values.iter().copied().max().unwrap_or(1));
        let mut inputs = most(&d.stem_width);
        let mut widest = inputs.max(u64::from(self.data().channels));
        for stage in &d.stages {
            inputs = inputs.max(most(&stage.width));
            widest = widest.max(inputs * most(&stage.expansion));
        }
        let widest = widest.max(u64::from(self.data().classes));
        let bytes = d.recipe.precision.iter().map(|p| p.weight_bytes()).max().unwrap_or(1);
        3 * widest * most(&d.resolution).pow(2) * bytes
    }

    fn extent(&self, end: End) -> Option<Extent> {
        let options: Vec<Vec<u16>> = self.choices().iter().map(|c| candidates(c, end)).collect();
        let combinations = options.iter().try_fold(1u64, |n, o| n.checked_mul(o.len() as u64));
        if combinations? > MAX_COMBINATIONS {
            return None;
        }
        let mut found: Option<Extent> = None;
        let mut at = vec![0; options.len()];
        loop {
            let indices = at.iter().zip(&options).map(|(i, o)| o[*i]).collect();
            if let Ok(extent) = self.of(&Genotype(indices)) {
                found = Some(found.map_or(extent, |best| best.beyond(extent, end)));
            }
            let Some(next) = (0..at.len()).find(|&i| at[i] + 1 < options[i].len()) else {
                return found;
            };
            at[next] += 1;
            at[..next].fill(0);
        }
    }

    fn of(&self, genotype: &Genotype) -> Result<Extent, PlanError> {
        let data: DataShape = self.data();
        let plan: Plan = self.decode(genotype).pruned_plan(data)?;
        let cost = plan.cost(Precision::Fp32);
        Ok(Extent { macs: cost.macs, parameters: cost.parameters })
    }
}

impl Extent {
    fn beyond(self, other: Self, end: End) -> Self {
        let pick = |a: u64, b: u64| match end {
            End::Least => a.min(b),
            End::Greatest => a.max(b),
        };
        Self {
            macs: pick(self.macs, other.macs),
            parameters: pick(self.parameters, other.parameters),
        }
    }
}

/// The options of a choice that may be those of the smallest or the largest network.
fn candidates(choice: &crate::Choice, end: End) -> Vec<u16> {
    let all = 0..choice.options.len() as u16;
    let number = |i: &u16| choice.options[usize::from(*i)].parse::<f64>().unwrap_or(0.0);
    let by_number = |a: &u16, b: &u16| number(a).total_cmp(&number(b));
    let field = choice.name.rsplit('.').next().unwrap_or(&choice.name);
    let (shrinks, grows) = match end {
        End::Least => (all.clone().max_by(by_number), all.clone().min_by(by_number)),
        End::Greatest => (all.clone().min_by(by_number), all.clone().max_by(by_number)),
    };
    match field {
        "operation" | "stride" | "resolution" => all.collect(),
        // None at all takes the stage's stride away, so it is neither least nor greatest for sure.
        "depth" => {
            let (none, some): (Vec<u16>, Vec<u16>) = all.partition(|i| number(i) == 0.0);
            let some = match end {
                End::Least => some.into_iter().min_by(by_number),
                End::Greatest => some.into_iter().max_by(by_number),
            };
            none.into_iter().chain(some).collect()
        }
        "stem_width" | "width" | "kernel" | "expansion" => grows.into_iter().collect(),
        "prune" => shrinks.into_iter().collect(),
        // They change neither.
        _ => vec![0],
    }
}
