//! The fp32 model of the edge runtime: batch normalisation folded, one node per layer of the plan.
//! [`crate::compress::quantize`] makes the integer model.

use edgesmith_edge_runtime as edge;
use edgesmith_search_space::{Activation, LayerId, LayerOp, Plan, Source};

use crate::compress::{Folded, fold};
use edgesmith_data::Normalization;
use edgesmith_graph::Weights;

/// The network in fp32, ready to run.
///
/// # Panics
/// If `weights` do not fit `plan`, or `normalization` has the wrong number of channels.
pub fn float_model(plan: &Plan, weights: &Weights, normalization: &Normalization) -> edge::Model {
    let folded = fold(plan, weights);
    let nodes = plan.ids().map(|id| node(&folded, id)).collect();
    edge::Model { input: input_spec(plan, normalization), network: edge::Network::Fp32(nodes) }
}

/// Size and normalisation of the image, for the edge runtime.
///
/// # Panics
/// If `normalization` has the wrong number of channels.
pub(crate) fn input_spec(plan: &Plan, normalization: &Normalization) -> edge::InputSpec {
    let shape = plan.input();
    let Normalization { mean, std } = normalization.clone();
    let channels = shape.channels as usize;
    assert!(mean.len() == channels && std.len() == channels, "constants for every image channel");
    edge::InputSpec {
        channels: shape.channels,
        height: shape.height,
        width: shape.width,
        mean,
        std,
    }
}

/// The edge runtime's values that a layer reads: value 0 is the image, layer `i` computes value `i
/// + 1`.
pub(crate) fn value_ids(inputs: &[Source]) -> Vec<edge::ValueId> {
    let index = |source: &Source| match source {
        Source::Input => 0,
        Source::Layer(LayerId(index)) => index + 1,
    };
    inputs.iter().map(|source| edge::ValueId(index(source) as u32)).collect()
}

/// A convolution of the plan with these weights and biases.
pub(crate) fn convolution<W, B>(
    plan: &Plan,
    id: LayerId,
    kernel: u32,
    stride: u32,
    weight: Vec<W>,
    bias: Vec<B>,
) -> edge::Conv<W, B> {
    edge::Conv {
        in_channels: plan.input_shape(id).channels,
        out_channels: plan.output_shape(id).channels,
        kernel,
        stride,
        padding: (kernel - 1) / 2,
        weight,
        bias,
    }
}

fn node(folded: &Folded, id: LayerId) -> edge::FloatNode {
    let plan = &folded.plan;
    let layer = plan.layer(id);
    let conv = |kernel, stride| {
        let weights = folded.layer(id).clone();
        convolution(plan, id, kernel, stride, weights.weight, weights.bias)
    };
    let layer_of_model = match layer.op {
        LayerOp::Conv { kernel, stride, activation } => {
            edge::FloatLayer::Conv(conv(kernel, stride), activation_of(activation))
        }
        LayerOp::Depthwise { kernel, stride, activation } => {
            edge::FloatLayer::Depthwise(conv(kernel, stride), activation_of(activation))
        }
        LayerOp::Add => edge::FloatLayer::Add,
        LayerOp::GlobalAveragePool => edge::FloatLayer::GlobalAveragePool,
        LayerOp::Linear => {
            let weights = folded.layer(id).clone();
            edge::FloatLayer::Linear(edge::Linear {
                in_features: plan.input_shape(id).channels,
                out_features: plan.output_shape(id).channels,
                weight: weights.weight,
                bias: weights.bias,
            })
        }
    };
    edge::FloatNode { inputs: value_ids(&layer.inputs), layer: layer_of_model }
}

fn activation_of(activation: Option<Activation>) -> edge::Activation {
    match activation {
        None => edge::Activation::Linear,
        Some(Activation::Relu) => edge::Activation::Relu,
        Some(Activation::Relu6) => edge::Activation::Relu6,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use edge::Session;
    use edgesmith_search_space::MAX_VALUE_ELEMENTS;
    use proptest::prelude::*;

    use super::*;
    use edgesmith_testing::reference;
    use edgesmith_testing::{
        arbitrary_graph, assert_close, normalization, random_bytes, random_weights,
    };
    use edgesmith_train::Network;

    #[test]
    fn every_plan_is_within_the_limits_of_the_engine() {
        assert_eq!(MAX_VALUE_ELEMENTS, edge::MAX_VALUE_ELEMENTS);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_engine_computes_the_same_as_the_trained_network(plan in arbitrary_graph().prop_map(Plan::of), seed: u64) {
            let weights = random_weights(plan.graph(), seed);
            let model = float_model(&plan, &weights, &normalization(plan.graph()));
            let image = random_bytes(plan.graph(), seed);
            let plane = (plan.input().height * plan.input().width) as usize;
            let normalized: Vec<f32> = image
                .iter()
                .enumerate()
                .map(|(i, &byte)| model.input.normalized(i / plane, byte))
                .collect();
            let expected = reference(plan.graph(), &weights, &normalized);
            let mut session = Session::new(&model).unwrap();
            let logits = session.run(&image).unwrap();
            assert_close(logits, &expected, 1e-4);

            let shape = plan.input();
            let shape = [1, shape.channels, shape.height, shape.width].map(|size| size as usize);
            let device = Device::flex();
            let batch = Tensor::from_data(TensorData::new(normalized, shape), &device);
            let burn = Network::new(&plan, &weights, &device).forward(batch);
            assert_close(logits, &burn.into_data().try_into_vec::<f32>().unwrap(), 1e-4);
        }
    }
}
