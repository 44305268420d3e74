//! Cross-layer equalization (Nagel et al. 2019, "Data-free quantization through weight equalization
//! and bias correction", section 4.1): moves factors from a layer to the next one, channel by
//! channel, so that the weights of a channel are as large in both. The network computes the same,
//! and fewer channels lose their weights to a scale that is too wide for them. It does not quantize
//! and absorbs no biases.

use edgesmith_graph::{Graph, Groups, NodeId, Op, ParameterId, Weights};

use crate::real::weight;

/// Most passes over all pairs of layers. Long chains of layers settle slowly.
const ROUNDS: usize = 100;
/// A pass that changes no range by more than this share is the last one.
const SETTLED: f64 = 1e-4;
/// A channel whose weights are below this share of the largest one of their layer is left alone.
/// Its bias would grow with its weights, and everything that is quantized with it would get coarse.
const FAINT: f64 = 1e-4;

/// The weights of a network that is folded ([`crate::fold()`]), with equal ranges on both sides of
/// a channel: for each pair of layers with nothing between but operations that a positive factor
/// passes through (rectifiers without an upper bound, pooling, a flatten). The value between may
/// have no other reader, and each layer its weight for itself. Channels with a range of zero, or
/// nearly, stay.
///
/// # Panics
/// If `weights` do not fit `graph`.
pub fn equalize(graph: &Graph, weights: &Weights) -> Weights {
    let mut equalized = weights.clone();
    let pairs = pairs(graph);
    let bound: Vec<Vec<usize>> = pairs.iter().map(|pair| pair.channels(graph, weights)).collect();
    for _ in 0..ROUNDS {
        let mut change: f64 = 0.0;
        for (pair, channels) in pairs.iter().zip(&bound) {
            for &channel in channels {
                let [first, second] = pair.ranges(graph, &equalized, channel);
                let factor = (first / second).sqrt();
                pair.scale(graph, &mut equalized, channel, factor);
                change = change.max((factor - 1.0).abs());
            }
        }
        if change < SETTLED {
            break;
        }
    }
    equalized
}

/// Two layers, of which the second reads what the first one writes.
struct Pair {
    first: NodeId,
    second: NodeId,
    /// How many input channels of the second layer are made of an output channel of the first one;
    /// they follow each other.
    block: usize,
}

/// All pairs, in the order of the first layer.
fn pairs(graph: &Graph) -> Vec<Pair> {
    let readers = graph.readers();
    let mut reads = vec![0; graph.parameters().len()];
    graph.nodes().flat_map(|(_, node)| &node.parameters).for_each(|id| reads[id.index()] += 1);
    let own = |id: &ParameterId| reads[id.index()] == 1;
    let pair = |first: NodeId| {
        weight(graph, first)?;
        if !graph.node(first).parameters.iter().all(own) {
            return None;
        }
        let mut value = graph.node(first).output;
        let channels = graph.shape(value).channels() as usize;
        loop {
            let [reader] = readers[value.index()][..] else { return None };
            if graph.outputs().contains(&value) {
                return None;
            }
            if let Some(weight) = weight(graph, reader) {
                let block = graph.shape(value).channels() as usize / channels;
                return own(&weight).then_some(Pair { first, second: reader, block });
            }
            if !passes(&graph.node(reader).op) {
                return None;
            }
            value = graph.node(reader).output;
        }
    };
    graph.nodes().filter_map(|(id, _)| pair(id)).collect()
}

/// Whether a positive factor of a channel passes through an operation.
fn passes(op: &Op) -> bool {
    match op {
        Op::Clip(clip) => {
            let keeps_zero = clip.low == 0.0 || clip.low == f32::NEG_INFINITY;
            keeps_zero && clip.high == f32::INFINITY
        }
        Op::AveragePool(_)
        | Op::Flatten(_)
        | Op::GlobalAveragePool(_)
        | Op::LeakyRelu(_)
        | Op::MaxPool(_)
        | Op::Prelu(_) => true,
        // Layers with a weight end the way. The others mix channels, or shift or bend numbers, or
        // there is little use.
        Op::Add(_)
        | Op::BatchNormalization(_)
        | Op::Binary(_)
        | Op::Concat(_)
        | Op::Constant(_)
        | Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Gather(_)
        | Op::LayerNormalization(_)
        | Op::Linear(_)
        | Op::Map(_)
        | Op::MatrixProduct(_)
        | Op::Multiply(_)
        | Op::Pad(_)
        | Op::Reduce(_)
        | Op::Reshape(_)
        | Op::Resize(_)
        | Op::Select(_)
        | Op::Softmax(_)
        | Op::Transpose(_) => false,
    }
}

impl Pair {
    /// The output channels of the first layer that are equalized.
    fn channels(&self, graph: &Graph, weights: &Weights) -> Vec<usize> {
        let all = 0..graph.shape(graph.node(self.first).output).channels() as usize;
        let largest = [self.first, self.second].map(|id| {
            let weight = weight(graph, id).expect("a layer with a weight");
            largest(weights.of(graph, weight).data.iter())
        });
        all.filter(|&channel| {
            let ranges = self.ranges(graph, weights, channel);
            ranges.iter().zip(largest).all(|(&range, largest)| range > FAINT * largest)
        })
        .collect()
    }

    /// The largest absolute weight that makes a channel, and the largest one that reads it.
    fn ranges(&self, graph: &Graph, weights: &Weights, channel: usize) -> [f64; 2] {
        let of = |id| {
            let weight = weight(graph, id).expect("a layer with a weight");
            &weights.of(graph, weight).data
        };
        let (first, second) = (of(self.first), of(self.second));
        let size = self.filter(graph);
        let made = largest(first[channel * size..][..size].iter());
        let read = self
            .spans(graph, channel)
            .map(|(start, length)| largest(second[start..][..length].iter()));
        [made, read.fold(0.0, f64::max)]
    }

    /// Divides what makes a channel by a factor, and multiplies what reads it.
    fn scale(&self, graph: &Graph, weights: &mut Weights, channel: usize, factor: f64) {
        let size = self.filter(graph);
        let times = |numbers: &mut [f32], factor: f64| {
            numbers.iter_mut().for_each(|number| *number = (f64::from(*number) * factor) as f32);
        };
        let node = graph.node(self.first);
        times(
            &mut numbers(graph, weights, node.parameters[0])[channel * size..][..size],
            1.0 / factor,
        );
        if let Some(&bias) = node.parameters.get(1) {
            times(&mut numbers(graph, weights, bias)[channel..=channel], 1.0 / factor);
        }
        let second = graph.node(self.second).parameters[0];
        for (start, length) in self.spans(graph, channel) {
            times(&mut numbers(graph, weights, second)[start..][..length], factor);
        }
    }

    /// How many weights make an output channel of the first layer.
    fn filter(&self, graph: &Graph) -> usize {
        let weight = graph.parameter(graph.node(self.first).parameters[0]);
        weight.elements() as usize / weight.shape[0] as usize
    }

    /// Where the weights of the second layer are that read a channel: start and length of each run.
    fn spans(&self, graph: &Graph, channel: usize) -> impl Iterator<Item = (usize, usize)> {
        let node = graph.node(self.second);
        let sizes = graph.parameter(node.parameters[0]).sizes();
        let inputs = graph.shape(node.inputs[0]).channels();
        let groups = match &node.op {
            Op::Conv(conv) => conv.groups,
            Op::ConvTranspose(conv) => conv.groups,
            _ => Groups::Equal(1),
        };
        let (reads, kernel) = (sizes[1], sizes[2..].iter().product::<usize>());
        let writes = sizes[0] / groups.parts(inputs) as usize;
        let read = channel * self.block..(channel + 1) * self.block;
        read.flat_map(move |input| {
            let outputs = input / reads * writes..(input / reads + 1) * writes;
            outputs.map(move |output| ((output * reads + input % reads) * kernel, kernel))
        })
    }
}

fn largest<'n>(numbers: impl Iterator<Item = &'n f32>) -> f64 {
    numbers.fold(0.0, |largest, number| largest.max(f64::from(number.abs())))
}

fn numbers<'w>(graph: &Graph, weights: &'w mut Weights, id: ParameterId) -> &'w mut [f32] {
    let name = &*graph.parameter(id).name;
    &mut weights.arrays.get_mut(name).expect("weights of the graph").data
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{
        AveragePool, Clip, Conv, Flatten, GraphBuilder, LeakyRelu, Linear, MaxPool, Place, Prelu,
        Role, Shape, ValueId, WindowAxis,
    };
    use edgesmith_testing::{
        arbitrary_graph, assert_close, random_image, random_weights, reference,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::fold;

    /// Asserts that ranges are equal, and returns how many channels of how many pairs.
    fn equal(graph: &Graph, before: &Weights, after: &Weights, tolerance: f64) -> [usize; 2] {
        let pairs = pairs(graph);
        let mut count = 0;
        for pair in &pairs {
            for channel in pair.channels(graph, before) {
                let [first, second] = pair.ranges(graph, after, channel);
                assert!((first / second - 1.0).abs() < tolerance, "{first} {second}");
                count += 1;
            }
        }
        [pairs.len(), count]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn networks_compute_the_same_with_equal_ranges(graph in arbitrary_graph(), seed: u64) {
            let (graph, mut weights) = fold(&graph, &random_weights(&graph, seed));
            // Channels of very different sizes, as folding makes them, and some of nothing.
            for array in weights.arrays.values_mut().filter(|array| array.shape.len() == 4) {
                let size = array.data.len() / array.shape[0];
                for (channel, filter) in array.data.chunks_exact_mut(size).enumerate() {
                    let factor = [1.0, 0.05, 3.0, 0.3, 0.0][(channel + size) % 5];
                    filter.iter_mut().for_each(|number| *number *= factor);
                }
            }
            let equalized = equalize(&graph, &weights);
            prop_assert_eq!(equalized.check(&graph), Ok(()));
            equal(&graph, &weights, &equalized, 1e-2);
            let image = random_image(&graph, seed);
            let expected = reference(&graph, &weights, &image);
            assert_close(&reference(&graph, &equalized, &image), &expected, 1e-4);
        }
    }

    fn layer(
        builder: &mut GraphBuilder,
        name: &'static str,
        op: impl Into<Op>,
        input: ValueId,
        shape: &[u32],
    ) -> ValueId {
        let weight = builder.parameter(format!("{name}.weight"), shape, Role::Weight).unwrap();
        let bias = builder.parameter(format!("{name}.bias"), &shape[..1], Role::Bias).unwrap();
        builder.node(name, op, &[input], &[weight, bias], Place::default()).unwrap()
    }

    fn between(
        builder: &mut GraphBuilder,
        name: &'static str,
        op: impl Into<Op>,
        input: ValueId,
    ) -> ValueId {
        builder.node(name, op, &[input], &[], Place::default()).unwrap()
    }

    #[test]
    fn factors_pass_through_what_is_between() {
        let mut builder = GraphBuilder::new();
        let b = &mut builder;
        let x = b.input("x", Shape::new(3, &[8, 8]).unwrap()).unwrap();
        let x = layer(b, "dense", Conv::dense(3, 1), x, &[4, 3, 3, 3]);
        let x = between(b, "leaky", LeakyRelu { slope: 0.1 }, x);
        let x = layer(b, "depthwise", Conv::depthwise(3, 1), x, &[8, 1, 3, 3]);
        let slope = b.parameter("slope", &[8], Role::Slope).unwrap();
        let x = b.node("prelu", Prelu, &[x], &[slope], Place::default()).unwrap();
        let axes = [WindowAxis::valid(2); 2];
        let pool = MaxPool { kernel: [2, 2].into(), axes: axes.into() };
        let x = between(b, "max", pool, x);
        let grouped = Conv { groups: Groups::Equal(2), ..Conv::dense(3, 1) };
        let x = layer(b, "grouped", grouped, x, &[6, 4, 3, 3]);
        let counted = [(0, 0); 2].into();
        let pool = AveragePool { kernel: [2, 2].into(), axes: axes.into(), counted };
        let x = between(b, "average", pool, x);
        let x = between(b, "relu", Clip::RELU, x);
        let x = between(b, "flatten", Flatten, x);
        let x = layer(b, "linear", Linear, x, &[5, 24]);
        let x = between(b, "relu6", Clip::RELU6, x);
        let x = layer(b, "last", Linear, x, &[2, 5]);
        let graph = builder.finish(&[x]).unwrap();
        let weights = random_weights(&graph, 5);
        let equalized = equalize(&graph, &weights);
        // Not over the bound of a ReLU6.
        assert_eq!(equal(&graph, &weights, &equalized, 1e-3), [3, 4 + 8 + 6]);
        assert_eq!(equalized.arrays["last.weight"], weights.arrays["last.weight"]);
        assert_ne!(equalized.arrays["linear.weight"], weights.arrays["linear.weight"]);
        assert_eq!(equalized.arrays["linear.bias"], weights.arrays["linear.bias"]);
        for seed in 0..5 {
            let image = random_image(&graph, seed);
            let expected = reference(&graph, &weights, &image);
            assert_close(&reference(&graph, &equalized, &image), &expected, 1e-5);
        }
    }

    #[test]
    fn values_that_are_read_elsewhere_and_weights_that_are_shared_stay() {
        for (shared, output) in [(true, false), (false, true), (false, false)] {
            let mut builder = GraphBuilder::new();
            let x = builder.input("x", Shape::new(2, &[]).unwrap()).unwrap();
            let v = builder.parameter("v", &[2, 2], Role::Weight).unwrap();
            let w = if shared { v } else { builder.parameter("w", &[2, 2], Role::Weight).unwrap() };
            let first = builder.node("first", Linear, &[x], &[v], Place::default()).unwrap();
            let second = builder.node("second", Linear, &[first], &[w], Place::default()).unwrap();
            let outputs = if output { vec![second, first] } else { vec![second] };
            let graph = builder.finish(&outputs).unwrap();
            let weights = random_weights(&graph, 1);
            let same = equalize(&graph, &weights) == weights;
            assert_eq!(same, shared || output);
        }
    }

    /// Two channels by hand: ranges 4 and 1 become 2 and 2; one of zero stays.
    #[test]
    fn ranges_meet_at_their_geometric_mean() {
        let mut builder = GraphBuilder::new();
        let b = &mut builder;
        let x = b.input("x", Shape::new(1, &[]).unwrap()).unwrap();
        let x = layer(b, "first", Linear, x, &[2, 1]);
        let x = layer(b, "second", Linear, x, &[1, 2]);
        let graph = builder.finish(&[x]).unwrap();
        let mut weights = random_weights(&graph, 1);
        weights.set("first", "weight", vec![2, 1], vec![4.0, 0.0]);
        weights.set("first", "bias", vec![2], vec![-6.0, 3.0]);
        weights.set("second", "weight", vec![1, 2], vec![1.0, 5.0]);
        let equalized = equalize(&graph, &weights);
        assert_eq!(equalized.get("first", "weight").data, [2.0, 0.0]);
        assert_eq!(equalized.get("first", "bias").data, [-3.0, 3.0]);
        assert_eq!(equalized.get("second", "weight").data, [2.0, 5.0]);
    }
}
