//! Bounds that a user sets on an answer: `latency_ms<=5`, `latency_ms@rpi4<5`,
//! `model_bytes<=20000`.

use std::str::FromStr;

use crate::{DeviceClass, Figures, Goal, Metric, MetricNameError, Objective, Scope, ScopedMetric};

/// One bound. Unlike a constraint, it is not part of a study and may use held-out accuracy.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    of: Quantity,
    relation: Relation,
    limit: f64,
}

/// What is bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Quantity {
    /// One figure.
    One(ScopedMetric),
    /// A per-device metric on every device that was measured.
    EveryDevice(Metric),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// Why a text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a bound: {why}")]
pub struct FilterError {
    given: String,
    why: String,
}

impl Filter {
    /// The device class that the bound names, if any.
    pub fn device(&self) -> Option<&DeviceClass> {
        match &self.of {
            Quantity::One(of) => of.device(),
            Quantity::EveryDevice(_) => None,
        }
    }

    /// Whether a trial is within the bound. A figure that was not measured is outside every bound.
    /// If the bound names a per-device metric without a device, it must hold on every device that
    /// was measured.
    pub fn admits(&self, figures: &Figures) -> bool {
        let mut all = self.bounded(figures).map(|value| self.holds(value)).peekable();
        all.peek().is_some() && all.all(|holds| holds)
    }

    /// Whether a trial has a figure that is bounded, within the bound or not.
    pub fn concerns(&self, figures: &Figures) -> bool {
        self.bounded(figures).next().is_some()
    }

    /// Whether this bound may be applied before or after computing the front, with the same result.
    /// This holds for a bound that cuts off the worse side of one of these objectives.
    pub fn keeps_front(&self, objectives: &[Objective]) -> bool {
        let goal = match self.relation {
            Relation::Below | Relation::AtMost => Goal::Minimize,
            Relation::Above | Relation::AtLeast => Goal::Maximize,
        };
        match &self.of {
            Quantity::One(of) => objectives.iter().any(|o| (&o.of, o.goal) == (of, goal)),
            // Every measured device counts, even those that no objective names.
            Quantity::EveryDevice(_) => false,
        }
    }

    /// The values of a trial's figures that are bounded.
    fn bounded<'a>(&'a self, figures: &'a Figures) -> impl Iterator<Item = f64> + 'a {
        let is_bounded = |of: &ScopedMetric| match &self.of {
            Quantity::One(one) => of == one,
            Quantity::EveryDevice(metric) => {
                of.metric == *metric && matches!(of.scope, Scope::Target(_))
            }
        };
        figures.iter().filter(move |(of, _)| is_bounded(of)).map(|(_, value)| value)
    }

    fn holds(&self, value: f64) -> bool {
        match self.relation {
            Relation::Below => value < self.limit,
            Relation::AtMost => value <= self.limit,
            Relation::Above => value > self.limit,
            Relation::AtLeast => value >= self.limit,
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why: String| FilterError { given: text.to_owned(), why };
        // Longer signs first, because `<=` begins with `<`.
        let relations = [
            ("<=", Relation::AtMost),
            (">=", Relation::AtLeast),
            ("<", Relation::Below),
            (">", Relation::Above),
        ];
        let split = relations.iter().find_map(|(sign, relation)| {
            text.split_once(sign).map(|(left, right)| (left.trim(), *relation, right.trim()))
        });
        let (left, relation, right) =
            split.ok_or_else(|| fail("write METRIC<=NUMBER, or with <, > or >=".to_owned()))?;
        let of = match left.parse::<ScopedMetric>() {
            Ok(of) => Quantity::One(of),
            Err(MetricNameError::NoDevice { metric }) => Quantity::EveryDevice(metric),
            Err(error) => return Err(fail(error.to_string())),
        };
        let limit: f64 = right
            .parse()
            .ok()
            .filter(|limit: &f64| limit.is_finite())
            .ok_or_else(|| fail(format!("{right:?} is not a number")))?;
        Ok(Self { of, relation, limit })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trial::tests::values;
    use crate::{TrialValues, pareto};

    fn admits(filter: &str, latency: &[(&str, f64)]) -> bool {
        filter.parse::<Filter>().unwrap().admits(values(0.9, 1000, latency).figures())
    }

    #[test]
    fn bounds_hold_where_they_should() {
        assert!(admits("model_bytes<=1000", &[]) && !admits("model_bytes<1000", &[]));
        assert!(
            admits("validation_accuracy >= 0.9", &[]) && !admits("validation_accuracy>0.9", &[])
        );
        assert!(admits("test_accuracy>0", &[]));
    }

    #[test]
    fn latency_is_of_the_named_device_or_of_all() {
        let both = [("rpi4", 5.0), ("phone", 2.0)];
        assert!(admits("latency_ms@phone<=2", &both) && !admits("latency_ms<=2", &both));
        assert!(admits("latency_ms<=5", &both));
        assert!(!admits("latency_ms<=5", &[]) && !admits("latency_ms@rpi4<=5", &[("phone", 1.0)]));
    }

    #[test]
    fn a_bound_concerns_trials_that_have_its_figure() {
        let concerns = |filter: &str, latency: &[(&str, f64)]| {
            filter.parse::<Filter>().unwrap().concerns(values(0.9, 1000, latency).figures())
        };
        let board = [("board", 5.0)];
        assert!(concerns("latency_ms@board<=1", &board) && concerns("latency_ms<=1", &board));
        assert!(!concerns("latency_ms@pi<=1", &board) && !concerns("latency_ms<=1", &[]));
        assert!(!concerns("validation_f1_macro>0", &board));
    }

    proptest! {
        #[test]
        fn a_bound_that_keeps_fronts_may_be_applied_before_or_after(
            trials in prop::collection::vec((0u8..6, 0u64..6, 0u8..6), 1..30), limit in 0u8..6,
        ) {
            let objectives = ["validation_accuracy", "latency_ms@rpi4"]
                .map(|of| Objective::natural(of.parse().unwrap()));
            let trials: Vec<TrialValues> = trials
                .into_iter()
                .map(|(accuracy, bytes, ms)| {
                    values(f64::from(accuracy), bytes, &[("rpi4", f64::from(ms))])
                })
                .collect();
            let front = |trials: &[TrialValues]| -> Vec<TrialValues> {
                let point = |t: &TrialValues| pareto::oriented(&objectives, t.figures()).unwrap();
                let points: Vec<Vec<f64>> = trials.iter().map(point).collect();
                pareto::front(&points).into_iter().map(|i| trials[i].clone()).collect()
            };
            let within = |trials: &[TrialValues], filter: &Filter| -> Vec<TrialValues> {
                trials.iter().filter(|t| filter.admits(t.figures())).cloned().collect()
            };
            let bounds = [
                ("validation_accuracy>=", true),
                ("latency_ms@rpi4<", true),
                ("validation_accuracy<", false),
                ("latency_ms@rpi4>=", false),
                ("latency_ms<", false),
                ("model_bytes<", false),
                ("test_accuracy>", false),
            ];
            for (bound, keeps) in bounds {
                let filter: Filter = format!("{bound}{limit}").parse().unwrap();
                prop_assert_eq!(filter.keeps_front(&objectives), keeps, "{}", bound);
                if keeps {
                    prop_assert_eq!(front(&within(&trials, &filter)), within(&front(&trials), &filter));
                }
            }
        }
    }

    #[test]
    fn invalid_bounds_are_explained() {
        let error = |text: &str| text.parse::<Filter>().unwrap_err().to_string();
        assert!(error("latency_ms").contains("METRIC<=NUMBER"));
        assert!(error("speed<=1").contains("latency_ms"));
        assert!(error("macs<=many").contains("many"));
        assert!(error("macs<=nan").contains("nan"));
        assert!(error("macs@rpi4<=1").contains("every device"));
    }
}
