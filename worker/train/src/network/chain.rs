//! Which nodes the fast path computes together: a convolution, the batch normalisation after it,
//! and the clipping after that are one operation of [`super::flex`].
//!
//! The structure of the graph decides. The values between the nodes of a chain do not exist, so
//! nobody else may read them. What does not fit the kernels is computed by burn's operations.

use burn::tensor::Tensor;
use edgesmith_graph::{
    Clip, Conv, Graph, Groups, Node, NodeId, Op, ParameterId, ValueId, WindowAxis,
};
use edgesmith_kernels::{Bounds, Convolution, Kind, Threads};

use super::flex;
use super::ops::observe;
use super::parameter::Parameter;

/// How the fast path computes a node.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// By itself.
    Alone,
    /// The first node of a chain, which computes all of it.
    First(Chain),
    /// A later node of a chain.
    Later,
}

/// Convolution, batch normalisation and, if it follows, clipping.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    fitting: Fitting,
    epsilon: f32,
    bounds: Bounds,
    weight: ParameterId,
    /// Scale, shift, mean and variance.
    normalization: [ParameterId; 4],
    /// The output of the last node.
    pub(super) output: ValueId,
}

/// A convolution that a kernel computes, for any size of pictures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fitting {
    kind: Kind,
    kernel: usize,
    stride: usize,
}

impl Fitting {
    /// On pictures of so many rows and columns, and a batch of so many.
    pub(super) fn on(self, sizes: [usize; 3]) -> Convolution {
        Convolution::new(self.kind, self.kernel, self.stride, sizes)
    }
}

impl Chain {
    /// The output for feature maps `[channels, rows, columns, batch]` on `flex`. On a device with
    /// autodiff it updates the running statistics.
    pub(super) fn forward(
        &self,
        input: Tensor<4>,
        parameters: &[Parameter],
        momentum: f64,
        threads: &Threads,
    ) -> Tensor<4> {
        let [_, rows, columns, batch] = input.dims();
        let convolution = self.fitting.on([rows, columns, batch]);
        let layer = flex::Layer { convolution, bounds: self.bounds, threads: threads.clone() };
        let of = |id: ParameterId| &parameters[id.index()];
        let [scale, shift, mean, variance] = self.normalization.map(of);
        let (weight, scale, shift) = (of(self.weight).weight(), scale.vector(), shift.vector());
        let running = [mean.observed(), variance.observed()];
        if input.device().is_autodiff() {
            let step = flex::train_step(layer, self.epsilon, input, weight, [scale, shift]);
            let [_, rows, columns, batch] = step.output.dims();
            let statistics = [step.mean, step.variance].map(flex::vector);
            observe(statistics, batch * rows * columns, running, momentum);
            step.output
        } else {
            let [mean, variance] = running.map(|state| state.value_sync());
            let scale = scale / variance.add_scalar(self.epsilon).sqrt();
            let shift = shift - mean * scale.clone();
            flex::evaluate(layer, input, weight, [scale, shift])
        }
    }
}

/// How the fast path computes each node of a graph.
pub(super) fn parts(graph: &Graph) -> Vec<Part> {
    let absorbed = graph.absorbed_normalizations();
    let (fused, readers) = (graph.fused(), graph.readers());
    let mut parts = vec![Part::Alone; graph.nodes().len()];
    for (id, node) in graph.nodes() {
        let Some(next) = absorbed[id.index()] else { continue };
        let (Some(fitting), [weight]) = (fitting_node(graph, node), &node.parameters[..]) else {
            continue;
        };
        let normalization = graph.node(next);
        let Op::BatchNormalization(op) = &normalization.op else { continue };
        let clip = match readers[normalization.output.index()][..] {
            [reader] if fused[reader.index()] => clip(graph, reader),
            _ => None,
        };
        let (bounds, last) = match clip {
            Some((Clip { low, high }, last)) => (Bounds { low, high }, last),
            None => (flex::UNBOUNDED, next),
        };
        parts[id.index()] = Part::First(Chain {
            fitting,
            epsilon: op.epsilon,
            bounds,
            weight: *weight,
            normalization: std::array::from_fn(|place| normalization.parameters[place]),
            output: graph.node(last).output,
        });
        parts[next.index()] = Part::Later;
        if last != next {
            parts[last.index()] = Part::Later;
        }
    }
    parts
}

/// The node as a clipping.
fn clip(graph: &Graph, id: NodeId) -> Option<(Clip, NodeId)> {
    match graph.node(id).op {
        Op::Clip(clip) => Some((clip, id)),
        Op::Add(_)
        | Op::BatchNormalization(_)
        | Op::Concat(_)
        | Op::Conv(_)
        | Op::Flatten(_)
        | Op::GatherChannels(_)
        | Op::GlobalAveragePool(_)
        | Op::HardSwish(_)
        | Op::Linear(_)
        | Op::MaxPool(_)
        | Op::Multiply(_)
        | Op::Sigmoid(_) => None,
    }
}

/// The kernel of [`edgesmith_kernels`] that computes a convolution of so many input channels with a
/// weight of these sizes, without its bias. It has to be on a picture, with a square odd kernel,
/// padding that keeps the size at stride 1, equal strides, and dense or with one filter per channel.
pub(super) fn fitting(conv: &Conv, inputs: u32, weight: [usize; 4]) -> Option<Fitting> {
    let [outputs, _, kernel, columns] = weight;
    let [down, across] = conv.axes[..] else { return None };
    let same = WindowAxis::same(kernel as u32, down.stride);
    if columns != kernel || kernel % 2 == 0 || down != same || across != same {
        return None;
    }
    let inputs = inputs as usize;
    let kind = match conv.groups {
        Groups::Equal(1) => Kind::Dense { inputs, outputs },
        Groups::PerChannel if inputs == outputs => Kind::Depthwise { channels: inputs },
        Groups::Equal(_) | Groups::PerChannel => return None,
    };
    Some(Fitting { kind, kernel, stride: down.stride as usize })
}

/// [`fitting`] for a node of a graph; none if it is not a convolution.
pub(super) fn fitting_node(graph: &Graph, node: &Node) -> Option<Fitting> {
    let Op::Conv(conv) = &node.op else { return None };
    let [outputs, inputs, rows, columns] = graph.parameter(node.parameters[0]).shape[..] else {
        return None;
    };
    let weight = [outputs, inputs, rows, columns].map(|size| size as usize);
    fitting(conv, graph.shape(node.inputs[0]).channels(), weight)
}
