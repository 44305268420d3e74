//! Fresh weights for a plan, and the check that other weights fit a plan.
//!
//! Randomness comes only from the seed, never from burn's global generator, so that trainings on
//! several threads do not affect each other.

use std::collections::BTreeMap;

use edgesmith_search_space::{LayerOp, Plan};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};

use super::Weights;

/// Why weights do not fit a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// Arrays of the plan are missing.
    #[error("weights lack {}", names.join(", "))]
    Missing {
        /// Their names.
        names: Vec<String>,
    },
    /// There are arrays that the plan does not have.
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
        /// The plan's shape.
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

/// Standard deviation of a convolution's fresh weights, times the square root of its fan-in. Batch
/// normalisation cancels any common factor of a filter, so in training the scale only decides how
/// far a step turns the filter: the same step turns a smaller filter farther, and the gradient also
/// grows as the filter shrinks (van Laarhoven 2017, *L2 regularization versus batch and weight
/// normalization*). Steps are at right angles to the filter and so make it longer: small filters
/// learn fast at first and grow. docs/benchmarks.md has measurements of larger scales.
const SCALE: f64 = 0.1;

impl Weights {
    /// Fresh weights. Convolutions are normal with standard deviation `0.1 / sqrt(fan_in)`, which
    /// is small because batch normalisation follows all of them. Batch normalisation starts as the
    /// identity. The classifier is uniform in `±1/sqrt(inputs)` with a bias of zero.
    pub fn init(plan: &Plan, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let mut weights = Self::default();
        for id in plan.ids() {
            let Some(shape) = plan.weight_shape(id) else { continue };
            let layer = plan.layer(id);
            let [out, inputs, kernel, _] = shape;
            let count = shape.iter().product();
            match layer.op {
                LayerOp::Conv { .. } | LayerOp::Depthwise { .. } => {
                    // `inputs` is 1 for depthwise filters, because of their shape.
                    let fan_in = inputs * kernel * kernel;
                    let deviation = SCALE / (fan_in as f64).sqrt();
                    let normal = Normal::new(0.0, deviation).expect("a finite deviation");
                    let data = (0..count).map(|_| normal.sample(&mut rng) as f32).collect();
                    weights.set(&layer.name, "weight", shape.to_vec(), data);
                    for (part, value) in
                        [("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("variance", 1.0)]
                    {
                        weights.set(&layer.name, part, vec![out], vec![value; out]);
                    }
                }
                LayerOp::Linear => {
                    let bound = 1.0 / (inputs as f64).sqrt();
                    let uniform = Uniform::new(-bound, bound).expect("a positive bound");
                    let data = (0..count).map(|_| uniform.sample(&mut rng) as f32).collect();
                    weights.set(&layer.name, "weight", vec![out, inputs], data);
                    weights.set(&layer.name, "bias", vec![out], vec![0.0; out]);
                }
                LayerOp::Add | LayerOp::GlobalAveragePool => {}
            }
        }
        weights
    }

    /// Checks that these are exactly the weights of `plan`, and all finite.
    ///
    /// # Errors
    /// The first kind of mismatch found, with the names of the arrays.
    pub fn check(&self, plan: &Plan) -> Result<(), WeightsError> {
        let expected = Self::shapes(plan);
        let names = |wanted: &mut dyn Iterator<Item = &String>| wanted.cloned().collect::<Vec<_>>();
        let missing = names(&mut expected.keys().filter(|n| !self.arrays.contains_key(*n)));
        if !missing.is_empty() {
            return Err(WeightsError::Missing { names: missing });
        }
        let unexpected = names(&mut self.arrays.keys().filter(|n| !expected.contains_key(*n)));
        if !unexpected.is_empty() {
            return Err(WeightsError::Unexpected { names: unexpected });
        }
        for (name, shape) in expected {
            let array = &self.arrays[&name];
            let values = array.data.len();
            if array.shape != shape || values != shape.iter().product::<usize>() {
                let given = array.shape.clone();
                return Err(WeightsError::Shape { name, expected: shape, given, values });
            }
            if let Some(value) = array.data.iter().find(|v| !v.is_finite()) {
                return Err(WeightsError::NonFinite { value: value.to_string(), name });
            }
            if name.ends_with(".variance")
                && let Some(value) = array.data.iter().find(|v| **v < 0.0)
            {
                return Err(WeightsError::NegativeVariance { value: value.to_string(), name });
            }
        }
        Ok(())
    }

    /// Name and shape of every array of a plan's weights.
    pub(crate) fn shapes(plan: &Plan) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = BTreeMap::new();
        for id in plan.ids() {
            let Some([out, inputs, rows, columns]) = plan.weight_shape(id) else { continue };
            let layer = plan.layer(id);
            let mut add =
                |part: &str, shape| shapes.insert(format!("{}.{part}", layer.name), shape);
            if layer.op == LayerOp::Linear {
                add("weight", vec![out, inputs]);
                add("bias", vec![out]);
            } else {
                add("weight", vec![out, inputs, rows, columns]);
                for part in ["gamma", "beta", "mean", "variance"] {
                    add(part, vec![out]);
                }
            }
        }
        shapes
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::super::Network;
    use super::super::testing::{conv_plan, residual_plan, scale_filters};
    use super::*;

    #[test]
    fn fresh_weights_fit_their_plan_and_follow_the_seed() {
        for plan in [conv_plan(), residual_plan()] {
            let weights = Weights::init(&plan, [1; 32]);
            assert_eq!(weights.check(&plan), Ok(()));
            assert_eq!(weights, Weights::init(&plan, [1; 32]));
            assert_ne!(weights, Weights::init(&plan, [2; 32]));
        }
    }

    #[test]
    fn the_deviation_of_convolutions_follows_their_fan_in() {
        let plans =
            [(conv_plan(), "stage2.block1.conv"), (residual_plan(), "stage1.block1.depthwise")];
        for (plan, layer) in plans {
            let weights = Weights::init(&plan, [7; 32]);
            let array = weights.get(layer, "weight");
            let [_, inputs, kernel, _] = array.shape[..] else { panic!("four dimensions") };
            let squares = array.data.iter().map(|v| f64::from(v * v));
            let deviation = (squares.sum::<f64>() / array.data.len() as f64).sqrt();
            let expected = SCALE / ((inputs * kernel * kernel) as f64).sqrt();
            assert!((deviation / expected - 1.0).abs() < 0.2, "{layer}: {deviation}, {expected}");
        }
    }

    /// The small scale relies on this: a layer without normalisation would need another scale.
    #[test]
    fn the_scale_of_convolutions_does_not_change_outputs_in_training() {
        for plan in [conv_plan(), residual_plan()] {
            let small = Weights::init(&plan, [3; 32]);
            let mut large = small.clone();
            scale_filters(&mut large, 14.0);
            assert_ne!(small, large);
            let input = plan.input();
            let shape = [5, input.channels, input.height, input.width].map(|n| n as usize);
            let pixels =
                (0..shape.iter().product()).map(|i: usize| (i * i % 97) as f32 / 48.0 - 1.0);
            let images = TensorData::new(pixels.collect::<Vec<f32>>(), shape);
            let [small, large] = [small, large].map(|weights| {
                let device = Device::flex().autodiff();
                let network = Network::new(&plan, &weights, &device);
                let logits = network.forward(Tensor::from_data(images.clone(), &device));
                logits.inner().into_data().try_into_vec::<f32>().unwrap()
            });
            for (small, large) in small.iter().zip(&large) {
                assert!((small - large).abs() < 0.02 * large.abs().max(1.0), "{small} {large}");
            }
        }
    }

    #[test]
    fn every_mismatch_is_named() {
        let plan = conv_plan();
        let good = Weights::init(&plan, [0; 32]);

        let mut lacking = good.clone();
        lacking.arrays.remove("stem.gamma");
        lacking.arrays.remove("stem.beta");
        let names = vec!["stem.beta".to_owned(), "stem.gamma".to_owned()];
        assert_eq!(lacking.check(&plan), Err(WeightsError::Missing { names }));

        let mut extra = good.clone();
        extra.set("head", "bias", vec![1], vec![0.0]);
        let names = vec!["head.bias".to_owned()];
        assert_eq!(extra.check(&plan), Err(WeightsError::Unexpected { names }));

        let mut misshapen = good.clone();
        misshapen.set("classifier", "bias", vec![3], vec![0.0; 3]);
        let error = misshapen.check(&plan).unwrap_err();
        assert!(error.to_string().starts_with("classifier.bias has shape [3]"), "{error}");

        let mut short = good.clone();
        short.arrays.get_mut("stem.weight").unwrap().data.pop();
        assert!(matches!(short.check(&plan), Err(WeightsError::Shape { .. })));

        let mut infinite = good.clone();
        infinite.arrays.get_mut("stem.weight").unwrap().data[3] = f32::NAN;
        let error = infinite.check(&plan).unwrap_err();
        assert_eq!(error.to_string(), "stem.weight contains NaN, which is not a finite number");

        let mut negative = good;
        negative.arrays.get_mut("stem.variance").unwrap().data[0] = -1.0;
        assert!(matches!(negative.check(&plan), Err(WeightsError::NegativeVariance { .. })));
    }
}
