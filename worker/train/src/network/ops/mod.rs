//! The operations as training computes them on tensors, one file each.
//!
//! [`Trainable`] has no default methods, and the list below one line for each operation of
//! `edgesmith_graph`: the compiler speaks if one is missing.

use burn::module::RunningState;
use burn::tensor::{Int, Tensor, TensorData};
use edgesmith_graph::{Op, Operation, Shape};
use edgesmith_kernels::Threads;

use super::layout::{Layout, picture};
use super::parameter::Parameter;
use super::simulation::Layer;

pub(super) use batch_normalization::observe;

/// What training has to know about an operation.
pub(super) trait Trainable: Operation {
    /// The output for a batch, with operations that also compute the gradients. The inputs are in
    /// the layout of the call, and so is the output. The batch is last only on `flex`.
    fn forward(&self, inputs: Vec<Tensor<4>>, call: &Call) -> Tensor<4>;

    /// Whether a channel of the output is 0 everywhere if the numbers of its parameters are 0, and
    /// if it is 0 in those inputs for which `silent` says so. Channels that are added to a network
    /// stay zero only then.
    fn keeps_silence(&self, silent: &[bool]) -> bool;
}

/// What an operation works on, besides its inputs.
pub(super) struct Call<'a> {
    /// The order of the axes of inputs and output.
    pub(super) layout: Layout,
    /// The shapes of the inputs.
    pub(super) inputs: Vec<&'a Shape>,
    /// The output's shape.
    pub(super) output: &'a Shape,
    /// How many examples there are.
    pub(super) batch: usize,
    /// Share of this batch in the running statistics.
    pub(super) momentum: f64,
    /// The threads that compute kernels of the fast path.
    pub(super) threads: &'a Threads,
    /// The node as a layer whose weight and bias are integers, if that is simulated.
    pub(super) quantized: Option<Layer<'a>>,
    /// By channel, the step between sums of the layer of integers that the node normalises.
    pub(super) steps: Option<Tensor<1>>,
    /// The parameters of the node, in the order of the operation's slots.
    pub(super) parameters: Vec<&'a Parameter>,
}

/// Lists the operations. Each line is the name of the file and the name of the operation.
macro_rules! operations {
    ($($file:ident: $operation:ident,)+) => {
        $(mod $file;)+

        impl Trainable for Op {
            fn forward(&self, inputs: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
                match self { $(Op::$operation(op) => op.forward(inputs, call),)+ }
            }

            fn keeps_silence(&self, silent: &[bool]) -> bool {
                match self { $(Op::$operation(op) => op.keeps_silence(silent),)+ }
            }
        }
    };
}

operations! {
    add: Add,
    average_pool: AveragePool,
    batch_normalization: BatchNormalization,
    binary: Binary,
    clip: Clip,
    concat: Concat,
    constant: Constant,
    conv: Conv,
    conv_transpose: ConvTranspose,
    flatten: Flatten,
    gather: Gather,
    global_average_pool: GlobalAveragePool,
    layer_normalization: LayerNormalization,
    leaky_relu: LeakyRelu,
    linear: Linear,
    map: Map,
    matrix_product: MatrixProduct,
    max_pool: MaxPool,
    multiply: Multiply,
    pad: Pad,
    prelu: Prelu,
    reduce: Reduce,
    reshape: Reshape,
    resize: Resize,
    select: Select,
    softmax: Softmax,
    transpose: Transpose,
}

impl Call<'_> {
    /// The weight of a layer.
    pub(super) fn weight(&self) -> Tensor<4> {
        let weight = self.parameters[0].weight();
        match &self.quantized {
            Some(layer) => layer.weight(weight, self.threads),
            None => weight,
        }
    }

    /// The bias of a layer; `None` if it is absent.
    pub(super) fn bias(&self) -> Option<Tensor<1>> {
        let bias = self.vector(1)?;
        Some(match &self.quantized {
            Some(layer) => layer.bias(bias),
            None => bias,
        })
    }

    /// A scale, shift or slope; `None` if it is absent.
    fn vector(&self, place: usize) -> Option<Tensor<1>> {
        self.parameters.get(place).map(|parameter| parameter.vector())
    }

    /// A running mean or variance.
    fn observed(&self, place: usize) -> &RunningState<Tensor<1>> {
        self.parameters[place].observed()
    }

    /// A constant, as a batch of one example with the batch first.
    fn constant(&self, place: usize) -> Tensor<4> {
        self.parameters[place].constant()
    }

    /// The axis of a tensor that an axis of the output is; the channels are axis 0. An input with
    /// as many axes has them at the same places.
    fn axis(&self, axis: u32) -> usize {
        self.layout.channels() + place(axis, self.output)
    }

    /// Values with fewer axes of positions than the output as burn repeats them: a sequence has one
    /// row, but beside a picture its positions are rows.
    fn aligned(&self, values: Vec<Tensor<4>>) -> Vec<Tensor<4>> {
        let align =
            |(value, shape): (Tensor<4>, &&Shape)| match (shape.space(), self.output.space()) {
                (&[rows], &[_, _]) => {
                    let [channels, rows] = [shape.channels(), rows].map(|size| size as usize);
                    self.layout.reshape(value, [channels, rows, 1])
                }
                _ => value,
            };
        values.into_iter().zip(&self.inputs).map(align).collect()
    }

    /// A tensor with the output's sizes: axes of size 1 are repeated.
    fn repeated(&self, value: Tensor<4>) -> Tensor<4> {
        value.expand(self.layout.sizes(self.batch, picture(self.output)))
    }

    /// Numbers along some axes of the output, as a tensor that burn repeats along the others.
    fn along(&self, axes: &[u32], numbers: Tensor<1>) -> Tensor<4> {
        let (whole, mut sizes) = (picture(self.output), [1; 3]);
        for &axis in axes {
            let place = place(axis, self.output);
            sizes[place] = whole[place];
        }
        numbers.reshape(self.layout.sizes(1, sizes))
    }

    /// The numbers of a value with the output's sizes.
    fn reshape(&self, value: Tensor<4>) -> Tensor<4> {
        self.layout.reshape(value, picture(self.output))
    }

    /// Computes with the batch first, whatever the layout is.
    fn batch_first(&self, input: Tensor<4>, f: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        self.layout.arrange(f(self.layout.to_batch_first(input)))
    }
}

/// The place of an axis of a shape among channels, rows and columns.
fn place(axis: u32, of: &Shape) -> usize {
    match axis as usize {
        0 => 0,
        // A sequence has one row.
        axis => axis + 2 - of.space().len(),
    }
}

/// The inputs of an operation that has `N` of them.
fn inputs<const N: usize>(inputs: Vec<Tensor<4>>) -> [Tensor<4>; N] {
    inputs.try_into().expect("the graph has checked the number of inputs")
}

/// These indices along an axis.
fn select(value: Tensor<4>, axis: usize, indices: impl Iterator<Item = u32>) -> Tensor<4> {
    let indices: Vec<i32> = indices.map(|index| index as i32).collect();
    let count = indices.len();
    let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [count]), &value.device());
    value.select(axis, indices)
}

/// Two sizes of windows, where there may be one: a sequence is a picture of one row.
fn as_picture<T: Copy>(one_row: T, axes: &[T]) -> [T; 2] {
    match *axes {
        [columns] => [one_row, columns],
        [rows, columns] => [rows, columns],
        _ => unreachable!("the graph has checked that windows move along one or two axes"),
    }
}
