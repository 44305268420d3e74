//! What a study optimizes, and what it demands of its trials.

use std::fmt;

use super::{Goal, ScopedMetric};
use crate::DeviceClass;

/// A metric with a goal. If the metric is of images, they are validation images, never held-out
/// ones. It has a device if and only if the metric is per device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Objective {
    /// The metric and its scope.
    pub of: ScopedMetric,
    /// Whether more or less is better.
    pub goal: Goal,
}

/// A metric with a bound. The same metrics and scopes are allowed as in an [`Objective`].
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    /// What is bounded.
    pub of: ScopedMetric,
    /// The limit.
    pub bound: Bound,
    /// How far beyond the limit counts as 1, in the metric's unit, above 0. `None` for the limit
    /// itself.
    pub scale: Option<f64>,
}

/// A limit. The limit itself is allowed. Always finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// No more than this.
    Max(f64),
    /// No less than this.
    Min(f64),
}

impl Objective {
    /// An objective with the goal from the metric's definition.
    pub fn natural(of: ScopedMetric) -> Self {
        let goal = of.metric.definition().goal;
        Self { of, goal }
    }

    /// The device class, if the metric is per device.
    pub fn device(&self) -> Option<&DeviceClass> {
        self.of.device()
    }
}

impl Constraint {
    /// The device class, if the metric is per device.
    pub fn device(&self) -> Option<&DeviceClass> {
        self.of.device()
    }

    /// How far `value` is beyond the limit, in units of the scale, so that the units of metrics do
    /// not matter; 0 if the constraint holds.
    pub fn excess(&self, value: f64) -> f64 {
        self.bound.excess(value, self.scale)
    }
}

impl Bound {
    /// The name of the field in study files.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Max(_) => "max",
            Bound::Min(_) => "min",
        }
    }

    /// By how much `value` breaks the bound; 0 if it holds.
    pub fn violation(self, value: f64) -> f64 {
        match self {
            Bound::Max(limit) => (value - limit).max(0.0),
            Bound::Min(limit) => (limit - value).max(0.0),
        }
    }

    /// The violation as a share of `scale`, or of the limit without one; absolute if the limit is
    /// 0.
    pub fn excess(self, value: f64, scale: Option<f64>) -> f64 {
        let (Bound::Max(limit) | Bound::Min(limit)) = self;
        let scale = scale.unwrap_or(if limit == 0.0 { 1.0 } else { limit.abs() });
        self.violation(value) / scale
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excess_is_a_share_of_the_limit_or_of_the_scale() {
        assert_eq!(Bound::Max(200.0).excess(300.0, None), 0.5);
        assert_eq!(Bound::Max(200.0).excess(200.0, None), 0.0);
        assert_eq!(Bound::Min(0.5).excess(0.25, None), 0.5);
        assert_eq!(Bound::Min(0.0).excess(-2.0, None), 2.0);
        assert_eq!(Bound::Min(0.75).excess(0.25, Some(0.25)), 2.0);
    }
}
