//! What figures describe, and their names: `validation_accuracy`, `latency_ms@rpi4`, `macs`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Metric, ScopeKind};
use crate::{DeviceClass, EngineName};

/// A metric together with what a figure of it describes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopedMetric {
    /// The metric.
    pub metric: Metric,
    /// What the figure describes.
    pub scope: Scope,
}

/// What a figure describes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The network as a whole.
    Whole,
    /// A set of the study's data.
    Split(Split),
    /// A device, with what runs the model there. Shared, because many trials have the same target.
    Target(Arc<Target>),
}

/// A set of a study's data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// Held back from training. The search compares networks on it.
    Validation,
    /// Held out. The search never sees it.
    Test,
    /// Also held out. A table may have several such sets, each named by its column.
    HeldOut(Arc<str>),
}

/// Where a model is timed: the kind of device, and what runs the model there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The kind of device.
    pub device: DeviceClass,
    /// What runs the model.
    pub engine: EngineName,
    /// Number of threads; at least 1.
    pub threads: u32,
}

impl Target {
    /// This kind of device with edge-runtime on one thread, which is the default.
    pub fn on(device: DeviceClass) -> Self {
        Self { device, engine: EngineName::edge_runtime(), threads: 1 }
    }

    /// Whether engine and threads are the defaults, so that the device's name is enough.
    pub fn is_default(&self) -> bool {
        self.threads == 1 && self.engine == EngineName::edge_runtime()
    }
}

/// `rpi4`, or `rpi4/onnxruntime/4` if the engine is not edge-runtime or uses more than one thread.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { device, engine, threads } = self;
        if self.is_default() {
            write!(f, "{device}")
        } else {
            write!(f, "{device}/{engine}/{threads}")
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('/');
        let device = parts.next().unwrap_or_default();
        let mut target = Target::on(device.parse().map_err(|e| format!("{e}"))?);
        if let Some(engine) = parts.next() {
            target.engine = engine.parse().map_err(|e| format!("{e}"))?;
        }
        if let Some(threads) = parts.next() {
            let count = threads.parse().ok().filter(|threads| *threads > 0);
            target.threads = count.ok_or_else(|| {
                format!("{threads:?} is not a number of threads; write 1 or more")
            })?;
        }
        match parts.next() {
            None => Ok(target),
            Some(_) => Err(format!("{text:?} has too many parts; write DEVICE/ENGINE/THREADS")),
        }
    }
}

impl ScopedMetric {
    /// The validation accuracy of a classifier.
    pub const VALIDATION_ACCURACY: ScopedMetric =
        ScopedMetric { metric: Metric::ACCURACY, scope: Scope::Split(Split::Validation) };
    /// The test accuracy of a classifier.
    pub const TEST_ACCURACY: ScopedMetric =
        ScopedMetric { metric: Metric::ACCURACY, scope: Scope::Split(Split::Test) };

    /// The device, if it is measured on one.
    pub fn device(&self) -> Option<&DeviceClass> {
        self.target().map(|target| &target.device)
    }

    /// The device and what runs the model there, if it is measured on one.
    pub fn target(&self) -> Option<&Target> {
        match &self.scope {
            Scope::Target(target) => Some(target),
            Scope::Whole | Scope::Split(_) => None,
        }
    }

    /// The set of data, if it is evaluated on one.
    pub fn split(&self) -> Option<&Split> {
        match &self.scope {
            Scope::Split(split) => Some(split),
            Scope::Whole | Scope::Target(_) => None,
        }
    }

    /// Whether it uses data that the search must not see.
    pub fn is_held_out(&self) -> bool {
        matches!(self.split(), Some(Split::Test | Split::HeldOut(_)))
    }

    /// Whether the scope is of the kind that the metric's definition asks for.
    pub fn fits(&self) -> bool {
        match (self.metric.definition().scope, &self.scope) {
            (ScopeKind::Whole, Scope::Whole)
            | (ScopeKind::Split, Scope::Split(_))
            | (ScopeKind::Target, Scope::Target(_)) => true,
            (ScopeKind::Whole | ScopeKind::Split | ScopeKind::Target, _) => false,
        }
    }

    /// Every name without a device, for messages: `validation_accuracy`, `test_accuracy`, `macs`,
    /// ….
    pub fn names() -> Vec<String> {
        let of = |metric: &Metric| match metric.definition().scope {
            ScopeKind::Split => {
                [Split::Validation, Split::Test].map(|split| metric.on(split).to_string()).to_vec()
            }
            ScopeKind::Whole | ScopeKind::Target => vec![metric.name().to_owned()],
        };
        Metric::ALL.iter().flat_map(of).collect()
    }
}

/// `validation_accuracy`, `accuracy@c10_test_200` for another held-out set, `latency_ms@rpi4`,
/// `macs`.
impl fmt::Display for ScopedMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = self.metric;
        match &self.scope {
            Scope::Whole => write!(f, "{metric}"),
            Scope::Split(Split::Validation) => write!(f, "{VALIDATION}{metric}"),
            Scope::Split(Split::Test) => write!(f, "{TEST}{metric}"),
            Scope::Split(Split::HeldOut(name)) => write!(f, "{metric}@{name}"),
            Scope::Target(target) => write!(f, "{metric}@{target}"),
        }
    }
}

const VALIDATION: &str = "validation_";
const TEST: &str = "test_";

/// Why a text does not name a figure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricNameError {
    /// There is no such metric.
    #[error("unknown metric {given:?}; use one of {}", ScopedMetric::names().join(", "))]
    Unknown {
        /// As given.
        given: String,
    },
    /// The metric is measured on a device, but none is named.
    #[error("{metric} is measured on a device; write {metric}@DEVICE")]
    NoDevice {
        /// The metric.
        metric: Metric,
    },
    /// A device or a set is named, but the metric is the same everywhere.
    #[error("{of} is the same on every device; leave {place:?} out")]
    NoScope {
        /// The metric, with its set of data if it has one.
        of: ScopedMetric,
        /// What follows the `@`.
        place: String,
    },
    /// The text for the device is not valid.
    #[error("{0}")]
    Target(String),
}

/// Parses what [`Display`](fmt::Display) writes.
impl FromStr for ScopedMetric {
    type Err = MetricNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, place) = match text.split_once('@') {
            Some((name, place)) => (name, Some(place)),
            None => (text, None),
        };
        let unknown = || MetricNameError::Unknown { given: text.to_owned() };
        let of_split = |name: &str| {
            let metric = Metric::named(name)?;
            (metric.definition().scope == ScopeKind::Split).then_some(metric)
        };
        for (prefix, split) in [(VALIDATION, Split::Validation), (TEST, Split::Test)] {
            if let Some(metric) = name.strip_prefix(prefix).and_then(of_split) {
                return match place {
                    None => Ok(metric.on(split)),
                    Some(place) => Err(MetricNameError::NoScope {
                        of: metric.on(split),
                        place: place.to_owned(),
                    }),
                };
            }
        }
        let metric = Metric::named(name).ok_or_else(unknown)?;
        match (metric.definition().scope, place) {
            (ScopeKind::Whole, None) => Ok(metric.whole()),
            (ScopeKind::Whole, Some(place)) => {
                Err(MetricNameError::NoScope { of: metric.whole(), place: place.to_owned() })
            }
            (ScopeKind::Split, Some(set)) if !set.is_empty() => {
                Ok(metric.on(Split::HeldOut(set.into())))
            }
            (ScopeKind::Split, _) => Err(unknown()),
            (ScopeKind::Target, None) => Err(MetricNameError::NoDevice { metric }),
            (ScopeKind::Target, Some(target)) => {
                Ok(metric.at(target.parse().map_err(MetricNameError::Target)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        let texts = [
            "validation_accuracy",
            "test_accuracy",
            "accuracy@c10_test_200",
            "latency_ms@rpi4",
            "latency_ms@rpi4/onnxruntime/4",
            "latency_ms@rpi4/onnxruntime/1",
            "macs",
            "training_seconds",
        ];
        for text in texts {
            let metric: ScopedMetric = text.parse().unwrap();
            assert_eq!(metric.to_string(), text);
            assert!(metric.fits());
        }
        let short: ScopedMetric = "latency_ms@rpi4/edge-runtime/1".parse().unwrap();
        assert_eq!(short.to_string(), "latency_ms@rpi4");
    }

    #[test]
    fn invalid_names_are_explained() {
        let error = |text: &str| text.parse::<ScopedMetric>().unwrap_err().to_string();
        for text in ["accuracy", "validation_macs", "speed", "validation_", "accuracy@"] {
            assert!(error(text).contains("validation_accuracy"), "{text}: {}", error(text));
        }
        assert_eq!(
            error("latency_ms"),
            "latency_ms is measured on a device; write latency_ms@DEVICE"
        );
        assert!(error("macs@rpi4").contains("every device"));
        assert!(
            error("validation_accuracy@rpi4").contains("validation_accuracy is the same on every")
        );
        assert!(error("latency_ms@rpi4/ort/0").contains("threads"));
        assert!(error("latency_ms@rpi4/ort/1/2").contains("too many parts"));
        assert!(error("latency_ms@-").contains("device class"));
    }
}
