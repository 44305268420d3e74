//! A batch through the reference evaluation in `f64`, also as training computes it: batch
//! normalisation uses the statistics of the batch.

use edgesmith_graph::{Evaluator, Graph, Op, ParameterId, Weights};

/// A graph with the numbers of its parameters.
pub(super) struct Reference<'a> {
    graph: &'a Graph,
    evaluator: Evaluator<'a, f64>,
    training: bool,
}

impl<'a> Reference<'a> {
    pub(super) fn new(graph: &'a Graph, weights: &Weights, training: bool) -> Self {
        Self { graph, evaluator: Evaluator::new(graph, weights), training }
    }

    /// The numbers of a parameter, to change them.
    pub(super) fn parameter_mut(&mut self, id: ParameterId) -> &mut [f64] {
        self.evaluator.parameter_mut(id)
    }

    /// The first output for each of the inputs.
    pub(super) fn outputs(&mut self, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut examples: Vec<Vec<Vec<f64>>> =
            inputs.iter().map(|input| vec![input.clone()]).collect();
        for (id, node) in self.graph.nodes() {
            if self.training && matches!(node.op, Op::BatchNormalization(_)) {
                let input = node.inputs[0];
                let channels = self.graph.shape(input).channels() as usize;
                let read = examples.iter().map(|values| values[input.index()].as_slice());
                let [means, variances] = statistics(&read.collect::<Vec<_>>(), channels);
                self.parameter_mut(node.parameters[2]).copy_from_slice(&means);
                self.parameter_mut(node.parameters[3]).copy_from_slice(&variances);
            }
            for values in &mut examples {
                let output = self.evaluator.node(id, values);
                values.push(output);
            }
        }
        let output = self.graph.outputs()[0].index();
        examples.into_iter().map(|mut values| values.swap_remove(output)).collect()
    }
}

/// Mean and biased variance of each channel over all examples and positions.
pub(super) fn statistics(examples: &[&[f64]], channels: usize) -> [Vec<f64>; 2] {
    let positions = examples[0].len() / channels;
    let of = |channel: usize| {
        examples.iter().flat_map(move |values| &values[channel * positions..][..positions])
    };
    let count = (examples.len() * positions) as f64;
    let means: Vec<f64> = (0..channels).map(|c| of(c).sum::<f64>() / count).collect();
    let variance = |c: usize| of(c).map(|value| (value - means[c]).powi(2)).sum::<f64>() / count;
    let variances = (0..channels).map(variance).collect();
    [means, variances]
}
