//! Recipes in a few words, as tables of trials show them.

use std::fmt;

use super::{
    Among, Amount, Answers, Clustering, FineTuning, Importance, Multiple, PruneUnit, Pruning,
    Quantizing, Recipe, Rewind, Step,
};

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.precision().name())?;
        let shown = |(place, step): (usize, &Step)| match step {
            Step::Prune(pruning) if !pruning.amount.is_nothing() => write!(f, " {pruning}"),
            Step::Cluster(Clustering { clusters }) => write!(f, " cluster {clusters}"),
            Step::Quantize(quantizing) => quantizing.fmt(f),
            Step::FineTune(_) if self.leaves_out(place) => Ok(()),
            Step::FineTune(FineTuning { epochs, shrink, shrink_by, .. }) => {
                if let Some(epochs) = epochs {
                    write!(f, " tune {epochs}")?;
                }
                if shrink.is_none() { Ok(()) } else { write!(f, " shrink {shrink} x{shrink_by}") }
            }
            Step::QuantizeAwareTrain(FineTuning { epochs, normalize, .. }) => {
                f.write_str(" qat")?;
                epochs.map_or(Ok(()), |epochs| write!(f, " {epochs}"))?;
                if *normalize { f.write_str(" normalized") } else { Ok(()) }
            }
            Step::Prune(_) | Step::Distil(_) => Ok(()),
        };
        self.steps.iter().enumerate().try_for_each(shown)?;
        self.steps.iter().try_for_each(|step| match step {
            Step::Distil(d) => {
                match d.answers {
                    Answers::Classes => write!(f, " kd a{} T{}", d.alpha, d.temperature)?,
                    Answers::Values => write!(f, " kd a{} values", d.alpha)?,
                }
                if d.features.is_none() {
                    return Ok(());
                }
                write!(f, " {} x{}", d.features, d.feature_weight)
            }
            Step::Prune(_)
            | Step::FineTune(_)
            | Step::Cluster(_)
            | Step::Quantize(_)
            | Step::QuantizeAwareTrain(_) => Ok(()),
        })
    }
}

impl fmt::Display for Pruning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: &f64| format!("{:.0}", share * 100.0);
        f.write_str("prune ")?;
        match &self.amount {
            Amount::Stage { shares } => {
                let shares: Vec<String> = shares.iter().map(percent).collect();
                write!(f, "{}%", shares.join("/"))?;
            }
            Amount::Layer { share } => write!(f, "{}% of each layer", percent(share))?,
            Amount::Network { counted, share } => write!(f, "{}% of {counted}", percent(share))?,
            Amount::Weights { among: Among::Layer, share } => {
                write!(f, "{}% of the weights of each layer", percent(share))?;
            }
            Amount::Weights { among: Among::Network, share } => {
                write!(f, "{}% of weights", percent(share))?;
            }
            Amount::TwoOfFour { .. } => f.write_str("2:4")?,
            Amount::Blocks { counted, share } => {
                write!(f, "blocks with {}% of {counted}", percent(share))?;
            }
            Amount::AtMost { unit, counted, most } => {
                if *unit == PruneUnit::Blocks {
                    f.write_str("blocks ")?;
                }
                write!(f, "to {most} {}", counted.unit())?;
            }
        }
        let usual = match self.amount.unit() {
            PruneUnit::Channels | PruneUnit::Weights | PruneUnit::TwoOfFour => Importance::L1,
            PruneUnit::Blocks => Importance::Output,
        };
        if self.importance != usual {
            write!(f, " by {}", self.importance)?;
        }
        match self.multiple_of {
            Multiple::ONE => {}
            Multiple::Of(multiple) => write!(f, " to multiples of {multiple}")?,
            Multiple::Auto => f.write_str(" to fast multiples")?,
        }
        if self.rounds > 1 {
            write!(f, " in {} rounds", self.rounds)?;
        }
        match self.rewind {
            Rewind::None => {}
            Rewind::Rate => f.write_str(" rewound in rate")?,
            Rewind::Weights => f.write_str(" rewound")?,
        }
        Ok(())
    }
}

/// The settings that differ from the usual ones, each after a space.
impl fmt::Display for Quantizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        if self.calibration != usual.calibration {
            write!(f, " {}", self.calibration)?;
        }
        if self.clip_ranges {
            f.write_str(" clipped")?;
        }
        if self.granularity != usual.granularity {
            f.write_str(" per layer")?;
        }
        if self.equalize {
            f.write_str(" equalized")?;
        }
        if self.correct_biases {
            f.write_str(" biases")?;
        }
        if self.rounding != usual.rounding {
            write!(f, " {}", self.rounding)?;
        }
        if !self.fp32.is_empty() {
            write!(f, " but {}", self.fp32.join(", "))?;
        }
        self.widths.fmt(f)
    }
}
