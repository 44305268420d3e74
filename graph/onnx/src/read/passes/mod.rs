//! Passes over the graph that was read: they recognise what exporters write in parts. Each one
//! looks at a node and says which single operation computes the same.

mod activations;
mod biases;
mod normalizations;

use std::collections::HashMap;

use edgesmith_graph::{
    Function, Graph, GraphBuilder, GraphError, Map, Node, NodeId, Op, ParameterId, Role, ValueId,
    Weights,
};
use smallvec::SmallVec;

/// A graph as the patterns look at it.
struct Pattern<'g> {
    graph: &'g Graph,
    readers: Vec<SmallVec<[NodeId; 2]>>,
    /// By parameter, how many nodes have it.
    uses: Vec<usize>,
}

/// What computes a node's output instead.
struct Instead {
    op: Op,
    inputs: Vec<ValueId>,
    /// Parameters with their new role and shape.
    parameters: Vec<(ParameterId, Role, Vec<u32>)>,
}

/// What a pass looks for.
type Find = fn(&Pattern<'_>, &Node) -> Option<Instead>;

const PASSES: [Find; 3] = [activations::find, normalizations::find, biases::find];

/// The graph with every pattern that is found, and without nodes that no output needs.
pub(super) fn all(mut graph: Graph, mut weights: Weights) -> (Graph, Weights) {
    // What is found may be part of something else.
    for _ in 0..4 {
        let pattern = Pattern::new(&graph);
        let find = |(id, node): (NodeId, &Node)| {
            let instead = PASSES.iter().find_map(|find| find(&pattern, node));
            instead.map(|instead| (id, instead))
        };
        let found: HashMap<NodeId, Instead> = graph.nodes().filter_map(find).collect();
        let last = found.is_empty();
        let shapes: Vec<(String, Vec<u32>)> = found
            .values()
            .flat_map(|instead| &instead.parameters)
            .map(|(id, _, shape)| (graph.parameter(*id).name.to_string(), shape.clone()))
            .collect();
        // What does not fit was no such pattern.
        let Ok(next) = rebuilt(&graph, &found) else { break };
        graph = next;
        for (name, shape) in shapes {
            let live = graph.parameter_named(&name);
            if live.is_some_and(|id| graph.parameter(id).shape.as_slice() == shape)
                && let Some(array) = weights.arrays.get_mut(&name)
            {
                array.shape = shape.iter().map(|&size| size as usize).collect();
            }
        }
        if last {
            break;
        }
    }
    (graph, weights)
}

/// How many nodes only move numbers.
pub(super) fn moves(graph: &Graph) -> usize {
    let moves = |op: &Op| matches!(op, Op::Transpose(_) | Op::Reshape(_) | Op::Gather(_));
    graph.nodes().filter(|(_, node)| moves(&node.op)).count()
}

/// The graph of those nodes that its outputs need.
fn rebuilt(graph: &Graph, found: &HashMap<NodeId, Instead>) -> Result<Graph, GraphError> {
    let inputs = |id: NodeId| match found.get(&id) {
        Some(instead) => &instead.inputs[..],
        None => &graph.node(id).inputs[..],
    };
    let mut live = vec![false; graph.nodes().len()];
    let mut stack = graph.outputs().to_vec();
    while let Some(value) = stack.pop() {
        if let Some(id) = graph.producer(value)
            && !std::mem::replace(&mut live[id.index()], true)
        {
            stack.extend(inputs(id));
        }
    }
    let mut builder = GraphBuilder::new();
    let mut values: Vec<Option<ValueId>> = vec![None; graph.values().len()];
    for id in graph.inputs() {
        let value = graph.value(id);
        values[id.index()] = Some(builder.input(value.name.clone(), value.shape.clone())?);
    }
    let mut parameters: Vec<Option<ParameterId>> = vec![None; graph.parameters().len()];
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.index()]) {
        let mut declare = |id: ParameterId, role: Role, shape: &[u32]| {
            if let Some(declared) = parameters[id.index()] {
                return Ok(declared);
            }
            let name = graph.parameter(id).name.clone();
            let declared = builder.parameter(name, shape, role)?;
            parameters[id.index()] = Some(declared);
            Ok::<_, GraphError>(declared)
        };
        let own: Result<Vec<ParameterId>, GraphError> = match found.get(&id) {
            Some(instead) => {
                instead.parameters.iter().map(|(id, role, s)| declare(*id, *role, s)).collect()
            }
            None => {
                let of = |&id: &ParameterId| {
                    let parameter = graph.parameter(id);
                    declare(id, parameter.role, &parameter.shape)
                };
                node.parameters.iter().map(of).collect()
            }
        };
        let own = own?;
        let read: Option<Vec<ValueId>> = inputs(id).iter().map(|v| values[v.index()]).collect();
        let read = read.expect("nodes read what is before them");
        let op = found.get(&id).map_or(&node.op, |instead| &instead.op).clone();
        let name = graph.value(node.output).name.clone();
        let place = node.place.clone();
        values[node.output.index()] = Some(builder.node(name, op, &read, &own, place)?);
    }
    let outputs: Option<Vec<ValueId>> =
        graph.outputs().iter().map(|value| values[value.index()]).collect();
    builder.finish(&outputs.expect("outputs are live"))
}

impl<'g> Pattern<'g> {
    fn new(graph: &'g Graph) -> Self {
        let mut uses = vec![0; graph.parameters().len()];
        let used = graph.nodes().flat_map(|(_, node)| &node.parameters);
        used.for_each(|id| uses[id.index()] += 1);
        Self { graph, readers: graph.readers(), uses }
    }

    /// The node that computes a value.
    fn node(&self, value: ValueId) -> Option<&'g Node> {
        self.graph.producer(value).map(|id| self.graph.node(id))
    }

    /// A function of each number, and what it is applied to.
    fn map(&self, value: ValueId) -> Option<(Function, ValueId)> {
        let node = self.node(value)?;
        match node.op {
            Op::Map(Map { function }) => Some((function, node.inputs[0])),
            _ => None,
        }
    }

    /// The value as `factor * other + offset`, with all such steps taken together that nothing else
    /// reads.
    fn affine(&self, mut value: ValueId) -> (f32, f32, ValueId) {
        let (mut factor, mut offset) = (1.0, 0.0);
        // Exporters write a few steps.
        for _ in 0..8 {
            let Some((Function::Scale { factor: f, offset: o }, of)) = self.map(value) else {
                break;
            };
            offset += factor * o;
            factor *= f;
            value = of;
            if !self.is_inner(value) {
                break;
            }
        }
        (factor, offset, value)
    }

    /// The value as a number times the product of other values, which are no products or have other
    /// readers.
    fn product(&self, root: ValueId) -> (f32, SmallVec<[ValueId; 4]>) {
        let (mut factor, mut operands) = (1.0, SmallVec::new());
        let mut open: SmallVec<[ValueId; 4]> = SmallVec::from_slice(&[root]);
        // Products of more are none of the patterns.
        for _ in 0..16 {
            let Some(value) = open.pop() else { return (factor, operands) };
            match (self.map(value), self.node(value)) {
                _ if value != root && !self.is_inner(value) => operands.push(value),
                (Some((Function::Scale { factor: f, offset: 0.0 }, of)), _) => {
                    factor *= f;
                    open.push(of);
                }
                (_, Some(Node { op: Op::Multiply(_), inputs, .. })) => {
                    open.extend_from_slice(inputs)
                }
                _ => operands.push(value),
            }
        }
        (factor, SmallVec::new())
    }

    /// The parameter of a constant, if nothing else reads it, and its shape.
    fn constant(&self, value: ValueId) -> Option<(ParameterId, &'g [u32])> {
        let node = self.node(value)?;
        let parameter = *node.parameters.first()?;
        let alone = self.uses[parameter.index()] == 1 && self.readers[value.index()].len() == 1;
        let constant = matches!(node.op, Op::Constant(_)) && alone;
        constant.then(|| (parameter, self.graph.parameter(parameter).shape.as_slice()))
    }

    /// Whether only one node reads a value, and it is no output.
    fn is_inner(&self, value: ValueId) -> bool {
        self.readers[value.index()].len() == 1 && !self.graph.outputs().contains(&value)
    }
}

/// Whether a number is another one, as exporters round it.
fn is(number: f32, expected: f64) -> bool {
    (f64::from(number) - expected).abs() <= 1e-4 * expected.abs()
}
