//! What can be measured of a trial, wanted of it, and demanded of it.

use std::fmt;
use std::str::FromStr;

use edgesmith_search_space::Cost;
use serde::{Deserialize, Serialize};

use crate::DeviceClass;

/// A figure of a trial. Names carry their unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of validation images classified right by the compressed model, `0..=1`.
    ValidationAccuracy,
    /// Median latency of one image on a device, milliseconds.
    LatencyMs,
    /// Size of the model file that ships, bytes.
    ModelBytes,
    /// Multiply-accumulates of one inference after pruning.
    Macs,
    /// Weights and biases that ship.
    Parameters,
    /// Peak of the feature maps alive together, bytes, analytic.
    PeakMemoryBytes,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Metric; 6] = [
        Metric::ValidationAccuracy,
        Metric::LatencyMs,
        Metric::ModelBytes,
        Metric::Macs,
        Metric::Parameters,
        Metric::PeakMemoryBytes,
    ];

    /// The name in study files, JSON and filters.
    pub fn name(self) -> &'static str {
        match self {
            Metric::ValidationAccuracy => "validation_accuracy",
            Metric::LatencyMs => "latency_ms",
            Metric::ModelBytes => "model_bytes",
            Metric::Macs => "macs",
            Metric::Parameters => "parameters",
            Metric::PeakMemoryBytes => "peak_memory_bytes",
        }
    }

    /// Whether it is measured on a device, so that an objective may name one.
    pub fn is_per_device(self) -> bool {
        self == Metric::LatencyMs
    }

    /// Whether arithmetic on the architecture decides it, before any training.
    pub fn is_analytic(self) -> bool {
        matches!(self, Metric::Macs | Metric::Parameters | Metric::PeakMemoryBytes)
    }

    /// Its value for a network of this cost; `None` where arithmetic does not decide it.
    pub fn of_cost(self, cost: &Cost) -> Option<f64> {
        match self {
            Metric::Macs => Some(cost.macs as f64),
            Metric::Parameters => Some(cost.parameters as f64),
            Metric::PeakMemoryBytes => Some(cost.peak_memory_bytes as f64),
            Metric::ValidationAccuracy | Metric::LatencyMs | Metric::ModelBytes => None,
        }
    }

    /// The direction in which it is better.
    pub fn natural_goal(self) -> Goal {
        match self {
            Metric::ValidationAccuracy => Goal::Maximize,
            _ => Goal::Minimize,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s == "test_accuracy" {
            return Err("test_accuracy is held out: the search may not see it; \
                        use validation_accuracy"
                .to_owned());
        }
        Self::ALL.into_iter().find(|m| m.name() == s).ok_or_else(|| {
            format!("unknown metric {s:?}; use one of {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// Whether more or less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// More is better.
    Maximize,
    /// Less is better.
    Minimize,
}

impl Goal {
    /// The value turned so that less is better; turning it again gives it back.
    pub fn oriented(self, value: f64) -> f64 {
        match self {
            Goal::Minimize => value,
            Goal::Maximize => -value,
        }
    }
}

/// A metric with a goal. `device` is set exactly where the metric is per device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Objective {
    /// What counts.
    pub metric: Metric,
    /// Which way.
    pub goal: Goal,
    /// Where it is measured.
    pub device: Option<DeviceClass>,
}

/// A metric with a bound. `device` is set exactly where the metric is per device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// What is bounded.
    pub metric: Metric,
    /// How.
    pub bound: Bound,
    /// Where it is measured.
    pub device: Option<DeviceClass>,
}

/// A limit, itself allowed. Always finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// No more than this.
    Max(f64),
    /// No less than this.
    Min(f64),
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
        write!(f, "{}", self.metric)?;
        self.device.iter().try_for_each(|d| write!(f, "@{d}"))
    }
}

/// `latency_ms@rpi4 <= 5`
impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.metric)?;
        self.device.iter().try_for_each(|d| write!(f, "@{d}"))?;
        match self.bound {
            Bound::Max(limit) => write!(f, " <= {limit}"),
            Bound::Min(limit) => write!(f, " >= {limit}"),
        }
    }
}
