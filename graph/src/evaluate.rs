//! The reference: runs a graph node by node, one example at a time, simple and slow.

use smallvec::SmallVec;

use crate::{Graph, NodeId, Operation, ParameterId, Scalar, ValueId, Weights};

/// A graph with the numbers of its parameters, ready to run.
#[derive(Debug)]
pub struct Evaluator<'a, S> {
    graph: &'a Graph,
    parameters: Vec<Vec<S>>,
}

impl<'a, S: Scalar> Evaluator<'a, S> {
    /// The graph with these weights.
    ///
    /// # Panics
    /// If the weights do not fit the graph; see [`Weights::check`].
    pub fn new(graph: &'a Graph, weights: &Weights) -> Self {
        Self::with(graph, weights, |_, value| S::constant(value.into()))
    }

    /// The graph with weights that `number` makes of the given ones.
    ///
    /// # Panics
    /// If the weights do not fit the graph; see [`Weights::check`].
    pub fn with(
        graph: &'a Graph,
        weights: &Weights,
        number: impl Fn(ParameterId, f32) -> S,
    ) -> Self {
        let parameter = |id| weights.of(graph, id).data.iter().map(|&x| number(id, x)).collect();
        Self { graph, parameters: graph.parameters().map(|(id, _)| parameter(id)).collect() }
    }

    /// All values for one example, by [`ValueId::index`]; the inputs come first.
    ///
    /// # Panics
    /// If the number of inputs or the size of one is not the graph's.
    pub fn run(&self, inputs: Vec<Vec<S>>) -> Vec<Vec<S>> {
        assert_eq!(inputs.len(), self.graph.inputs().len(), "all inputs of the graph");
        for (id, input) in self.graph.inputs().zip(&inputs) {
            let expected = self.graph.shape(id).elements();
            assert_eq!(input.len() as u64, expected, "an input of the graph's size");
        }
        let mut values = inputs;
        for (id, _) in self.graph.nodes() {
            let output = self.node(id, &values);
            values.push(output);
        }
        values
    }

    /// The first output for one example of a graph with one input.
    ///
    /// # Panics
    /// See [`Evaluator::run`].
    pub fn output(&self, input: Vec<S>) -> Vec<S> {
        self.run(vec![input]).swap_remove(self.graph.outputs()[0].index())
    }

    /// The output of one node, from the values before it.
    pub fn node(&self, id: NodeId, values: &[Vec<S>]) -> Vec<S> {
        let node = self.graph.node(id);
        let read = |id: &ValueId| values[id.index()].as_slice();
        let inputs: SmallVec<[&[S]; 4]> = node.inputs.iter().map(read).collect();
        let parameter = |id: &ParameterId| self.parameters[id.index()].as_slice();
        let parameters: SmallVec<[&[S]; 4]> = node.parameters.iter().map(parameter).collect();
        let output = self.graph.shape(node.output);
        self.graph.with_operands(node, |operands| {
            node.op.evaluate(operands, &inputs, &parameters, output)
        })
    }

    /// The numbers of a parameter, to change them.
    pub fn parameter_mut(&mut self, id: ParameterId) -> &mut [S] {
        &mut self.parameters[id.index()]
    }
}
