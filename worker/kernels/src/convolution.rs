//! Dense, pointwise and depthwise convolutions and their gradients.

use std::borrow::Cow;

use crate::combine::{Combination, Factors, combine};
use crate::correlate::{Correlation, correlate};
use crate::lanes::WIDTH;
use crate::taps::{Reads, Sweep};
use crate::threads::Threads;

/// Which input channels a filter reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All of them; weights `[outputs][inputs][kernel][kernel]`.
    Dense {
        /// Input channels.
        inputs: usize,
        /// Output channels.
        outputs: usize,
    },
    /// The one with its own index; weights `[channels][kernel][kernel]`.
    Depthwise {
        /// Input and output channels.
        channels: usize,
    },
}

/// A square convolution of a batch of images, padded by `(kernel - 1) / 2` on every side.
#[derive(Debug, Clone, Copy)]
pub struct Convolution {
    kind: Kind,
    sweep: Sweep,
    /// Height and width of the output.
    output: [usize; 2],
    batch: usize,
    /// The batch size rounded up to whole vectors.
    lanes: usize,
}

/// The inputs of the forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The input's feature maps.
    pub input: &'a [f32],
    /// The filters.
    pub weight: &'a [f32],
}

impl Convolution {
    /// For `batch` images with input feature maps of `height` by `width`; `kernel` must be odd.
    pub fn new(
        kind: Kind,
        kernel: usize,
        stride: usize,
        [height, width, batch]: [usize; 3],
    ) -> Self {
        let mut sweep = Sweep { kernel, stride, input: [height, width] };
        let output = sweep.output();
        if (kernel, stride) == (1, 1) {
            // A 1x1 kernel reads no neighbours, so all pixels can be one row.
            sweep.input = [height * width, 1];
        }
        Self { kind, sweep, output, batch, lanes: batch.next_multiple_of(WIDTH) }
    }

    /// Channels, height, width and batch of the output.
    pub fn output_shape(&self) -> [usize; 4] {
        let channels = match self.kind {
            Kind::Dense { outputs, .. } => outputs,
            Kind::Depthwise { channels } => channels,
        };
        [channels, self.output[0], self.output[1], self.batch]
    }

    /// The output for `input`.
    pub fn forward(&self, input: &[f32], weight: &[f32], threads: &Threads) -> Vec<f32> {
        let (reads, taps) = (self.sweep.forward(), self.sweep.taps());
        let output = match self.kind {
            Kind::Dense { inputs, outputs } => {
                let factors = Factors { values: weight, row: inputs * taps, channel: taps };
                self.mixed(&reads, &self.widened(input), [inputs, outputs], factors, threads)
            }
            Kind::Depthwise { channels } => {
                self.apart(&reads, &self.widened(input), channels, weight, threads)
            }
        };
        self.narrowed(output)
    }

    /// From the gradient with respect to the output, computes the gradients with respect to the
    /// weights and, if wanted, the input.
    pub fn backward(
        &self,
        Seen { input, weight }: Seen<'_>,
        output: &[f32],
        want_input: bool,
        threads: &Threads,
    ) -> (Vec<f32>, Option<Vec<f32>>) {
        let (input, output) = (&self.widened(input), &self.widened(output));
        let by_weight = self.weight_gradient(input, output, threads);
        if !want_input {
            return (by_weight, None);
        }
        let (reads, taps) = (self.sweep.backward(), self.sweep.taps());
        let by_input = match self.kind {
            Kind::Dense { inputs, outputs } => {
                let factors = Factors { values: weight, row: taps, channel: inputs * taps };
                self.mixed(&reads, output, [outputs, inputs], factors, threads)
            }
            Kind::Depthwise { channels } => self.apart(&reads, output, channels, weight, threads),
        };
        (by_weight, Some(self.narrowed(by_input)))
    }

    /// Computes each row from all channels.
    fn mixed(
        &self,
        reads: &Reads,
        source: &[f32],
        [channels, rows]: [usize; 2],
        factors: Factors<'_>,
        threads: &Threads,
    ) -> Vec<f32> {
        let size = reads.places() * self.lanes;
        let combination = Combination { reads, source, channels, lanes: self.lanes, factors };
        threads.build(rows, size, |range, maps| {
            // SAFETY: `combine` writes all values.
            unsafe { maps.raw(range.len() * size, |out| combine(&combination, range, out)) }
        })
    }

    /// Computes each channel from the same channel.
    fn apart(
        &self,
        reads: &Reads,
        source: &[f32],
        channels: usize,
        weight: &[f32],
        threads: &Threads,
    ) -> Vec<f32> {
        let (lanes, taps) = (self.lanes, self.sweep.taps());
        let (from, to) = (reads.sources() * lanes, reads.places() * lanes);
        threads.build(channels, to, |range, maps| {
            for channel in range {
                let source = &source[channel * from..][..from];
                let values = &weight[channel * taps..][..taps];
                let factors = Factors { values, row: taps, channel: taps };
                let combination = Combination { reads, source, channels: 1, lanes, factors };
                // SAFETY: `combine` writes all values.
                unsafe { maps.raw(to, |out| combine(&combination, 0..1, out)) }
            }
        })
    }

    fn weight_gradient(&self, input: &[f32], output: &[f32], threads: &Threads) -> Vec<f32> {
        let (sweep, lanes, taps) = (&self.sweep, self.lanes, self.sweep.taps());
        let area = |[height, width]: [usize; 2]| height * width * lanes;
        let (right_size, left_size) = (area(sweep.input), area(sweep.output()));
        let (channels, size) = match self.kind {
            Kind::Dense { inputs, outputs } => (outputs, inputs * taps),
            Kind::Depthwise { channels } => (channels, taps),
        };
        let mut by_weight = vec![0.0; channels * size];
        let ranges = threads.ranges(channels).into_iter();
        let parts = ranges.zip(threads.cut(&mut by_weight, size)).collect();
        threads.run(parts, |(range, by_weight)| {
            let left = &output[range.start * left_size..range.end * left_size];
            match self.kind {
                Kind::Dense { .. } => {
                    correlate(&Correlation { sweep, lanes, left, right: input }, by_weight);
                }
                Kind::Depthwise { .. } => {
                    let right = &input[range.start * right_size..range.end * right_size];
                    let sides = left.chunks_exact(left_size).zip(right.chunks_exact(right_size));
                    for ((left, right), by_filter) in sides.zip(by_weight.chunks_exact_mut(taps)) {
                        correlate(&Correlation { sweep, lanes, left, right }, by_filter);
                    }
                }
            }
        });
        by_weight
    }

    /// Pads the images of each pixel with zeros to whole vectors.
    fn widened<'a>(&self, maps: &'a [f32]) -> Cow<'a, [f32]> {
        if self.lanes == self.batch {
            return Cow::Borrowed(maps);
        }
        let mut wide = Vec::with_capacity(maps.len() / self.batch * self.lanes);
        for pixel in maps.chunks_exact(self.batch) {
            wide.extend_from_slice(pixel);
            wide.resize(wide.len() + self.lanes - self.batch, 0.0);
        }
        Cow::Owned(wide)
    }

    /// Undoes [`Convolution::widened`].
    fn narrowed(&self, wide: Vec<f32>) -> Vec<f32> {
        if self.lanes == self.batch {
            return wide;
        }
        wide.chunks_exact(self.lanes).flat_map(|pixel| &pixel[..self.batch]).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::noise;

    /// Calls `visit(input index, weight index, output index)` for every product of a convolution.
    fn for_products(c: &Convolution, size: [usize; 2], mut visit: impl FnMut(usize, usize, usize)) {
        let [outputs, rows, columns, batch] = c.output_shape();
        let [height, width] = size;
        let inputs = match c.kind {
            Kind::Dense { inputs, .. } => inputs,
            Kind::Depthwise { .. } => 1,
        };
        let Sweep { kernel: k, stride, .. } = c.sweep;
        let p = (k - 1) / 2;
        for o in 0..outputs {
            for (i, n) in (0..inputs).flat_map(|i| (0..batch).map(move |n| (i, n))) {
                let channel = if matches!(c.kind, Kind::Dense { .. }) { i } else { o };
                for (oy, ox) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                    for (ky, kx) in (0..k).flat_map(|y| (0..k).map(move |x| (y, x))) {
                        let (y, x) = (oy * stride + ky, ox * stride + kx);
                        if (p..p + height).contains(&y) && (p..p + width).contains(&x) {
                            let pixel = (channel * height + y - p) * width + x - p;
                            visit(
                                pixel * batch + n,
                                ((o * inputs + i) * k + ky) * k + kx,
                                ((o * rows + oy) * columns + ox) * batch + n,
                            );
                        }
                    }
                }
            }
        }
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            (1usize..9, 1usize..9).prop_map(|(inputs, outputs)| Kind::Dense { inputs, outputs }),
            (1usize..6).prop_map(|channels| Kind::Depthwise { channels }),
        ]
    }

    proptest! {
        #[test]
        fn results_equal_those_of_plain_loops(
            kind in kinds(),
            kernel in prop::sample::select(vec![1usize, 3, 5]),
            stride in 1usize..3,
            shape in (1usize..20, 1usize..9, 1usize..9),
            seed in 0u8..255,
        ) {
            let (batch, height, width) = shape;
            let c = Convolution::new(kind, kernel, stride, [height, width, batch]);
            let (inputs, weights) = match kind {
                Kind::Dense { inputs, outputs } => (inputs, inputs * outputs),
                Kind::Depthwise { channels } => (channels, channels),
            };
            let input = noise(inputs * batch * height * width, seed);
            let weight = noise(weights * kernel * kernel, seed ^ 1);
            let output = noise(c.output_shape().iter().product(), seed ^ 2);
            let mut forward = vec![0.0f64; output.len()];
            let mut by_weight = vec![0.0f64; weight.len()];
            let mut by_input = vec![0.0f64; input.len()];
            for_products(&c, [height, width], |i, w, o| {
                forward[o] += f64::from(input[i]) * f64::from(weight[w]);
                by_weight[w] += f64::from(input[i]) * f64::from(output[o]);
                by_input[i] += f64::from(weight[w]) * f64::from(output[o]);
            });
            let check = |got: Vec<f32>, expected: Vec<f64>, what: &str| {
                prop_assert_eq!(got.len(), expected.len());
                for (g, e) in got.iter().zip(&expected) {
                    prop_assert!((f64::from(*g) - e).abs() < 1e-4, "{} {} {}", what, g, e);
                }
                Ok(())
            };
            let one = Threads::one();
            let alone = c.forward(&input, &weight, &one);
            check(alone.clone(), forward, "output")?;
            let seen = Seen { input: &input, weight: &weight };
            let (got, without) = c.backward(seen, &output, false, &one);
            check(got, by_weight.clone(), "by weight")?;
            prop_assert!(without.is_none());
            let (by_weight_alone, by_input_alone) = c.backward(seen, &output, true, &one);
            check(by_weight_alone.clone(), by_weight, "by weight")?;
            check(by_input_alone.clone().unwrap(), by_input, "by input")?;
            // Three threads compute the same bits.
            let three = Threads::new(3);
            prop_assert_eq!(c.forward(&input, &weight, &three), alone);
            let got = c.backward(seen, &output, true, &three);
            prop_assert_eq!(got, (by_weight_alone, by_input_alone));
        }
    }
}
