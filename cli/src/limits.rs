//! Limits on the command line, such as `latency_ms<=3`, and how far a result is beyond them.

use std::fmt;
use std::str::FromStr;

use edgesmith_common::metric::ScopeKind;
use edgesmith_common::{
    Bound, DeviceClass, Figures, Metric, MetricNameError, ScopedMetric, Split, Target,
};

/// The name of what is lost of accuracy on the validation images: of the network's own, or of the
/// most accurate trial's.
const ACCURACY_DROP: &str = "accuracy_drop";
/// If less than this may be lost, as much beyond it counts as 1.
const LEAST_DROP: f64 = 0.001;

/// The exit code of a command that did what it was asked for, where no result keeps the limits.
pub const NONE_KEEPS: u8 = 3;

/// A bound that the compressed network must keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    of: Limited,
    bound: Bound,
    /// As it was written.
    text: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Limited {
    /// What is lost of the accuracy on the validation images.
    AccuracyDrop,
    /// A figure of the study.
    Figure(ScopedMetric),
}

impl Limit {
    /// The device, engine and threads of a limit on what is measured there.
    pub fn target(&self) -> Option<&Target> {
        match &self.of {
            Limited::AccuracyDrop => None,
            Limited::Figure(of) => of.target(),
        }
    }

    /// The device, engine or threads that it names, unless these are those of this machine.
    pub fn elsewhere(&self) -> Option<&Target> {
        self.target().filter(|target| **target != Target::on(DeviceClass::local()))
    }

    /// Whether it is on what is lost of accuracy.
    pub fn is_of_accuracy_drop(&self) -> bool {
        self.of == Limited::AccuracyDrop
    }

    /// The constraint of a study file that says the same. `accuracy` is the network's own on the
    /// validation images.
    pub fn constraint(&self, accuracy: f64) -> String {
        let table = |name: &str, bound: Bound, others: &str| {
            let (end, limit) = match bound {
                Bound::Max(limit) => ("max", limit),
                Bound::Min(limit) => ("min", limit),
            };
            format!("[[constraints]]\nmetric = \"{name}\"\n{end} = {limit:?}\n{others}")
        };
        match (&self.of, self.bound) {
            (Limited::AccuracyDrop, Bound::Max(drop) | Bound::Min(drop)) => {
                let scale = format!("scale = {:?}\n", drop.max(LEAST_DROP));
                table("validation_accuracy", Bound::Min((accuracy - drop).max(0.0)), &scale)
            }
            (Limited::Figure(of), bound) => match of.target() {
                Some(target) => {
                    let device = format!("device = \"{}\"\n", target.device);
                    table(of.metric.name(), bound, &device)
                }
                None => table(&of.to_string(), bound, ""),
            },
        }
    }

    /// The limited figure of a result; `None` if it was not measured. `accuracy` is the network's
    /// own on the validation images.
    pub fn value(&self, figures: &Figures, accuracy: f64) -> Option<f64> {
        match &self.of {
            Limited::AccuracyDrop => Some(accuracy - figures.validation_accuracy()?),
            Limited::Figure(of) => figures.get(of),
        }
    }

    /// How far a value is beyond the limit, as a share of the limit, or of [`LEAST_DROP`] for a
    /// smaller drop; 0 if it is not.
    pub fn excess(&self, value: f64) -> f64 {
        // The accuracy of the network itself is a difference of figures, so its last digit may be
        // another one.
        if self.bound.violation(value) <= 1e-9 {
            return 0.0;
        }
        let scale = match (&self.of, self.bound) {
            (Limited::AccuracyDrop, Bound::Max(drop) | Bound::Min(drop)) => {
                Some(drop.max(LEAST_DROP))
            }
            (Limited::Figure(_), _) => None,
        };
        self.bound.excess(value, scale)
    }

    /// Whether it limits how much there may be of this metric.
    pub fn caps(&self, metric: Metric) -> bool {
        let of = match &self.of {
            Limited::AccuracyDrop => return false,
            Limited::Figure(of) => of.metric,
        };
        of == metric && matches!(self.bound, Bound::Max(_))
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || {
            format!(
                "{text:?} is not a limit; write a metric, <= or >=, and a number, as \
                 accuracy_drop<=0.005, latency_ms<=3 or model_bytes<=20000"
            )
        };
        let (name, number, at_most) = match (text.split_once("<="), text.split_once(">=")) {
            (Some((name, number)), None) => (name.trim(), number.trim(), true),
            (None, Some((name, number))) => (name.trim(), number.trim(), false),
            _ => return Err(wanted()),
        };
        let limit: f64 = number.parse().map_err(|_| wanted())?;
        if !limit.is_finite() {
            return Err(wanted());
        }
        let bound = if at_most { Bound::Max(limit) } else { Bound::Min(limit) };
        let text = text.to_owned();
        if name == ACCURACY_DROP {
            if !at_most || limit < 0.0 {
                return Err(format!("{text:?}: a drop has an upper limit of at least 0; use <="));
            }
            return Ok(Self { of: Limited::AccuracyDrop, bound, text });
        }
        // A metric of devices is measured on this one.
        let of = match Metric::named(name).filter(|metric| metric.is_per_device()) {
            Some(metric) => metric.at(Target::on(DeviceClass::local())),
            None => name.parse::<ScopedMetric>().map_err(|error| match &error {
                MetricNameError::Unknown { given } => format!(
                    "unknown metric {given:?}; use one of {}, or {ACCURACY_DROP}",
                    limited().join(", ")
                ),
                MetricNameError::NoDevice { .. }
                | MetricNameError::NoScope { .. }
                | MetricNameError::Target(_) => error.to_string(),
            })?,
        };
        if of.is_held_out() || !of.metric.is_searched() {
            return Err(format!(
                "{name} is not for limits; a limit on accuracy is on validation_accuracy or \
                 accuracy_drop"
            ));
        }
        Ok(Self { of: Limited::Figure(of), bound, text })
    }
}

/// The names of what limits are on, without a device.
fn limited() -> Vec<String> {
    let all = Metric::ALL.iter().filter(|metric| metric.is_searched());
    let name = |metric: &Metric| match metric.definition().scope {
        ScopeKind::Split => metric.on(Split::Validation).to_string(),
        ScopeKind::Whole | ScopeKind::Target => metric.name().to_owned(),
    };
    all.map(name).collect()
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_constraints() {
        let constraint = |text: &str| text.parse::<Limit>().unwrap().constraint(0.9);
        let drop = constraint("accuracy_drop<=0.005");
        assert_eq!(
            drop,
            "[[constraints]]\nmetric = \"validation_accuracy\"\nmin = 0.895\nscale = 0.005\n"
        );
        assert!(constraint("accuracy_drop<=0").ends_with("min = 0.9\nscale = 0.001\n"));
        let latency = constraint("latency_ms <= 3");
        let expected = "[[constraints]]\nmetric = \"latency_ms\"\nmax = 3.0\ndevice = \"local\"\n";
        assert_eq!(latency, expected);
        let bytes = constraint("model_bytes<=20000");
        assert_eq!(bytes, "[[constraints]]\nmetric = \"model_bytes\"\nmax = 20000.0\n");
        assert!(constraint("validation_accuracy>=0.5").contains("min = 0.5"));
    }

    #[test]
    fn what_is_no_limit_is_refused_with_the_way_to_write_it() {
        let said = |text: &str| text.parse::<Limit>().unwrap_err();
        for text in ["latency_ms", "latency_ms<3", "latency_ms<=x", "macs<=inf", "a<=1<=2"] {
            assert!(said(text).contains("latency_ms<=3"), "{text}: {}", said(text));
        }
        assert!(said("accuracy_drop>=0.1").contains("use <="));
        assert!(said("accuracy_drop<=-0.1").contains("at least 0"));
        // Every name that is offered is one that is taken.
        let speed = said("speed<=1");
        let (_, offered) = speed.split_once("use one of ").unwrap();
        let names: Vec<&str> = offered.split(", ").collect();
        assert_eq!(names.last(), Some(&"or accuracy_drop"), "{speed}");
        assert!(names.contains(&"latency_ms") && names.contains(&"validation_accuracy"), "{speed}");
        for name in names {
            let name = name.trim_start_matches("or ");
            assert!(format!("{name}<=1").parse::<Limit>().is_ok(), "{name}");
        }
        let device = said("model_bytes@rpi<=3");
        assert_eq!(device, "model_bytes is the same on every device; leave \"rpi\" out");
        assert!(said("test_accuracy>=0.9").contains("validation_accuracy"));
        assert!(said("training_seconds<=9").contains("not for limits"));
    }

    #[test]
    fn the_excess_is_a_share_of_the_limit() {
        let limit: Limit = "latency_ms@local<=4".parse().unwrap();
        assert_eq!((limit.excess(3.0), limit.excess(4.0), limit.excess(5.0)), (0.0, 0.0, 0.25));
        let limit: Limit = "accuracy_drop<=0.01".parse().unwrap();
        let figures = Figures::new().with(ScopedMetric::VALIDATION_ACCURACY, 0.88);
        let drop = limit.value(&figures, 0.9).unwrap();
        assert!((limit.excess(drop) - 1.0).abs() < 1e-9);
        assert_eq!(limit.value(&Figures::new(), 0.9), None);
        let none: Limit = "accuracy_drop<=0".parse().unwrap();
        assert_eq!((none.excess(0.0), none.excess(0.002)), (0.0, 2.0));
    }
}
