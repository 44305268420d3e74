//! The graph: values, nodes and declared parameters, and the builder that checks them.

use std::borrow::Cow;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use crate::{InferError, Op, Operands, Operation, Role, Shape};

/// Largest number of channels that all values of a graph may have together.
pub const MAX_CHANNELS: u64 = 1 << 24;

/// Largest number of numbers that a parameter may have.
pub const MAX_PARAMETER_ELEMENTS: u64 = 1 << 40;

/// A value of a graph, by its place: first the inputs, then the outputs of the nodes in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);

/// A node of a graph, by its place in the order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// A parameter of a graph, by its place in the order of declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(u32);

/// What flows between nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Unique in the graph. It has no meaning. Code that makes many graphs can borrow names that
    /// it made once.
    pub name: Cow<'static, str>,
    /// Its size.
    pub shape: Shape,
}

/// One operation on values and parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// What it reads.
    pub inputs: SmallVec<[ValueId; 2]>,
    /// Its parameters, in the order of the operation's slots.
    pub parameters: SmallVec<[ParameterId; 4]>,
    /// What it computes; no other node does.
    pub output: ValueId,
    /// Where it stands in the network. It changes nothing that is computed.
    pub place: Place,
}

/// Numbers that a network learns or observes; [`crate::Weights`] has them by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Unique in the graph.
    pub name: Cow<'static, str>,
    /// Sizes, outermost first; at least one.
    pub shape: SmallVec<[u32; 4]>,
    /// What it is for.
    pub role: Role,
}

/// An annotation: where a node stands in a network that is made of stages of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Place {
    /// The stage, from 0; `None` outside of all stages.
    pub stage: Option<u32>,
    /// The block within the stage, from 0; `None` outside of all blocks.
    pub block: Option<u32>,
    /// Which part of the block, for example `expand`; empty if nothing is known. The normalisation
    /// and the activation after a convolution are of the same part.
    pub part: Cow<'static, str>,
}

/// A network: operations in execution order on named values. It is valid by construction: nodes
/// read what stands before them, every shape is inferred, and every name is unique.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    inputs: usize,
    values: Vec<Value>,
    nodes: Vec<Node>,
    parameters: Vec<Parameter>,
    outputs: Vec<ValueId>,
}

/// Why nodes do not make a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two values or two parameters of one name.
    #[error("two of the network's values or parameters are called {name:?}")]
    Name {
        /// The name.
        name: String,
    },
    /// An operation on operands that do not fit.
    #[error("node {node:?} ({kind}): {problem}")]
    Operands {
        /// The node's name.
        node: String,
        /// Its operation.
        kind: &'static str,
        /// Why they do not fit.
        problem: InferError,
    },
    /// A parameter without numbers, or with too many.
    #[error("parameter {name:?} has shape {shape}; it needs 1 to {MAX_PARAMETER_ELEMENTS} numbers")]
    Parameter {
        /// The parameter's name.
        name: String,
        /// Its shape.
        shape: String,
    },
    /// A parameter that no node reads.
    #[error("no node reads parameter {name:?}")]
    Unread {
        /// The parameter's name.
        name: String,
    },
    /// An input after the first node.
    #[error("input {name:?} comes after the first node")]
    LateInput {
        /// The input's name.
        name: String,
    },
    /// More channels than can be told apart one by one.
    #[error("the network's values have more than {MAX_CHANNELS} channels in all")]
    TooManyChannels,
    /// A graph without an output.
    #[error("the network has no output")]
    NoOutput,
}

/// Makes a graph, node by node.
#[derive(Debug)]
pub struct GraphBuilder {
    inputs: usize,
    values: Vec<Value>,
    nodes: Vec<Node>,
    parameters: Vec<Parameter>,
    /// What has which name, by the name's hash.
    names: HashTable<Named>,
}

/// What a name belongs to.
#[derive(Debug, Clone, Copy)]
enum Named {
    Value(ValueId),
    Parameter(ParameterId),
}

impl Default for GraphBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ValueId {
    pub(crate) fn new(index: usize) -> Self {
        Self(id(index))
    }

    /// Its place, for tables that have an entry per value.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl NodeId {
    pub(crate) fn new(index: usize) -> Self {
        Self(id(index))
    }

    /// Its place, for tables that have an entry per node.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ParameterId {
    pub(crate) fn new(index: usize) -> Self {
        Self(id(index))
    }

    /// Its place, for tables that have an entry per parameter.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Parameter {
    /// How many numbers it has.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&size| u64::from(size)).product()
    }
}

impl Graph {
    /// The values that are given from outside.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = ValueId> + use<> {
        (0..self.inputs).map(ValueId::new)
    }

    /// The shape of the first input.
    ///
    /// # Panics
    /// If the graph has no input.
    pub fn input(&self) -> &Shape {
        self.shape(self.inputs().next().expect("a graph that reads something"))
    }

    /// The shape of the first output.
    pub fn output(&self) -> &Shape {
        self.shape(self.outputs[0])
    }

    /// The values that the graph is there to compute; at least one.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// All values, in order: a node's output comes after everything that it is made of.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = (ValueId, &Value)> + ExactSizeIterator {
        self.values.iter().enumerate().map(|(index, value)| (ValueId::new(index), value))
    }

    /// All nodes in execution order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> + ExactSizeIterator {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId::new(index), node))
    }

    /// All parameters in the order of declaration.
    pub fn parameters(
        &self,
    ) -> impl DoubleEndedIterator<Item = (ParameterId, &Parameter)> + ExactSizeIterator {
        self.parameters.iter().enumerate().map(|(index, p)| (ParameterId::new(index), p))
    }

    /// The value with this name.
    pub fn value_named(&self, name: &str) -> Option<ValueId> {
        self.values().find(|(_, value)| &*value.name == name).map(|(id, _)| id)
    }

    /// The parameter with this name.
    pub fn parameter_named(&self, name: &str) -> Option<ParameterId> {
        self.parameters().find(|(_, parameter)| &*parameter.name == name).map(|(id, _)| id)
    }

    /// Whether a node has a weight: a convolution or a fully connected layer, and not a batch
    /// normalisation.
    pub fn has_weight(&self, node: &Node) -> bool {
        node.parameters.first().is_some_and(|&first| self.parameter(first).role == Role::Weight)
    }

    /// One value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// One value's shape.
    pub fn shape(&self, id: ValueId) -> &Shape {
        &self.values[id.index()].shape
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// One parameter.
    pub fn parameter(&self, id: ParameterId) -> &Parameter {
        &self.parameters[id.index()]
    }

    /// The node that computes a value; `None` for an input.
    pub fn producer(&self, value: ValueId) -> Option<NodeId> {
        value.index().checked_sub(self.inputs).map(NodeId::new)
    }

    /// For each value, the nodes that read it, in order. A node that reads it twice is listed
    /// twice.
    pub fn readers(&self) -> Vec<SmallVec<[NodeId; 2]>> {
        let mut readers = vec![SmallVec::new(); self.values.len()];
        for (id, node) in self.nodes() {
            node.inputs.iter().for_each(|input| readers[input.index()].push(id));
        }
        readers
    }

    /// The same graph with other places of its nodes. They change nothing that is computed.
    pub fn with_places(mut self, place: impl Fn(NodeId, &Node) -> Place) -> Self {
        for index in 0..self.nodes.len() {
            let place = place(NodeId::new(index), &self.nodes[index]);
            self.nodes[index].place = place;
        }
        self
    }

    /// The same graph with another size for those axes of parameters that have one. The shapes of
    /// values are inferred again.
    ///
    /// # Panics
    /// If the operands of a node do not fit each other any more.
    pub(crate) fn with_sizes(mut self, size: impl Fn(ParameterId, usize) -> Option<u32>) -> Self {
        for (index, parameter) in self.parameters.iter_mut().enumerate() {
            for (axis, old) in parameter.shape.iter_mut().enumerate() {
                *old = size(ParameterId::new(index), axis).unwrap_or(*old);
            }
        }
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let shape = self.with_operands(node, |operands| node.op.infer(operands));
            let output = node.output.index();
            let name = &self.values[output].name;
            let shape = shape.unwrap_or_else(|error| panic!("node {name}: {error}"));
            self.values[output].shape = shape;
        }
        self
    }

    /// Tells every operation which channels are kept; see [`Operation::cut`].
    pub(crate) fn cut_operations<'k>(&mut self, kept: impl Fn(ValueId) -> &'k [u32]) {
        for node in &mut self.nodes {
            let inputs: SmallVec<[&[u32]; 4]> = node.inputs.iter().map(|&v| kept(v)).collect();
            node.op.cut(&inputs, kept(node.output));
        }
    }

    /// Calls `f` with the shapes that a node works on.
    pub fn with_operands<T>(&self, node: &Node, f: impl FnOnce(&Operands) -> T) -> T {
        with_operands(&self.values, &self.parameters, &node.inputs, &node.parameters, f)
    }
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        // Room for some twenty convolutions with what belongs to them. Search lowers thousands of
        // networks for a proposal.
        Self {
            inputs: 0,
            values: Vec::with_capacity(64),
            nodes: Vec::with_capacity(64),
            parameters: Vec::with_capacity(128),
            names: HashTable::with_capacity(224),
        }
    }

    /// Declares an input. Inputs come before all nodes.
    ///
    /// # Errors
    /// If the name is taken, or there is a node already.
    pub fn input(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        shape: Shape,
    ) -> Result<ValueId, GraphError> {
        let name = name.into();
        if !self.nodes.is_empty() {
            return Err(GraphError::LateInput { name: name.to_string() });
        }
        let id = self.value(name, shape)?;
        self.inputs += 1;
        Ok(id)
    }

    /// Declares a parameter.
    ///
    /// # Errors
    /// If the name is taken, or the shape has no axis, a size of 0, or too many numbers.
    pub fn parameter(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        shape: &[u32],
        role: Role,
    ) -> Result<ParameterId, GraphError> {
        let name = name.into();
        let elements = shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size.into()));
        if shape.is_empty() || !elements.is_some_and(|n| (1..=MAX_PARAMETER_ELEMENTS).contains(&n))
        {
            let (name, shape) = (name.to_string(), format!("{shape:?}"));
            return Err(GraphError::Parameter { name, shape });
        }
        let id = ParameterId::new(self.parameters.len());
        self.claim(&name, Named::Parameter(id))?;
        self.parameters.push(Parameter { name, shape: SmallVec::from_slice(shape), role });
        Ok(id)
    }

    /// Adds a node after the others, and returns its output, which has the node's name.
    ///
    /// # Errors
    /// If the name is taken, or the operation does not work on these operands.
    ///
    /// # Panics
    /// If an input or a parameter is not of this builder.
    pub fn node(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[ParameterId],
        place: Place,
    ) -> Result<ValueId, GraphError> {
        let (name, op) = (name.into(), op.into());
        let shape = self.check(&op, parameters).and_then(|()| {
            with_operands(&self.values, &self.parameters, inputs, parameters, |o| op.infer(o))
        });
        match shape {
            Ok(shape) => {
                let output = self.value(name, shape)?;
                let inputs = SmallVec::from_slice(inputs);
                let parameters = SmallVec::from_slice(parameters);
                self.nodes.push(Node { op, inputs, parameters, output, place });
                Ok(output)
            }
            Err(problem) => {
                let node = name.to_string();
                Err(GraphError::Operands { node, kind: op.kind(), problem })
            }
        }
    }

    /// The shape of a value so far.
    ///
    /// # Panics
    /// If the value is not of this builder.
    pub fn shape(&self, value: ValueId) -> &Shape {
        &self.values[value.index()].shape
    }

    /// The graph that computes `outputs`.
    ///
    /// # Errors
    /// If there are none, no node reads one of the parameters, or there are too many channels.
    ///
    /// # Panics
    /// If an output is not of this builder.
    pub fn finish(self, outputs: &[ValueId]) -> Result<Graph, GraphError> {
        assert!(outputs.iter().all(|id| id.index() < self.values.len()), "outputs of this builder");
        let channels = |value: &Value| u64::from(value.shape.channels());
        if self.values.iter().map(channels).sum::<u64>() > MAX_CHANNELS {
            return Err(GraphError::TooManyChannels);
        }
        if outputs.is_empty() {
            return Err(GraphError::NoOutput);
        }
        let mut read = vec![false; self.parameters.len()];
        self.nodes.iter().flat_map(|node| &node.parameters).for_each(|id| read[id.index()] = true);
        if let Some((parameter, _)) = self.parameters.iter().zip(read).find(|(_, read)| !read) {
            return Err(GraphError::Unread { name: parameter.name.to_string() });
        }
        let Self { inputs, values, nodes, parameters, names: _ } = self;
        Ok(Graph { inputs, values, nodes, parameters, outputs: outputs.to_vec() })
    }

    fn value(&mut self, name: Cow<'static, str>, shape: Shape) -> Result<ValueId, GraphError> {
        let id = ValueId::new(self.values.len());
        self.claim(&name, Named::Value(id))?;
        self.values.push(Value { name, shape });
        Ok(id)
    }

    /// Notes what gets a name, and refuses a name that is taken.
    fn claim(&mut self, name: &str, by: Named) -> Result<(), GraphError> {
        let name_of = |named: &Named| match *named {
            Named::Value(id) => &*self.values[id.index()].name,
            Named::Parameter(id) => &*self.parameters[id.index()].name,
        };
        let hash = |name: &str| FixedState::default().hash_one(name);
        match self.names.entry(hash(name), |other| name_of(other) == name, |o| hash(name_of(o))) {
            Entry::Occupied(_) => Err(GraphError::Name { name: name.to_owned() }),
            Entry::Vacant(free) => {
                free.insert(by);
                Ok(())
            }
        }
    }

    /// Checks the number and the roles of a node's parameters.
    fn check(&self, op: &Op, parameters: &[ParameterId]) -> Result<(), InferError> {
        let (slots, given) = (op.slots(), parameters.len());
        let least = slots.iter().filter(|slot| !slot.optional).count();
        if !(least..=slots.len()).contains(&given) {
            return Err(InferError::Parameters { least, most: slots.len(), given });
        }
        let unlike = slots.iter().zip(parameters).find_map(|(slot, id)| {
            let Parameter { name, role, .. } = &self.parameters[id.index()];
            (*role != slot.role).then(|| InferError::Role {
                name: name.to_string(),
                expected: slot.role,
                given: *role,
            })
        });
        unlike.map_or(Ok(()), Err)
    }
}

/// Ids are small, because graphs are made of them: search lowers thousands of networks for a
/// proposal.
fn id(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 values, nodes and parameters")
}

fn with_operands<T>(
    values: &[Value],
    parameters: &[Parameter],
    inputs: &[ValueId],
    of: &[ParameterId],
    f: impl FnOnce(&Operands) -> T,
) -> T {
    // Pushed one by one, which is faster than collecting so few.
    let mut shapes: SmallVec<[&Shape; 4]> = SmallVec::new();
    inputs.iter().for_each(|id| shapes.push(&values[id.index()].shape));
    let mut sizes: SmallVec<[&[u32]; 4]> = SmallVec::new();
    of.iter().for_each(|id| sizes.push(&parameters[id.index()].shape));
    f(&Operands { inputs: &shapes, parameters: &sizes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Add, BatchNormalization, Conv, GlobalAveragePool};

    fn builder() -> (GraphBuilder, ValueId) {
        let mut builder = GraphBuilder::new();
        let image = builder.input("image", Shape::new(3, &[4, 4]).unwrap()).unwrap();
        (builder, image)
    }

    #[test]
    fn shapes_are_inferred_and_producers_known() {
        let (mut b, image) = builder();
        let weight = b.parameter("w", &[8, 3, 3, 3], Role::Weight).unwrap();
        let conv = b.node("conv", Conv::dense(3, 2), &[image], &[weight], Place::default());
        let conv = conv.unwrap();
        let pool = b.node("pool", GlobalAveragePool, &[conv], &[], Place::default()).unwrap();
        let graph = b.finish(&[pool]).unwrap();
        assert_eq!(graph.shape(conv).to_string(), "8x2x2");
        assert_eq!(graph.shape(pool).to_string(), "8");
        assert_eq!(graph.producer(image), None);
        let producer = graph.producer(pool).unwrap();
        assert_eq!(graph.node(producer).output, pool);
        assert_eq!(graph.readers()[conv.index()].as_slice(), [producer]);
        assert_eq!(graph.parameter(weight).elements(), 8 * 27);
    }

    #[test]
    fn mistakes_are_named() {
        let (mut b, image) = builder();
        let shape = Shape::new(3, &[4, 4]).unwrap();
        let error = b.input("image", shape.clone()).unwrap_err();
        assert_eq!(error, GraphError::Name { name: "image".into() });
        let error = b.parameter("w", &[8, 0], Role::Weight).unwrap_err().to_string();
        assert_eq!(error, "parameter \"w\" has shape [8, 0]; it needs 1 to 1099511627776 numbers");
        assert!(b.parameter("w", &[], Role::Weight).is_err());
        assert!(b.parameter("w", &[u32::MAX; 3], Role::Weight).is_err());
        let weight = b.parameter("w", &[3], Role::Weight).unwrap();
        let nowhere = Place::default;
        let error =
            b.node("bn", BatchNormalization { epsilon: 1e-5 }, &[image], &[weight], nowhere());
        assert_eq!(
            error.unwrap_err().to_string(),
            "node \"bn\" (batch_normalization): it takes 4 parameters, but has 1"
        );
        let bias = b.parameter("b", &[3], Role::Bias).unwrap();
        let error = b.node("conv", Conv::dense(1, 1), &[image], &[bias], nowhere()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node \"conv\" (conv): its parameter b is a Bias, where a Weight is needed"
        );
        let error = b.node("add", Add, &[image], &[], nowhere()).unwrap_err().to_string();
        assert_eq!(error, "node \"add\" (add): it takes 2 inputs, but has 1");
        let sum = b.node("sum", Add, &[image, image], &[], nowhere()).unwrap();
        let error = b.input("late", shape).unwrap_err();
        assert_eq!(error, GraphError::LateInput { name: "late".into() });
        assert_eq!(b.finish(&[sum]).unwrap_err(), GraphError::Unread { name: "w".into() });
        assert_eq!(builder().0.finish(&[]).unwrap_err(), GraphError::NoOutput);

        // However many names there are.
        let (mut b, image) = builder();
        let mut sum = image;
        for number in 0..1000 {
            sum = b.node(format!("sum{number}"), Add, &[sum, image], &[], nowhere()).unwrap();
        }
        for taken in ["image", "sum0", "sum999"] {
            assert!(b.parameter(taken, &[1], Role::Bias).is_err(), "{taken}");
        }

        // What was refused left nothing behind.
        let (mut b, image) = builder();
        b.input("image", Shape::new(3, &[4, 4]).unwrap()).unwrap_err();
        let pool = b.node("pool", GlobalAveragePool, &[image], &[], nowhere()).unwrap();
        let graph = b.finish(&[pool]).unwrap();
        assert_eq!((graph.inputs().len(), graph.producer(pool)), (1, Some(NodeId::new(0))));

        let mut b = GraphBuilder::new();
        let wide = b.input("wide", Shape::new(u32::MAX >> 1, &[]).unwrap()).unwrap();
        assert_eq!(b.finish(&[wide]).unwrap_err(), GraphError::TooManyChannels);
    }
}
