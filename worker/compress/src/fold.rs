//! Folds batch normalisation into the convolution or linear layer before it. Normalisations that
//! stand elsewhere stay as they are.

use std::collections::BTreeSet;

use edgesmith_graph::{Array, Graph, Node, NodeId, Op, Rebuild, Role, Weights};

/// The network that computes the same with the running statistics, without the normalisations that
/// can be folded ([`Graph::absorbed_normalizations`]): `w' = w * g` and `b' = (b - mean) * g +
/// shift` with `g = scale / sqrt(variance + epsilon)` per output channel. The layer's bias takes
/// the name of the normalisation's shift, unless the layer has a bias already.
///
/// # Panics
/// If `weights` do not fit `graph`.
pub fn fold(graph: &Graph, weights: &Weights) -> (Graph, Weights) {
    let normalizations = graph.absorbed_normalizations();
    let gone: BTreeSet<NodeId> = normalizations.iter().flatten().copied().collect();
    let mut rebuild = Rebuild::new(graph);
    let mut folded = weights.clone();
    for (id, node) in graph.nodes() {
        if gone.contains(&id) {
            rebuild.replace(node.output, rebuild.value(node.inputs[0]));
        } else if let Some(normalization) = normalizations[id.index()] {
            fold_layer(graph, node, graph.node(normalization), &mut rebuild, &mut folded);
        } else {
            rebuild.copy(id).expect(VALID);
        }
    }
    let graph = rebuild.finish().expect(VALID);
    folded.arrays.retain(|name, _| graph.parameter_named(name).is_some());
    (graph, folded)
}

const VALID: &str = "a graph stays valid when its normalisations are folded";

/// Adds a layer with the normalisation after it in its weight and its bias.
fn fold_layer(
    graph: &Graph,
    node: &Node,
    normalization: &Node,
    rebuild: &mut Rebuild,
    weights: &mut Weights,
) {
    let layer = Folded::of(graph, weights, node, Some(normalization));
    let weight = graph.parameter(node.parameters[0]);
    weights
        .arrays
        .insert(weight.name.to_string(), Array { shape: weight.sizes(), data: layer.weight });
    let bias = match node.parameters.get(1) {
        Some(&bias) => graph.parameter(bias),
        None => graph.parameter(normalization.parameters[1]),
    };
    let (name, channels) = (bias.name.clone(), layer.bias.len());
    weights.arrays.insert(name.to_string(), Array { shape: vec![channels], data: layer.bias });
    let weight = rebuild.parameter(node.parameters[0]).expect(VALID);
    let bias = rebuild.builder.parameter(name, &[channels as u32], Role::Bias).expect(VALID);
    let inputs: Vec<_> = node.inputs.iter().map(|&input| rebuild.value(input)).collect();
    let name = graph.value(node.output).name.clone();
    let (op, place) = (node.op.clone(), node.place.clone());
    let output = rebuild.builder.node(name, op, &inputs, &[weight, bias], place).expect(VALID);
    rebuild.replace(node.output, output);
}

/// The numbers of a convolution or linear layer after folding.
pub(crate) struct Folded {
    /// In the shape of the layer's weight.
    pub weight: Vec<f32>,
    /// One per output channel.
    pub bias: Vec<f32>,
}

impl Folded {
    /// The numbers of `node`, with the normalisation that folds into it, if there is one.
    ///
    /// # Panics
    /// If `weights` do not fit `graph`, or the node is something else than a convolution or a
    /// linear layer.
    pub fn of(graph: &Graph, weights: &Weights, node: &Node, normalization: Option<&Node>) -> Self {
        let weight = &weights.of(graph, node.parameters[0]).data;
        let channels = graph.parameter(node.parameters[0]).shape[0] as usize;
        let bias = match node.parameters.get(1) {
            Some(&bias) => weights.of(graph, bias).data.clone(),
            None => vec![0.0; channels],
        };
        let Some(normalization) = normalization else {
            return Self { weight: weight.clone(), bias };
        };
        let numbers = |slot: usize| &weights.of(graph, normalization.parameters[slot]).data;
        let [shift, mean] = [1, 2].map(numbers);
        let gains = gains(graph, weights, normalization);
        let weight = weight
            .chunks_exact(weight.len() / channels)
            .zip(&gains)
            // A zero stays the zero of the file, not the negative one.
            .flat_map(|(filter, &gain)| {
                filter.iter().map(move |&w| (f64::from(w) * gain) as f32 + 0.0)
            })
            .collect();
        let moved = |c: usize| {
            let centred = f64::from(mean[c]) - f64::from(bias[c]);
            (f64::from(shift[c]) - centred * gains[c]) as f32
        };
        Self { weight, bias: (0..channels).map(moved).collect() }
    }
}

/// What a batch normalisation multiplies each channel with. In f64, so that folding rounds once and
/// not four times.
///
/// # Panics
/// If `weights` do not fit `graph`, or the node is something else.
pub(crate) fn gains(graph: &Graph, weights: &Weights, normalization: &Node) -> Vec<f64> {
    let Op::BatchNormalization(settings) = &normalization.op else {
        panic!("only batch normalisation folds")
    };
    let numbers = |slot: usize| &weights.of(graph, normalization.parameters[slot]).data;
    let gains = numbers(0).iter().zip(numbers(3));
    let epsilon = f64::from(settings.epsilon);
    gains.map(|(&g, &v)| f64::from(g) / (f64::from(v) + epsilon).sqrt()).collect()
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{
        BatchNormalization, Clip, Conv, ConvTranspose, Evaluator, GraphBuilder, Groups, Linear,
        Operation as _, Place, Shape, TransposedAxis,
    };
    use edgesmith_testing::{
        arbitrary_graph, assert_close, random_image, random_weights, reference,
    };
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_folded_network_equals_the_normalised_one(graph in arbitrary_graph(), seed: u64) {
            let weights = random_weights(&graph, seed);
            let image = random_image(&graph, seed);
            let (folded, numbers) = fold(&graph, &weights);
            prop_assert_eq!(numbers.check(&folded), Ok(()));
            let normalizes = |(_, node): (NodeId, &Node)| node.op.kind() == "batch_normalization";
            prop_assert!(!folded.nodes().any(normalizes));
            let output = Evaluator::<f32>::new(&folded, &numbers).output(image.clone());
            assert_close(&output, &reference(&graph, &weights, &image), 1e-4);
            // Nothing is left to fold.
            prop_assert_eq!(fold(&folded, &numbers), (folded, numbers));
        }
    }

    /// A convolution with a bias of its own, one whose output is read twice, a normalisation
    /// without a layer, and a linear layer.
    #[test]
    fn biases_are_kept_and_normalisations_that_do_not_fold_stay() {
        let mut builder = GraphBuilder::new();
        let image = builder.input("image", Shape::new(2, &[4, 4]).unwrap()).unwrap();
        let weight = |builder: &mut GraphBuilder, name: &'static str, shape: &[u32], role| {
            builder.parameter(name, shape, role).unwrap()
        };
        let normal = |builder: &mut GraphBuilder, name: &str, input| {
            let parts = [
                ("gamma", Role::Scale),
                ("beta", Role::Shift),
                ("mean", Role::Mean),
                ("variance", Role::Variance),
            ];
            let parts = parts.map(|(part, role)| {
                builder.parameter(format!("{name}.{part}"), &[3], role).unwrap()
            });
            let op = BatchNormalization { epsilon: 1e-3 };
            let name = format!("{name}.normalized");
            builder.node(name, op, &[input], &parts, Place::default()).unwrap()
        };
        let place = Place::default;
        let parameters = [
            weight(&mut builder, "first.weight", &[3, 2, 3, 3], Role::Weight),
            weight(&mut builder, "first.bias", &[3], Role::Bias),
        ];
        let first = builder.node("first", Conv::dense(3, 1), &[image], &parameters, place());
        let first = normal(&mut builder, "first", first.unwrap());
        let first = builder.node("first.relu", Clip::RELU, &[first], &[], place()).unwrap();
        let second = [weight(&mut builder, "second.weight", &[3, 3, 1, 1], Role::Weight)];
        let second = builder.node("second", Conv::dense(1, 1), &[first], &second, place()).unwrap();
        let third = normal(&mut builder, "third", second);
        let sum = builder.node("sum", edgesmith_graph::Add, &[second, third], &[], place());
        let linear = [weight(&mut builder, "linear.weight", &[3, 3], Role::Weight)];
        let linear = builder.node("linear", Linear, &[sum.unwrap()], &linear, place()).unwrap();
        let last = normal(&mut builder, "linear", linear);
        let graph = builder.finish(&[last]).unwrap();

        let weights = random_weights(&graph, 1);
        let (folded, numbers) = fold(&graph, &weights);
        let kinds: Vec<_> = folded.nodes().map(|(_, node)| node.op.kind()).collect();
        assert_eq!(kinds, ["conv", "clip", "conv", "batch_normalization", "add", "linear"]);
        numbers.check(&folded).unwrap();
        assert!(folded.parameter_named("first.bias").is_some());
        assert!(folded.parameter_named("linear.beta").is_some());
        let image = random_image(&graph, 2);
        let output = Evaluator::<f32>::new(&folded, &numbers).output(image.clone());
        assert_close(&output, &reference(&graph, &weights, &image), 1e-5);
    }

    /// The weight of a transposed convolution has the output channels first, too.
    #[test]
    fn normalisations_after_transposed_convolutions_fold() {
        for (groups, filters) in
            [(Groups::Equal(1), 3), (Groups::Equal(2), 6), (Groups::PerChannel, 8)]
        {
            let mut builder = GraphBuilder::new();
            let image = builder.input("image", Shape::new(4, &[3, 2]).unwrap()).unwrap();
            let shape = [filters, 4 / groups.parts(4), 2, 3];
            let weight = [builder.parameter("w", &shape, Role::Weight).unwrap()];
            let axes = [TransposedAxis { before: 1, ..TransposedAxis::valid(2) }; 2];
            let conv = ConvTranspose { axes: axes.into(), groups };
            let conv = builder.node("c", conv, &[image], &weight, Place::default()).unwrap();
            let roles = [Role::Scale, Role::Shift, Role::Mean, Role::Variance];
            let parts =
                roles.map(|role| builder.parameter(format!("{role:?}"), &[filters], role).unwrap());
            let op = BatchNormalization { epsilon: 1e-3 };
            let output = builder.node("n", op, &[conv], &parts, Place::default()).unwrap();
            let graph = builder.finish(&[output]).unwrap();
            let weights = random_weights(&graph, 1);
            let (folded, numbers) = fold(&graph, &weights);
            let kinds: Vec<_> = folded.nodes().map(|(_, node)| node.op.kind()).collect();
            assert_eq!(kinds, ["conv_transpose"]);
            let image = random_image(&graph, 2);
            let output = Evaluator::<f32>::new(&folded, &numbers).output(image.clone());
            assert_close(&output, &reference(&graph, &weights, &image), 1e-5);
        }
    }

    #[test]
    fn statistics_become_gain_and_bias() {
        let mut builder = GraphBuilder::new();
        let image = builder.input("image", Shape::new(1, &[1, 1]).unwrap()).unwrap();
        let weight = builder.parameter("w", &[1, 1, 1, 1], Role::Weight).unwrap();
        let conv = builder.node("c", Conv::dense(1, 1), &[image], &[weight], Place::default());
        let roles = [Role::Scale, Role::Shift, Role::Mean, Role::Variance];
        let parts = roles.map(|role| builder.parameter(format!("{role:?}"), &[1], role).unwrap());
        let op = BatchNormalization { epsilon: 0.5 };
        let output = builder.node("n", op, &[conv.unwrap()], &parts, Place::default()).unwrap();
        let graph = builder.finish(&[output]).unwrap();
        let mut weights = Weights::default();
        for (name, value) in
            [("w", 1.0), ("Scale", 2.0), ("Shift", 0.5), ("Mean", 3.0), ("Variance", 3.5)]
        {
            let shape = graph.parameter(graph.parameter_named(name).unwrap()).sizes();
            weights.arrays.insert(name.to_owned(), Array { shape, data: vec![value] });
        }
        let (_, folded) = fold(&graph, &weights);
        assert_close(&folded.arrays["w"].data, &[1.0], 1e-6);
        assert_close(&folded.arrays["Shift"].data, &[-2.5], 1e-6);
    }
}
