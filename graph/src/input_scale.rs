//! Which weights multiply what a network reads, so that another scale of its inputs can be undone.

use crate::{Graph, Op, ParameterId, Weights};

impl Graph {
    /// The weights that multiply the inputs, in order of their layers: if they are multiplied by a
    /// factor, and the inputs divided by it, the network computes the same. `None` if anything else
    /// is done with an input than to choose, move or multiply its numbers, if such a weight serves
    /// several layers, or if there is none.
    pub fn input_weights(&self) -> Option<Vec<ParameterId>> {
        let mut is_input = vec![false; self.values().len()];
        self.inputs().for_each(|input| is_input[input.index()] = true);
        let mut weights = Vec::new();
        for (_, node) in self.nodes() {
            let read = node.inputs.iter().filter(|value| is_input[value.index()]).count();
            if read == 0 {
                continue;
            }
            match &node.op {
                Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_) => {
                    weights.push(node.parameters[0]);
                }
                Op::Flatten(_) | Op::Gather(_) | Op::Reshape(_) | Op::Transpose(_) => {
                    is_input[node.output.index()] = true;
                }
                Op::Pad(pad) if pad.value == 0.0 => is_input[node.output.index()] = true,
                Op::Concat(_) if read == node.inputs.len() => is_input[node.output.index()] = true,
                Op::Add(_)
                | Op::AveragePool(_)
                | Op::BatchNormalization(_)
                | Op::Binary(_)
                | Op::Clip(_)
                | Op::Concat(_)
                | Op::Constant(_)
                | Op::GlobalAveragePool(_)
                | Op::LayerNormalization(_)
                | Op::LeakyRelu(_)
                | Op::Map(_)
                | Op::MatrixProduct(_)
                | Op::MaxPool(_)
                | Op::Multiply(_)
                | Op::Pad(_)
                | Op::Prelu(_)
                | Op::Reduce(_)
                | Op::Resize(_)
                | Op::Select(_)
                | Op::Softmax(_) => return None,
            }
        }
        let is_read = self.outputs().iter().all(|output| !is_input[output.index()]);
        // One that serves several layers would have to be scaled for some of them only.
        let readers = |id: &ParameterId| {
            self.nodes().flat_map(|(_, node)| &node.parameters).filter(|read| *read == id).count()
        };
        let is_sound = is_read && weights.iter().all(|id| readers(id) == 1);
        (is_sound && !weights.is_empty()).then_some(weights)
    }
}

impl Weights {
    /// Multiplies all numbers of a parameter.
    ///
    /// # Panics
    /// If it is not among them.
    pub fn scale(&mut self, graph: &Graph, parameter: ParameterId, factor: f32) {
        let name = &*graph.parameter(parameter).name;
        let array = self.arrays.get_mut(name).unwrap_or_else(|| panic!("no parameter {name}"));
        array.data.iter_mut().for_each(|number| *number *= factor);
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Add, Array, Conv, Evaluator, Flatten, Graph, GraphBuilder, Linear, Pad, Place, Role, Shape,
        Weights,
    };

    /// An image of 4x4 that a padded convolution reads, and a linear layer as a whole.
    fn network(padding: f32) -> Graph {
        let mut b = GraphBuilder::new();
        let x = b.input("x", Shape::new(1, &[4, 4]).unwrap()).unwrap();
        let kernel = b.parameter("kernel", &[2, 1, 3, 3], Role::Weight).unwrap();
        let bias = b.parameter("bias", &[2], Role::Bias).unwrap();
        let matrix = b.parameter("matrix", &[3, 16], Role::Weight).unwrap();
        let head = b.parameter("head", &[3, 72], Role::Weight).unwrap();
        let pad = Pad {
            before: [0, 1, 1].into_iter().collect(),
            after: [0, 1, 1].into_iter().collect(),
            value: padding,
        };
        let at = Place::default;
        let wide = b.node("wide", pad, &[x], &[], at()).unwrap();
        let conv = b.node("conv", Conv::dense(3, 1), &[wide], &[kernel, bias], at()).unwrap();
        let all = b.node("all", Flatten, &[conv], &[], at()).unwrap();
        let left = b.node("left", Linear, &[all], &[head], at()).unwrap();
        let flat = b.node("flat", Flatten, &[x], &[], at()).unwrap();
        let right = b.node("right", Linear, &[flat], &[matrix], at()).unwrap();
        let sum = b.node("sum", Add, &[left, right], &[], at()).unwrap();
        b.finish(&[sum]).unwrap()
    }

    fn output(graph: &Graph, weights: &Weights, image: &[f32]) -> Vec<f32> {
        Evaluator::<f32>::new(graph, weights).output(image.to_vec())
    }

    #[test]
    fn scaled_weights_undo_scaled_inputs() {
        let graph = network(0.0);
        let mut weights = Weights::default();
        for (at, (_, parameter)) in graph.parameters().enumerate() {
            let shape = parameter.sizes();
            let count = shape.iter().product::<usize>();
            let data = (0..count).map(|i| ((i * 7 + at * 3) % 11) as f32 / 8.0 - 0.5).collect();
            weights.arrays.insert(parameter.name.to_string(), Array { shape, data });
        }
        let image: Vec<f32> = (0..16).map(|i| (i * 16) as f32).collect();
        let before = output(&graph, &weights, &image);
        let found = graph.input_weights().unwrap();
        let names = found.iter().map(|id| &*graph.parameter(*id).name);
        assert_eq!(names.collect::<Vec<_>>(), ["kernel", "matrix"]);
        for id in found {
            weights.scale(&graph, id, 128.0);
        }
        let small: Vec<f32> = image.iter().map(|pixel| pixel / 128.0).collect();
        // A power of two changes no digits.
        assert_eq!(output(&graph, &weights, &small), before);
        assert_ne!(output(&graph, &weights, &image), before);
    }

    #[test]
    fn inputs_that_are_added_to_have_no_such_weights() {
        assert_eq!(network(1.0).input_weights(), None);
        let mut b = GraphBuilder::new();
        let x = b.input("x", Shape::new(1, &[]).unwrap()).unwrap();
        let sum = b.node("sum", Add, &[x, x], &[], Place::default()).unwrap();
        assert_eq!(b.finish(&[sum]).unwrap().input_weights(), None);
    }

    #[test]
    fn weights_that_serve_several_layers_are_not_scaled() {
        for both_read_the_input in [true, false] {
            let mut b = GraphBuilder::new();
            let x = b.input("x", Shape::new(2, &[]).unwrap()).unwrap();
            let weight = b.parameter("w", &[2, 2], Role::Weight).unwrap();
            let first = b.node("first", Linear, &[x], &[weight], Place::default()).unwrap();
            let read = if both_read_the_input { x } else { first };
            let second = b.node("second", Linear, &[read], &[weight], Place::default()).unwrap();
            let sum = b.node("sum", Add, &[first, second], &[], Place::default()).unwrap();
            assert_eq!(b.finish(&[sum]).unwrap().input_weights(), None);
        }
    }
}
