//! Lowers a network whose weights are levels of few bits and whose values are rounded in fp32,
//! where the engine does not compute in integers. It chooses no levels.

use edgesmith_compress::{Coarse, Grid, Rows};
use edgesmith_data::Normalization;
use edgesmith_edge_runtime as edge;
use edgesmith_graph::{Graph, Node, ParameterId, Role, Weights};

use super::{Interface, LowerError, input_spec, lower_with};

/// The model of a network that reads one image and is folded already, with the levels of `coarse`.
/// Values that are rounded make it one that runs by reference
/// ([`edge::Model::runs_by_reference`]); without them it is a model in fp32.
///
/// # Errors
/// See [`super::lower_as`].
///
/// # Panics
/// If the weights are not those that the levels stand for ([`Coarse::rounded`]), or `normalization`
/// has the wrong number of channels.
pub fn lower_coarse(
    graph: &Graph,
    weights: &Weights,
    coarse: &Coarse,
    normalization: &Normalization,
) -> Result<edge::Model, LowerError> {
    input_spec(graph, normalization)?;
    let interface = Interface::of(graph, Some(normalization));
    Ok(lower_with(graph, weights, None, Some(coarse), &interface)?.model)
}

/// The layer of a node with its weight as levels, if it has some.
pub(super) fn leveled(
    graph: &Graph,
    node: &Node,
    coarse: &Coarse,
    layer: edge::Layer,
) -> edge::Layer {
    let is_weight = |id: &&ParameterId| graph.parameter(**id).role == Role::Weight;
    let weight = node.parameters.first().filter(is_weight);
    let Some(rows) = weight.and_then(|&id| coarse.weight(id)) else { return layer };
    let Rows { bits, scales, zero_points, levels } = rows.clone();
    let form = match &layer {
        edge::Layer::FloatConv(edge::FloatConv { conv, activation }) => {
            edge::LeveledLayer::Conv(conv.with_weight(levels), *activation)
        }
        edge::Layer::FloatConvTranspose(edge::FloatConvTranspose { conv, activation }) => {
            edge::LeveledLayer::ConvTranspose(conv.with_weight(levels), *activation)
        }
        edge::Layer::FloatLinear(linear) => edge::LeveledLayer::Linear(linear.with_weight(levels)),
        other => unreachable!("{} has no weight", other.name()),
    };
    let leveled = edge::Leveled { layer: form, bits, scales, zero_points };
    assert!(leveled.real() == layer, "the weights of a layer are not those of its levels");
    leveled.into()
}

/// The layer that rounds a value.
pub(super) fn round(Grid { scale, zero_point, last }: Grid) -> edge::Layer {
    edge::Round { scale, zero_point, last }.into()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use edge::Session;
    use edgesmith_compress::{Granularity, Scheme, Widths, fold};
    use edgesmith_graph::Evaluator;
    use edgesmith_testing::{
        arbitrary_graph, assert_close, images_for, normalization, random_bytes, random_weights,
        residual_graph,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::{normalized, quantize_coarsely};

    fn lowered(
        graph: &Graph,
        weights: &Weights,
        scheme: &Scheme,
    ) -> (edge::Model, Weights, Coarse) {
        let set = images_for(graph, &(0..4).map(|i| random_bytes(graph, i)).collect::<Vec<_>>());
        let constants = normalization(graph);
        let input = input_spec(graph, &constants).unwrap();
        let go_on = &mut || ControlFlow::Continue(());
        let quantized = quantize_coarsely(graph, weights, &input, &set, scheme, go_on);
        let (weights, coarse) = quantized.unwrap();
        let model = lower_coarse(graph, &weights, &coarse, &constants).unwrap();
        // As it ships.
        (edge::Model::from_bytes(&model.to_bytes()).unwrap(), weights, coarse)
    }

    /// What the slow reference of the graph computes with rounded weights, rounding each value.
    fn reference(graph: &Graph, weights: &Weights, coarse: &Coarse, image: Vec<f32>) -> Vec<f32> {
        let evaluator = Evaluator::<f32>::new(graph, weights);
        let clips = graph.absorbed_clips();
        let mut values = vec![image];
        let input = graph.inputs().next().unwrap();
        coarse.value(input).into_iter().for_each(|grid| grid.round(&mut values[0]));
        for (id, node) in graph.nodes() {
            let mut value = evaluator.node(id, &values);
            // What is computed along with its clip is rounded behind it.
            let inner = clips[id.index()].is_some();
            if let (Some(grid), false) = (coarse.value(node.output), inner) {
                grid.round(&mut value);
            }
            values.push(value);
        }
        values[graph.outputs()[0].index()].clone()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_engine_computes_what_the_reference_does(
            graph in arbitrary_graph(), seed: u64, affine: bool, correct_biases: bool,
            bits in prop_oneof![Just(1u32), Just(2), Just(4), Just(8), Just(16)],
            activations in prop_oneof![Just(16u32), Just(32)],
        ) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            let widths = Widths { weights: bits, affine, activations, ..Widths::default() };
            let scheme = Scheme { widths, correct_biases, clip_ranges: true, ..Scheme::default() };
            let (model, rounded, coarse) = lowered(&graph, &weights, &scheme);
            prop_assert_eq!(model.runs_by_reference(), activations == 16);
            prop_assert!(!model.has_integers());
            let image = random_bytes(&graph, seed);
            let input = input_spec(&graph, &normalization(&graph)).unwrap();
            let expected = reference(&graph, &rounded, &coarse, normalized(&image, &input));
            let found = Session::new(&model).unwrap().run(&image).unwrap().to_vec();
            // A sum in another order may fall on the other side of a level of 16 bits.
            assert_close(&found, &expected, 2e-2);
        }
    }

    #[test]
    fn every_weight_of_the_file_is_levels_of_so_many_bits() {
        let (graph, weights) = fold(&residual_graph(), &random_weights(&residual_graph(), 3));
        let mut bytes = Vec::new();
        for bits in [1, 2, 4, 8, 16] {
            let widths = Widths { weights: bits, activations: 32, ..Widths::default() };
            let granularity = Granularity::Layer;
            let scheme = Scheme { widths, granularity, ..Scheme::default() };
            let (model, ..) = lowered(&graph, &weights, &scheme);
            let leveled = model.nodes.iter().filter_map(|node| match &node.layer {
                edge::Layer::Leveled(layer) => Some(u32::from(layer.bits)),
                _ => None,
            });
            let leveled: Vec<u32> = leveled.collect();
            let weighted = graph.nodes().filter(|(_, node)| graph.macs(node) > 0).count();
            assert_eq!(leveled, vec![bits; weighted]);
            bytes.push(model.counted_bytes());
        }
        assert!(bytes.is_sorted_by(|a, b| a < b), "{bytes:?}");
    }
}
