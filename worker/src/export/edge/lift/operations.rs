//! Which operation a layer of the engine is, and layers that become several.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::{
    BatchNormalization, Binary, BinaryFunction, Clip, Conv, ConvTranspose, Flatten, Function,
    Gather, GlobalAveragePool, Groups, LeakyRelu, Linear, Map, Op, Place, Prelu, Reduce,
    ReduceFunction, Reshape, Role, TransposedAxis, ValueId, WindowAxis,
};

use super::tables::{self, Meaning};
use super::{LiftError, Lifting, SAME, taps};
use crate::export::edge::table;

impl Lifting {
    /// Adds a reduction. Axes that do not stay are reshaped away.
    pub(super) fn reduce(
        &mut self,
        reduce: &edge::Reduce,
        input: ValueId,
    ) -> Result<(), LiftError> {
        if self.is_global_mean(reduce, input) {
            return self.node(GlobalAveragePool, &[input], &[], None);
        }
        let edge::Reduce { function, axes, keep } = reduce;
        let function = match function {
            edge::ReduceFunction::L2 => ReduceFunction::L2,
            edge::ReduceFunction::Maximum => ReduceFunction::Maximum,
            edge::ReduceFunction::Mean => ReduceFunction::Mean,
            edge::ReduceFunction::Minimum => ReduceFunction::Minimum,
            edge::ReduceFunction::Sum => ReduceFunction::Sum,
        };
        let op = Reduce { function, axes: axes.clone().into() };
        if *keep {
            return self.node(op, &[input], &[], None);
        }
        let name = format!("{}.reduced", self.name());
        let reduced = self.builder.node(name, op, &[input], &[], Place::default())?;
        let sizes = self.builder.shape(input).sizes();
        let left = (0..sizes.len()).filter(|axis| !axes.contains(&(*axis as u32)));
        let sizes: Vec<u32> = left.map(|axis| sizes[axis]).collect();
        self.reshape(&sizes, reduced)
    }

    /// Adds a reshape to these sizes.
    pub(super) fn reshape(&mut self, sizes: &[u32], input: ValueId) -> Result<(), LiftError> {
        match sizes {
            [_] => self.node(Flatten, &[input], &[], None),
            _ => self.node(Reshape { sizes: sizes.into() }, &[input], &[], None),
        }
    }

    /// Adds a resize, or a choice of positions along each axis that is the same.
    pub(super) fn resize<W: Copy + PartialEq + Into<f64>>(
        &mut self,
        axes: &[Vec<edge::Taps<W>>],
        input: ValueId,
        weights: &dyn Fn([f64; 2]) -> [W; 2],
        whole: W,
    ) -> Result<(), LiftError> {
        let space = self.builder.shape(input).space().to_vec();
        if let Some(resize) = taps::resize(axes, &space, weights, whole) {
            return self.node(resize, &[input], &[], None);
        }
        let chosen = axes.iter().map(|taps| taps::indices(taps, whole));
        let chosen: Option<Vec<Vec<u32>>> = chosen.collect();
        let mut chosen = chosen.ok_or_else(|| LiftError::Taps { node: self.name() })?;
        let last = chosen.pop().expect("a resize of no axis is found");
        let (mut value, name) = (input, self.name());
        for (axis, indices) in (1..).zip(chosen) {
            let gather = Gather { axis, indices };
            let name = format!("{name}.axis{axis}");
            value = self.builder.node(name, gather, &[value], &[], Place::default())?;
            if let Some(&affine) = self.affines.get(&input) {
                self.affines.insert(value, affine);
            }
        }
        let gather = Gather { axis: space.len() as u32, indices: last };
        self.node(gather, &[value], &[], None)
    }

    /// Adds what tables compute.
    pub(super) fn table(
        &mut self,
        edge::Table { function, tables }: &edge::Table,
        input: ValueId,
        (from, to): (edge::Quantization, edge::Quantization),
    ) -> Result<(), LiftError> {
        if let Some(function) = function
            && *tables == table(from, to, |x| function.apply(x))
        {
            return self.node(function_op(*function), &[input], &[], None);
        }
        let wrong = || LiftError::Factor { node: self.name() };
        // What has a name and computes something else is not what it says.
        if function.is_some() {
            return Err(wrong());
        }
        // One table may be that of all channels.
        let channels = self.builder.shape(input).channels() as usize;
        let all = |numbers: Vec<f32>| -> Vec<f32> {
            (0..channels).map(|channel| numbers[channel.min(numbers.len() - 1)]).collect()
        };
        match tables::meaning(tables, from, to).ok_or_else(wrong)? {
            Meaning::Same => self.node(SAME, &[input], &[], None),
            Meaning::Slopes(slopes) => {
                let shape = [channels as u32];
                let slope = self.parameter("slope", &shape, Role::Slope, &all(slopes))?;
                self.node(Prelu, &[input], &[slope], None)
            }
            Meaning::Lines { factors, offsets, clip } => {
                self.lines((&all(factors), &all(offsets)), input, clip)
            }
        }
    }

    /// Adds a factor and an offset for each channel, and a clip after them if there is one.
    pub(super) fn lines(
        &mut self,
        (factors, offsets): (&[f32], &[f32]),
        input: ValueId,
        clip: Option<Clip>,
    ) -> Result<(), LiftError> {
        let shape = [factors.len() as u32];
        let (zeros, ones) = (vec![0.0; factors.len()], vec![1.0; factors.len()]);
        let parameters = [
            self.parameter("scale", &shape, Role::Scale, factors)?,
            self.parameter("shift", &shape, Role::Shift, offsets)?,
            self.parameter("mean", &shape, Role::Mean, &zeros)?,
            self.parameter("variance", &shape, Role::Variance, &ones)?,
        ];
        // Too small to change the variance.
        let op = BatchNormalization { epsilon: f32::MIN_POSITIVE };
        self.node(op, &[input], &parameters, clip)
    }

    /// Refuses a convolution of a vector that has groups.
    pub(super) fn check_groups<W, B>(&self, conv: &edge::Conv<W, B>) -> Result<(), LiftError> {
        if conv.axes.is_empty() && conv.groups > 1 {
            return Err(LiftError::Groups { node: self.name() });
        }
        Ok(())
    }

    /// Whether a reduction is the mean of each channel, as a vector.
    pub(super) fn is_global_mean(&self, reduce: &edge::Reduce, input: ValueId) -> bool {
        let axes = 1 + self.builder.shape(input).space().len();
        *reduce == edge::Reduce::global_mean(axes, self.keeps_axes)
    }

    pub(super) fn binary(
        &mut self,
        function: BinaryFunction,
        inputs: &[ValueId],
    ) -> Result<(), LiftError> {
        self.node(Binary { function }, inputs, &[], None)
    }
}

/// Whether each channel is read by one of its own.
pub(super) fn is_per_channel<W, B>(conv: &edge::Conv<W, B>) -> bool {
    conv.groups == conv.in_channels && conv.in_channels == conv.out_channels
}

/// The clip that an activation is.
pub(super) fn float_clip(activation: edge::Activation) -> Option<Clip> {
    match activation {
        edge::Activation::Linear => None,
        edge::Activation::Relu => Some(Clip::RELU),
        edge::Activation::Relu6 => Some(Clip::RELU6),
        edge::Activation::Clip { low, high } => Some(Clip { low, high }),
    }
}

/// The operation that computes a function.
pub(super) fn function_op(function: edge::Function) -> Op {
    let map = |function| Op::from(Map { function });
    match function {
        edge::Function::Clip { low, high } => Clip { low, high }.into(),
        edge::Function::LeakyRelu { slope } => LeakyRelu { slope }.into(),
        edge::Function::Absolute => map(Function::Absolute),
        edge::Function::Elu { alpha } => map(Function::Elu { alpha }),
        edge::Function::Erf => map(Function::Erf),
        edge::Function::Exponential => map(Function::Exponential),
        edge::Function::Gelu => map(Function::Gelu),
        edge::Function::GeluTanh => map(Function::GeluTanh),
        edge::Function::HardSigmoid { slope, offset } => {
            map(Function::HardSigmoid { slope, offset })
        }
        edge::Function::HardSwish => map(Function::HardSwish),
        edge::Function::Logarithm => map(Function::Logarithm),
        edge::Function::Power { exponent } => map(Function::Power { exponent }),
        edge::Function::Scale { factor, offset } => map(Function::Scale { factor, offset }),
        edge::Function::Sigmoid => map(Function::Sigmoid),
        edge::Function::Silu => map(Function::Silu),
        edge::Function::Softplus => map(Function::Softplus),
        edge::Function::SquareRoot => map(Function::SquareRoot),
        edge::Function::Tanh => map(Function::Tanh),
    }
}

/// How windows move, and their kernels.
pub(super) fn windows(axes: &[edge::WindowAxis]) -> (Vec<WindowAxis>, Vec<u32>) {
    let window = |axis: &edge::WindowAxis| {
        let &edge::WindowAxis { stride, dilation, before, after, .. } = axis;
        WindowAxis { stride, dilation, before, after }
    };
    (axes.iter().map(window).collect(), axes.iter().map(|axis| axis.kernel).collect())
}

/// The operation, and the shape of its weight. A convolution of a vector is a linear layer.
pub(super) fn geometry<W, B>(conv: &edge::Conv<W, B>) -> (Op, Vec<u32>) {
    let edge::Conv { in_channels, out_channels, groups, .. } = *conv;
    let (axes, kernel) = windows(&conv.axes);
    let op = if axes.is_empty() && groups == 1 {
        Op::from(Linear)
    } else {
        Op::from(Conv { axes: axes.into(), groups: Groups::of(groups, in_channels) })
    };
    let mut weight_shape = vec![out_channels, in_channels / groups];
    weight_shape.extend(kernel);
    (op, weight_shape)
}

/// The operation, and the shape of its weight.
pub(super) fn transposed_geometry<W, B>(conv: &edge::ConvTranspose<W, B>) -> (Op, Vec<u32>) {
    let edge::ConvTranspose { in_channels, out_channels, groups, .. } = *conv;
    let axis = |axis: &edge::TransposedAxis| {
        let &edge::TransposedAxis { stride, dilation, before, after, extra, .. } = axis;
        TransposedAxis { stride, dilation, before, after, extra }
    };
    let axes = conv.axes.iter().map(axis).collect();
    let mut weight_shape = vec![out_channels, in_channels / groups];
    weight_shape.extend(conv.axes.iter().map(|axis| axis.kernel));
    (ConvTranspose { axes, groups: Groups::of(groups, in_channels) }.into(), weight_shape)
}
