//! What can be measured of a network: metrics with their definitions, the scopes of figures, and
//! the map of figures.
//!
//! A [`Metric`] is a name in the [registry](Definition). A [`ScopedMetric`] adds the images or the
//! device that a figure is of. [`Figures`] maps scoped metrics to values. An [`Objective`] says
//! what a study optimizes, a [`Constraint`] what it demands. Nothing here measures anything.

mod figures;
mod objective;
mod registry;
mod scope;

pub use figures::{FigureError, FigureNames, Figures};
pub use objective::{Bound, Constraint, Objective};
pub use registry::{Definition, Metric, Scale, ScopeKind, Source, Unit};
pub use scope::{MetricNameError, Scope, ScopedMetric, Split, Target};

use serde::{Deserialize, Serialize};

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
    /// The name in study files.
    pub fn name(self) -> &'static str {
        match self {
            Goal::Maximize => "maximize",
            Goal::Minimize => "minimize",
        }
    }

    /// The value turned so that less is better. Turning it twice gives the value back.
    pub fn oriented(self, value: f64) -> f64 {
        match self {
            Goal::Minimize => value,
            Goal::Maximize => -value,
        }
    }
}
