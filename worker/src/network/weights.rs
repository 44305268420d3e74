//! Weights of a network as named plain arrays, independent of burn, so that pruning, folding,
//! quantization and files need no tensor library and no device.

use std::collections::BTreeMap;

/// A dense row-major f32 array.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Values, `shape.product()` of them.
    pub data: Vec<f32>,
}

/// All weights of one plan. For a layer named `L`:
///
/// - convolutions: `L.weight` `[out, in, k, k]` (depthwise `[channels, 1, k, k]`), and batch
///   normalisation's `L.gamma`, `L.beta`, `L.mean`, `L.variance`, each `[out]`; epsilon is
///   [`Weights::EPSILON`];
/// - linear: `L.weight` `[out, in]` and `L.bias` `[out]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// By name.
    pub arrays: BTreeMap<String, Array>,
}

impl Weights {
    /// Epsilon of every batch normalisation.
    pub const EPSILON: f32 = 1e-5;

    /// The array `layer.part`, for example `("stem", "gamma")`.
    ///
    /// # Panics
    /// If it does not exist. Weights from outside are checked against their plan first.
    pub fn get(&self, layer: &str, part: &str) -> &Array {
        let name = format!("{layer}.{part}");
        self.arrays.get(&name).unwrap_or_else(|| panic!("no weights named {name}"))
    }

    /// Sets the array `layer.part`.
    pub fn set(&mut self, layer: &str, part: &str, shape: Vec<usize>, data: Vec<f32>) {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        self.arrays.insert(format!("{layer}.{part}"), Array { shape, data });
    }
}
