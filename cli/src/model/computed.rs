//! What a model computes in: how many of the engine's layers in integers and how many in fp32.

use edgesmith_edge_runtime::{Element, Layer, Model};
use edgesmith_search_space::Arithmetic;
use serde::Serialize;

/// How many of the engine's layers compute in what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Computed {
    pub integers: usize,
    pub fp32: usize,
    /// From fp32 to bytes, or back.
    pub conversions: usize,
}

impl Computed {
    /// Of a model.
    pub fn of(model: &Model) -> Self {
        let mut computed = Self::default();
        for node in &model.nodes {
            let count = match (&node.layer, node.output) {
                (Layer::Quantize(_) | Layer::Dequantize(_), _) => &mut computed.conversions,
                (Layer::IntLinear(_), _) | (_, Element::Uint8(_)) => &mut computed.integers,
                (_, Element::Fp32) => &mut computed.fp32,
            };
            *count += 1;
        }
        computed
    }
}

/// What computes the weights of a model, as its file says it, and not what it was made by. What
/// stands before a first layer in fp32 may be in integers all the same.
pub fn arithmetic(model: &Model) -> Arithmetic {
    let integers = |layer: &Layer| {
        matches!(layer, Layer::IntConv(_) | Layer::IntConvTranspose(_) | Layer::IntLinear(_))
    };
    if model.runs_by_reference() {
        Arithmetic::Reference
    } else if model.nodes.iter().any(|node| integers(&node.layer)) {
        Arithmetic::Integers
    } else {
        Arithmetic::Fp32
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_edge_runtime as edge;

    use super::*;

    fn model(nodes: Vec<(Layer, Element)>) -> Model {
        let node = |(layer, output)| edge::Node { inputs: vec![edge::ValueId(0)], layer, output };
        Model {
            inputs: Vec::new(),
            nodes: nodes.into_iter().map(node).collect(),
            outputs: Vec::new(),
            rounding: edge::Rounding::Once,
            notes: edge::Notes::default(),
        }
    }

    #[test]
    fn layers_in_integers_are_told_from_the_others() {
        let fp32 = Element::Fp32;
        let bytes = Element::Uint8(edge::Quantization { scale: 0.1, zero_point: 0 });
        let map = || edge::Map { function: edge::Function::Tanh };
        let table = || edge::Table { function: None, tables: (0..=255).collect() };
        let linear =
            edge::Linear { in_features: 1, out_features: 1, weight: vec![1], bias: vec![0] };
        let mixed = model(vec![
            (map().into(), fp32),
            (edge::Quantize.into(), bytes),
            (table().into(), bytes),
            (edge::IntLinear { linear, logit_scale: vec![0.1] }.into(), fp32),
        ]);
        let expected = Computed { integers: 2, fp32: 1, conversions: 1 };
        assert_eq!(Computed::of(&mixed), expected);
        assert_eq!(arithmetic(&mixed), Arithmetic::Integers);
        // No weight is an integer.
        let real =
            vec![(table().into(), bytes), (edge::Dequantize.into(), fp32), (map().into(), fp32)];
        assert_eq!(arithmetic(&model(real)), Arithmetic::Fp32);
        let round = edge::Round { scale: 1.0, zero_point: 0, last: 255 };
        let rounded = model(vec![(round.into(), fp32), (map().into(), fp32)]);
        assert_eq!(arithmetic(&rounded), Arithmetic::Reference);
    }
}
