//! Makes a graph out of another one, node by node: what a pass needs that changes the structure.

use crate::{Graph, GraphBuilder, GraphError, NodeId, ParameterId, Shape, ValueId};

/// A graph in the making, with the inputs of another one. The pass visits the nodes of that graph
/// in order, and for each says what stands for its output: a copy of the node, other nodes, or a
/// value that is there already. At the end, the outputs are what stands for the outputs.
#[derive(Debug)]
pub struct Rebuild<'a> {
    /// The new graph so far; a pass adds its own nodes and parameters to it.
    pub builder: GraphBuilder,
    from: &'a Graph,
    values: Vec<Option<ValueId>>,
    parameters: Vec<Option<ParameterId>>,
}

impl<'a> Rebuild<'a> {
    /// A graph with the inputs of `from` and nothing else.
    pub fn new(from: &'a Graph) -> Self {
        let shapes: Vec<Shape> = from.inputs().map(|id| from.shape(id).clone()).collect();
        Self::with_inputs(from, &shapes)
    }

    /// A graph with inputs of these shapes and nothing else, each named as that of `from`. Nodes
    /// that are copied get the shapes that follow.
    ///
    /// # Panics
    /// If there are not as many shapes as inputs.
    pub fn with_inputs(from: &'a Graph, shapes: &[Shape]) -> Self {
        assert_eq!(from.inputs().len(), shapes.len(), "a shape for each input");
        let mut builder = GraphBuilder::new();
        let mut values = vec![None; from.values().len()];
        for (id, shape) in from.inputs().zip(shapes) {
            let input = builder.input(from.value(id).name.clone(), shape.clone());
            values[id.index()] = Some(input.expect("inputs of a graph come first, named apart"));
        }
        Self { builder, from, values, parameters: vec![None; from.parameters().len()] }
    }

    /// Adds a node as it is.
    ///
    /// # Errors
    /// If a name is taken, or what stands for its inputs does not fit it.
    pub fn copy(&mut self, node: NodeId) -> Result<(), GraphError> {
        let node = self.from.node(node);
        let inputs: Vec<ValueId> = node.inputs.iter().map(|&id| self.value(id)).collect();
        let parameters: Result<Vec<ParameterId>, GraphError> =
            node.parameters.iter().map(|&id| self.parameter(id)).collect();
        let name = self.from.value(node.output).name.clone();
        let place = node.place.clone();
        let copy = self.builder.node(name, node.op.clone(), &inputs, &parameters?, place)?;
        self.replace(node.output, copy);
        Ok(())
    }

    /// Lets a value of the new graph stand for one of the old graph.
    pub fn replace(&mut self, old: ValueId, new: ValueId) {
        self.values[old.index()] = Some(new);
    }

    /// What stands for a value of the old graph.
    ///
    /// # Panics
    /// If nothing does yet.
    pub fn value(&self, old: ValueId) -> ValueId {
        let new = self.values[old.index()];
        new.unwrap_or_else(|| panic!("nothing stands for {} yet", self.from.value(old).name))
    }

    /// The same parameter in the new graph, declared when first asked for.
    ///
    /// # Errors
    /// If the pass has given its name to something else.
    pub fn parameter(&mut self, old: ParameterId) -> Result<ParameterId, GraphError> {
        if let Some(new) = self.parameters[old.index()] {
            return Ok(new);
        }
        let parameter = self.from.parameter(old);
        let name = parameter.name.clone();
        let new = self.builder.parameter(name, &parameter.shape, parameter.role)?;
        self.parameters[old.index()] = Some(new);
        Ok(new)
    }

    /// The new graph.
    ///
    /// # Errors
    /// If a parameter is declared and no node reads it.
    ///
    /// # Panics
    /// If nothing stands for an output.
    pub fn finish(self) -> Result<Graph, GraphError> {
        let outputs: Vec<ValueId> = self.from.outputs().iter().map(|&id| self.value(id)).collect();
        self.builder.finish(&outputs)
    }
}
