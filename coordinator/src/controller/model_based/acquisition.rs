//! Acquisition functions: with two objectives the expected hypervolume improvement, in the
//! objectives' own units; with one, or with three and more, a lower confidence bound.

use rand::{Rng, RngExt};

use super::gaussian_process::Prediction;
use super::warp::Warp;

/// Standard deviations below the mean at which a candidate is judged.
const CONFIDENCE: f64 = 2.0;
/// The same for studies with one objective. A higher value explores more: over 150 runs on
/// NAS-Bench-201, 1 to 2 find cells of 72.82 to 72.90 % on CIFAR-100, 3 and 4 of 72.94, with half
/// the variance.
const CONFIDENCE_ALONE: f64 = 3.0;
/// The same for [`Acquisition::rough`].
const CONFIDENCE_ROUGH: f64 = 1.0;

/// Midpoints of eight equally likely slices of the normal distribution, stretched to variance 1.
const NODES: [f64; 8] =
    [-1.662960, -0.961651, -0.529825, -0.170522, 0.170522, 0.529825, 0.961651, 1.662960];

/// How candidates are valued, given what was measured so far.
#[derive(Debug)]
pub enum Acquisition {
    /// The lower confidence bound of the only objective.
    Bound,
    /// The expected hypervolume improvement of two objectives.
    Hypervolume {
        /// The front of the feasible trials.
        stairs: Staircase,
        /// Warps of the two objectives.
        warps: [Warp; 2],
    },
    /// A random augmented Tchebycheff scalarisation.
    Scalarisation {
        /// Weights of the objectives, with sum 1.
        weights: Vec<f64>,
        /// The least warped value of each objective.
        ideal: Vec<f64>,
        /// The best feasible value if gains over it count; else only bounds are compared.
        best: Option<f64>,
    },
}

/// The value of a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// The expected improvement; 0 if there is none, or none is computed.
    pub gain: f64,
    /// A lower bound of the value that the candidate may reach, less is better.
    pub hope: f64,
}

impl Acquisition {
    /// For objectives with these `warps`. `all` has the values of all measured trials, `feasible`
    /// those of the feasible ones. With `costs` and more than two objectives, gains count.
    pub fn new(
        warps: Vec<Warp>,
        all: &[&[f64]],
        feasible: &[&[f64]],
        costs: bool,
        rng: &mut dyn Rng,
    ) -> Self {
        let weights = random_weights(warps.len(), rng);
        let warped = |values: &[f64]| -> Vec<f64> {
            warps.iter().zip(values).map(|(warp, value)| warp.apply(*value)).collect()
        };
        match *warps {
            [_] => Self::Bound,
            [first, second] if !feasible.is_empty() => {
                let points: Vec<[f64; 2]> = feasible.iter().map(|v| [v[0], v[1]]).collect();
                Self::Hypervolume { stairs: Staircase::new(&points), warps: [first, second] }
            }
            _ => {
                let mut ideal = vec![f64::INFINITY; warps.len()];
                for values in all {
                    ideal.iter_mut().zip(warped(values)).for_each(|(i, v)| *i = i.min(v));
                }
                let values = feasible.iter().map(|v| tchebycheff(&warped(v), &weights, &ideal));
                let best = values.fold(f64::INFINITY, f64::min);
                let gains = costs && warps.len() > 2 && best.is_finite();
                Self::Scalarisation { weights, ideal, best: gains.then_some(best) }
            }
        }
    }

    /// The value of a candidate with these predictions, one for each objective.
    pub fn value(&self, predictions: &[Prediction]) -> Value {
        match self {
            Self::Bound => Value { gain: 0.0, hope: predictions[0].bound(CONFIDENCE_ALONE) },
            Self::Hypervolume { stairs, warps: [first, second] } => {
                let gain = stairs.expected([predictions[0], predictions[1]], [first, second]);
                Value { gain, hope: bounds(predictions, CONFIDENCE).iter().sum() }
            }
            Self::Scalarisation { weights, ideal, best } => {
                let gain =
                    best.map_or(0.0, |best| expected_drop(best, predictions, weights, ideal));
                let hope = tchebycheff(&bounds(predictions, CONFIDENCE), weights, ideal);
                Value { gain, hope }
            }
        }
    }

    /// A rough value that is cheap to compute: the gain is that of a lower bound.
    pub fn rough(&self, predictions: &[Prediction]) -> Value {
        let bounds = bounds(predictions, CONFIDENCE_ROUGH);
        match self {
            Self::Bound => Value { gain: 0.0, hope: bounds[0] },
            Self::Hypervolume { stairs, warps: [first, second] } => {
                let point = [first.invert(bounds[0]), second.invert(bounds[1])];
                Value { gain: stairs.improvement(point), hope: bounds.iter().sum() }
            }
            Self::Scalarisation { weights, ideal, best } => {
                let hope = tchebycheff(&bounds, weights, ideal);
                Value { gain: best.map_or(0.0, |best| best - hope), hope }
            }
        }
    }
}

fn bounds(predictions: &[Prediction], confidence: f64) -> Vec<f64> {
    predictions.iter().map(|prediction| prediction.bound(confidence)).collect()
}

/// The non-dominated points of two objectives, less is better, with a reference point.
#[derive(Debug, Clone, PartialEq)]
pub struct Staircase {
    /// Sorted by the first objective ascending, and so by the second descending.
    steps: Vec<[f64; 2]>,
    reference: [f64; 2],
}

impl Staircase {
    /// Built from any points. The reference is worse than the worst value by a tenth of the range.
    pub fn new(points: &[[f64; 2]]) -> Self {
        let worst = |axis: usize| {
            let values = points.iter().map(|point| point[axis]);
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
            high + 0.1 * (high - low).max(f64::MIN_POSITIVE)
        };
        let reference = if points.is_empty() { [0.0; 2] } else { [worst(0), worst(1)] };
        let mut sorted = points.to_vec();
        sorted.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
        let mut steps: Vec<[f64; 2]> = Vec::new();
        for point in sorted {
            if steps.last().is_none_or(|last| point[1] < last[1]) {
                steps.push(point);
            }
        }
        Self { steps, reference }
    }

    /// Area that `point` alone would add.
    pub fn improvement(&self, point: [f64; 2]) -> f64 {
        let [x, y] = point;
        if x >= self.reference[0] || y >= self.reference[1] {
            return 0.0;
        }
        // Start at the last step left of the point, because it bounds the height there.
        let right = self.steps.partition_point(|step| step[0] <= x);
        let mut height = match right.checked_sub(1) {
            Some(left) => self.steps[left][1].min(self.reference[1]),
            None => self.reference[1],
        };
        let (mut area, mut from) = (0.0, x);
        for step in &self.steps[right..] {
            if height <= y {
                return area;
            }
            let to = step[0].min(self.reference[0]);
            area += (to - from).max(0.0) * (height - y);
            (from, height) = (to, step[1]);
        }
        if height > y {
            area += (self.reference[0] - from).max(0.0) * (height - y);
        }
        area
    }

    /// Expected area added by two independent predictions, each through its own warp.
    pub fn expected(&self, predictions: [Prediction; 2], warps: [&Warp; 2]) -> f64 {
        let values = |axis: usize| {
            let Prediction { mean, deviation } = predictions[axis];
            NODES.map(|node| warps[axis].invert(mean + deviation * node))
        };
        let (first, second) = (values(0), values(1));
        let pairs = first.iter().flat_map(|x| second.iter().map(move |y| [*x, *y]));
        pairs.map(|point| self.improvement(point)).sum::<f64>() / 64.0
    }
}

/// The expected improvement of the augmented Tchebycheff value of independent predictions over
/// `best`, as in ParEGO (Knowles 2006). It is the mean over 64 joint draws: a low-discrepancy
/// sequence (Roberts 2018, the generalised golden ratio) over the slices of [`NODES`].
pub fn expected_drop(best: f64, predictions: &[Prediction], weights: &[f64], ideal: &[f64]) -> f64 {
    const DRAWS: u32 = 64;
    let ratio = generalised_golden_ratio(predictions.len());
    let slice = |draw: u32, axis: i32| {
        let place = (0.5 + f64::from(draw) * ratio.powi(-(axis + 1))).fract();
        NODES[((place * NODES.len() as f64) as usize).min(NODES.len() - 1)]
    };
    let drop = |draw: u32| {
        let values: Vec<f64> = (0..)
            .zip(predictions)
            .map(|(axis, p)| p.mean + p.deviation * slice(draw, axis))
            .collect();
        (best - tchebycheff(&values, weights, ideal)).max(0.0)
    };
    (0..DRAWS).map(drop).sum::<f64>() / f64::from(DRAWS)
}

/// The positive root of `x^(d + 1) = x + 1`.
fn generalised_golden_ratio(dimensions: usize) -> f64 {
    let power = 1.0 / (dimensions as f64 + 1.0);
    (0..30).fold(2.0_f64, |x, _| (1.0 + x).powf(power))
}

/// Augmented Tchebycheff value of lower bounds (Knowles 2006), less is better.
pub fn tchebycheff(bounds: &[f64], weights: &[f64], ideal: &[f64]) -> f64 {
    let terms = bounds.iter().zip(weights).zip(ideal).map(|((b, w), i)| w * (b - i));
    let (most, sum) =
        terms.fold((f64::NEG_INFINITY, 0.0), |(most, sum), t: f64| (most.max(t), sum + t));
    most + 0.05 * sum
}

/// Weights that sum to 1, uniform over the simplex.
fn random_weights(objectives: usize, rng: &mut dyn Rng) -> Vec<f64> {
    let draws: Vec<f64> =
        (0..objectives).map(|_| -rng.random::<f64>().max(f64::MIN_POSITIVE).ln()).collect();
    let sum: f64 = draws.iter().sum();
    draws.iter().map(|draw| draw / sum.max(f64::MIN_POSITIVE)).collect()
}

#[cfg(test)]
mod tests {
    use edgesmith_common::pareto;
    use proptest::prelude::*;

    use super::*;

    fn point() -> impl Strategy<Value = [f64; 2]> {
        [0_u8..12, 0_u8..12].prop_map(|p| p.map(|v| f64::from(v) / 4.0))
    }

    proptest! {
        #[test]
        fn the_improvement_is_the_hypervolume_added(
            points in prop::collection::vec(point(), 1..12), probe in point(),
        ) {
            let stairs = Staircase::new(&points);
            let mut all: Vec<Vec<f64>> = points.iter().map(|p| p.to_vec()).collect();
            let before = pareto::hypervolume(&all, &stairs.reference);
            all.push(probe.to_vec());
            let added = pareto::hypervolume(&all, &stairs.reference) - before;
            prop_assert!((stairs.improvement(probe) - added).abs() < 1e-9);
        }

        #[test]
        fn without_doubt_the_expectation_is_the_improvement(
            points in prop::collection::vec(point(), 2..12), probe in point(),
        ) {
            let stairs = Staircase::new(&points);
            let warps = [0, 1].map(|axis| {
                Warp::fit(&points.iter().map(|p| p[axis]).collect::<Vec<_>>())
            });
            let sure = [0, 1].map(|axis: usize| {
                Prediction { mean: warps[axis].apply(probe[axis]), deviation: 0.0 }
            });
            let expected = stairs.expected(sure, [&warps[0], &warps[1]]);
            prop_assert!((expected - stairs.improvement(probe)).abs() < 1e-6);
        }
    }

    #[test]
    fn an_expected_drop_agrees_with_many_random_draws() {
        use rand::SeedableRng as _;
        use rand_distr::{Distribution as _, StandardNormal};

        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let (weights, ideal) = ([0.2, 0.5, 0.3], [-1.0, -2.0, 0.0]);
        let cases: [([f64; 3], [f64; 3]); 3] = [
            ([0.1, -0.5, 0.4], [0.5, 1.0, 0.2]),
            ([1.0, 0.0, 1.0], [0.3, 0.3, 0.0]),
            ([-1.0, -2.0, 0.0], [0.1, 0.1, 0.1]),
        ];
        for (means, deviations) in cases {
            let predictions: Vec<Prediction> = means
                .iter()
                .zip(deviations)
                .map(|(mean, deviation)| Prediction { mean: *mean, deviation })
                .collect();
            let best = 0.6;
            let mut draw = || {
                let value = |p: &Prediction| {
                    let z: f64 = StandardNormal.sample(&mut rng);
                    p.mean + p.deviation * z
                };
                let values: Vec<f64> = predictions.iter().map(value).collect();
                (best - tchebycheff(&values, &weights, &ideal)).max(0.0)
            };
            let many = (0..20_000).map(|_| draw()).sum::<f64>() / 20_000.0;
            let expected = expected_drop(best, &predictions, &weights, &ideal);
            assert!((expected - many).abs() < 0.02 + 0.05 * many, "{expected} {many}");
        }
    }

    #[test]
    fn nodes_have_mean_0_and_variance_1() {
        assert!(NODES.iter().sum::<f64>().abs() < 1e-12);
        let variance = NODES.iter().map(|node| node * node).sum::<f64>() / 8.0;
        assert!((variance - 1.0).abs() < 1e-3, "{variance}");
    }
}
