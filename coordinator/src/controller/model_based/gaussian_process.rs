//! Regression with a Gaussian process of unit prior variance times a fitted amplitude (Rasmussen &
//! Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1).

use super::kernel::{Features, Groups, Kernel, Shape};
use crate::linear_algebra::{cholesky, solve_lower, solve_upper};

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
        let score = |hyper: Hyper| likelihood(groups, &codes, targets, hyper);
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

/// A process fitted to points and their targets.
#[derive(Debug, Clone)]
pub struct GaussianProcess {
    kernel: Kernel,
    /// Lower triangle of the factor of `K + noise`.
    factor: Vec<f64>,
    /// `(K + noise)⁻¹ · targets`
    weights: Vec<f64>,
    amplitude: f64,
}

impl GaussianProcess {
    /// Fits a process to targets with mean 0. `codes` are those of all pairs of points, row by row.
    pub fn fit(groups: &Groups, codes: &[u32], targets: &[f64], hyper: Hyper) -> Self {
        let n = targets.len();
        let kernel = Kernel::new(groups, hyper.shape);
        let mut factor = covariance(&kernel, codes, n, hyper.noise);
        // The kernel is positive definite, and the noise keeps equal points apart.
        let mut noise = hyper.noise;
        while !cholesky(&mut factor, n) {
            noise = noise.max(1e-6) * 10.0;
            factor = covariance(&kernel, codes, n, noise);
        }
        let mut weights = targets.to_vec();
        solve_lower(&factor, n, &mut weights);
        let amplitude = amplitude(&weights);
        solve_upper(&factor, n, &mut weights);
        Self { kernel, factor, weights, amplitude }
    }

    /// The prediction of the noiseless value at a point. `codes` are those of the point with all
    /// fitted points; `scratch` is overwritten.
    pub fn prediction(&self, codes: &[u32], scratch: &mut Vec<f64>) -> Prediction {
        scratch.clear();
        scratch.extend(codes.iter().map(|code| self.kernel.at(*code)));
        solve_lower(&self.factor, scratch.len(), scratch);
        let explained: f64 = scratch.iter().map(|v| v * v).sum();
        self.with_explained(codes, explained)
    }

    /// An approximation of the same that is cheap to compute. The deviation is an upper bound: it
    /// is computed as if only the nearest point were known.
    pub fn rough_prediction(&self, codes: &[u32]) -> Prediction {
        let nearest = codes.iter().map(|code| self.kernel.at(*code)).fold(0.0, f64::max);
        self.with_explained(codes, nearest * nearest)
    }

    /// A prediction at a point for which the fitted points explain the share `explained` of the
    /// variance.
    fn with_explained(&self, codes: &[u32], explained: f64) -> Prediction {
        let terms = codes.iter().zip(&self.weights);
        Prediction {
            mean: terms.map(|(code, weight)| self.kernel.at(*code) * weight).sum(),
            deviation: (self.amplitude * (1.0 - explained).max(0.0)).sqrt(),
        }
    }
}

/// Codes of all pairs, row by row.
pub fn pairwise(groups: &Groups, points: &[Features]) -> Vec<u32> {
    points.iter().flat_map(|point| groups.codes(point, points)).collect()
}

/// Logarithm of the marginal likelihood, up to a constant, at the likeliest amplitude.
fn likelihood(groups: &Groups, codes: &[u32], targets: &[f64], hyper: Hyper) -> f64 {
    let n = targets.len();
    let kernel = Kernel::new(groups, hyper.shape);
    let mut factor = covariance(&kernel, codes, n, hyper.noise);
    if !cholesky(&mut factor, n) {
        return f64::NEG_INFINITY;
    }
    let mut solved = targets.to_vec();
    solve_lower(&factor, n, &mut solved);
    let amplitude = amplitude(&solved);
    let log_determinant: f64 = (0..n).map(|i| factor[i * n + i].ln()).sum();
    -0.5 * n as f64 * amplitude.ln() - log_determinant
}

/// The likeliest amplitude. `solved` is the solution of `L·x = targets`.
fn amplitude(solved: &[f64]) -> f64 {
    (solved.iter().map(|v| v * v).sum::<f64>() / solved.len() as f64).max(1e-12)
}

fn covariance(kernel: &Kernel, codes: &[u32], n: usize, noise: f64) -> Vec<f64> {
    let mut matrix: Vec<f64> = codes.iter().map(|code| kernel.at(*code)).collect();
    (0..n).for_each(|i| matrix[i * n + i] += noise);
    matrix
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
        let codes = pairwise(&groups, &points);
        let process = GaussianProcess::fit(&groups, &codes, &targets, hyper);
        let kernel = Kernel::new(&groups, hyper.shape);
        let matrix = covariance(&kernel, &codes, 25, hyper.noise);
        let weights = solve(matrix.clone(), targets.clone()).unwrap();
        let energy: f64 = weights.iter().zip(&targets).map(|(w, t)| w * t).sum();
        for _ in 0..20 {
            let probe = sample();
            let codes = groups.codes(&probe, &points);
            let k: Vec<f64> = codes.iter().map(|code| kernel.at(*code)).collect();
            let mean: f64 = k.iter().zip(&weights).map(|(a, b)| a * b).sum();
            let found = process.prediction(&codes, &mut Vec::new());
            assert!((found.mean - mean).abs() < 1e-9);
            let solved = solve(matrix.clone(), k.clone()).unwrap();
            let explained: f64 = k.iter().zip(&solved).map(|(a, b)| a * b).sum();
            let deviation = (energy / 25.0 * (1.0 - explained).max(0.0)).sqrt();
            assert!((found.deviation - deviation).abs() < 1e-7, "{found:?} against {deviation}");
            let rough = process.rough_prediction(&codes);
            assert_eq!(rough.mean, found.mean);
            assert!(rough.deviation >= found.deviation - 1e-9);
        }
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
        let score = |hyper| likelihood(&groups, &codes, &targets, hyper);
        assert!(score(refined) >= score(start));
    }
}
