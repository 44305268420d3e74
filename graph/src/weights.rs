//! The numbers of a graph's parameters, by name, and the check that they fit.

use std::collections::BTreeMap;

use crate::{Graph, Parameter, ParameterId, Role};

/// A dense row-major array.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Values, `shape.product()` of them.
    pub data: Vec<f32>,
}

/// The numbers of parameters. They travel apart from the graph that declares them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// By the parameter's name.
    pub arrays: BTreeMap<String, Array>,
}

/// Why weights do not fit a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// Arrays of the network are missing.
    #[error("weights lack {}", names.join(", "))]
    Missing {
        /// Their names.
        names: Vec<String>,
    },
    /// There are arrays that the network does not have.
    #[error("weights have {}, which the network does not have", names.join(", "))]
    Unexpected {
        /// Their names.
        names: Vec<String>,
    },
    /// An array has the wrong shape, or its number of values does not fit its shape.
    #[error(
        "{name} has shape {given:?} with {values} values, but the network needs shape {expected:?}"
    )]
    Shape {
        /// Its name.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The array's shape.
        given: Vec<usize>,
        /// Number of values in the array.
        values: usize,
    },
    /// A value is infinite or NaN.
    #[error("{name} contains {value}, which is not a finite number")]
    NonFinite {
        /// The array's name.
        name: String,
        /// The value.
        value: String,
    },
    /// A variance is negative.
    #[error("{name} contains {value}, but a variance cannot be negative")]
    NegativeVariance {
        /// The array's name.
        name: String,
        /// The value.
        value: String,
    },
}

impl Parameter {
    /// Its shape in the type of [`Array::shape`].
    pub fn sizes(&self) -> Vec<usize> {
        self.shape.iter().map(|&size| size as usize).collect()
    }
}

impl Weights {
    /// The array `owner.part`, for example `("stem", "gamma")`.
    ///
    /// # Panics
    /// If it does not exist. Weights from outside are checked against their network first.
    pub fn get(&self, owner: &str, part: &str) -> &Array {
        let name = format!("{owner}.{part}");
        self.arrays.get(&name).unwrap_or_else(|| panic!("no weights named {name}"))
    }

    /// Sets the array `owner.part`.
    pub fn set(&mut self, owner: &str, part: &str, shape: Vec<usize>, data: Vec<f32>) {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        self.arrays.insert(format!("{owner}.{part}"), Array { shape, data });
    }

    /// The numbers of a parameter of `graph`.
    ///
    /// # Panics
    /// If there are none, or they have another shape. Weights from outside are checked against
    /// their graph first.
    pub fn of(&self, graph: &Graph, parameter: ParameterId) -> &Array {
        let parameter = graph.parameter(parameter);
        let name = &parameter.name;
        let array = self.arrays.get(&**name).unwrap_or_else(|| panic!("no weights named {name}"));
        let fits = array
            .shape
            .iter()
            .map(|&size| size as u64)
            .eq(parameter.shape.iter().map(|&size| u64::from(size)));
        assert!(
            fits && array.data.len() as u64 == parameter.elements(),
            "{name} has another shape"
        );
        array
    }

    /// Checks that these are exactly the weights of `graph`, and all finite.
    ///
    /// # Errors
    /// The first kind of mismatch found, with the names of the arrays.
    pub fn check(&self, graph: &Graph) -> Result<(), WeightsError> {
        let expected: BTreeMap<&str, &Parameter> =
            graph.parameters().map(|(_, p)| (&*p.name, p)).collect();
        let names = |names: &mut dyn Iterator<Item = &str>| -> Vec<String> {
            names.map(str::to_owned).collect()
        };
        let missing =
            names(&mut expected.keys().copied().filter(|n| !self.arrays.contains_key(*n)));
        if !missing.is_empty() {
            return Err(WeightsError::Missing { names: missing });
        }
        let given = self.arrays.keys().map(String::as_str);
        let unexpected = names(&mut given.filter(|n| !expected.contains_key(*n)));
        if !unexpected.is_empty() {
            return Err(WeightsError::Unexpected { names: unexpected });
        }
        expected.into_values().try_for_each(|parameter| fits(parameter, self))
    }
}

fn fits(parameter: &Parameter, weights: &Weights) -> Result<(), WeightsError> {
    let name = parameter.name.to_string();
    let (array, expected) = (&weights.arrays[&name], parameter.sizes());
    let values = array.data.len();
    if array.shape != expected || values as u64 != parameter.elements() {
        let given = array.shape.clone();
        return Err(WeightsError::Shape { name, expected, given, values });
    }
    if let Some(value) = array.data.iter().find(|v| !v.is_finite()) {
        return Err(WeightsError::NonFinite { value: value.to_string(), name });
    }
    let negative = array.data.iter().find(|v| **v < 0.0);
    match negative {
        Some(value) if parameter.role == Role::Variance => {
            Err(WeightsError::NegativeVariance { value: value.to_string(), name })
        }
        _ => Ok(()),
    }
}
