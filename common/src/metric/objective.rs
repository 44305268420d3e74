//! What a study wants and demands of its trials.

use std::fmt;

use super::{Goal, ScopedMetric};
use crate::DeviceClass;

/// A metric with a goal. It is of validation images, never of held-out ones, where it is of images; it
/// has a device exactly where the metric is per device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Objective {
    /// What counts.
    pub of: ScopedMetric,
    /// Which way.
    pub goal: Goal,
}

/// A metric with a bound; of the same metrics and scopes as an [`Objective`].
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    /// What is bounded.
    pub of: ScopedMetric,
    /// How.
    pub bound: Bound,
}

/// A limit, itself allowed. Always finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// No more than this.
    Max(f64),
    /// No less than this.
    Min(f64),
}

impl Objective {
    /// Which way it is better by itself.
    pub fn natural(of: ScopedMetric) -> Self {
        let goal = of.metric.definition().goal;
        Self { of, goal }
    }

    /// Where it is measured.
    pub fn device(&self) -> Option<&DeviceClass> {
        self.of.device()
    }
}

impl Constraint {
    /// Where it is measured.
    pub fn device(&self) -> Option<&DeviceClass> {
        self.of.device()
    }
}

impl Bound {
    /// The field in study files.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Max(_) => "max",
            Bound::Min(_) => "min",
        }
    }

    /// By how much `value` breaks the bound; 0 where it holds.
    pub fn violation(self, value: f64) -> f64 {
        match self {
            Bound::Max(limit) => (value - limit).max(0.0),
            Bound::Min(limit) => (limit - value).max(0.0),
        }
    }
}

/// `latency_ms@rpi4` or `model_bytes`.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt(f)
    }
}

/// `latency_ms@rpi4 <= 5`
impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bound {
            Bound::Max(limit) => write!(f, "{} <= {limit}", self.of),
            Bound::Min(limit) => write!(f, "{} >= {limit}", self.of),
        }
    }
}
