//! Which nodes the fast path computes together: a convolution, the batch normalisation after it,
//! and the clipping after that are one operation of [`super::flex`]. If quantization is simulated,
//! a convolution, the clipping after it, and rounding are one.
//!
//! The structure of the graph decides. The values between the nodes of a chain do not exist, so
//! nobody else may read them. All other nodes are computed one by one.

use burn::tensor::Tensor;
use edgesmith_graph::{Clip, Graph, NodeId, Op, ParameterId, ValueId};
use edgesmith_kernels::{Bounds, Threads};

use super::fitting::{Fitting, fitting_node};
use super::flex;
use super::levels::in_whole_steps;
use super::ops::observe;
use super::parameter::Parameter;

/// How the fast path computes a node.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// By itself.
    Alone,
    /// The first node of a chain, which computes all of it.
    First(Chain),
    /// A convolution that is rounded, with the clip after it.
    Rounded(RoundedConv),
    /// A later node of a chain.
    Later,
}

/// Convolution, batch normalisation and, if it follows, clipping.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    fitting: Fitting,
    epsilon: f32,
    bounds: Bounds,
    /// Scale, shift, mean and variance.
    normalization: [ParameterId; 4],
    /// The output of the last node.
    pub(super) output: ValueId,
}

/// A convolution that a kernel computes, and the clip after it. Its output is rounded.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundedConv {
    fitting: Fitting,
    bounds: Bounds,
    /// The last node.
    pub(super) last: NodeId,
}

impl RoundedConv {
    /// On feature maps `[channels, rows, columns, batch]`.
    pub(super) fn on(self, input: &Tensor<4>, threads: &Threads) -> flex::Layer {
        let [_, rows, columns, batch] = input.dims();
        let convolution = self.fitting.on([rows, columns, batch]);
        flex::Layer { convolution, bounds: self.bounds, threads: threads.clone() }
    }
}

impl Chain {
    /// The output for feature maps `[channels, rows, columns, batch]` and a weight on `flex`. On a
    /// device with autodiff it updates the running statistics. `steps` are those between the sums
    /// of a convolution of integers.
    pub(super) fn forward(
        &self,
        (input, weight): (Tensor<4>, Tensor<4>),
        steps: Option<Tensor<1>>,
        parameters: &[Parameter],
        momentum: f64,
        threads: &Threads,
    ) -> Tensor<4> {
        let [_, rows, columns, batch] = input.dims();
        let convolution = self.fitting.on([rows, columns, batch]);
        let layer = flex::Layer { convolution, bounds: self.bounds, threads: threads.clone() };
        let of = |id: ParameterId| &parameters[id.index()];
        let [scale, shift, mean, variance] = self.normalization.map(of);
        let (scale, shift) = (scale.vector(), shift.vector());
        let running = [mean.observed(), variance.observed()];
        if input.device().is_autodiff() {
            let affine = [scale, shift];
            let step = flex::train_step(layer, self.epsilon, input, weight, affine, steps);
            let [_, rows, columns, batch] = step.output.dims();
            let statistics = [step.mean, step.variance].map(flex::vector);
            observe(statistics, batch * rows * columns, running, momentum);
            step.output
        } else {
            let [mean, variance] = running.map(|state| state.value_sync());
            let scale = scale / variance.add_scalar(self.epsilon).sqrt();
            let shift = shift - mean * scale.clone();
            let shift = match steps {
                Some(steps) => in_whole_steps(shift, scale.clone(), steps),
                None => shift,
            };
            flex::evaluate(layer, input, weight, [scale, shift])
        }
    }
}

/// How the fast path computes each node of a graph.
pub(super) fn parts(graph: &Graph) -> Vec<Part> {
    let absorbed = graph.absorbed_normalizations();
    let clips = graph.absorbed_clips();
    let mut parts = vec![Part::Alone; graph.nodes().len()];
    for (id, node) in graph.nodes() {
        let Some(next) = absorbed[id.index()] else { continue };
        let (Some(fitting), [_]) = (fitting_node(graph, node), &node.parameters[..]) else {
            continue;
        };
        let normalization = graph.node(next);
        let Op::BatchNormalization(op) = &normalization.op else { continue };
        let (bounds, last) = match clips[id.index()] {
            Some((last, Clip { low, high })) => (Bounds { low, high }, last),
            None => (flex::UNBOUNDED, next),
        };
        parts[id.index()] = Part::First(Chain {
            fitting,
            epsilon: op.epsilon,
            bounds,
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

/// How the fast path computes each node of a graph, if quantization is simulated. `rounds` says
/// whether the output of a node is rounded to integers, and its weight is.
pub(super) fn rounded_parts(graph: &Graph, rounds: impl Fn(NodeId, NodeId) -> bool) -> Vec<Part> {
    let (normalizations, clips) = (graph.absorbed_normalizations(), graph.absorbed_clips());
    // Layers with a normalisation are chains, as without rounding.
    let mut parts = parts(graph);
    for (id, node) in graph.nodes() {
        let Some(fitting) = fitting_node(graph, node) else { continue };
        if normalizations[id.index()].is_some() {
            continue;
        }
        let (bounds, last) = match clips[id.index()] {
            Some((last, Clip { low, high })) => (Bounds { low, high }, last),
            None => (flex::UNBOUNDED, id),
        };
        if rounds(id, last) {
            if last != id {
                parts[last.index()] = Part::Later;
            }
            parts[id.index()] = Part::Rounded(RoundedConv { fitting, bounds, last });
        }
    }
    parts
}
