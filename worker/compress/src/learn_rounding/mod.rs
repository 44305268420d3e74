//! Learned rounding (AdaRound; Nagel et al. 2020, "Up or down? Adaptive rounding for post-training
//! quantization"): whether each weight goes to the level below or above it is chosen layer by
//! layer, such that the layer computes what it did, on examples. Scales and biases stay.
//!
//! A channel's weights do not act on other channels, so each channel is a problem of its own
//! (`channel.rs`). Its inputs are what the layers before, rounded already, compute, at some of the
//! positions of the output (`rows.rs`); its targets are what the real network computes. Transposed
//! convolutions, and layers that share their weight, are rounded to the nearest level.

mod channel;
mod rows;

use std::ops::ControlFlow;

use edgesmith_graph::{
    Clip, Conv, Evaluator, Graph, Groups, NodeId, Op, ParameterId, Quantization, Weights,
    WindowAxis,
};

use crate::levels::{Levels, rounded};
use crate::real::weight;
use crate::walk::Walk;
use channel::Channel;
use rows::Rows;

/// The weights of a folded network ([`crate::fold()`]) rounded to the levels that `quantization`
/// gives them: those of convolutions and linear layers such that each of their channels computes
/// what it does with `weights`, the clip behind it included, with the least squared error that was
/// found; never a larger one than with the nearest levels. What has no scales stays. A weight of 0
/// stays 0.
///
/// The result depends on the order of the examples, and on nothing but the arguments. It holds the
/// values of two networks for all examples ([`crate::held_numbers`]), and the inputs of one layer
/// at not more than 2^22 numbers; a layer takes some 20 s at most, unless it has more than 2.7
/// million weights. `pause` is called often; `None` if it breaks.
///
/// # Panics
/// If `weights` or `quantization` do not fit `graph`, or an example does not have the size of the
/// only input.
pub fn learn_rounding(
    graph: &Graph,
    weights: &Weights,
    quantization: &Quantization,
    examples: &[Vec<f32>],
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Option<Weights> {
    let mut learned = rounded(graph, weights, quantization);
    let levels = Levels::of(graph, quantization);
    let before = Evaluator::<f32>::new(graph, weights);
    let mut after = Evaluator::<f32>::new(graph, &learned);
    let clips = graph.absorbed_clips();
    let mut walk = Walk::new(graph, examples);
    for input in graph.inputs() {
        walk.new.iter_mut().for_each(|values| levels.round(input, &mut values[input.index()]));
    }
    for (id, node) in graph.nodes() {
        for old in &mut walk.old {
            if pause().is_break() {
                return None;
            }
            old.push(before.node(id, old));
        }
        if let Some(layer) = Layer::of(graph, id, quantization) {
            let clip = clips[id.index()].map(|(_, clip)| clip);
            let numbers = layer.round(weights, clip, &walk, pause)?;
            after.parameter_mut(layer.weight).copy_from_slice(&numbers);
            let name = &*graph.parameter(layer.weight).name;
            learned.arrays.get_mut(name).expect("they fit").data = numbers;
        }
        for new in &mut walk.new {
            if pause().is_break() {
                return None;
            }
            let mut value = after.node(id, new);
            levels.round(node.output, &mut value);
            new.push(value);
        }
        walk.forget(id, node);
    }
    Some(learned)
}

/// A layer whose rounding is learned.
struct Layer<'a> {
    graph: &'a Graph,
    id: NodeId,
    /// A linear layer is one with kernels of one position.
    conv: Conv,
    weight: ParameterId,
    /// Of the weight, by output channel.
    scales: &'a [f64],
    /// Largest absolute level of a weight.
    most: f32,
}

impl<'a> Layer<'a> {
    /// `None` if nothing is learned for the node.
    fn of(graph: &'a Graph, id: NodeId, quantization: &'a Quantization) -> Option<Self> {
        let weight = weight(graph, id)?;
        let scales = quantization.parameter(weight)?;
        let parameters = graph.nodes().flat_map(|(_, node)| &node.parameters);
        if parameters.filter(|other| **other == weight).count() > 1 {
            return None;
        }
        // A sign is no choice between two levels.
        if quantization.is_signs(weight) {
            return None;
        }
        let most = f32::from(quantization.largest(weight));
        let node = graph.node(id);
        let conv = match &node.op {
            Op::Conv(conv) => conv.clone(),
            Op::Linear(_) => {
                let axes = graph.shape(node.output).space().iter().map(|_| WindowAxis::valid(1));
                Conv { axes: axes.collect(), groups: Groups::Equal(1) }
            }
            _ => return None,
        };
        Some(Self { graph, id, conv, weight, scales, most })
    }

    /// The rounded weights.
    fn round(
        &self,
        weights: &Weights,
        clip: Option<Clip>,
        walk: &Walk,
        pause: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Option<Vec<f32>> {
        let (graph, node) = (self.graph, self.graph.node(self.id));
        let output = node.output.index();
        let kernel = graph.parameter(self.weight).shape.get(2..).unwrap_or_default();
        let input = graph.shape(node.inputs[0]);
        let shapes = [input, graph.shape(node.output)];
        let inputs = walk.new.iter().map(|values| values[node.inputs[0].index()].as_slice());
        let rows = Rows::sample(&self.conv, kernel, shapes, &inputs.collect::<Vec<_>>());
        let real = &weights.of(graph, self.weight).data;
        let bias = node.parameters.get(1).map(|&bias| &weights.of(graph, bias).data);
        let channels = self.scales.len();
        let writes = channels / self.conv.parts(input.channels()) as usize;
        let positions = graph.shape(node.output).positions() as usize;
        let mut numbers = Vec::with_capacity(real.len());
        for (channel, filter) in real.chunks_exact(real.len() / channels).enumerate() {
            let target = |&(example, position): &(usize, usize)| {
                let value = walk.old[example][output][channel * positions + position];
                clip.map_or(value, |clip| value.clamp(clip.low, clip.high))
            };
            let problem = Channel {
                inputs: rows.of_group(channel / writes),
                targets: &rows.places.iter().map(target).collect::<Vec<_>>(),
                weights: filter,
                scale: self.scales[channel],
                bias: bias.map_or(0.0, |bias| bias[channel]),
                clip,
                most: self.most,
                steps: channel::steps(real.len()),
            };
            let levels = problem.levels(pause)?;
            let scale = self.scales[channel];
            numbers.extend(levels.iter().map(|&level| (f64::from(level) * scale) as f32));
        }
        Some(numbers)
    }
}
