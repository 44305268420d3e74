//! Regression with a Gaussian process of unit prior variance times a fitted amplitude (Rasmussen &
//! Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1).

use super::kernel::{Features, Groups, Kernel, Shape};
use crate::linear_algebra::{Factor, LANES};

/// The kernel's free parameters and the noise, as a share of the signal's variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyper {
    /// Parameters of the kernel.
    pub shape: Shape,
    /// Variance of the noise.
    pub noise: f64,
}

const CHOICES: [f64; 4] = [1.0, 2.0, 4.0, 8.0];
const MIX: [f64; 6] = [0.0, 0.3, 0.5, 0.6, 0.9, 0.98];
const COUNTS: [f64; 5] = [1.5, 3.0, 4.0, 8.0, 20.0];
const NOISE: [f64; 6] = [0.0003, 0.001, 0.003, 0.01, 0.05, 0.2];

impl Hyper {
    /// Start of the search for the likeliest parameters.
    pub fn start() -> Self {
        Self { shape: Shape { choices: 4.0, mix: 0.6, counts: 4.0 }, noise: 0.01 }
    }

    /// The likeliest parameters on a grid, found from here by steps along one parameter at a time.
    #[must_use]
    pub fn refined(self, groups: &Groups, points: &[Features], targets: &[f64]) -> Self {
        let codes = pairwise(groups, points);
        let mut factor = Factor::default();
        // Each step along one parameter comes back to points of the grid that are known.
        let mut known: Vec<(Hyper, f64)> = Vec::new();
        let mut score = |hyper: Hyper| {
            if let Some((_, score)) = known.iter().find(|(other, _)| *other == hyper) {
                return *score;
            }
            let score = likelihood(groups, &codes, targets, hyper, &mut factor);
            known.push((hyper, score));
            score
        };
        let (mut best, mut best_score) = (self, score(self));
        loop {
            let before = best_score;
            let mut steps: Vec<Hyper> = Vec::new();
            let with = |shape| Hyper { shape, ..best };
            steps.extend(CHOICES.map(|choices| with(Shape { choices, ..best.shape })));
            steps.extend(MIX.map(|mix| with(Shape { mix, ..best.shape })));
            steps.extend(COUNTS.map(|counts| with(Shape { counts, ..best.shape })));
            steps.extend(NOISE.map(|noise| Hyper { noise, ..best }));
            for step in steps {
                let score = score(step);
                if score > best_score {
                    (best, best_score) = (step, score);
                }
            }
            if best_score <= before {
                return best;
            }
        }
    }
}

/// A predicted value, in the units of the targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Expected value.
    pub mean: f64,
    /// Its standard deviation.
    pub deviation: f64,
}

impl Prediction {
    /// The value `confidence` standard deviations below the mean.
    pub fn bound(&self, confidence: f64) -> f64 {
        self.mean - confidence * self.deviation
    }
}

/// The covariance of the points that a process is fitted to. It does not depend on their targets,
/// so it is kept from one proposal to the next: while the parameters stay, a new point is one more
/// row of the factor. The bits are those of a factor made anew.
#[derive(Debug)]
pub struct Covariance {
    /// `None` before the first fit.
    hyper: Option<Hyper>,
    kernel: Kernel,
    /// The variance of the noise that was needed.
    noise: f64,
    /// Which points the rows are, by the caller's numbers.
    places: Vec<usize>,
    /// Of `K + noise`.
    factor: Factor,
}

impl Covariance {
    /// Of no points.
    pub fn new(groups: &Groups) -> Self {
        let Hyper { shape, noise } = Hyper::start();
        let kernel = Kernel::new(groups, shape);
        Self { hyper: None, kernel, noise, places: Vec::new(), factor: Factor::default() }
    }

    /// Brings it up to these points, each with a number of the caller's that stays with it.
    pub fn update(&mut self, groups: &Groups, hyper: Hyper, points: &[(usize, &Features)]) {
        if self.hyper != Some(hyper) {
            self.kernel = Kernel::new(groups, hyper.shape);
            self.hyper = Some(hyper);
            self.restart(hyper.noise);
        }
        let known = self.places.iter().zip(points).all(|(place, (other, _))| place == other);
        if !known || self.places.len() > points.len() {
            self.restart(hyper.noise);
        }
        // The kernel is positive definite, and the noise keeps equal points apart. Once they need
        // more noise, they also need it with more points.
        loop {
            let (kernel, noise) = (&self.kernel, self.noise);
            let entry = |i: usize, j: usize| {
                let covariance = kernel.at(groups.code(points[i].1, points[j].1));
                if i == j { covariance + noise } else { covariance }
            };
            if self.factor.extend(points.len(), entry) {
                break;
            }
            self.restart(noise.max(1e-6) * 10.0);
        }
        self.places = points.iter().map(|(place, _)| *place).collect();
    }

    fn restart(&mut self, noise: f64) {
        self.noise = noise;
        self.places.clear();
        self.factor.clear();
    }
}

/// A process fitted to points and their targets.
#[derive(Debug)]
pub struct GaussianProcess<'a> {
    covariance: &'a Covariance,
    /// `(K + noise)⁻¹ · targets`
    weights: Vec<f64>,
    amplitude: f64,
}

impl<'a> GaussianProcess<'a> {
    /// Fits a process to targets with mean 0, one for each point of `covariance`.
    pub fn fit(covariance: &'a Covariance, targets: &[f64]) -> Self {
        let mut weights = targets.to_vec();
        covariance.factor.solve_lower(&mut weights);
        let amplitude = amplitude(&weights);
        covariance.factor.solve_upper(&mut weights);
        Self { covariance, weights, amplitude }
    }

    /// Approximate predictions at `N` candidates that are cheap to compute. The mean is that of the
    /// process. The deviation is an upper bound: it is computed as if only the nearest point were
    /// known. `codes` are those of each candidate with all fitted points.
    pub fn rough_predictions<const N: usize>(&self, codes: [&[u32]; N]) -> [Prediction; N] {
        let n = self.weights.len();
        let codes = codes.map(|codes| &codes[..n]);
        // The sums are those of one candidate alone. Side by side they need not wait for each
        // other. An empty sum of floating point numbers is -0.
        let (mut means, mut nearest) = ([-0.0; N], [0.0_f64; N]);
        for (i, weight) in self.weights.iter().enumerate() {
            let lanes = means.iter_mut().zip(&mut nearest).zip(&codes);
            for ((mean, nearest), codes) in lanes {
                let covariance = self.covariance.kernel.at(codes[i]);
                *mean += covariance * weight;
                *nearest = nearest.max(covariance);
            }
        }
        std::array::from_fn(|lane| self.with_explained(means[lane], nearest[lane] * nearest[lane]))
    }

    /// The predictions of the noiseless values at up to [`LANES`] candidates, of which the means
    /// are known. `codes` are as in [`GaussianProcess::rough_predictions`]; `scratch` is
    /// overwritten.
    pub fn predictions(
        &self,
        codes: &[Vec<u32>],
        means: &[f64],
        scratch: &mut Vec<[f64; LANES]>,
    ) -> Vec<Prediction> {
        let kernel = &self.covariance.kernel;
        scratch.clear();
        scratch.extend((0..self.weights.len()).map(|i| {
            std::array::from_fn(|lane| codes.get(lane).map_or(0.0, |codes| kernel.at(codes[i])))
        }));
        self.covariance.factor.solve_lower_lanes(scratch);
        let mut explained = [-0.0; LANES];
        for row in scratch.iter() {
            explained.iter_mut().zip(row).for_each(|(sum, v)| *sum += v * v);
        }
        let both = means.iter().zip(explained).take(codes.len());
        both.map(|(mean, explained)| self.with_explained(*mean, explained)).collect()
    }

    /// A prediction at a point for which the fitted points explain the share `explained` of the
    /// variance.
    fn with_explained(&self, mean: f64, explained: f64) -> Prediction {
        Prediction { mean, deviation: (self.amplitude * (1.0 - explained).max(0.0)).sqrt() }
    }
}

/// Codes of all pairs, row by row.
fn pairwise(groups: &Groups, points: &[Features]) -> Vec<u32> {
    let row = |point| points.iter().map(move |other| groups.code(point, other));
    points.iter().flat_map(row).collect()
}

/// Logarithm of the marginal likelihood, up to a constant, at the likeliest amplitude. `codes` are
/// those of all pairs, and `factor` is overwritten.
fn likelihood(
    groups: &Groups,
    codes: &[u32],
    targets: &[f64],
    hyper: Hyper,
    factor: &mut Factor,
) -> f64 {
    let n = targets.len();
    let kernel = Kernel::new(groups, hyper.shape);
    factor.clear();
    let entry = |i: usize, j: usize| {
        let covariance = kernel.at(codes[i * n + j]);
        if i == j { covariance + hyper.noise } else { covariance }
    };
    if !factor.extend(n, entry) {
        return f64::NEG_INFINITY;
    }
    let mut solved = targets.to_vec();
    factor.solve_lower(&mut solved);
    let amplitude = amplitude(&solved);
    -0.5 * n as f64 * amplitude.ln() - factor.log_diagonal()
}

/// The likeliest amplitude. `solved` is the solution of `L·x = targets`.
fn amplitude(solved: &[f64]) -> f64 {
    (solved.iter().map(|v| v * v).sum::<f64>() / solved.len() as f64).max(1e-12)
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::{CellIdentity, CellSpace, Space};
    use rand::SeedableRng as _;

    use super::*;
    use crate::linear_algebra::solve;

    #[test]
    fn mean_and_variance_agree_with_the_textbook() {
        let space = Space::Cell(CellSpace::nas_bench_201(CellIdentity::Network));
        let groups = Groups::new(&space);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut sample = || groups.features(&space.sample(&mut rng));
        let points: Vec<Features> = (0..25).map(|_| sample()).collect();
        let targets: Vec<f64> = (0..25).map(|i| f64::from(i * 7 % 11) / 5.0 - 1.0).collect();
        let hyper = Hyper { noise: 0.05, ..Hyper::start() };
        let numbered: Vec<(usize, &Features)> = points.iter().enumerate().collect();
        let mut covariance = Covariance::new(&groups);
        // Grown in two steps, after other parameters.
        covariance.update(&groups, Hyper::start(), &numbered[..9]);
        covariance.update(&groups, hyper, &numbered[..10]);
        covariance.update(&groups, hyper, &numbered);
        let process = GaussianProcess::fit(&covariance, &targets);
        let kernel = Kernel::new(&groups, hyper.shape);
        let mut matrix: Vec<f64> =
            pairwise(&groups, &points).into_iter().map(|code| kernel.at(code)).collect();
        (0..25).for_each(|i| matrix[i * 25 + i] += hyper.noise);
        let weights = solve(matrix.clone(), targets.clone()).unwrap();
        let energy: f64 = weights.iter().zip(&targets).map(|(w, t)| w * t).sum();
        for _ in 0..20 {
            let probe = sample();
            let codes: Vec<u32> = points.iter().map(|point| groups.code(&probe, point)).collect();
            let k: Vec<f64> = codes.iter().map(|code| kernel.at(*code)).collect();
            let mean: f64 = k.iter().zip(&weights).map(|(a, b)| a * b).sum();
            let [rough] = process.rough_predictions([&codes]);
            let found = process.predictions(&[codes], &[rough.mean], &mut Vec::new())[0];
            assert!((found.mean - mean).abs() < 1e-9);
            let solved = solve(matrix.clone(), k.clone()).unwrap();
            let explained: f64 = k.iter().zip(&solved).map(|(a, b)| a * b).sum();
            let deviation = (energy / 25.0 * (1.0 - explained).max(0.0)).sqrt();
            assert!((found.deviation - deviation).abs() < 1e-7, "{found:?} against {deviation}");
            assert!(rough.deviation >= found.deviation - 1e-9);
        }
    }

    #[test]
    fn a_covariance_that_grew_is_the_one_made_anew() {
        let space = Space::Cell(CellSpace::nas_bench_201(CellIdentity::Network));
        let groups = Groups::new(&space);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let mut points: Vec<Features> =
            (0..30).map(|_| groups.features(&space.sample(&mut rng))).collect();
        // Equal points without noise are not positive definite.
        points[20] = points[3].clone();
        let numbered: Vec<(usize, &Features)> = points.iter().enumerate().collect();
        let hyper = Hyper { noise: 0.0, ..Hyper::start() };
        let anew = |points: &[(usize, &Features)]| {
            let mut covariance = Covariance::new(&groups);
            covariance.update(&groups, hyper, points);
            covariance
        };
        let mut grown = Covariance::new(&groups);
        // At last two points are left out.
        for points in [&numbered[..12], &numbered[..20], &numbered[..30], &numbered[2..29]] {
            grown.update(&groups, hyper, points);
            let expected = anew(points);
            assert_eq!((&grown.factor, &grown.places), (&expected.factor, &expected.places));
            assert_eq!(grown.noise, expected.noise);
        }
        assert!(grown.noise > 0.0);
    }

    #[test]
    fn refining_never_makes_the_data_less_likely() {
        let space = Space::Cell(CellSpace::nas_bench_201(CellIdentity::Network));
        let groups = Groups::new(&space);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let points: Vec<Features> =
            (0..40).map(|_| groups.features(&space.sample(&mut rng))).collect();
        let targets: Vec<f64> = (0..40).map(|i| (f64::from(i) * 0.7).sin()).collect();
        let codes = pairwise(&groups, &points);
        let start = Hyper::start();
        let refined = start.refined(&groups, &points, &targets);
        let score = |hyper| likelihood(&groups, &codes, &targets, hyper, &mut Factor::default());
        assert!(score(refined) >= score(start));
    }
}
