//! The registry: the name and the definition of every metric.
//!
//! To add a metric, add an entry here and set the figure where it is measured. Study files,
//! records, the wire, filters, tables, CSV and JSON all read the definition. If the meaning of a
//! metric changes, the metric gets a new name, so that figures under the old name keep their
//! meaning.

use std::fmt;

use edgesmith_search_space::Cost;

use super::{Goal, Scope, ScopedMetric, Split, Target};

/// A metric of the registry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Metric(u16);

/// What a metric is.
#[derive(Debug)]
pub struct Definition {
    /// The name: lower-case words joined by underscores, with the unit if there is one.
    pub name: &'static str,
    /// What its values count.
    pub unit: Unit,
    /// The direction in which it is better.
    pub goal: Goal,
    /// The smallest and the largest value that it can have, both allowed.
    pub range: (f64, f64),
    /// What a figure of it describes.
    pub scope: ScopeKind,
    /// The origin of its figures.
    pub source: Source,
    /// How its values compare when objectives are put on one scale.
    pub scale: Scale,
    /// One sentence for users.
    pub meaning: &'static str,
}

/// What values of a metric count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share of a whole, `0..=1`.
    Share,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Whole bytes.
    Bytes,
    /// A whole number of things.
    Count,
}

/// What a figure of a metric describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeKind {
    /// The network as a whole.
    Whole,
    /// A set of the study's data: validation, test, or another one that is held out.
    Split,
    /// A device class, with the engine and its threads.
    Target,
}

/// Where figures of a metric come from.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// From running the model file on images.
    Evaluated,
    /// From timing the model file on a device.
    Measured,
    /// From the model file itself.
    File,
    /// From the architecture by arithmetic, before any training.
    Analytic(fn(&Cost) -> u64),
    /// From bookkeeping during training. It says what a result cost, and no search optimizes it.
    Spent,
}

/// How a metric's values are put on a scale from ideal to worthless.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Equal differences count the same.
    Linear {
        /// The smaller end.
        low: f64,
        /// The greater end.
        high: f64,
    },
    /// Equal ratios count the same.
    Logarithmic {
        /// The smaller end, above 0.
        low: f64,
        /// The greater end.
        high: f64,
    },
}

/// 2^53: up to here, an `f64` represents every whole number exactly.
const MOST: f64 = 9_007_199_254_740_992.0;

/// Makes a constant of [`Metric`] for each entry, and the table of definitions in the same order.
macro_rules! registry {
    ($($(#[$doc:meta])* $name:ident = $definition:expr;)*) => {
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "the constants' names")]
        enum Index { $($name),* }

        impl Metric {
            $($(#[$doc])* pub const $name: Metric = Metric(Index::$name as u16);)*
            /// Every metric.
            pub const ALL: &'static [Metric] = &[$(Metric::$name),*];
        }

        static DEFINITIONS: &[Definition] = &[$($definition),*];
    };
}

registry! {
    /// Share of images that are classified right.
    ACCURACY = Definition {
        name: "accuracy",
        unit: Unit::Share,
        goal: Goal::Maximize,
        range: (0.0, 1.0),
        scope: ScopeKind::Split,
        source: Source::Evaluated,
        scale: Scale::Linear { low: 0.0, high: 1.0 },
        meaning: "share of images that the model file classifies right, 0 to 1",
    };
    /// Median latency of one image.
    LATENCY_MS = Definition {
        name: "latency_ms",
        unit: Unit::Milliseconds,
        goal: Goal::Minimize,
        // From one nanosecond, which no clock can tell from zero, to eleven days.
        range: (1e-6, 1e9),
        scope: ScopeKind::Target,
        source: Source::Measured,
        scale: Scale::Logarithmic { low: 1e-3, high: 1e4 },
        meaning: "median latency of one image on the device, milliseconds; includes normalisation of \
                  the pixels, but not reading or resizing the image",
    };
    /// Size of the edge-runtime file.
    MODEL_BYTES = Definition {
        name: "model_bytes",
        unit: Unit::Bytes,
        goal: Goal::Minimize,
        range: (1.0, MOST),
        scope: ScopeKind::Whole,
        source: Source::File,
        scale: Scale::Logarithmic { low: 1e2, high: 1e9 },
        meaning: "size of the edge-runtime file (.edge) that is evaluated, timed and shipped, bytes; \
                  notes of its origin and test vectors do not count",
    };
    /// Multiply-accumulates of one inference.
    MACS = Definition {
        name: "macs",
        unit: Unit::Count,
        goal: Goal::Minimize,
        range: (0.0, MOST),
        scope: ScopeKind::Whole,
        source: Source::Analytic(|cost| cost.macs),
        scale: Scale::Logarithmic { low: 1e2, high: 1e11 },
        meaning: "multiply-accumulates of one inference after pruning",
    };
    /// Weights and biases.
    PARAMETERS = Definition {
        name: "parameters",
        unit: Unit::Count,
        goal: Goal::Minimize,
        range: (0.0, MOST),
        scope: ScopeKind::Whole,
        source: Source::Analytic(|cost| cost.parameters),
        scale: Scale::Logarithmic { low: 1e1, high: 1e9 },
        meaning: "weights and biases after pruning",
    };
    /// Peak of the feature maps that are alive together.
    PEAK_MEMORY_BYTES = Definition {
        name: "peak_memory_bytes",
        unit: Unit::Bytes,
        goal: Goal::Minimize,
        range: (0.0, MOST),
        scope: ScopeKind::Whole,
        source: Source::Analytic(|cost| cost.peak_memory_bytes),
        scale: Scale::Logarithmic { low: 1e1, high: 1e9 },
        meaning: "peak of the feature maps that are alive together, bytes, by arithmetic",
    };
    /// Mean over classes of the harmonic mean of precision and recall.
    F1_MACRO = Definition {
        name: "f1_macro",
        unit: Unit::Share,
        goal: Goal::Maximize,
        range: (0.0, 1.0),
        scope: ScopeKind::Split,
        source: Source::Evaluated,
        scale: Scale::Linear { low: 0.0, high: 1.0 },
        meaning: "mean over classes of F1, 2 TP / (2 TP + FP + FN), 0 to 1; each class counts the \
                  same, classes that neither occur nor are predicted are left out",
    };
    /// Wall time of training and compression, with the evaluation of the network at each stage.
    TRAINING_SECONDS = Definition {
        name: "training_seconds",
        unit: Unit::Seconds,
        goal: Goal::Minimize,
        // Up to three centuries.
        range: (0.0, 1e10),
        scope: ScopeKind::Whole,
        source: Source::Spent,
        scale: Scale::Logarithmic { low: 1e-3, high: 1e10 },
        meaning: "wall time of training and compression without lost attempts, or the time that a \
                  table gives, seconds",
    };
    /// Training images seen, fine-tuning included.
    IMAGES_SEEN = Definition {
        name: "images_seen",
        unit: Unit::Count,
        goal: Goal::Minimize,
        range: (0.0, MOST),
        scope: ScopeKind::Whole,
        source: Source::Spent,
        scale: Scale::Logarithmic { low: 1.0, high: 1e12 },
        meaning: "training images seen, fine-tuning included; each pass over an image counts",
    };
}

impl Metric {
    /// Its definition.
    pub fn definition(self) -> &'static Definition {
        &DEFINITIONS[usize::from(self.0)]
    }

    /// Its name in the registry.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|metric| metric.name() == name)
    }

    /// Whether it is measured on a device, so that objectives must name one.
    pub fn is_per_device(self) -> bool {
        self.definition().scope == ScopeKind::Target
    }

    /// Whether it follows from the architecture by arithmetic, before any training.
    pub fn is_analytic(self) -> bool {
        matches!(self.definition().source, Source::Analytic(_))
    }

    /// Whether objectives and constraints may use it.
    pub fn is_searched(self) -> bool {
        !matches!(self.definition().source, Source::Spent)
    }

    /// Whether it comes from running the model file on images.
    pub fn is_evaluated(self) -> bool {
        matches!(self.definition().source, Source::Evaluated)
    }

    /// Its value for a network of this cost; `None` if it does not follow from the cost.
    pub fn of_cost(self, cost: &Cost) -> Option<f64> {
        match self.definition().source {
            Source::Analytic(of) => Some(of(cost) as f64),
            Source::Evaluated | Source::Measured | Source::File | Source::Spent => None,
        }
    }

    /// Returns the value if it can be right.
    ///
    /// # Errors
    /// Says what is wrong with the value, worded to follow a name.
    pub fn check(self, value: f64) -> Result<f64, String> {
        let Definition { range: (least, greatest), unit, .. } = self.definition();
        if !(least..=greatest).contains(&&value) {
            return Err(format!("{value} is not between {least} and {greatest}"));
        }
        if unit.is_whole() && value.fract() != 0.0 {
            return Err(format!("{value} is not a whole number"));
        }
        Ok(value)
    }

    /// The distance of a value from the best possible one; never negative.
    pub fn distance_to_best(self, value: f64) -> f64 {
        let Definition { goal, range: (least, greatest), .. } = self.definition();
        let distance = match goal {
            Goal::Maximize => greatest - value,
            Goal::Minimize => value - least,
        };
        distance.max(0.0)
    }

    /// The value at this distance from the best possible one.
    pub fn at_distance(self, distance: f64) -> f64 {
        let Definition { goal, range: (least, greatest), .. } = self.definition();
        match goal {
            Goal::Maximize => greatest - distance,
            Goal::Minimize => least + distance,
        }
    }

    /// The metric on a set of images.
    pub fn on(self, split: Split) -> ScopedMetric {
        ScopedMetric { metric: self, scope: Scope::Split(split) }
    }

    /// The metric on a device.
    pub fn at(self, target: Target) -> ScopedMetric {
        ScopedMetric { metric: self, scope: Scope::Target(target.into()) }
    }

    /// The metric of the network as a whole.
    pub fn whole(self) -> ScopedMetric {
        ScopedMetric { metric: self, scope: Scope::Whole }
    }
}

impl Unit {
    /// Whether values are whole numbers.
    pub fn is_whole(self) -> bool {
        match self {
            Unit::Bytes | Unit::Count => true,
            Unit::Share | Unit::Milliseconds | Unit::Seconds => false,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_sound() {
        for (place, metric) in Metric::ALL.iter().enumerate() {
            let Definition { name, range: (least, greatest), scale, .. } = metric.definition();
            assert_eq!(Metric::named(name), Some(*metric));
            assert_eq!(usize::from(metric.0), place);
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(least < greatest, "{name}");
            let (Scale::Linear { low, high } | Scale::Logarithmic { low, high }) = scale;
            assert!(low < high, "{name}");
            assert!(*low > 0.0 || matches!(scale, Scale::Linear { .. }), "{name}");
        }
    }

    #[test]
    fn the_distance_to_the_best_is_the_error_of_an_accuracy() {
        assert_eq!(Metric::ACCURACY.distance_to_best(0.75), 0.25);
        assert_eq!(Metric::ACCURACY.at_distance(0.25), 0.75);
        assert_eq!(Metric::MACS.distance_to_best(7.0), 7.0);
        assert_eq!(Metric::MACS.at_distance(7.0), 7.0);
    }
}
