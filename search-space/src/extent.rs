//! The least and greatest cost of the networks of a staged space. They are used to refuse limits
//! that no network of the space can meet. Every bound is certain: there is none for a space with
//! too many combinations to try.
//!
//! Multiply-accumulates and parameters only grow with widths, kernels, expansions and depths, and
//! only shrink with pruning. So for those choices the smallest or largest option is enough.
//! Operation, stride, resolution, squeeze-and-excitation, the way past a block and whether a stage
//! is present depend on each other, so all their combinations are tried.

use crate::{Amount, ArchitectureError, Cost, Genotype, Precision, Pruning, Skip, StagedSpace};

/// Largest number of combinations to try.
const MAX_COMBINATIONS: u64 = 8_000;

/// Least or greatest cost of the shipped networks of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Multiply-accumulates.
    pub macs: u64,
    /// Weights and biases.
    pub parameters: u64,
}

/// Which bound to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Least,
    Greatest,
}

impl StagedSpace {
    /// The least of each cost; the two may come from different networks. `None` if the space has
    /// too many combinations to try, or no valid network.
    pub fn least(&self) -> Option<Extent> {
        self.extent(End::Least)
    }

    /// The greatest of each cost; see [`StagedSpace::least`].
    pub fn greatest(&self) -> Option<Extent> {
        self.extent(End::Greatest)
    }

    /// A lower bound, in bytes, of the peak memory of every network of the space: the image and the
    /// stem's output, which are always alive together.
    pub fn least_peak_memory(&self) -> u64 {
        let d = self.definition();
        let least = |values: &[u32]| u64::from(values.iter().copied().min().unwrap_or(1));
        // If it is not known how much stays, at least one channel does.
        let most = d.recipe.most_pruned(d.stages.len());
        let kept = most.map_or(0.0, |prunings| prunings.iter().map(kept_of_stem).product());
        // Each pruning rounds, so one channel less may stay than the shares say.
        let stem = (least(&d.stem_width) as f64 * kept - 1.0).floor().max(1.0) as u64;
        let bytes = d.recipe.precisions().iter().map(|p| p.weight_bytes()).min().unwrap_or(1);
        (u64::from(self.data().channels) + stem) * least(&d.resolution).pow(2) * bytes
    }

    /// An upper bound, in bytes, of the peak memory of every network of the space: at most three
    /// feature maps are alive at a time (four where a block's input stands beside its output), and
    /// none is larger than the widest layer at full resolution.
    pub fn greatest_peak_memory(&self) -> u64 {
        let d = self.definition();
        let most = |values: &[u32]| u64::from(values.iter().copied().max().unwrap_or(1));
        let mut inputs = most(&d.stem_width);
        let mut widest = inputs.max(u64::from(self.data().channels));
        let mut alive = 3;
        for stage in &d.stages {
            // Each block of the stage stands beside all before it.
            let concatenated = if stage.skip.contains(&Skip::Concat) {
                alive = 4;
                inputs + most(&stage.depth) * most(&stage.width)
            } else {
                0
            };
            inputs = inputs.max(most(&stage.width)).max(concatenated);
            widest = widest.max(inputs * most(&stage.expansion));
        }
        let widest = widest.max(u64::from(self.data().classes));
        let bytes = d.recipe.precisions().iter().map(|p| p.weight_bytes()).max().unwrap_or(1);
        alive * widest * most(&d.resolution).pow(2) * bytes
    }

    fn extent(&self, end: End) -> Option<Extent> {
        let recipe = &self.definition().recipe;
        if end == End::Least && recipe.most_pruned(self.definition().stages.len()).is_none() {
            return None;
        }
        let options: Vec<Vec<u16>> = self.choices().iter().map(|c| candidates(c, end)).collect();
        let combinations = options.iter().try_fold(1u64, |n, o| n.checked_mul(o.len() as u64));
        if combinations? > MAX_COMBINATIONS {
            return None;
        }
        let mut found: Option<Extent> = None;
        let mut at = vec![0; options.len()];
        loop {
            let indices = at.iter().zip(&options).map(|(i, o)| o[*i]).collect();
            if let Ok(extent) = self.of(&Genotype(indices), end) {
                found = Some(found.map_or(extent, |best| best.beyond(extent, end)));
            }
            let Some(next) = (0..at.len()).find(|&i| at[i] + 1 < options[i].len()) else {
                return found;
            };
            at[next] += 1;
            at[..next].fill(0);
        }
    }

    fn of(&self, genotype: &Genotype, end: End) -> Result<Extent, ArchitectureError> {
        let candidate = self.decode(genotype);
        let network = match (end, candidate.recipe.fixes_costs()) {
            // Nothing is larger than what is not pruned.
            (End::Greatest, false) => candidate.graph(self.data())?,
            (End::Least | End::Greatest, _) => candidate.pruned_graph(self.data())?,
        };
        let cost = Cost::of(&network, Precision::Fp32);
        Ok(Extent { macs: cost.macs, parameters: cost.parameters })
    }
}

/// The share of the stem's channels that stays.
fn kept_of_stem(pruning: &Pruning) -> f64 {
    match &pruning.amount {
        Amount::Stage { shares } => 1.0 - shares.first().copied().unwrap_or(0.0),
        Amount::Layer { share } | Amount::Network { share, .. } => 1.0 - share,
        Amount::Weights { .. } | Amount::TwoOfFour { .. } | Amount::Blocks { .. } => 1.0,
        // Anything may go.
        Amount::AtMost { .. } => 0.0,
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

/// The options of a choice that the smallest or the largest network may have.
fn candidates(choice: &crate::Choice, end: End) -> Vec<u16> {
    let all = 0..choice.options.len() as u16;
    let number = |i: &u16| choice.options[usize::from(*i)].parse::<f64>().unwrap_or(0.0);
    let by_number = |a: &u16, b: &u16| number(a).total_cmp(&number(b));
    let field = choice.name.rsplit('.').next().unwrap_or(&choice.name);
    // The second pruning is `prune2`.
    let field = field.trim_end_matches(|c: char| c.is_ascii_digit());
    let (shrinks, grows) = match end {
        End::Least => (all.clone().max_by(by_number), all.clone().min_by(by_number)),
        End::Greatest => (all.clone().min_by(by_number), all.clone().max_by(by_number)),
    };
    match field {
        "operation" | "stride" | "resolution" | "squeeze" | "skip" | "multiple_of" => all.collect(),
        // Depth 0 also removes the stage's stride, so it may make the network smaller or larger: it
        // is tried besides the smallest or largest other depth.
        "depth" => {
            let (none, some): (Vec<u16>, Vec<u16>) = all.partition(|i| number(i) == 0.0);
            let some = match end {
                End::Least => some.into_iter().min_by(by_number),
                End::Greatest => some.into_iter().max_by(by_number),
            };
            none.into_iter().chain(some).collect()
        }
        "stem_width" | "width" | "kernel" | "expansion" => grows.into_iter().collect(),
        "prune" | "share" => shrinks.into_iter().collect(),
        // The other choices change neither cost.
        _ => vec![0],
    }
}
