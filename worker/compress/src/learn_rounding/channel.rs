//! The rounding of the weights of one output channel: for each weight a number from 0, the level
//! below, to 1, the level above, is moved by its gradient, and pushed to one of both in the end.

use std::ops::{ControlFlow, Range};

use edgesmith_graph::Clip;

/// Fewest and most steps of the descent.
const STEPS: [usize; 2] = [200, 2000];
/// Multiplications for a layer, unless the fewest steps need more: some 20 s.
const WORK: usize = 1 << 36;
/// Rows of a step.
const BATCH: usize = 64;
/// Share of the steps before numbers are pushed to 0 and 1.
const FREE: f32 = 0.2;
/// The exponent of the push at its beginning: it acts only near 0 and 1. And at the end:
/// everywhere.
const EXPONENT: [f32; 2] = [20.0, 2.0];
/// Strength of the push: the sum over all weights, compared with a squared error like that of the
/// nearest levels.
const PUSH: f32 = 10.0;
/// How far a step moves, at most about (Adam; Kingma & Ba 2015), and how fast its means forget.
const RATE: f32 = 0.05;
const FORGET: [f32; 2] = [0.9, 0.999];
/// A sigmoid is stretched to this range and cut off, so that it reaches 0 and 1.
const STRETCH: [f32; 2] = [-0.1, 1.1];
/// Steps between two pauses.
const BETWEEN: usize = 100;

/// One output channel of a layer.
pub(super) struct Channel<'a> {
    /// Row by row, as many numbers as there are weights.
    pub inputs: &'a [f32],
    /// What the channel should compute of each row, within the clip.
    pub targets: &'a [f32],
    pub weights: &'a [f32],
    /// Distance of two levels.
    pub scale: f64,
    pub bias: f32,
    /// What is done with the sum.
    pub clip: Option<Clip>,
    /// Largest absolute level of a weight.
    pub most: f32,
    /// How many steps the descent has.
    pub steps: usize,
}

/// The steps for each channel of a layer with so many weights in all. Large layers have fewer.
pub(super) fn steps(weights: usize) -> usize {
    // A row is multiplied with the weights once, and with the error once.
    (WORK / (2 * BATCH * weights)).clamp(STEPS[0], STEPS[1])
}

impl Channel<'_> {
    /// The level of each weight. `None` if `pause` breaks.
    pub fn levels(&self, pause: &mut dyn FnMut() -> ControlFlow<()>) -> Option<Vec<f32>> {
        let exact: Vec<f64> = self.weights.iter().map(|&w| f64::from(w) / self.scale).collect();
        let nearest: Vec<f32> =
            exact.iter().map(|level| (level.round() as f32).clamp(-self.most, self.most)).collect();
        let error = self.error(&nearest);
        if error <= 0.0 || !error.is_finite() {
            return Some(nearest);
        }
        let learned = Descent::new(self, &exact, &nearest, error).run(pause)?;
        Some(if self.error(&learned) < error { learned } else { nearest })
    }

    /// Mean of the squared errors of all rows.
    fn error(&self, levels: &[f32]) -> f64 {
        let count = self.targets.len().max(1) as f64;
        (0..self.targets.len()).map(|row| f64::from(self.miss(row, levels).0).powi(2)).sum::<f64>()
            / count
    }

    /// How far the answer for a row is above its target; and whether the clip lets changes through.
    fn miss(&self, row: usize, levels: &[f32]) -> (f32, bool) {
        let sum = self.bias + self.scale as f32 * dot(self.row(row), levels);
        let (answer, open) = match self.clip {
            Some(Clip { low, high }) => (sum.clamp(low, high), sum > low && sum < high),
            None => (sum, true),
        };
        (answer - self.targets[row], open)
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.inputs[row * self.weights.len()..][..self.weights.len()]
    }
}

/// The descent of a channel.
struct Descent<'a> {
    channel: &'a Channel<'a>,
    /// The level below each weight, or the only one that it may have.
    below: Vec<f32>,
    /// Whether each weight may go to the level above.
    free: Vec<bool>,
    /// By weight: what the sigmoid makes a number of.
    numbers: Vec<f32>,
    /// Mean squared error with the nearest levels.
    unit: f64,
}

impl<'a> Descent<'a> {
    fn new(channel: &'a Channel<'a>, exact: &[f64], nearest: &[f32], unit: f64) -> Self {
        let [low, high] = STRETCH;
        let most = f64::from(channel.most);
        let free = |level: &f64| {
            // A weight that was cut out stays so.
            *level != 0.0 && level.floor() >= -most && level.floor() < most
        };
        let free: Vec<bool> = exact.iter().map(free).collect();
        let levels = exact.iter().zip(nearest).zip(&free);
        let below = levels.map(
            |((level, &nearest), &free)| {
                if free { level.floor() as f32 } else { nearest }
            },
        );
        let start = |level: &f64| {
            let share = ((level - level.floor()) as f32 - low) / (high - low);
            (share / (1.0 - share)).ln()
        };
        let (below, numbers) = (below.collect(), exact.iter().map(start).collect());
        Self { channel, below, free, numbers, unit }
    }

    fn run(mut self, pause: &mut dyn FnMut() -> ControlFlow<()>) -> Option<Vec<f32>> {
        let mut means = vec![[0.0f32; 2]; self.numbers.len()];
        let mut kept = [1.0f32; 2];
        let mut gradient = vec![0.0; self.numbers.len()];
        let rows = self.channel.targets.len();
        let mut start = 0;
        for step in 0..self.channel.steps {
            if step % BETWEEN == 0 && pause().is_break() {
                return None;
            }
            let batch = start..rows.min(start + BATCH);
            start = if batch.end == rows { 0 } else { batch.end };
            let done = step as f32 / self.channel.steps as f32;
            self.gradient(batch, exponent(done), &mut gradient);
            (0..2).for_each(|i| kept[i] *= FORGET[i]);
            let parts = self.numbers.iter_mut().zip(&mut means).zip(&gradient);
            for ((number, mean), &slope) in parts {
                mean[0] += (1.0 - FORGET[0]) * (slope - mean[0]);
                mean[1] += (1.0 - FORGET[1]) * (slope * slope - mean[1]);
                let size = (mean[1] / (1.0 - kept[1])).sqrt() + 1e-8;
                *number -= RATE * mean[0] / (1.0 - kept[0]) / size;
            }
        }
        let shares = self.shares();
        let level = |((&below, free), share): ((&f32, &bool), f32)| {
            if *free && share >= 0.5 { below + 1.0 } else { below }
        };
        Some(self.below.iter().zip(&self.free).zip(shares).map(level).collect())
    }

    /// By weight: how far it is from the level below to the one above.
    fn shares(&self) -> Vec<f32> {
        self.numbers.iter().map(|&number| share(number)).collect()
    }

    /// The slopes, by number, of the mean squared error of a batch and of the push.
    fn gradient(&self, batch: Range<usize>, exponent: Option<f32>, slopes: &mut [f32]) {
        let levels = self.levels();
        slopes.fill(0.0);
        let rows = batch.len() as f32;
        for row in batch {
            let (miss, open) = self.channel.miss(row, &levels);
            if open && miss != 0.0 {
                let inputs = self.channel.row(row);
                slopes.iter_mut().zip(inputs).for_each(|(slope, x)| *slope += miss * x);
            }
        }
        let factor = 2.0 * self.channel.scale as f32 / (rows * self.unit as f32);
        let push = PUSH / slopes.len() as f32;
        for ((slope, &number), &free) in slopes.iter_mut().zip(&self.numbers).zip(&self.free) {
            let sigmoid = 1.0 / (1.0 + (-number).exp());
            let share = stretched(sigmoid);
            if !free || share <= 0.0 || share >= 1.0 {
                *slope = 0.0;
                continue;
            }
            *slope *= factor;
            if let Some(exponent) = exponent {
                let side = 2.0 * share - 1.0;
                *slope -= push * 2.0 * exponent * side.signum() * side.abs().powf(exponent - 1.0);
            }
            *slope *= sigmoid * (1.0 - sigmoid) * (STRETCH[1] - STRETCH[0]);
        }
    }

    /// The levels between the levels.
    fn levels(&self) -> Vec<f32> {
        let parts = self.below.iter().zip(&self.free).zip(&self.numbers);
        parts
            .map(|((&below, free), &number)| if *free { below + share(number) } else { below })
            .collect()
    }
}

/// The exponent of the push when this share of the steps is done; `None` while there is no push.
fn exponent(done: f32) -> Option<f32> {
    let done = (done - FREE) / (1.0 - FREE);
    (done >= 0.0).then(|| EXPONENT[0] + (EXPONENT[1] - EXPONENT[0]) * done)
}

fn share(number: f32) -> f32 {
    stretched(1.0 / (1.0 + (-number).exp())).clamp(0.0, 1.0)
}

fn stretched(sigmoid: f32) -> f32 {
    STRETCH[0] + (STRETCH[1] - STRETCH[0]) * sigmoid
}

/// In several sums, which the compiler computes at once.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use edgesmith_testing::noise;
    use proptest::prelude::*;

    use super::*;

    fn go_on() -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// The error of a batch and the push, from their definitions.
    fn objective(descent: &Descent<'_>, batch: Range<usize>, exponent: Option<f32>) -> f64 {
        let channel = descent.channel;
        let share = |i: usize| {
            let sigmoid = 1.0 / (1.0 + (-f64::from(descent.numbers[i])).exp());
            (sigmoid * 1.2 - 0.1).clamp(0.0, 1.0)
        };
        let shares: Vec<f64> = (0..descent.numbers.len()).map(share).collect();
        let rows = batch.len() as f64;
        let error: f64 = batch
            .map(|row| {
                let mut sum = f64::from(channel.bias);
                for (i, &x) in channel.row(row).iter().enumerate() {
                    let more = if descent.free[i] { shares[i] } else { 0.0 };
                    sum += f64::from(x) * channel.scale * (f64::from(descent.below[i]) + more);
                }
                let clip = channel.clip.unwrap_or(Clip { low: f32::MIN, high: f32::MAX });
                let answer = sum.clamp(clip.low.into(), clip.high.into());
                (answer - f64::from(channel.targets[row])).powi(2)
            })
            .sum();
        let push = exponent.map_or(0.0, |exponent| {
            let free = shares.iter().zip(&descent.free).filter(|(_, free)| **free);
            let one =
                |(share, _): (&f64, _)| 1.0 - (2.0 * share - 1.0).abs().powf(f64::from(exponent));
            free.map(one).sum::<f64>() * f64::from(PUSH) / shares.len() as f64
        });
        error / rows / descent.unit + push
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn slopes_are_those_of_the_objective(
            seed: u8,
            count in 1usize..20,
            clipped: bool,
            exponent in prop_oneof![Just(None), (2.0..20.0f32).prop_map(Some)],
        ) {
            let (inputs, mut weights) = (noise(count * 6, seed), noise(count, seed ^ 1));
            weights[0] = 0.0;
            let targets: Vec<f32> = noise(6, seed ^ 2).iter().map(|t| t.max(0.0)).collect();
            let clip = clipped.then_some(Clip { low: 0.0, high: 2.0 });
            let channel = Channel {
                inputs: &inputs,
                targets: &targets,
                weights: &weights,
                scale: 0.3,
                bias: 0.1,
                clip,
                most: 127.0,
                steps: STEPS[1],
            };
            let exact: Vec<f64> = weights.iter().map(|&w| f64::from(w) / 0.3).collect();
            let nearest: Vec<f32> = exact.iter().map(|level| level.round() as f32).collect();
            let mut descent = Descent::new(&channel, &exact, &nearest, 0.7);
            let mut slopes = vec![0.0; count];
            descent.gradient(1..5, exponent, &mut slopes);
            for (i, slope) in slopes.into_iter().enumerate() {
                let (middle, step) = (descent.numbers[i], 1e-3);
                let mut at = |number: f32| {
                    descent.numbers[i] = number;
                    objective(&descent, 1..5, exponent)
                };
                let [below, here, above] = [middle - step, middle, middle + step].map(&mut at);
                descent.numbers[i] = middle;
                let numeric = (above - below) / (2.0 * f64::from(step));
                // Not where a clip begins within the step.
                let bend = (above + below - 2.0 * here).abs() / f64::from(step);
                let difference = (f64::from(slope) - numeric).abs();
                prop_assert!(difference < 0.01 * numeric.abs().max(1.0) + bend, "{slope} {numeric}");
            }
        }

        #[test]
        fn no_channel_gets_worse(seed: u8, count in 1usize..30, clipped: bool) {
            let (inputs, weights) = (noise(count * 50, seed), noise(count, seed ^ 1));
            let clip = clipped.then_some(Clip::RELU);
            let real: Vec<f32> = inputs
                .chunks_exact(count)
                .map(|row| 0.1 + row.iter().zip(&weights).map(|(x, w)| x * w).sum::<f32>())
                .map(|sum| if clipped { sum.max(0.0) } else { sum })
                .collect();
            let channel = Channel {
                inputs: &inputs,
                targets: &real,
                weights: &weights,
                scale: 0.2,
                bias: 0.1,
                clip,
                most: 127.0,
                steps: STEPS[1],
            };
            let nearest: Vec<f32> = weights.iter().map(|w| (w / 0.2).round()).collect();
            let levels = channel.levels(&mut go_on).unwrap();
            prop_assert!(channel.error(&levels) <= channel.error(&nearest) * (1.0 + 1e-9));
            for (level, weight) in levels.iter().zip(&weights) {
                prop_assert!((level - weight / 0.2).abs() < 1.001 && level.fract() == 0.0);
            }
            // The same again.
            prop_assert_eq!(channel.levels(&mut go_on).unwrap(), levels);
        }
    }

    #[test]
    fn large_layers_have_fewer_steps() {
        assert_eq!([1, 200_000].map(steps), [2000; 2]);
        assert_eq!(steps(1 << 20), 512);
        assert_eq!(steps(1 << 30), 200);
    }

    /// Two inputs that are always alike: 0.4 and 0.4 of a level are best as 0 and 1, of which the
    /// nearest levels, 0 and 0, know nothing.
    #[test]
    fn errors_that_add_up_are_balanced() {
        let inputs = [1.0, 1.0, 2.0, 2.0, -1.0, -1.0];
        let targets = [0.8, 1.6, -0.8];
        let channel = Channel {
            inputs: &inputs,
            targets: &targets,
            weights: &[0.41, 0.39],
            scale: 1.0,
            bias: 0.0,
            clip: None,
            most: 127.0,
            steps: STEPS[1],
        };
        let levels = channel.levels(&mut go_on).unwrap();
        assert_eq!(levels.iter().sum::<f32>(), 1.0, "{levels:?}");
        // A weight that was cut out stays so, and the end of the scale is kept.
        let cut = Channel { weights: &[0.0, 0.8], ..channel };
        assert_eq!(cut.levels(&mut go_on).unwrap(), [0.0, 1.0]);
        let end = Channel { weights: &[127.0, -127.0], targets: &[9.0; 3], ..cut };
        assert_eq!(end.levels(&mut go_on).unwrap()[0], 127.0);
        assert!(end.levels(&mut || ControlFlow::Break(())).is_none());
    }
}
