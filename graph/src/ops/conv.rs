//! Convolution over one or two axes of positions: dense, grouped or depthwise.

use smallvec::{SmallVec, smallvec};

use super::window::{self, as_picture};
use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Role, Slot, WindowAxis,
};
use crate::ties::{Port, Relation, Tie, Ties};
use crate::{Scalar, Shape};

/// A convolution, zero-padded. The weight is `[out, in / groups, kernel…]`: it says how many output
/// channels there are and how large the kernel is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conv {
    /// How the kernel moves along each axis of positions.
    pub axes: SmallVec<[WindowAxis; 2]>,
    /// Which input channels an output channel reads.
    pub groups: Groups,
}

/// Which input channels an output channel reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Groups {
    /// Inputs and outputs in so many equal parts; the outputs of a part read its inputs. A dense
    /// convolution has 1.
    Equal(u32),
    /// One part per input channel, however many there are: a depthwise convolution. A convolution
    /// of several channels in as many equal parts is this, and is refused as [`Groups::Equal`].
    PerChannel,
}

impl Groups {
    /// So many parts of `channels` input channels.
    pub fn of(parts: u32, channels: u32) -> Self {
        if parts == channels && parts > 1 { Groups::PerChannel } else { Groups::Equal(parts) }
    }

    /// Number of parts for an input with so many channels.
    pub fn parts(self, channels: u32) -> u32 {
        match self {
            Groups::Equal(groups) => groups,
            Groups::PerChannel => channels,
        }
    }

    /// Checks the operands of a convolution, or of a transposed one, over so many axes of
    /// positions. Returns the number of output channels and the sizes of the kernel.
    pub(super) fn check<'a>(
        self,
        axes: usize,
        operands: &Operands<'a>,
    ) -> Result<(u32, &'a [u32]), InferError> {
        let input = operands.one()?;
        if !(1..=2).contains(&axes) || input.space().len() != axes {
            return Err(InferError::Axes { expected: axes, shape: input.to_string() });
        }
        let groups = self.parts(input.channels());
        if self == Groups::Equal(input.channels()) && groups > 1 {
            let value = format!("{groups} equal parts of one channel; it is depthwise");
            return Err(InferError::Setting { setting: "grouping", value });
        }
        if groups == 0 {
            return Err(InferError::Zero { setting: "number of groups" });
        }
        if !input.channels().is_multiple_of(groups) {
            return Err(InferError::Groups { groups, channels: input.channels() });
        }
        let weight = operands.parameters[0];
        let out = weight.first().copied().unwrap_or(0);
        let kernel = weight.get(2..).unwrap_or_default();
        let reads = input.channels() / groups;
        if weight.len() != 2 + axes || weight[1] != reads {
            let mut fitting = vec![out, reads];
            fitting.extend_from_slice(kernel);
            fitting.resize(2 + axes, 1);
            operands.expect(0, Role::Weight, &fitting)?;
        }
        operands.expect(1, Role::Bias, &[out])?;
        if !out.is_multiple_of(groups) {
            return Err(InferError::Groups { groups, channels: out });
        }
        Ok((out, kernel))
    }

    /// The ties of a convolution, or of a transposed one.
    pub(super) fn ties(self, operands: &Operands, output: &Shape) -> Ties {
        let (inputs, outputs) = (operands.inputs[0].channels(), output.channels());
        let (input, weight) = (Port::Input(0), 0);
        let mut ties = smallvec![Tie::same(Port::Output, Port::Parameter(weight, 0))];
        match self {
            Groups::Equal(1) => ties.push(Tie::same(input, Port::Parameter(weight, 1))),
            // The parts have to stay equally large, so that channels at the same place of each
            // part go together.
            Groups::Equal(groups) => {
                let inputs = Relation::Stride(inputs / groups);
                ties.push(Tie::new(Port::Parameter(weight, 1), input, inputs));
                let outputs = Relation::Stride(outputs / groups);
                ties.push(Tie::new(Port::Output, Port::Output, outputs));
            }
            Groups::PerChannel if inputs == outputs => ties.push(Tie::same(input, Port::Output)),
            Groups::PerChannel => {
                ties.push(Tie::new(input, Port::Output, Relation::Blocks(outputs / inputs)));
            }
        }
        if operands.parameters.len() > 1 {
            ties.push(Tie::same(Port::Output, Port::Parameter(1, 0)));
        }
        ties
    }

    /// The parts that are left where an input keeps so many channels.
    pub(super) fn cut(&mut self, channels: usize) {
        // They may have one input channel each now.
        if let Groups::Equal(parts) = *self {
            *self = Groups::of(parts, channels as u32);
        }
    }

    /// What the multiplications with a kernel of these sizes are.
    pub(super) fn multiplications(self, kernel: &[u32]) -> Multiplications {
        match self {
            Groups::PerChannel => Multiplications::Depthwise,
            Groups::Equal(_) if kernel.iter().all(|&size| size == 1) => Multiplications::Pointwise,
            Groups::Equal(_) => Multiplications::Dense,
        }
    }
}

impl Conv {
    /// A dense convolution with a square kernel and equal padding.
    pub fn dense(kernel: u32, stride: u32) -> Self {
        let axes = SmallVec::from_buf([WindowAxis::same(kernel, stride); 2]);
        Self { axes, groups: Groups::Equal(1) }
    }

    /// A depthwise convolution with a square kernel and equal padding.
    pub fn depthwise(kernel: u32, stride: u32) -> Self {
        Self { groups: Groups::PerChannel, ..Self::dense(kernel, stride) }
    }

    /// Number of parts for an input with so many channels.
    pub fn parts(&self, channels: u32) -> u32 {
        self.groups.parts(channels)
    }
}

impl Operation for Conv {
    fn kind(&self) -> &'static str {
        "conv"
    }

    fn slots(&self) -> &'static [Slot] {
        const SLOTS: [Slot; 2] = [Slot::required(Role::Weight), Slot::optional(Role::Bias)];
        &SLOTS
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let (out, kernel) = self.groups.check(self.axes.len(), operands)?;
        let space = operands.inputs[0].space();
        Ok(Shape::new(out, &window::outputs(&self.axes, kernel, space)?)?)
    }

    fn macs(&self, operands: &Operands, output: &Shape) -> u64 {
        // Each weight is used once per position of the output, padding included.
        let weights: u64 = operands.parameters[0].iter().map(|&size| u64::from(size)).product();
        weights.saturating_mul(output.positions())
    }

    fn multiplications(&self, operands: &Operands) -> Option<Multiplications> {
        Some(self.groups.multiplications(&operands.parameters[0][2..]))
    }

    fn absorbs_factors(&self) -> bool {
        true
    }

    fn effect(&self) -> Effect {
        Effect::Combines
    }

    fn is_alike(&self, other: &Self) -> bool {
        let depthwise = |conv: &Self| conv.groups == Groups::PerChannel;
        depthwise(self) == depthwise(other)
    }

    fn memory(&self) -> Memory {
        Memory::Separate
    }

    fn ties(&self, operands: &Operands, output: &Shape) -> Ties {
        self.groups.ties(operands, output)
    }

    fn cut(&mut self, inputs: &[&[u32]], _: &[u32]) {
        self.groups.cut(inputs[0].len());
    }

    /// Tap by tap over whole rows, which the compiler vectorizes at stride 1.
    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        parameters: &[&[S]],
        output: &Shape,
    ) -> Vec<S> {
        let [height, width] = as_picture(1, operands.inputs[0].space()).map(|n| n as usize);
        let [rows, columns] = as_picture(1, output.space()).map(|n| n as usize);
        let [tall, wide] = as_picture(1, &operands.parameters[0][2..]).map(|n| n as usize);
        let [down, across] = as_picture(WindowAxis::valid(1), &self.axes);
        let channels = operands.inputs[0].channels() as usize;
        let groups = self.parts(operands.inputs[0].channels()) as usize;
        let (reads, writes) = (channels / groups, output.channels() as usize / groups);
        let mut values = vec![S::constant(0.0); output.elements() as usize];
        for (out, plane) in values.chunks_exact_mut(rows * columns).enumerate() {
            if let Some(bias) = parameters.get(1) {
                plane.fill(bias[out]);
            }
            for i in 0..reads {
                let source = &inputs[0][(out / writes * reads + i) * height * width..];
                let filter = &parameters[0][(out * reads + i) * tall * wide..][..tall * wide];
                for (ky, kx) in (0..tall).flat_map(|y| (0..wide).map(move |x| (y, x))) {
                    let weight = filter[ky * wide + kx];
                    let inside = across.inside(kx, width, columns);
                    let Some(first) = across.position(inside.start, kx, width) else { continue };
                    for row in down.inside(ky, height, rows) {
                        let Some(y) = down.position(row, ky, height) else { continue };
                        let line = &source[y * width + first..(y + 1) * width];
                        let sums = &mut plane[row * columns..][inside.clone()];
                        if across.stride == 1 {
                            let line = &line[..sums.len()];
                            sums.iter_mut().zip(line).for_each(|(s, &x)| *s = *s + weight * x);
                        } else {
                            let line = line.iter().step_by(across.stride as usize);
                            sums.iter_mut().zip(line).for_each(|(s, &x)| *s = *s + weight * x);
                        }
                    }
                }
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The sum over all taps, from the definition.
    fn naive(
        conv: &Conv,
        input: &Shape,
        x: &[f64],
        weight: &[u32],
        w: &[f64],
        out: &Shape,
    ) -> Vec<f64> {
        let [height, width] = [input.space()[0], input.space()[1]].map(i64::from);
        let (rows, columns) = (out.space()[0], out.space()[1]);
        let reads = weight[1];
        let writes = weight[0] / conv.parts(input.channels());
        let mut values = Vec::new();
        for o in 0..out.channels() {
            for (row, column) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                let mut sum = 0.0;
                for i in 0..reads {
                    for (ky, kx) in (0..weight[2]).flat_map(|y| (0..weight[3]).map(move |x| (y, x)))
                    {
                        let at = |axis: &WindowAxis, output: u32, tap: u32| {
                            i64::from(output * axis.stride + tap * axis.dilation)
                                - i64::from(axis.before)
                        };
                        let (y, x_) = (at(&conv.axes[0], row, ky), at(&conv.axes[1], column, kx));
                        if (0..height).contains(&y) && (0..width).contains(&x_) {
                            let channel = i64::from(o / writes * reads + i);
                            let from = ((channel * height + y) * width + x_) as usize;
                            let tap = ((o * reads + i) * weight[2] + ky) * weight[3] + kx;
                            sum += x[from] * w[tap as usize];
                        }
                    }
                }
                values.push(sum);
            }
        }
        values
    }

    fn axis() -> impl Strategy<Value = WindowAxis> {
        (1u32..3, 1u32..3, 0u32..3, 0u32..3).prop_map(|(stride, dilation, before, after)| {
            WindowAxis { stride, dilation, before, after }
        })
    }

    proptest! {
        #[test]
        fn a_convolution_is_the_sum_over_its_taps(
            axes in [axis(), axis()],
            groups in prop_oneof![(1u32..4).prop_map(Groups::Equal), Just(Groups::PerChannel)],
            (reads, writes, parts) in (1u32..4, 1u32..4, 1u32..4),
            kernel in [1u32..4, 1u32..4],
            space in [1u32..6, 1u32..6],
            seed: u64,
        ) {
            let (channels, outputs) = match groups {
                Groups::Equal(groups) => (groups * reads, groups * writes),
                Groups::PerChannel => (parts, parts * writes),
            };
            let conv = Conv { axes: axes.into(), groups };
            let input = Shape::new(channels, &space).unwrap();
            let weight = [outputs, channels / conv.parts(channels), kernel[0], kernel[1]];
            let operands = Operands { inputs: &[&input], parameters: &[&weight] };
            if let Ok(output) = conv.infer(&operands) {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let mut random = |count: u64| -> Vec<f64> {
                    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
                };
                let x = random(input.elements());
                let w = random(weight.iter().map(|&n| u64::from(n)).product());
                let got = conv.evaluate(&operands, &[&x], &[&w], &output);
                let expected = naive(&conv, &input, &x, &weight, &w, &output);
                prop_assert_eq!(got.len(), expected.len());
                for (a, b) in got.iter().zip(&expected) {
                    prop_assert!((a - b).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_named() {
        let input = Shape::new(4, &[5, 5]).unwrap();
        let infer = |conv: &Conv, input: &Shape, weight: &[u32]| {
            let operands = Operands { inputs: &[input], parameters: &[weight] };
            conv.infer(&operands).map_err(|error| error.to_string())
        };
        let dense = Conv::dense(3, 1);
        assert_eq!(infer(&dense, &input, &[8, 4, 3, 3]).unwrap().to_string(), "8x5x5");
        let error = infer(&dense, &input, &[8, 3, 3, 3]).unwrap_err();
        assert_eq!(error, "its Weight has shape [8, 3, 3, 3], where [8, 4, 3, 3] is needed");
        let error = infer(&dense, &input, &[8]).unwrap_err();
        assert_eq!(error, "its Weight has shape [8], where [8, 4, 1, 1] is needed");
        let grouped = Conv { groups: Groups::Equal(3), ..dense.clone() };
        let error = infer(&grouped, &input, &[6, 1, 3, 3]).unwrap_err();
        assert_eq!(error, "3 groups do not divide 4 channels");
        let vector = Shape::new(4, &[]).unwrap();
        let error = infer(&dense, &vector, &[8, 4, 3, 3]).unwrap_err();
        assert_eq!(error, "it works on 2 axes of positions, but its input is 4");
    }

    #[test]
    fn dense_pointwise_and_depthwise_convolutions_are_told_apart() {
        let input = Shape::new(4, &[5, 5]).unwrap();
        let kind = |conv: &Conv, weight: &[u32]| {
            conv.multiplications(&Operands { inputs: &[&input], parameters: &[weight] })
        };
        let (dense, depthwise) = (Conv::dense(3, 1), Conv::depthwise(3, 1));
        assert_eq!(kind(&dense, &[8, 4, 3, 3]), Some(Multiplications::Dense));
        assert_eq!(kind(&dense, &[8, 4, 1, 3]), Some(Multiplications::Dense));
        assert_eq!(kind(&Conv::dense(1, 1), &[8, 4, 1, 1]), Some(Multiplications::Pointwise));
        assert_eq!(kind(&depthwise, &[4, 1, 3, 3]), Some(Multiplications::Depthwise));
        // Other kernels and strides may inherit from each other.
        assert!(dense.is_alike(&Conv::dense(5, 2)) && depthwise.is_alike(&Conv::depthwise(5, 2)));
        assert!(!dense.is_alike(&depthwise) && !depthwise.is_alike(&dense));
        assert!(!crate::Op::from(dense).is_alike(&crate::Linear.into()));
    }

    #[test]
    fn macs_count_every_weight_at_every_position() {
        let input = Shape::new(4, &[6]).unwrap();
        let axes = SmallVec::from_slice(&[WindowAxis::same(3, 2)]);
        let conv = Conv { axes, groups: Groups::Equal(2) };
        let weight = [8, 2, 3];
        let operands = Operands { inputs: &[&input], parameters: &[&weight] };
        let output = conv.infer(&operands).unwrap();
        assert_eq!(output.to_string(), "8x3");
        assert_eq!(conv.macs(&operands, &output), 8 * 2 * 3 * 3);
    }
}
