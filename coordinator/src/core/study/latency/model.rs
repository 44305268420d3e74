//! A linear model of latency, and how far its predictions may be off.
//!
//! The latency of a network is close to a sum over its layers, where each layer's cost depends on
//! its kind and size. ProxylessNAS (Cai, Zhu & Han 2019) and FBNet (Wu et al. 2019) add up tables
//! of blocks that were timed one by one, and nn-Meter (Zhang et al. 2021) predicts kernel by
//! kernel. A study times whole networks only. So the sum here is over [`Features`] of the whole
//! network, and the cost of a unit of each feature on the device is fitted. Work takes time, so the
//! fit allows no negative costs. A kind of work that hardly varied among the measured networks then
//! gets a cost of zero rather than a negative one.
//!
//! The interval is that of the jackknife+ (Barber, Candès, Ramdas & Tibshirani 2021). For each
//! measured network, a model is fitted to all others, and its error on the left-out network is
//! noted. A new network is predicted by all of these models, each with its own error as the margin.
//! So the interval is wider where the models disagree, which they do far away from the measured
//! networks. All errors are relative.

use std::collections::VecDeque;

use edgesmith_graph::{Graph, Multiplications, Node};

use crate::linear_algebra::nonnegative;

/// The fewest measurements for a prediction; with fewer the interval cannot reach its level.
pub const FEWEST: usize = TAIL;
/// The most measurements that are fitted; only the latest count. So the cost does not grow with the
/// study, and the fit follows a device that changes.
const MOST: usize = 200;
/// One network in this many may lie outside its interval, which is a level of 95 %.
const TAIL: usize = 20;
/// Plausible latencies, milliseconds: from a nanosecond to eleven days. Others are ignored.
const BELIEVABLE: std::ops::RangeInclusive<f64> = 1e-6..=1e9;

const FEATURES: usize = 8;
/// Number of output channels that the engine computes together; channels added as padding cost as
/// much as others.
const LANES: u64 = 8;

/// What takes time in a network: a constant for the network itself, its number of layers, their
/// output positions, the values and the weights that they read and write, and their multiplications
/// by kind.
///
/// Output positions and rounding channels up to whole vectors are included because small networks
/// spend much of their time outside the multiplications. Over 160 networks for images of 8x8 to
/// 24x24, each timed by the fastest run of three timings, they lowered the median error from 14 %
/// to 7 % in fp32 and from 10 % to 6 % in int8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Features([f64; FEATURES]);

impl Features {
    /// The features of the network that is deployed.
    pub fn of(network: &Graph) -> Self {
        let (mut layers, mut positions, mut moved, mut weights) = (0.0, 0.0, 0.0, 0.0);
        let (mut dense, mut pointwise, mut depthwise) = (0.0, 0.0, 0.0);
        let costs = network.shipped_parameters().into_iter().zip(network.traffic());
        for ((_, node), (shipped, traffic)) in network.nodes().zip(costs) {
            weights += shipped as f64;
            // Normalisations and activations are computed along with the layer before them.
            let Some(traffic) = traffic else { continue };
            layers += 1.0;
            positions += network.shape(node.output).positions() as f64;
            moved += traffic as f64;
            let sum = match network.multiplications(node) {
                Some(Multiplications::Dense) => &mut dense,
                Some(Multiplications::Pointwise) => &mut pointwise,
                Some(Multiplications::Depthwise) => &mut depthwise,
                None => continue,
            };
            *sum += whole_vectors(network, node);
        }
        Self([1.0, layers, positions, moved, weights, dense, pointwise, depthwise])
    }
}

/// Multiply-accumulates of a node with its output channels rounded up to whole vectors.
fn whole_vectors(network: &Graph, node: &Node) -> f64 {
    let channels = u64::from(network.shape(node.output).channels());
    (network.macs(node) / channels) as f64 * channels.next_multiple_of(LANES) as f64
}

/// The cost of a unit of each feature, milliseconds.
#[derive(Debug, Clone, PartialEq)]
struct Weights(Vec<f64>);

impl Weights {
    fn dot(&self, row: &[f64; FEATURES]) -> f64 {
        // The sum may be zero if all of the network's work has a fitted cost of zero, but a latency
        // is positive.
        let sum: f64 = self.0.iter().zip(row).map(|(weight, value)| weight * value).sum();
        sum.max(f64::MIN_POSITIVE)
    }
}

/// Measured networks of one precision on one device class.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Features, each divided by the measured latency. The product of the weights with a row is
    /// then predicted over measured latency, so fitting it to 1 by least squares minimizes the
    /// relative error.
    rows: VecDeque<[f64; FEATURES]>,
}

impl Samples {
    /// Adds a measurement, and drops the oldest one if there are too many.
    pub fn add(&mut self, features: &Features, ms: f64) {
        if !BELIEVABLE.contains(&ms) {
            return;
        }
        if self.rows.len() == MOST {
            self.rows.pop_front();
        }
        self.rows.push_back(features.0.map(|value| value / ms));
    }

    /// The predicted latency, milliseconds; `None` while there are too few measurements.
    pub fn predict(&self, features: &Features) -> Option<f64> {
        (self.rows.len() >= FEWEST).then(|| Normal::of(&self.rows).fit().dot(&features.0))
    }

    /// The models that give prediction intervals; `None` while there are too few measurements.
    pub fn jackknife(&self) -> Option<Jackknife> {
        if self.rows.len() < FEWEST {
            return None;
        }
        let all = Normal::of(&self.rows);
        let without = |row: &[f64; FEATURES]| {
            let weights = all.without(row).fit();
            let ratio = weights.dot(row);
            (weights, ratio.max(1.0 / ratio))
        };
        Some(Jackknife { models: self.rows.iter().map(without).collect() })
    }
}

/// Models that are each fitted without one of the measurements.
#[derive(Debug, Clone)]
pub struct Jackknife {
    /// Each with the factor by which its prediction was off on the measurement that was left out.
    models: Vec<(Weights, f64)>,
}

/// A range in which a latency is expected, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Jackknife {
    /// The number of measurements that the models were fitted to.
    pub fn measurements(&self) -> usize {
        self.models.len()
    }

    /// The interval that holds about 19 in 20 latencies. If networks come in random order, it is
    /// guaranteed to hold at least 18 in 20 (theorem 1 of the paper).
    pub fn interval(&self, features: &Features) -> Interval {
        let ends = self.models.iter().map(|(weights, off)| {
            let ms = weights.dot(&features.0);
            (ms / off, ms * off)
        });
        let (mut low, mut high): (Vec<f64>, Vec<f64>) = ends.unzip();
        low.sort_by(f64::total_cmp);
        high.sort_by(|a, b| b.total_cmp(a));
        let rank = (self.models.len() + 1) / TAIL;
        let end = |sorted: &[f64]| sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0);
        Interval { low: end(&low), high: end(&high) }
    }
}

/// The normal equations of a fit.
#[derive(Debug, Clone)]
struct Normal {
    gram: [[f64; FEATURES]; FEATURES],
    moments: [f64; FEATURES],
}

impl Normal {
    fn of(rows: &VecDeque<[f64; FEATURES]>) -> Self {
        let mut normal = Self { gram: [[0.0; FEATURES]; FEATURES], moments: [0.0; FEATURES] };
        rows.iter().for_each(|row| normal.add(row, 1.0));
        normal
    }

    fn add(&mut self, row: &[f64; FEATURES], times: f64) {
        for (i, value) in row.iter().enumerate() {
            self.moments[i] += times * value;
            self.gram[i].iter_mut().zip(row).for_each(|(g, other)| *g += times * value * other);
        }
    }

    fn without(&self, row: &[f64; FEATURES]) -> Self {
        let mut others = self.clone();
        others.add(row, -1.0);
        others
    }

    fn fit(&self) -> Weights {
        /// Makes the fit unique when features are correlated; far smaller than the measurement
        /// noise.
        const RIDGE: f64 = 1e-6;
        // Scale each feature by its size in the data; otherwise the ridge would weigh millions of
        // multiplications against a count of one network.
        let size = |i: usize| self.gram[i][i].max(f64::MIN_POSITIVE).sqrt();
        let mut gram = vec![0.0; FEATURES * FEATURES];
        for i in 0..FEATURES {
            (0..FEATURES)
                .for_each(|j| gram[i * FEATURES + j] = self.gram[i][j] / (size(i) * size(j)));
            gram[i * FEATURES + i] = 1.0 + RIDGE;
        }
        let moments: Vec<f64> = (0..FEATURES).map(|i| self.moments[i] / size(i)).collect();
        let scaled = nonnegative(&gram, &moments);
        Weights(scaled.iter().enumerate().map(|(i, weight)| weight / size(i)).collect())
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::StudySpec;
    use edgesmith_search_space::Space;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution as _, Normal as Gaussian};

    use super::*;

    /// Networks of a varied space, and the latency of each on a simulated device, milliseconds.
    fn measured(seed: u64, count: usize) -> Vec<(Features, f64)> {
        let text = "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 1\n\
                    objectives = [{ metric = \"macs\" }]\n\
                    [recipe]\nprune = [0.0, 0.2, 0.4]\n\
                    [space]\nresolution = [16, 32]\nstem_width = [8, 16]\n\
                    [[space.stages]]\nwidth = [12, 16, 24]\ndepth = [1, 2]\nkernel = [3, 5]\n\
                    operation = [\"conv\", \"separable\", \"inverted-residual\"]\nexpansion = [2, 4]\n\
                    [[space.stages]]\nwidth = [24, 32, 48]\ndepth = [1, 2, 3]\nstride = 2\n\
                    operation = [\"conv\", \"separable\", \"inverted-residual\"]\nexpansion = [2, 4]\n";
        let spec = StudySpec::parse(text).unwrap();
        let Space::Staged(space) = &spec.space else { panic!("a space of networks") };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let spread = Gaussian::new(0.0, 0.03).unwrap();
        let mut one = || {
            let candidate = space.decode(&spec.space.sample(&mut rng));
            let network = candidate.pruned_graph(space.data()).unwrap();
            let noise: f64 = spread.sample(&mut rng);
            (Features::of(&network), on_the_device(&network) * noise.exp())
        };
        (0..count).map(|_| one()).collect()
    }

    /// Latency in milliseconds on a simulated device. It computes whole vectors of channels like
    /// the model, but differs from it otherwise: a layer takes as long as its multiplications or
    /// its memory accesses, whichever is slower.
    fn on_the_device(network: &Graph) -> f64 {
        let layer = |node: &Node| {
            let rate = match network.multiplications(node) {
                Some(Multiplications::Pointwise) => 4e6,
                Some(Multiplications::Dense) => 6e6,
                Some(Multiplications::Depthwise) => 1e6,
                None => 1.0,
            };
            let output = network.shape(node.output);
            let elements = network.shape(node.inputs[0]).elements() + output.elements();
            0.002 + (whole_vectors(network, node) / rate).max(elements as f64 / 5e5)
        };
        0.01 + network.layers().map(|(_, node)| layer(node)).sum::<f64>()
    }

    fn samples(of: &[(Features, f64)]) -> Samples {
        let mut samples = Samples::default();
        of.iter().for_each(|(features, ms)| samples.add(features, *ms));
        samples
    }

    #[test]
    fn most_networks_are_predicted_within_a_tenth() {
        for seed in 0..5 {
            let all = measured(seed, 340);
            let samples = samples(&all[..40]);
            let close = |(features, ms): &&(Features, f64)| {
                let predicted = samples.predict(features).unwrap();
                (predicted - ms).abs() <= 0.1 * ms
            };
            let right = all[40..].iter().filter(close).count();
            assert!(right >= 255, "seed {seed}: {right} of 300");
        }
    }

    #[test]
    fn intervals_hold_about_as_many_latencies_as_stated() {
        for count in [20, 60, 200] {
            let (mut inside, mut all, mut width) = (0, 0, 0.0);
            for seed in 0..8 {
                let known = measured(seed, count + 100);
                let jackknife = samples(&known[..count]).jackknife().unwrap();
                assert_eq!(jackknife.measurements(), count);
                for (features, ms) in &known[count..] {
                    let Interval { low, high } = jackknife.interval(features);
                    inside += u32::from((low..=high).contains(ms));
                    width += high / low - 1.0;
                    all += 1;
                }
            }
            let share = f64::from(inside) / f64::from(all);
            assert!((0.92..0.985).contains(&share), "of {count}: {share}");
            let width = width / f64::from(all);
            assert!(width < 0.6, "of {count}: {width}");
        }
    }

    #[test]
    fn few_measurements_give_no_prediction() {
        let all = measured(1, FEWEST);
        let few = samples(&all[1..]);
        assert!(few.predict(&all[0].0).is_none() && few.jackknife().is_none());
        let enough = samples(&all);
        assert!(enough.predict(&all[0].0).is_some() && enough.jackknife().is_some());
    }

    #[test]
    fn only_the_latest_measurements_count() {
        let all = measured(3, 2 * MOST);
        let slower = |(features, ms): &(Features, f64)| (*features, 3.0 * ms);
        let later: Vec<_> = all[MOST..].iter().map(slower).collect();
        let mut both = samples(&all[..MOST]);
        later.iter().for_each(|(features, ms)| both.add(features, *ms));
        assert_eq!(both, samples(&later));
    }

    #[test]
    fn implausible_latencies_are_ignored() {
        let all = measured(4, 30);
        let before = samples(&all);
        let mut after = before.clone();
        for ms in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX] {
            after.add(&all[0].0, ms);
        }
        assert_eq!(after, before);
    }

    #[test]
    fn identical_networks_are_predicted_too() {
        let (features, ms) = measured(5, 1)[0];
        let samples = samples(&vec![(features, ms); 30]);
        assert!((samples.predict(&features).unwrap() / ms - 1.0).abs() < 1e-3);
        let Interval { low, high } = samples.jackknife().unwrap().interval(&features);
        assert!(low > 0.99 * ms && high < 1.01 * ms, "{low} {high} {ms}");
        // The smallest and the largest plausible latency.
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut extremes = Samples::default();
        for _ in 0..30 {
            let ms = if rng.random_bool(0.5) { *BELIEVABLE.start() } else { *BELIEVABLE.end() };
            extremes.add(&features, ms);
        }
        let Interval { low, high } = extremes.jackknife().unwrap().interval(&features);
        assert!(low.is_finite() && high.is_finite() && low <= high, "{low} {high}");
    }
}
