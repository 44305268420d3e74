//! The layer that makes the teacher's middle values of the student's (FitNets, Romero et al. 2015):
//! a pointwise convolution that is trained along with the student and never ships. It is computed
//! on plain numbers, as the losses are, and by one thread, so that its bits repeat.
//!
//! It does not say which values are compared; [`super::features`] does.

use edgesmith_graph::Array;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Moments, TrainError};

/// Its steps are Adam's (Kingma & Ba 2015) at this rate, whatever the student's rule and rate are:
/// what it reads and makes is about as large in all networks.
const RATE: f64 = 0.002;
/// The shares of Adam's moments that stay in a step.
const STAYS: [f64; 2] = [0.9, 0.999];
/// Keeps Adam from dividing by 0.
const EPSILON: f64 = 1e-8;

/// Before the names of its numbers among the moments of a training.
const NAME: &str = "hint/";
/// The stream of the training's seed that its first numbers are drawn from. Orders of images have
/// the streams of their epochs.
const STREAM: u64 = u64::MAX;

/// A pointwise convolution with a bias, and its optimizer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Regressor {
    /// Channels that it reads.
    from: usize,
    /// `[channels that it makes][from + 1]`, the bias last.
    numbers: Vec<f32>,
    /// Of the numbers, since the last step.
    gradient: Vec<f64>,
    /// Adam's.
    moments: [Vec<f32>; 2],
    steps: u32,
}

impl Regressor {
    /// One with small random numbers of a training's seed, from so many channels to so many.
    pub(super) fn new(from: usize, to: usize, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        rng.set_stream(STREAM);
        // Of such weights the variance is one over their number.
        let bound = (3.0 / from as f32).sqrt();
        let size = to * (from + 1);
        let mut draw = |place: usize| {
            let drawn = rng.random_range(-bound..bound);
            if place % (from + 1) == from { 0.0 } else { drawn }
        };
        let numbers = (0..size).map(&mut draw).collect();
        let moments = [vec![0.0; size], vec![0.0; size]];
        Self { from, numbers, gradient: vec![0.0; size], moments, steps: 0 }
    }

    /// Continues from the numbers that a training left among its moments, and takes them out.
    ///
    /// # Errors
    /// If they are missing or of another size.
    pub(super) fn restore(&mut self, all: &mut Moments) -> Result<(), TrainError> {
        let mut take = |part: &str, count: usize| {
            let name = format!("{NAME}{part}");
            let array = all.remove(&name).filter(|array| array.data.len() == count);
            array.map(|array| array.data).ok_or(TrainError::Checkpoint { name })
        };
        let size = self.numbers.len();
        self.numbers = take("numbers", size)?;
        self.moments = [take("moment_1", size)?, take("moment_2", size)?];
        self.steps = take("steps", 1)?[0] as u32;
        Ok(())
    }

    /// What [`Regressor::restore`] reads.
    pub(super) fn state(&self) -> Moments {
        let [first, second] = &self.moments;
        let steps = vec![self.steps as f32];
        let parts = [
            ("numbers", &self.numbers),
            ("moment_1", first),
            ("moment_2", second),
            ("steps", &steps),
        ];
        let named = parts.map(|(part, data)| {
            (format!("{NAME}{part}"), Array { shape: vec![data.len()], data: data.clone() })
        });
        named.into()
    }

    /// Half the mean square of what it makes of `student` minus `teacher`, and the gradient with
    /// respect to `student`; both are of a batch, `[batch][channels][positions]`. A student that
    /// has more channels than it reads has them at the end. Its own gradient grows by `factor`
    /// times that of the loss.
    pub(super) fn loss(
        &mut self,
        student: &[f32],
        teacher: &[f32],
        (batch, positions): (usize, usize),
        factor: f64,
    ) -> (f64, Vec<f64>) {
        let (row, from) = (self.from + 1, self.from);
        let given = student.len() / batch;
        let wanted = teacher.len() / batch;
        let per_number = 1.0 / (batch * wanted) as f64;
        let mut slopes = vec![0.0; student.len()];
        let (mut loss, mut off) = (0.0, vec![0.0f64; positions]);
        for image in 0..batch {
            let read = &student[image * given..][..from * positions];
            let slopes = &mut slopes[image * given..][..from * positions];
            let targets = teacher[image * wanted..][..wanted].chunks_exact(positions);
            let layer = self.numbers.chunks_exact(row).zip(self.gradient.chunks_exact_mut(row));
            for (target, (weights, gradient)) in targets.zip(layer) {
                let bias = f64::from(weights[from]);
                off.iter_mut().zip(target).for_each(|(off, t)| *off = bias - f64::from(*t));
                for (weight, channel) in weights.iter().zip(read.chunks_exact(positions)) {
                    let weight = f64::from(*weight);
                    off.iter_mut().zip(channel).for_each(|(off, x)| *off += weight * f64::from(*x));
                }
                loss += off.iter().map(|off| off * off).sum::<f64>() / 2.0 * per_number;
                off.iter_mut().for_each(|off| *off *= per_number);
                gradient[from] += factor * off.iter().sum::<f64>();
                let channels = read.chunks_exact(positions).zip(slopes.chunks_exact_mut(positions));
                let learned = weights.iter().zip(&mut gradient[..from]);
                for ((weight, gradient), (channel, slopes)) in learned.zip(channels) {
                    let weight = f64::from(*weight);
                    let mut along = 0.0;
                    for ((slope, x), off) in slopes.iter_mut().zip(channel).zip(&off) {
                        *slope += weight * off;
                        along += f64::from(*x) * off;
                    }
                    *gradient += factor * along;
                }
            }
        }
        (loss, slopes)
    }

    /// Takes a step along the gradient since the last one.
    pub(super) fn step(&mut self) {
        self.steps = self.steps.saturating_add(1);
        let [first, second] = STAYS.map(|stays| 1.0 - stays.powf(f64::from(self.steps)));
        let [means, squares] = &mut self.moments;
        let moments = means.iter_mut().zip(squares);
        for ((number, slope), (mean, square)) in
            self.numbers.iter_mut().zip(&mut self.gradient).zip(moments)
        {
            let m = STAYS[0] * f64::from(*mean) + (1.0 - STAYS[0]) * *slope;
            let v = STAYS[1] * f64::from(*square) + (1.0 - STAYS[1]) * *slope * *slope;
            (*mean, *square) = (m as f32, v as f32);
            let step = RATE * (m / first) / ((v / second).sqrt() + EPSILON);
            *number = (f64::from(*number) - step) as f32;
            *slope = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_testing::noise;

    use super::*;

    const SEED: [u8; 32] = [7; 32];
    const SIZES: (usize, usize) = (3, 4);

    /// The loss from its definition, number by number.
    fn naive(numbers: &[f32], student: &[f32], teacher: &[f32]) -> f64 {
        let ((batch, positions), from) = (SIZES, 2);
        let given = student.len() / batch / positions;
        let to = teacher.len() / batch / positions;
        let mut sum = 0.0;
        for image in 0..batch {
            for made in 0..to {
                for position in 0..positions {
                    let mut value = f64::from(numbers[made * (from + 1) + from]);
                    for read in 0..from {
                        let x = student[(image * given + read) * positions + position];
                        value += f64::from(numbers[made * (from + 1) + read]) * f64::from(x);
                    }
                    let wanted = teacher[(image * to + made) * positions + position];
                    sum += (value - f64::from(wanted)).powi(2);
                }
            }
        }
        sum / (2 * batch * to * positions) as f64
    }

    #[test]
    fn loss_and_gradients_are_those_of_the_definition() {
        // The student has a channel more, as after padding.
        let (batch, positions) = SIZES;
        let student = noise(batch * 3 * positions, 1);
        let teacher = noise(batch * 5 * positions, 2);
        let mut regressor = Regressor::new(2, 5, SEED);
        let numbers = regressor.numbers.clone();
        let (loss, slopes) = regressor.loss(&student, &teacher, SIZES, 1.0);
        assert!((loss - naive(&numbers, &student, &teacher)).abs() < 1e-9);
        let slope = |place: usize, of: &[f32], loss: &dyn Fn(&[f32]) -> f64| {
            let at = |offset: f32| {
                let mut moved = of.to_vec();
                moved[place] += offset;
                (loss(&moved), f64::from(moved[place]))
            };
            let ((low, from), (high, to)) = (at(-1e-2), at(1e-2));
            (high - low) / (to - from)
        };
        for (place, given) in slopes.iter().enumerate() {
            let of = |moved: &[f32]| naive(&numbers, moved, &teacher);
            let expected = slope(place, &student, &of);
            assert!((given - expected).abs() < 1e-6, "{place}: {given} {expected}");
        }
        for (place, given) in regressor.gradient.iter().enumerate() {
            let of = |moved: &[f32]| naive(moved, &student, &teacher);
            let expected = slope(place, &numbers, &of);
            assert!((given - expected).abs() < 1e-6, "{place}: {given} {expected}");
        }
        // Two parts of a batch, each with its share, are the batch.
        let mut parts = Regressor::new(2, 5, SEED);
        let cut = |all: &[f32], images: std::ops::Range<usize>| {
            let row = all.len() / batch;
            all[images.start * row..images.end * row].to_vec()
        };
        for (images, share) in [(0..1, 1.0 / 3.0), (1..3, 2.0 / 3.0)] {
            let (student, teacher) = (cut(&student, images.clone()), cut(&teacher, images.clone()));
            parts.loss(&student, &teacher, (images.len(), positions), share);
        }
        for (a, b) in parts.gradient.iter().zip(&regressor.gradient) {
            assert!((a - b).abs() < 1e-9);
        }
    }

    /// Section 3 of the paper: the moments as sums over all gradients so far, each with the share
    /// that is left of it, and divided by the sum of these shares.
    #[test]
    fn its_steps_are_those_of_adam() {
        let mut regressor = Regressor::new(2, 2, SEED);
        let start: Vec<f64> = regressor.numbers.iter().map(|number| f64::from(*number)).collect();
        // Of very different sizes. The last are so small that what keeps Adam from dividing by 0
        // counts as much as they do.
        let sizes = [1.0, 30.0, 1e-3, 1e-6, 1e-8, 2e-8];
        let gradients: Vec<Vec<f64>> = (0..7)
            .map(|step| {
                let all = noise(sizes.len(), step + 20).into_iter().zip(sizes);
                all.map(|(number, size)| (f64::from(number) + 0.3) * size).collect()
            })
            .collect();
        let mut expected = start.clone();
        for step in 1..=gradients.len() {
            regressor.gradient.copy_from_slice(&gradients[step - 1]);
            regressor.step();
            for (place, number) in expected.iter_mut().enumerate() {
                let mean = |left: f64, power: i32| {
                    let (mut sum, mut shares) = (0.0, 0.0);
                    for (before, gradient) in gradients[..step].iter().rev().enumerate() {
                        let share = left.powi(before as i32);
                        sum += share * gradient[place].powi(power);
                        shares += share;
                    }
                    sum / shares
                };
                *number -= 0.002 * mean(0.9, 1) / (mean(0.999, 2).sqrt() + 1e-8);
            }
            for (place, (got, expected)) in regressor.numbers.iter().zip(&expected).enumerate() {
                let error = (f64::from(*got) - expected).abs();
                assert!(error < 2e-6, "step {step}, {place}: {got} instead of {expected}");
            }
            assert!(regressor.gradient.iter().all(|slope| *slope == 0.0), "it is used up");
        }
        // Each moved by more than the error that is allowed.
        let moved = start.iter().zip(&expected).map(|(before, after)| (before - after).abs());
        assert!(moved.fold(f64::INFINITY, f64::min) > 1e-4);
    }

    #[test]
    fn it_learns_what_a_linear_layer_can_make_and_can_be_stopped() {
        let (batch, positions) = SIZES;
        let student = noise(batch * 2 * positions, 1);
        // The sum and the difference of the two channels.
        let teacher: Vec<f32> = student
            .chunks(2 * positions)
            .flat_map(|image| {
                let (a, b) = image.split_at(positions);
                let sums = a.iter().zip(b).map(|(a, b)| a + b);
                sums.chain(a.iter().zip(b).map(|(a, b)| a - b)).collect::<Vec<_>>()
            })
            .collect();
        let train = |regressor: &mut Regressor, steps: u32| {
            let mut last = 0.0;
            for _ in 0..steps {
                last = regressor.loss(&student, &teacher, SIZES, 3.0).0;
                regressor.step();
            }
            last
        };
        let mut whole = Regressor::new(2, 2, SEED);
        let before = whole.clone().loss(&student, &teacher, SIZES, 1.0).0;
        let after = train(&mut whole, 3000);
        assert!(after < 1e-3 * before, "{before} {after}");
        let mut first = Regressor::new(2, 2, SEED);
        train(&mut first, 1000);
        let mut state = first.state();
        state.insert("moment_1/other".to_owned(), Array { shape: vec![1], data: vec![1.0] });
        let mut second = Regressor::new(2, 2, [1; 32]);
        second.restore(&mut state).unwrap();
        assert_eq!(state.len(), 1);
        train(&mut second, 2000);
        assert_eq!(second, whole);
        let missing = second.restore(&mut state).unwrap_err();
        assert_eq!(missing, TrainError::Checkpoint { name: "hint/numbers".to_owned() });
    }
}
