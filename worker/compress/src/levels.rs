//! What a quantized network computes, in real numbers: weights and values rounded to their levels.
//! It chooses no levels, and differs from an engine where that rounds in between: in sums of
//! integers, and in functions that it looks up.

use edgesmith_graph::{Affine, Graph, Op, Quantization, ValueId, Weights};

/// The levels of the values of a network.
pub(crate) struct Levels {
    /// By value.
    values: Vec<Option<Affine>>,
}

impl Levels {
    /// The levels that `quantization` gives the values. What only moves numbers hands on the levels
    /// that they have.
    pub fn of(graph: &Graph, quantization: &Quantization) -> Self {
        let mut values: Vec<Option<Affine>> =
            graph.values().map(|(id, _)| quantization.value(id)).collect();
        for (_, node) in graph.nodes() {
            if moves(&node.op) {
                let held = values[node.inputs[0].index()];
                values[node.output.index()] = held.or(values[node.output.index()]);
            }
        }
        Self { values }
    }

    /// Rounds the numbers of a value to its levels, if it has some.
    pub fn round(&self, value: ValueId, numbers: &mut [f32]) {
        if let Some(Affine { scale, zero_point }) = self.values[value.index()] {
            let zero = f32::from(zero_point);
            for number in numbers {
                let level = ((*number / scale).round() + zero).clamp(0.0, 255.0);
                *number = scale * (level - zero);
            }
        }
    }
}

/// Whether an operation only moves numbers, or computes with them as integers of the same scale.
pub(crate) fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Flatten(_)
            | Op::Gather(_)
            | Op::MaxPool(_)
            | Op::Pad(_)
            | Op::Reshape(_)
            | Op::Resize(_)
            | Op::Transpose(_)
    )
}

/// The weights that `quantization` has scales for, rounded to their levels. The others stay.
///
/// # Panics
/// If `weights` do not fit `graph`.
pub(crate) fn rounded(graph: &Graph, weights: &Weights, quantization: &Quantization) -> Weights {
    let mut rounded = weights.clone();
    for (id, parameter) in graph.parameters() {
        let Some(scales) = quantization.parameter(id) else { continue };
        let numbers = &mut rounded.arrays.get_mut(&*parameter.name).expect("they fit").data;
        let filter = numbers.len() / scales.len();
        for (filter, &scale) in numbers.chunks_exact_mut(filter).zip(scales) {
            for number in filter {
                let level = quantization.level(id, *number, scale);
                *number = (f64::from(level) * scale) as f32;
            }
        }
    }
    rounded
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{Clip, Flatten, GraphBuilder, Place, Role, Shape};
    use edgesmith_testing::random_weights;

    use super::*;

    #[test]
    fn values_and_weights_go_to_the_nearest_level() {
        let mut builder = GraphBuilder::new();
        let x = builder.input("x", Shape::new(2, &[]).unwrap()).unwrap();
        let weight = builder.parameter("w", &[2, 2], Role::Weight).unwrap();
        let linear = edgesmith_graph::Linear;
        let layer = builder.node("layer", linear, &[x], &[weight], Place::default()).unwrap();
        let flat = builder.node("flat", Flatten, &[layer], &[], Place::default()).unwrap();
        let last = builder.node("last", Clip::RELU, &[flat], &[], Place::default()).unwrap();
        let graph = builder.finish(&[last]).unwrap();
        let mut quantization = Quantization::none(&graph);
        quantization.set_value(layer, Affine { scale: 0.5, zero_point: 1 });
        quantization.set_value(flat, Affine { scale: 7.0, zero_point: 0 });
        quantization.set_parameter(weight, vec![0.5, 0.25]);
        let levels = Levels::of(&graph, &quantization);
        let held = |value| {
            let mut numbers = [-3.0, 0.3, 0.8, 1000.0];
            levels.round(value, &mut numbers);
            numbers
        };
        assert_eq!(held(layer), [-0.5, 0.5, 1.0, 127.0]);
        assert_eq!(held(flat), held(layer));
        assert_eq!(held(last), [-3.0, 0.3, 0.8, 1000.0]);
        let mut weights = random_weights(&graph, 1);
        weights.arrays.get_mut("w").unwrap().data = vec![0.3, -0.8, 0.3, -0.8];
        let rounded = rounded(&graph, &weights, &quantization);
        assert_eq!(rounded.arrays["w"].data, [0.5, -1.0, 0.25, -0.75]);
    }
}
