//! Dense, pointwise and depthwise convolutions and their gradients.

use std::borrow::Cow;
use std::sync::Arc;

use super::grid::Grid;
use super::product::{BLOCK, combine, combine_into, correlate};
use super::threads::Threads;

/// Which input channels a filter sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// All; weights `[outputs][inputs][kernel][kernel]`.
    Dense {
        /// Input channels.
        inputs: usize,
        /// Output channels.
        outputs: usize,
    },
    /// Its own; weights `[channels][kernel][kernel]`.
    Depthwise {
        /// Input and output channels.
        channels: usize,
    },
}

/// A square convolution of a batch, padded by `(kernel - 1) / 2` on every side.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Convolution {
    kind: Kind,
    kernel: usize,
    grid: Grid,
    /// No neighbours, no stride, whole blocks: feature maps are used where they lie.
    pointwise: bool,
    batch: usize,
    height: usize,
    width: usize,
    stride: usize,
}

/// An input in its grid's layout, where the forward pass made one.
#[derive(Debug, Clone)]
pub(in super::super) struct Kept(Option<Arc<Vec<f32>>>);

/// What the forward pass saw and kept.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Seen<'a> {
    /// The input's feature maps.
    pub input: &'a [f32],
    /// What [`Convolution::forward`] gave to keep.
    pub kept: &'a Kept,
    /// The filters.
    pub weight: &'a [f32],
}

impl Convolution {
    /// For input feature maps of `height` by `width`; the kernel is odd.
    pub(in super::super) fn new(
        kind: Kind,
        kernel: usize,
        stride: usize,
        [batch, height, width]: [usize; 3],
    ) -> Self {
        let grid = Grid::new(batch, height, width, stride, (kernel - 1) / 2);
        let pointwise =
            kernel == 1 && stride == 1 && (batch * height * width).is_multiple_of(BLOCK);
        Self { kind, kernel, grid, pointwise, batch, height, width, stride }
    }

    /// Channels, batch, height and width of the output.
    pub(in super::super) fn output_shape(&self) -> [usize; 4] {
        let channels = match self.kind {
            Kind::Dense { outputs, .. } => outputs,
            Kind::Depthwise { channels } => channels,
        };
        let (height, width) = (self.height.div_ceil(self.stride), self.width.div_ceil(self.stride));
        [channels, self.batch, height, width]
    }

    /// Output of an input, and what the backward pass wants to see again.
    pub(in super::super) fn forward(
        &self,
        input: &[f32],
        weight: &[f32],
        threads: &Threads,
    ) -> (Vec<f32>, Kept) {
        match self.kind {
            Kind::Dense { inputs, outputs } => {
                let planes = self.spread(&self.grid, input, threads);
                let offsets = self.offsets(inputs);
                let out = self.combined(
                    &self.grid.output(),
                    outputs,
                    &[(offsets, Cow::Borrowed(weight))],
                    &planes,
                    threads,
                );
                let kept = match planes {
                    Cow::Borrowed(_) => Kept(None),
                    Cow::Owned(planes) => Kept(Some(Arc::new(planes))),
                };
                (out, kept)
            }
            Kind::Depthwise { channels } => {
                (self.depthwise_forward(channels, input, weight, threads), Kept(None))
            }
        }
    }

    /// Gradients by the weights and, where it is wanted, by the input, from that by the output.
    pub(in super::super) fn backward(
        &self,
        Seen { input, kept, weight }: Seen<'_>,
        output: &[f32],
        want_input: bool,
        threads: &Threads,
    ) -> (Vec<f32>, Option<Vec<f32>>) {
        match self.kind {
            Kind::Dense { inputs, outputs } => {
                let gradient = self.spread(&self.grid.output(), output, threads);
                let planes = kept.0.as_ref().map_or(input, |planes| planes.as_slice());
                let by_weight =
                    self.dense_weight_gradient(inputs, outputs, planes, &gradient, threads);
                let by_input = want_input.then(|| {
                    self.dense_input_gradient(inputs, outputs, weight, &gradient, threads)
                });
                (by_weight, by_input)
            }
            Kind::Depthwise { channels } => {
                self.depthwise_backward(channels, [input, weight, output], want_input, threads)
            }
        }
    }

    fn dense_weight_gradient(
        &self,
        inputs: usize,
        outputs: usize,
        planes: &[f32],
        gradient: &[f32],
        threads: &Threads,
    ) -> Vec<f32> {
        let grid = self.grid.output();
        let offsets = self.offsets(inputs);
        let mut by_weight = vec![0.0; outputs * offsets.len()];
        let ranges = threads.ranges(outputs).into_iter();
        let parts = ranges.zip(threads.cut(&mut by_weight, offsets.len())).collect();
        threads.run(parts, |(rows, by_weight)| {
            // From the first pixel on; what lies behind the last one is zero.
            let left = &gradient[grid.offset(rows.start, 0)..];
            correlate(rows.len(), grid.length, left, grid.plane, &offsets, planes, by_weight);
        });
        by_weight
    }

    fn dense_input_gradient(
        &self,
        inputs: usize,
        outputs: usize,
        weight: &[f32],
        gradient: &[f32],
        threads: &Threads,
    ) -> Vec<f32> {
        let (grid, taps) = (self.grid.output(), self.taps());
        let of_phase = |readers: &Vec<(usize, isize)>| {
            let offsets: Vec<usize> = (0..outputs)
                .flat_map(|channel| readers.iter().map(move |r| grid.offset(channel, -r.1)))
                .collect();
            let mut factors = Vec::with_capacity(inputs * offsets.len());
            for input in 0..inputs {
                for channel in 0..outputs {
                    let filter = &weight[(channel * inputs + input) * taps..][..taps];
                    factors.extend(readers.iter().map(|(tap, _)| filter[*tap]));
                }
            }
            (offsets, Cow::Owned(factors))
        };
        let phases: Vec<_> = self.readers().iter().map(of_phase).collect();
        self.combined(&self.grid, inputs, &phases, gradient, threads)
    }

    /// Channels of feature maps in `grid`, each phase of which is a combination of runs of `source`:
    /// the offsets of the runs, and `[channels][offsets]` factors.
    fn combined(
        &self,
        grid: &Grid,
        channels: usize,
        phases: &[(Vec<usize>, Cow<'_, [f32]>)],
        source: &[f32],
        threads: &Threads,
    ) -> Vec<f32> {
        let length = self.grid.length;
        threads.build(channels, grid.map(), |range, maps| {
            let factors_of = |phase: &'_ (Vec<usize>, Cow<'_, [f32]>)| {
                let count = phase.0.len();
                range.start * count..range.end * count
            };
            if let ([phase], true) = (phases, self.pointwise) {
                let factors = &phase.1[factors_of(phase)];
                // SAFETY: `combine` writes all.
                unsafe {
                    maps.raw(range.len() * length, |out| {
                        combine(range.len(), length, factors, &phase.0, source, out);
                    });
                }
                return;
            }
            if let [phase] = phases {
                let mut planes = Vec::new();
                let factors = &phase.1[factors_of(phase)];
                combine_into(range.len(), length, factors, &phase.0, source, &mut planes);
                planes.chunks_exact(length).for_each(|plane| grid.join_channel(plane, maps));
                return;
            }
            let own = phases.len() * length;
            let mut planes = vec![0.0; range.len() * own];
            let mut part = Vec::new();
            for (i, phase) in phases.iter().enumerate() {
                let factors = &phase.1[factors_of(phase)];
                combine_into(range.len(), length, factors, &phase.0, source, &mut part);
                let planes = planes.chunks_exact_mut(own);
                for (planes, part) in planes.zip(part.chunks_exact(length)) {
                    planes[i * length..][..length].copy_from_slice(part);
                }
            }
            planes.chunks_exact(own).for_each(|planes| grid.join_channel(planes, maps));
        })
    }

    fn depthwise_forward(
        &self,
        channels: usize,
        input: &[f32],
        weight: &[f32],
        threads: &Threads,
    ) -> Vec<f32> {
        let (offsets, output) = (self.offsets(1), self.grid.output());
        let (size, taps, length) = (self.grid.map(), self.taps(), self.grid.length);
        threads.build(channels, output.map(), |range, maps| {
            let mut planes = vec![0.0; self.grid.phases() * self.grid.plane];
            let mut out = Vec::new();
            for channel in range {
                // The margins stay zero from channel to channel.
                self.grid.split_channel(&input[channel * size..][..size], &mut planes);
                let weight = &weight[channel * taps..][..taps];
                combine_into(1, length, weight, &offsets, &planes, &mut out);
                output.join_channel(&out, maps);
            }
        })
    }

    fn depthwise_backward(
        &self,
        channels: usize,
        [input, weight, output]: [&[f32]; 3],
        want_input: bool,
        threads: &Threads,
    ) -> (Vec<f32>, Option<Vec<f32>>) {
        let (grid, taps, length) = (self.grid.output(), self.taps(), self.grid.length);
        let phases = self.grid.phases();
        let offsets = self.offsets(1);
        let readers = self.readers();
        let distances: Vec<Vec<usize>> = readers
            .iter()
            .map(|readers| readers.iter().map(|r| grid.offset(0, -r.1)).collect())
            .collect();
        let (size, output_size) = (self.grid.map(), grid.map());
        let mut by_weight = vec![0.0; channels * taps];
        let filters = threads.cut(&mut by_weight, taps);
        let by_input_size = if want_input { size } else { 0 };
        let by_input = threads.build_with(channels, by_input_size, filters, |range, by, maps| {
            let mut planes = vec![0.0; phases * self.grid.plane];
            let mut gradient = vec![0.0; grid.plane];
            let (mut part, mut parts) = (Vec::new(), Vec::with_capacity(phases * length));
            for (channel, by_filter) in range.zip(by.chunks_exact_mut(taps)) {
                self.grid.split_channel(&input[channel * size..][..size], &mut planes);
                grid.split_channel(&output[channel * output_size..][..output_size], &mut gradient);
                let left = &gradient[grid.offset(0, 0)..];
                correlate(1, length, left, 0, &offsets, &planes, by_filter);
                if !want_input {
                    continue;
                }
                let filter = &weight[channel * taps..][..taps];
                parts.clear();
                for (readers, distances) in readers.iter().zip(&distances) {
                    let factors: Vec<f32> = readers.iter().map(|(tap, _)| filter[*tap]).collect();
                    if phases == 1 {
                        combine_into(1, length, &factors, distances, &gradient, &mut parts);
                    } else {
                        combine_into(1, length, &factors, distances, &gradient, &mut part);
                        parts.extend_from_slice(&part);
                    }
                }
                self.grid.join_channel(&parts, maps);
            }
        });
        (by_weight, want_input.then_some(by_input))
    }

    /// The kernel positions that read each phase, and from how far.
    fn readers(&self) -> Vec<Vec<(usize, isize)>> {
        let mut readers = vec![Vec::new(); self.grid.phases()];
        for (tap, (phase, distance)) in self.tap_list().into_iter().enumerate() {
            readers[phase].push((tap, distance));
        }
        readers
    }

    /// Kernel positions.
    fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Phase and distance of each kernel position.
    fn tap_list(&self) -> Vec<(usize, isize)> {
        let padding = (self.kernel as isize - 1) / 2;
        let kernel = self.kernel as isize;
        (0..kernel)
            .flat_map(|y| (0..kernel).map(move |x| (y - padding, x - padding)))
            .map(|(down, right)| self.grid.tap(down, right))
            .collect()
    }

    /// Offsets that the filters of `inputs` channels read at, in the order of their weights.
    fn offsets(&self, inputs: usize) -> Vec<usize> {
        let taps = self.tap_list();
        (0..inputs)
            .flat_map(|channel| {
                let at = channel * self.grid.phases();
                taps.iter().map(move |&(phase, distance)| self.grid.offset(at + phase, distance))
            })
            .collect()
    }

    /// Feature maps in the grid's layout, which pointwise ones already have.
    fn spread<'a>(&self, grid: &Grid, maps: &'a [f32], threads: &Threads) -> Cow<'a, [f32]> {
        if self.pointwise { Cow::Borrowed(maps) } else { Cow::Owned(grid.split(maps, threads)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::testing::noise;
    use super::*;

    /// Calls `visit(input index, weight index, output index)` for every product of a convolution.
    fn for_products(c: &Convolution, mut visit: impl FnMut(usize, usize, usize)) {
        let [outputs, batch, rows, columns] = c.output_shape();
        let inputs = match c.kind {
            Kind::Dense { inputs, .. } => inputs,
            Kind::Depthwise { .. } => 1,
        };
        let (k, p) = (c.kernel, (c.kernel - 1) / 2);
        for o in 0..outputs {
            for (i, n) in (0..inputs).flat_map(|i| (0..batch).map(move |n| (i, n))) {
                let channel = if matches!(c.kind, Kind::Dense { .. }) { i } else { o };
                for (oy, ox) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                    for (ky, kx) in (0..k).flat_map(|y| (0..k).map(move |x| (y, x))) {
                        let (y, x) = (oy * c.stride + ky, ox * c.stride + kx);
                        if (p..p + c.height).contains(&y) && (p..p + c.width).contains(&x) {
                            let row = (channel * batch + n) * c.height + y - p;
                            visit(
                                row * c.width + x - p,
                                ((o * inputs + i) * k + ky) * k + kx,
                                ((o * batch + n) * rows + oy) * columns + ox,
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
        fn results_are_those_of_the_plain_loops(
            kind in kinds(),
            kernel in prop::sample::select(vec![1usize, 3, 5]),
            stride in 1usize..3,
            shape in (1usize..9, 1usize..9, 1usize..9),
            seed in 0u8..255,
        ) {
            let (batch, height, width) = shape;
            let c = Convolution::new(kind, kernel, stride, [batch, height, width]);
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
            for_products(&c, |i, w, o| {
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
            let (alone, kept) = c.forward(&input, &weight, &one);
            check(alone.clone(), forward, "output")?;
            let seen = Seen { input: &input, kept: &kept, weight: &weight };
            let (got, without) = c.backward(seen, &output, false, &one);
            check(got, by_weight.clone(), "by weight")?;
            prop_assert!(without.is_none());
            let (by_weight_alone, by_input_alone) = c.backward(seen, &output, true, &one);
            check(by_weight_alone.clone(), by_weight, "by weight")?;
            check(by_input_alone.clone().unwrap(), by_input, "by input")?;
            // The same bits on three threads.
            let three = Threads::new(3);
            prop_assert_eq!(c.forward(&input, &weight, &three).0, alone);
            let got = c.backward(seen, &output, true, &three);
            prop_assert_eq!(got, (by_weight_alone, by_input_alone));
        }
    }
}
