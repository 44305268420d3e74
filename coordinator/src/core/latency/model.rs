//! A linear model of latency, and how far its predictions may be off.
//!
//! The latency of a network is close to a sum over its layers, each of which costs by its kind and its
//! size. ProxylessNAS (Cai, Zhu & Han 2019) and FBNet (Wu et al. 2019) add up tables of blocks that were
//! timed one by one, nn-Meter (Zhang et al. 2021) predicts kernel by kernel. A study times whole
//! networks only, so the sum is over [`Features`] of the whole network, and what a unit of each costs
//! on the device is fitted. Work takes time, so no unit costs less than nothing: a kind of work that
//! hardly varied among the measured networks is then rather held to be free than credited.
//!
//! The interval is that of the jackknife+ (Barber, Candès, Ramdas & Tibshirani 2021): each measured
//! network is predicted by the model fitted to all others, and a new one by all of these models, each
//! as far off as it was on the network that it did not know. So the interval grows where the models
//! disagree, as they do far away from what was measured. Errors are relative throughout.

use std::collections::VecDeque;

use edgesmith_search_space::{LayerOp, Plan};

use crate::linear_algebra::nonnegative;

/// Fewest measurements for a prediction: with fewer the interval's level could not be reached.
pub const FEWEST: usize = TAIL;
/// Most measurements that are fitted, the latest: cost does not grow with the study, and a device that
/// changes is followed.
const MOST: usize = 200;
/// One network in so many is allowed outside its interval: a level of 95 %.
const TAIL: usize = 20;
/// Latencies that are believed, milliseconds: from a nanosecond to eleven days.
const BELIEVABLE: std::ops::RangeInclusive<f64> = 1e-6..=1e9;

const FEATURES: usize = 8;
/// Output channels that the engine computes together; those that it fills up with cost as much.
const LANES: u64 = 8;

/// What of a network takes time: itself, its layers, their output positions, the values and the weights
/// that they read and write, and their multiplications by kind.
///
/// Positions and whole vectors of channels are there because small networks spend much of their time
/// around the multiplications: over 160 networks for images of 8x8 to 24x24, each timed by the fastest
/// run of three timings, they halved the median error, from 14 % to 7 % in fp32 and from 10 % to 6 % in
/// int8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Features([f64; FEATURES]);

impl Features {
    /// Those of the network that ships.
    pub fn of(plan: &Plan) -> Self {
        let (mut layers, mut positions, mut moved, mut weights) = (0, 0, 0, 0);
        let (mut dense, mut pointwise, mut depthwise) = (0, 0, 0);
        for id in plan.ids() {
            let (layer, output) = (plan.layer(id), plan.output_shape(id));
            layers += 1;
            positions += u64::from(output.height) * u64::from(output.width);
            moved += plan.layer_values(id);
            weights += plan.layer_parameters(id);
            let channels = u64::from(output.channels).max(1);
            let macs = plan.layer_macs(id) / channels * channels.next_multiple_of(LANES);
            match layer.op {
                // A linear layer is a pointwise convolution at one position.
                LayerOp::Conv { kernel: 1, .. } | LayerOp::Linear => pointwise += macs,
                LayerOp::Conv { .. } => dense += macs,
                LayerOp::Depthwise { .. } => depthwise += macs,
                LayerOp::Add | LayerOp::GlobalAveragePool => {}
            }
        }
        let sums = [1, layers, positions, moved, weights, dense, pointwise, depthwise];
        Self(sums.map(|sum| sum as f64))
    }
}

/// What a unit of each feature costs, milliseconds.
#[derive(Debug, Clone, PartialEq)]
struct Weights(Vec<f64>);

impl Weights {
    fn dot(&self, row: &[f64; FEATURES]) -> f64 {
        // A network of work that seems free is not timeless.
        let sum: f64 = self.0.iter().zip(row).map(|(weight, value)| weight * value).sum();
        sum.max(f64::MIN_POSITIVE)
    }
}

/// Measured networks of one precision on one device class.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Features, each divided by the latency: the weights' product with a row is predicted latency
    /// over measured, and least squares to 1 are those of the relative error.
    rows: VecDeque<[f64; FEATURES]>,
}

impl Samples {
    /// Takes in a measurement, and lets go of the oldest where there are too many.
    pub fn add(&mut self, features: &Features, ms: f64) {
        if !BELIEVABLE.contains(&ms) {
            return;
        }
        if self.rows.len() == MOST {
            self.rows.pop_front();
        }
        self.rows.push_back(features.0.map(|value| value / ms));
    }

    /// The latency to expect, milliseconds; `None` while there are too few measurements.
    pub fn predict(&self, features: &Features) -> Option<f64> {
        (self.rows.len() >= FEWEST).then(|| Normal::of(&self.rows).fit().dot(&features.0))
    }

    /// What tells intervals; `None` while there are too few measurements.
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

/// Models that each do without one of the measurements.
#[derive(Debug, Clone)]
pub struct Jackknife {
    /// With the factor by which each was off on the measurement that it did not know.
    models: Vec<(Weights, f64)>,
}

/// Between what a latency is expected, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Jackknife {
    /// From how many measurements.
    pub fn measurements(&self) -> usize {
        self.models.len()
    }

    /// Where 19 in 20 networks are about; 18 in 20 for sure where networks come in random order
    /// (theorem 1 of the paper).
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

/// Normal equations of a fit.
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
        /// Keeps features apart that rise and fall together; far below what measuring tells.
        const RIDGE: f64 = 1e-6;
        // Units as large as the data, or millions of multiplications would be weighed against one
        // network.
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

    /// Networks of a varied space, and how long each takes on a device of the tests.
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
            let plan = space.decode(&spec.space.sample(&mut rng)).pruned_plan(space.data());
            let plan = plan.unwrap();
            let noise: f64 = spread.sample(&mut rng);
            (Features::of(&plan), on_the_device(&plan) * noise.exp())
        };
        (0..count).map(|_| one()).collect()
    }

    /// Milliseconds on a device that computes whole vectors of channels, and yet is not what the model
    /// takes it for: a layer takes as long as its multiplications or its memory, whichever is slower.
    fn on_the_device(plan: &Plan) -> f64 {
        let layer = |id| {
            let rate = match plan.layer(id).op {
                LayerOp::Conv { kernel: 1, .. } | LayerOp::Linear => 4e6,
                LayerOp::Conv { .. } => 6e6,
                LayerOp::Depthwise { .. } => 1e6,
                LayerOp::Add | LayerOp::GlobalAveragePool => 1.0,
            };
            let elements = plan.input_shape(id).elements() + plan.output_shape(id).elements();
            let channels = u64::from(plan.output_shape(id).channels);
            let macs = plan.layer_macs(id) / channels * channels.next_multiple_of(LANES);
            0.002 + (macs as f64 / rate).max(elements as f64 / 5e5)
        };
        0.01 + plan.ids().map(layer).sum::<f64>()
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
    fn intervals_hold_about_as_many_as_they_say() {
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
    fn nothing_is_said_from_few_measurements() {
        let all = measured(1, FEWEST);
        let few = samples(&all[1..]);
        assert!(few.predict(&all[0].0).is_none() && few.jackknife().is_none());
        let enough = samples(&all);
        assert!(enough.predict(&all[0].0).is_some() && enough.jackknife().is_some());
    }

    #[test]
    fn a_device_that_changes_is_followed() {
        let all = measured(3, 2 * MOST);
        let slower = |(features, ms): &(Features, f64)| (*features, 3.0 * ms);
        let later: Vec<_> = all[MOST..].iter().map(slower).collect();
        let mut both = samples(&all[..MOST]);
        later.iter().for_each(|(features, ms)| both.add(features, *ms));
        assert_eq!(both, samples(&later));
    }

    #[test]
    fn what_is_no_latency_changes_nothing() {
        let all = measured(4, 30);
        let before = samples(&all);
        let mut after = before.clone();
        for ms in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX] {
            after.add(&all[0].0, ms);
        }
        assert_eq!(after, before);
    }

    #[test]
    fn networks_that_are_all_alike_are_predicted_too() {
        let (features, ms) = measured(5, 1)[0];
        let samples = samples(&vec![(features, ms); 30]);
        assert!((samples.predict(&features).unwrap() / ms - 1.0).abs() < 1e-3);
        let Interval { low, high } = samples.jackknife().unwrap().interval(&features);
        assert!(low > 0.99 * ms && high < 1.01 * ms, "{low} {high} {ms}");
        // The least and the most that can be measured.
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
