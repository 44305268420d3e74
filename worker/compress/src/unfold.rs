//! Puts batch normalisation behind the layers of a folded network of integers, so that a training
//! goes on with live statistics, and folds it again: what a channel is scaled by becomes a part of
//! the scale of its weights, so that the integers stay as they were trained. Trains nothing.

use edgesmith_graph::{
    Affine, BatchNormalization, Evaluator, Graph, Node, NodeId, Op, Operation as _, ParameterId,
    Quantization, Rebuild, Role, ValueId, Weights,
};

use crate::fold;
use crate::fold::gains;

/// Keeps the divisor away from 0, as in most networks.
const EPSILON: f32 = 1e-5;
/// What the name of a normalisation's output and of its parameters end with.
const SUFFIX: &str = "normalized";

/// A network of integers with batch normalisation behind its layers.
#[derive(Debug, Clone)]
pub struct Unfolded {
    /// Computes the same with the running statistics.
    pub graph: Graph,
    /// Its weights.
    pub weights: Weights,
    /// Its annotation.
    pub quantization: Quantization,
    /// By value of the folded network: what stands for it.
    values: Vec<ValueId>,
    /// The layers, and their weights in both networks.
    layers: Vec<Layer>,
    /// How many layers of integers have none, besides those that are outputs.
    others: usize,
}

/// A layer with a normalisation of its own.
#[derive(Debug, Clone, Copy)]
struct Layer {
    folded: ParameterId,
    unfolded: ParameterId,
    normalization: NodeId,
}

/// Mean and variance of each channel of a layer's output.
type Statistics = Vec<(f64, f64)>;

/// Batch normalisation behind each convolution and linear layer of a folded network whose weight
/// has a scale for each channel, which has a bias, and whose output is one of integers. It begins
/// with the mean and the variance that the layer's output has, in real numbers, over examples:
/// `each` hands over the numbers of the only input in each of them. `None` if no layer is like
/// that.
///
/// # Errors
/// That of `each`.
///
/// # Panics
/// If the weights or the annotation do not fit the graph.
pub fn unfold<E>(
    graph: &Graph,
    weights: &Weights,
    quantization: &Quantization,
    each: impl FnOnce(&mut dyn FnMut(Vec<f32>)) -> Result<(), E>,
) -> Result<Option<Unfolded>, E> {
    let (layers, others) = layers(graph, quantization);
    if layers.is_empty() {
        return Ok(None);
    }
    let mut sums = Sums::new(graph, weights, &layers);
    each(&mut |example| sums.observe(example))?;
    let statistics = sums.statistics();
    let (mut rebuild, mut unfolded) = (Rebuild::new(graph), weights.clone());
    let mut placed = Vec::new();
    for (id, node) in graph.nodes() {
        match layers.iter().position(|layer| *layer == id) {
            Some(place) => {
                let weight =
                    normalize(graph, node, &statistics[place], &mut rebuild, &mut unfolded);
                placed.push((node.parameters[0], weight, node.output));
            }
            None => rebuild.copy(id).expect(VALID),
        }
    }
    let values: Vec<ValueId> = graph.values().map(|(id, _)| rebuild.value(id)).collect();
    let parameters = graph.parameters().map(|(id, parameter)| (id, parameter.name.clone()));
    let parameters: Vec<_> = parameters.collect();
    let new = rebuild.finish().expect(VALID);
    let mut annotation = Quantization::none(&new);
    for (id, _) in graph.values() {
        if let Some(affine) = quantization.value(id) {
            annotation.set_value(values[id.index()], affine);
        }
    }
    for (id, name) in parameters {
        let Some(in_new) = new.parameter_named(&name) else { continue };
        if let Some(scales) = quantization.parameter(id) {
            annotation.set_parameter(in_new, scales.to_vec());
        }
        annotation.set_largest(in_new, quantization.largest(id));
        if quantization.is_signs(id) {
            annotation.set_signs(in_new);
        }
    }
    let layers = placed.into_iter().map(|(folded, unfolded, output)| {
        let normalization = new.producer(values[output.index()]).expect("a node makes it");
        Layer { folded, unfolded, normalization }
    });
    let layers = layers.collect();
    let (graph, weights, quantization) = (new, unfolded, annotation);
    Ok(Some(Unfolded { graph, weights, quantization, values, layers, others }))
}

const VALID: &str = "a graph stays valid when layers are normalised";

impl Unfolded {
    /// How many layers have a normalisation, and of how many that could use one.
    pub fn normalized(&self) -> (usize, usize) {
        (self.layers.len(), self.layers.len() + self.others)
    }

    /// The trained weights and annotation of this network as those of the folded one, `graph` with
    /// the annotation that it had before.
    ///
    /// # Panics
    /// If they do not fit this network, or `graph` is not the one that it was made of.
    pub fn fold(
        &self,
        graph: &Graph,
        before: &Quantization,
        weights: &Weights,
        trained: &Quantization,
    ) -> (Weights, Quantization) {
        let (folded, numbers) = fold(&self.graph, weights);
        assert!(folded == *graph, "folding gives back the network");
        let mut quantization = before.clone();
        for (id, _) in graph.values() {
            if let Some(affine) = trained.value(self.values[id.index()]) {
                quantization.set_value(id, affine);
            }
        }
        for (id, parameter) in graph.parameters() {
            let unfolded = self.graph.parameter_named(&parameter.name);
            if let Some(scales) = unfolded.and_then(|unfolded| trained.parameter(unfolded)) {
                quantization.set_parameter(id, scales.to_vec());
            }
        }
        for Layer { folded, unfolded, normalization } in &self.layers {
            let scales = trained.parameter(*unfolded).expect("the layer has scales");
            let gains = gains(&self.graph, weights, self.graph.node(*normalization));
            // The sign of a gain is in the weights. A channel without a gain needs a scale, too.
            let least = f64::from(Affine::NARROWEST);
            let scaled = scales.iter().zip(&gains);
            let scaled = scaled.map(|(scale, gain)| (scale * gain.abs()).max(scale * least));
            quantization.set_parameter(*folded, scaled.collect());
        }
        (numbers, quantization)
    }
}

/// The layers that can have a normalisation of their own, and how many others of integers there are
/// besides outputs.
fn layers(graph: &Graph, quantization: &Quantization) -> (Vec<NodeId>, usize) {
    let mut reads = vec![0u32; graph.parameters().len()];
    for (_, node) in graph.nodes() {
        node.parameters.iter().for_each(|id| reads[id.index()] += 1);
    }
    let clips = graph.absorbed_clips();
    let last = |id: NodeId, node: &Node| {
        clips[id.index()].map_or(node.output, |(clip, _)| graph.node(clip).output)
    };
    let is_output = |id: NodeId, node: &Node| {
        graph.outputs().contains(&last(id, node)) || graph.outputs().contains(&node.output)
    };
    let has_own = |id: NodeId, node: &Node| {
        let [weight, _] = node.parameters[..] else { return false };
        let Some(scales) = quantization.parameter(weight) else { return false };
        let rows = graph.parameter(weight).shape[0] as usize;
        // A scale that all channels share would not be one any more.
        let own = rows == 1 || scales.iter().any(|scale| *scale != scales[0]);
        let alone = node.parameters.iter().all(|id| reads[id.index()] == 1);
        // Nothing else may have the names that a normalisation gets.
        let name = format!("{}.{SUFFIX}", graph.value(node.output).name);
        let taken = graph.value_named(&name).is_some()
            || graph.parameters().any(|(_, parameter)| parameter.name.starts_with(&*name));
        own && alone && quantization.value(last(id, node)).is_some() && !taken
    };
    let of_integers = |(id, node): &(NodeId, &Node)| {
        let weight = node.parameters.first().filter(|_| node.op.absorbs_factors());
        weight.is_some_and(|weight| quantization.parameter(*weight).is_some())
            && !is_output(*id, node)
    };
    let (own, others): (Vec<_>, Vec<_>) =
        graph.nodes().filter(of_integers).partition(|(id, node)| has_own(*id, node));
    (own.into_iter().map(|(id, _)| id).collect(), others.len())
}

/// Sums over the outputs of layers, at all examples and positions.
struct Sums<'a> {
    evaluator: Evaluator<'a, f32>,
    graph: &'a Graph,
    layers: &'a [NodeId],
    /// By layer and channel: the sum of the numbers, and that of their squares.
    sums: Vec<Vec<(f64, f64)>>,
    /// By layer: of how many numbers of each channel.
    counts: Vec<usize>,
}

impl<'a> Sums<'a> {
    fn new(graph: &'a Graph, weights: &'a Weights, layers: &'a [NodeId]) -> Self {
        let channels = |id: &NodeId| graph.shape(graph.node(*id).output).channels() as usize;
        let sums = layers.iter().map(|id| vec![(0.0, 0.0); channels(id)]).collect();
        let evaluator = Evaluator::new(graph, weights);
        Self { evaluator, graph, layers, sums, counts: vec![0; layers.len()] }
    }

    fn observe(&mut self, example: Vec<f32>) {
        let mut values = vec![example];
        for (id, node) in self.graph.nodes() {
            let output = self.evaluator.node(id, &values);
            debug_assert_eq!(node.output.index(), values.len());
            if let Some(place) = self.layers.iter().position(|layer| *layer == id) {
                let positions = output.len() / self.sums[place].len();
                self.counts[place] += positions;
                let channels = output.chunks_exact(positions);
                for (sum, channel) in self.sums[place].iter_mut().zip(channels) {
                    for number in channel {
                        sum.0 += f64::from(*number);
                        sum.1 += f64::from(*number).powi(2);
                    }
                }
            }
            values.push(output);
        }
    }

    /// By layer.
    fn statistics(self) -> Vec<Statistics> {
        let of = |(sums, count): (Vec<(f64, f64)>, usize)| {
            let count = count.max(1) as f64;
            let of = |(sum, squares): (f64, f64)| {
                let mean = sum / count;
                (mean, (squares / count - mean * mean).max(0.0))
            };
            sums.into_iter().map(of).collect()
        };
        self.sums.into_iter().zip(self.counts).map(of).collect()
    }
}

/// Adds a layer without its bias, and a normalisation after it that gives it back. Returns the
/// layer's weight.
fn normalize(
    graph: &Graph,
    node: &Node,
    statistics: &Statistics,
    rebuild: &mut Rebuild<'_>,
    weights: &mut Weights,
) -> ParameterId {
    let bias = graph.parameter(node.parameters[1]);
    let given = weights.of(graph, node.parameters[1]).clone();
    let name = graph.value(node.output).name.clone();
    let weight = rebuild.parameter(node.parameters[0]).expect(VALID);
    let inputs: Vec<_> = node.inputs.iter().map(|&input| rebuild.value(input)).collect();
    let (op, place) = (node.op.clone(), node.place.clone());
    let layer = rebuild.builder.node(name.clone(), op, &inputs, &[weight], place.clone());
    let layer = layer.expect(VALID);
    let channels = statistics.len();
    let numbers = |of: &dyn Fn(usize, f64, f64) -> f64| -> Vec<f32> {
        let each = statistics.iter().enumerate();
        each.map(|(channel, &(mean, variance))| of(channel, mean, variance) as f32).collect()
    };
    let bias_of = |channel: usize| f64::from(given.data[channel]);
    let parts: [(String, Role, Vec<f32>); 4] = [
        (
            format!("{name}.{SUFFIX}.scale"),
            Role::Scale,
            numbers(&|_, _, variance| (variance + f64::from(EPSILON)).sqrt()),
        ),
        // Folding gives the bias the name of the shift.
        (bias.name.to_string(), Role::Shift, numbers(&|_, mean, _| mean)),
        (
            format!("{name}.{SUFFIX}.mean"),
            Role::Mean,
            numbers(&|channel, mean, _| mean - bias_of(channel)),
        ),
        (format!("{name}.{SUFFIX}.variance"), Role::Variance, numbers(&|_, _, variance| variance)),
    ];
    let parameters = parts.map(|(name, role, data)| {
        let array = edgesmith_graph::Array { shape: vec![channels], data };
        weights.arrays.insert(name.clone(), array);
        rebuild.builder.parameter(name, &[channels as u32], role).expect(VALID)
    });
    let op = Op::BatchNormalization(BatchNormalization { epsilon: EPSILON });
    let normalized =
        rebuild.builder.node(format!("{name}.{SUFFIX}"), op, &[layer], &parameters, place);
    rebuild.replace(node.output, normalized.expect(VALID));
    weight
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use edgesmith_graph::{
        Clip, Conv, ConvTranspose, GlobalAveragePool, GraphBuilder, Groups, Linear, Place, Shape,
        TransposedAxis,
    };
    use edgesmith_testing::{arbitrary_graph, assert_close, noise, random_image, random_weights};
    use proptest::prelude::*;

    use super::*;

    /// A folded network, its weights, and an annotation with a scale for each channel.
    fn annotated(graph: &Graph, seed: u64) -> (Graph, Weights, Quantization) {
        let (graph, weights) = fold(graph, &random_weights(graph, seed));
        let mut quantization = Quantization::none(&graph);
        for (id, _) in graph.values() {
            quantization.set_value(id, Affine::covering(-1.0, 1.0 + id.index() as f32));
        }
        for (id, parameter) in graph.parameters().filter(|(_, p)| p.role == Role::Weight) {
            let scales = (0..parameter.shape[0]).map(|row| 0.01 + 0.001 * f64::from(row));
            quantization.set_parameter(id, scales.collect());
        }
        (graph, weights, quantization)
    }

    /// Hands over examples.
    fn over(
        examples: &[Vec<f32>],
    ) -> impl FnOnce(&mut dyn FnMut(Vec<f32>)) -> Result<(), Infallible> + '_ {
        |observe: &mut dyn FnMut(Vec<f32>)| {
            examples.iter().for_each(|example| observe(example.clone()));
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_network_computes_the_same_unfolded_and_folded_again(
            graph in arbitrary_graph(),
            seed: u64,
        ) {
            let (graph, weights, quantization) = annotated(&graph, seed);
            let examples: Vec<Vec<f32>> =
                (0..3).map(|place| random_image(&graph, seed.wrapping_add(place))).collect();
            let unfolded = unfold(&graph, &weights, &quantization, over(&examples)).unwrap();
            let Some(unfolded) = unfolded else { return Ok(()) };
            prop_assert_eq!(unfolded.weights.check(&unfolded.graph), Ok(()));
            let expected = Evaluator::<f32>::new(&graph, &weights).output(examples[0].clone());
            let output = Evaluator::<f32>::new(&unfolded.graph, &unfolded.weights);
            assert_close(&output.output(examples[0].clone()), &expected, 1e-3);

            // As after a training: other gains, some of them negative.
            let mut trained = unfolded.clone();
            for layer in &unfolded.layers {
                let node = unfolded.graph.node(layer.normalization);
                let name = &unfolded.graph.parameter(node.parameters[0]).name;
                let gains = &mut trained.weights.arrays.get_mut(&**name).unwrap().data;
                let others = noise(gains.len(), seed as u8);
                gains.iter_mut().zip(others).for_each(|(gain, other)| *gain *= 2.0 * other);
            }
            let Unfolded { graph: network, weights: numbers, quantization: levels, .. } = &trained;
            let (again, scales) = unfolded.fold(&graph, &quantization, numbers, levels);
            let expected = Evaluator::<f32>::new(network, numbers).output(examples[1].clone());
            let output = Evaluator::<f32>::new(&graph, &again).output(examples[1].clone());
            assert_close(&output, &expected, 1e-3);
            for Layer { folded, unfolded: trained, normalization } in &unfolded.layers {
                let gains = gains(network, numbers, network.node(*normalization));
                let (new, old) = (scales.parameter(*folded), levels.parameter(*trained));
                let (new, old) = (new.unwrap(), old.unwrap());
                let rows = old.len();
                let weight = |graph: &Graph, weights: &Weights, id| {
                    weights.of(graph, id).data.clone()
                };
                let (was, is) = (weight(network, numbers, *trained), weight(&graph, &again, *folded));
                let each = was.len() / rows;
                for (at, (was, is)) in was.iter().zip(&is).enumerate() {
                    let row = at / each;
                    // A position halfway between two levels may go to either.
                    let (was, is) = (f64::from(*was) / old[row], f64::from(*is) / new[row]);
                    prop_assert!(
                        (was * gains[row].signum() - is).abs() < 1e-3 || gains[row].abs() < 1e-5,
                        "{was} {is}"
                    );
                }
            }
        }
    }

    /// A convolution, a transposed one, one without a bias, and a linear layer that is the output.
    fn of_all_kinds() -> Graph {
        let mut b = GraphBuilder::new();
        let image = b.input("image", Shape::new(2, &[4, 4]).unwrap()).unwrap();
        let mut layer = |name: &str, op: Op, input, shape: &[u32], bias: bool| {
            let weight = b.parameter(format!("{name}.weight"), shape, Role::Weight).unwrap();
            let bias =
                bias.then(|| b.parameter(format!("{name}.bias"), &shape[..1], Role::Bias).unwrap());
            let parameters: Vec<_> = [Some(weight), bias].into_iter().flatten().collect();
            let output =
                b.node(name.to_owned(), op, &[input], &parameters, Place::default()).unwrap();
            let name = format!("{name}.relu");
            b.node(name, Clip::RELU, &[output], &[], Place::default()).unwrap()
        };
        let first = layer("first", Conv::dense(3, 1).into(), image, &[3, 2, 3, 3], true);
        let axis = TransposedAxis { stride: 2, dilation: 1, before: 1, after: 1, extra: 0 };
        let grows = ConvTranspose { axes: [axis; 2].into(), groups: Groups::Equal(1) };
        let second = layer("second", grows.into(), first, &[4, 3, 3, 3], true);
        let third = layer("third", Conv::dense(3, 1).into(), second, &[3, 4, 3, 3], false);
        let pooled = b.node("pool", GlobalAveragePool, &[third], &[], Place::default()).unwrap();
        let weight = b.parameter("fc.weight", &[5, 3], Role::Weight).unwrap();
        let bias = b.parameter("fc.bias", &[5], Role::Bias).unwrap();
        let fc = b.node("fc", Linear, &[pooled], &[weight, bias], Place::default()).unwrap();
        b.finish(&[fc]).unwrap()
    }

    #[test]
    fn transposed_convolutions_are_normalised_and_layers_without_a_bias_are_counted() {
        let (graph, weights, quantization) = annotated(&of_all_kinds(), 3);
        let examples: Vec<Vec<f32>> = (0..3).map(|seed| random_image(&graph, seed)).collect();
        let unfolded = unfold(&graph, &weights, &quantization, over(&examples)).unwrap().unwrap();
        assert_eq!(unfolded.normalized(), (2, 3));
        let names: Vec<&str> = unfolded.graph.values().map(|(_, value)| &*value.name).collect();
        assert!(names.contains(&"second.normalized"), "{names:?}");
        let expected = Evaluator::<f32>::new(&graph, &weights).output(examples[0].clone());
        let output = Evaluator::<f32>::new(&unfolded.graph, &unfolded.weights);
        assert_close(&output.output(examples[0].clone()), &expected, 1e-3);
        let Unfolded { weights: numbers, quantization: levels, .. } = &unfolded;
        let (again, _) = unfolded.fold(&graph, &quantization, numbers, levels);
        let output = Evaluator::<f32>::new(&graph, &again).output(examples[0].clone());
        assert_close(&output, &expected, 1e-3);
    }

    #[test]
    fn what_stops_the_examples_stops_the_unfolding() {
        let (graph, weights, quantization) = annotated(&of_all_kinds(), 3);
        let stopped = unfold(&graph, &weights, &quantization, |_| Err("stopped"));
        assert_eq!(stopped.err(), Some("stopped"));
    }
}
