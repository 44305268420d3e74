//! Figures of one network: a map from metric and scope to value.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use edgesmith_search_space::Cost;
use smallvec::SmallVec;

use super::{Metric, Scope, ScopedMetric, Source, Split, Target};

/// What is known about one network. There is at most one value per metric and scope; unknown
/// figures are absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// Which figures are known, sorted by metric and scope. Shared by the trials of a study, which
    /// mostly know the same ones ([`Figures::share_names`]).
    names: Arc<Vec<ScopedMetric>>,
    /// Their values, in the same order; usually without an allocation of their own, because
    /// queries read them for every trial.
    values: SmallVec<[f64; 12]>,
}

/// A list of names that figures can share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FigureNames(Arc<Vec<ScopedMetric>>);

/// Why a figure cannot be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FigureError {
    /// The metric's definition does not allow this value.
    #[error("{of} is wrong: {problem}")]
    Value {
        /// Which figure.
        of: ScopedMetric,
        /// What is wrong with the value.
        problem: String,
    },
    /// The metric is not measured in this scope.
    #[error("{of} is wrong: {} is not measured in this scope", of.metric)]
    Scope {
        /// Which figure.
        of: ScopedMetric,
    },
}

impl Figures {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// The figures that follow from a network's cost by arithmetic.
    pub fn of_cost(cost: &Cost) -> Self {
        let mut figures = Self::new();
        figures.set_cost(cost);
        figures
    }

    /// Sets the figures that follow from a network's cost by arithmetic.
    pub fn set_cost(&mut self, cost: &Cost) {
        for metric in Metric::ALL {
            if let Some(value) = metric.of_cost(cost) {
                self.set(metric.whole(), value);
            }
        }
    }

    /// Sets a figure and replaces an earlier value.
    pub fn set(&mut self, of: ScopedMetric, value: f64) {
        match self.place(&of) {
            Ok(place) => self.values[place] = value,
            Err(place) => {
                Arc::make_mut(&mut self.names).insert(place, of);
                self.values.insert(place, value);
            }
        }
    }

    /// The same figures with this one set.
    #[must_use]
    pub fn with(mut self, of: ScopedMetric, value: f64) -> Self {
        self.set(of, value);
        self
    }

    /// Sets all figures of another map.
    pub fn extend(&mut self, other: &Figures) {
        other.iter().for_each(|(of, value)| self.set(of.clone(), value));
    }

    /// A figure; `None` if it is not known.
    pub fn get(&self, of: &ScopedMetric) -> Option<f64> {
        self.place(of).ok().map(|place| self.values[place])
    }

    /// Removes a figure.
    pub fn remove(&mut self, of: &ScopedMetric) {
        if let Ok(place) = self.place(of) {
            Arc::make_mut(&mut self.names).remove(place);
            self.values.remove(place);
        }
    }

    /// All figures, sorted by metric and scope.
    pub fn iter(&self) -> impl Iterator<Item = (&ScopedMetric, f64)> {
        self.names.iter().zip(self.values.iter().copied())
    }

    /// Uses this list of names instead of its own one if they are equal, else becomes the list for
    /// later figures. A study of many trials then holds the list once, and queries read only the
    /// values of each.
    pub fn share_names(&mut self, names: &mut FigureNames) {
        if self.names == names.0 {
            self.names = Arc::clone(&names.0);
        } else {
            names.0 = Arc::clone(&self.names);
        }
    }

    /// Which figures are known.
    pub fn names(&self) -> FigureNames {
        FigureNames(Arc::clone(&self.names))
    }

    /// Their values, sorted by metric and scope.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Whether no figure is known.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Validation accuracy, `0..=1`.
    pub fn validation_accuracy(&self) -> Option<f64> {
        self.get(&ScopedMetric::VALIDATION_ACCURACY)
    }

    /// Accuracy on the study's own held-out images, `0..=1`.
    pub fn test_accuracy(&self) -> Option<f64> {
        self.get(&ScopedMetric::TEST_ACCURACY)
    }

    /// Median latencies by target, milliseconds.
    pub fn latencies(&self) -> impl Iterator<Item = (&Target, f64)> {
        self.iter().filter_map(|(of, value)| match &of.scope {
            Scope::Target(target) if of.metric == Metric::LATENCY_MS => Some((&**target, value)),
            Scope::Target(_) | Scope::Whole | Scope::Split(_) => None,
        })
    }

    /// Accuracies on the held-out sets of a table, by name, `0..=1`.
    pub fn held_out_accuracies(&self) -> impl Iterator<Item = (&str, f64)> {
        self.iter().filter_map(|(of, value)| match of.split() {
            Some(Split::HeldOut(name)) if of.metric == Metric::ACCURACY => Some((&**name, value)),
            Some(Split::Validation | Split::Test | Split::HeldOut(_)) | None => None,
        })
    }

    /// Seconds that training took; 0 if not known.
    pub fn training_seconds(&self) -> f64 {
        self.get(&Metric::TRAINING_SECONDS.whole()).unwrap_or(0.0)
    }

    /// Training images seen; `None` if not known.
    pub fn images_seen(&self) -> Option<u64> {
        self.get(&Metric::IMAGES_SEEN.whole()).map(|count| count as u64)
    }

    /// The figures that describe the network itself. Leaves out the cost of training, and
    /// latencies, which differ from run to run.
    pub fn repeatable(&self) -> Self {
        let repeats = |of: &ScopedMetric| match of.metric.definition().source {
            Source::Evaluated | Source::File | Source::Analytic(_) => true,
            Source::Measured | Source::Spent => false,
        };
        let repeated = self.iter().filter(|(of, _)| repeats(of));
        repeated.map(|(of, value)| (of.clone(), value)).collect()
    }

    /// Checks every figure against its metric's definition.
    ///
    /// # Errors
    /// Returns the first figure that cannot be right.
    pub fn check(&self) -> Result<(), FigureError> {
        self.iter().try_for_each(|(of, value)| {
            if !of.fits() {
                return Err(FigureError::Scope { of: of.clone() });
            }
            let wrong = |problem| FigureError::Value { of: of.clone(), problem };
            of.metric.check(value).map(drop).map_err(wrong)
        })
    }

    /// Where a figure is, or where it belongs. Goes through the few figures in order, and compares
    /// the scopes only of the same metric: a query of a large study does this for every trial.
    fn place(&self, of: &ScopedMetric) -> Result<usize, usize> {
        for (place, known) in self.names.iter().enumerate() {
            if known.metric < of.metric {
                continue;
            }
            return match known.cmp(of) {
                Ordering::Less => continue,
                Ordering::Equal => Ok(place),
                Ordering::Greater => Err(place),
            };
        }
        Err(self.names.len())
    }
}

impl FigureNames {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Figures of these names, which share the list.
    ///
    /// # Panics
    /// If there are not as many values as names.
    pub fn with(&self, values: impl IntoIterator<Item = f64>) -> Figures {
        let figures = Figures { names: Arc::clone(&self.0), values: values.into_iter().collect() };
        assert_eq!(figures.names.len(), figures.values.len(), "a value for each name");
        figures
    }
}

impl FromIterator<(ScopedMetric, f64)> for Figures {
    /// If a figure occurs several times, the last value counts.
    fn from_iter<T: IntoIterator<Item = (ScopedMetric, f64)>>(figures: T) -> Self {
        let mut all = Self::new();
        figures.into_iter().for_each(|(of, value)| all.set(of, value));
        all
    }
}

/// `validation_accuracy 0.9, macs 1200`, for messages.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (of, value)) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{of} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sharing_names_changes_no_figure() {
        let figures = |macs: f64| Figures::new().with(Metric::MACS.whole(), macs);
        let (mut one, mut two, mut names) = (figures(1.0), figures(2.0), FigureNames::default());
        one.share_names(&mut names);
        two.share_names(&mut names);
        assert!(Arc::ptr_eq(&one.names, &two.names));
        assert_eq!((&one, &two), (&figures(1.0), &figures(2.0)));
        // A change of one leaves the other as it is.
        two.set(Metric::PARAMETERS.whole(), 3.0);
        one.remove(&Metric::MACS.whole());
        assert_eq!(two.to_string(), "macs 2, parameters 3");
        assert!(one.is_empty());
        two.share_names(&mut names);
        assert!(Arc::ptr_eq(&two.names, &names.0));
        let again = two.names().with(two.values().iter().copied());
        assert!(Arc::ptr_eq(&again.names, &two.names));
        assert_eq!((again, names.len(), names.is_empty()), (two, 2, false));
    }

    #[test]
    fn a_figure_is_checked_against_its_definition() {
        let error = |of: &str, value: f64| {
            Figures::new().with(of.parse().unwrap(), value).check().unwrap_err().to_string()
        };
        let text = "validation_accuracy is wrong: 98 is not between 0 and 1";
        assert_eq!(error("validation_accuracy", 98.0), text);
        assert!(error("training_seconds", -1.0).contains("training_seconds is wrong: -1"));
        assert!(error("training_seconds", f64::NAN).contains("NaN"));
        assert!(error("training_seconds", f64::INFINITY).contains("inf"));
        assert!(error("latency_ms@rpi4", 0.0).contains("latency_ms@rpi4 is wrong: 0 is not"));
        assert!(error("latency_ms@rpi4", 1e308).contains("latency_ms@rpi4"));
        assert_eq!(error("macs", 1.5), "macs is wrong: 1.5 is not a whole number");
        let of = ScopedMetric { metric: Metric::MACS, scope: Scope::Split(Split::Test) };
        assert!(matches!(Figures::new().with(of, 1.0).check(), Err(FigureError::Scope { .. })));
    }

    #[test]
    fn latencies_and_held_out_accuracies_are_found_among_the_others() {
        let board = Target::on("board".parse().unwrap());
        let other = Target { threads: 4, ..board.clone() };
        let figures = Figures::new()
            .with(Metric::LATENCY_MS.at(other.clone()), 1.0)
            .with(Metric::LATENCY_MS.at(board.clone()), 3.0)
            .with(Metric::MACS.whole(), 5.0)
            .with(Metric::ACCURACY.on(Split::HeldOut("c10".into())), 0.5);
        let latencies: Vec<(&Target, f64)> = figures.latencies().collect();
        assert_eq!(latencies, [(&board, 3.0), (&other, 1.0)]);
        assert_eq!(figures.held_out_accuracies().collect::<Vec<_>>(), [("c10", 0.5)]);
        assert_eq!(figures.repeatable().iter().count(), 2);
    }

    proptest! {
        #[test]
        fn the_last_value_counts(sets in prop::collection::vec((0usize..8, 0.0f64..9.0), 0..30)) {
            let mut figures = Figures::new();
            let mut expected = std::collections::BTreeMap::new();
            for (metric, value) in sets {
                let of = Metric::ALL[metric % Metric::ALL.len()].whole();
                figures.set(of.clone(), value);
                expected.insert(of, value);
            }
            let all: Vec<(ScopedMetric, f64)> = figures.iter().map(|(of, v)| (of.clone(), v)).collect();
            let expected: Vec<(ScopedMetric, f64)> = expected.into_iter().collect();
            prop_assert_eq!(all, expected);
        }
    }
}
