//! The walk over the nodes of the file, which become those of the network.

use std::collections::{HashMap, HashSet};

use super::call::{Call, Outputs, Tensor};
use super::error::{Fault, ReadError};
use super::fold;
use super::model::{self, Attribute, AttributeValue, Function, Graph, Model, Node};
use super::network::Network;
use super::numbers::{self, Beside};
use super::ops;
use super::order::order;
use super::view::View;

/// How deep functions may call each other.
const DEPTH: usize = 16;

/// Problems that are listed at most.
const PROBLEMS: usize = 32;

/// Nodes that are walked over at most, those in functions included.
const STEPS: usize = 1 << 18;

/// The network as it grows, and what was wrong so far.
pub(super) struct Import<'m> {
    opset: i64,
    beside: &'m Beside<'m>,
    pub(super) network: Network,
    pub(super) problems: Vec<ReadError>,
    steps: usize,
    functions: HashMap<(&'m str, &'m str), &'m Function<'m>>,
    /// All names that the graph's nodes and outputs read.
    read: HashSet<&'m str>,
}

/// What names stand for in the graph or in one call of a function.
struct Scope<'s> {
    tensors: HashMap<&'s str, Tensor>,
    initializers: HashMap<&'s str, &'s model::Tensor<'s>>,
    prefix: String,
    depth: usize,
}

impl<'m> Import<'m> {
    pub(super) fn new(
        model: &'m Model<'m>,
        opset: i64,
        beside: &'m Beside<'m>,
        batch: Option<u32>,
        bytes: usize,
    ) -> Self {
        let network = Network::new(batch, bytes);
        let functions = model.functions.iter().map(|f| ((f.domain, f.name), f)).collect();
        let nodes = model.graph.nodes.iter().flat_map(|node| node.inputs.iter().copied());
        let read = nodes.chain(model.graph.outputs.iter().map(|output| output.name)).collect();
        Self { opset, beside, network, problems: vec![], steps: 0, functions, read }
    }

    /// Walks over the whole graph, from these inputs. Returns the tensors of its outputs.
    ///
    /// # Errors
    /// If names do not fit together. What is wrong with nodes is in [`Import::problems`].
    pub(super) fn graph(
        &mut self,
        graph: &'m Graph<'m>,
        inputs: &[(&'m str, View)],
    ) -> Result<Vec<Tensor>, ReadError> {
        let mut initializers = HashMap::new();
        for tensor in &graph.initializers {
            if initializers.insert(tensor.name, tensor).is_some() {
                return Err(ReadError::Duplicate { name: tensor.name.to_owned() });
            }
        }
        let mut tensors = HashMap::new();
        for (name, view) in inputs {
            if tensors.insert(*name, Tensor::from(view.clone())).is_some() {
                return Err(ReadError::Duplicate { name: (*name).to_owned() });
            }
        }
        let mut scope = Scope { tensors, initializers, prefix: String::new(), depth: 0 };
        let outputs: Vec<&str> = graph.outputs.iter().map(|output| output.name).collect();
        self.scope(&mut scope, &graph.nodes, &outputs)
    }

    fn scope<'s>(
        &mut self,
        scope: &mut Scope<'s>,
        nodes: &'s [Node<'s>],
        outputs: &[&'s str],
    ) -> Result<Vec<Tensor>, ReadError> {
        let known =
            |name: &str| scope.tensors.contains_key(name) || scope.initializers.contains_key(name);
        for place in order(nodes, &known, outputs)? {
            self.step(1)?;
            let node = &nodes[place];
            let results = self.node(scope, node)?;
            for (&name, result) in node.outputs.iter().zip(results) {
                scope.tensors.insert(name, result);
            }
        }
        outputs.iter().map(|&name| self.tensor(scope, name)).collect()
    }

    /// Accounts for nodes that are walked over or copied.
    fn step(&mut self, nodes: usize) -> Result<(), ReadError> {
        self.steps = self.steps.saturating_add(nodes);
        if self.steps > STEPS {
            let problem = format!("the network has more than {STEPS} nodes");
            return Err(Fault::unsupported(problem, "export a part of it").of("", "Graph"));
        }
        Ok(())
    }

    /// What a name stands for. Constants of the file are made when first asked for.
    fn tensor<'s>(&mut self, scope: &mut Scope<'s>, name: &'s str) -> Result<Tensor, ReadError> {
        if let Some(tensor) = scope.tensors.get(name) {
            return Ok(tensor.clone());
        }
        let missing = || ReadError::Missing { reader: "a node".to_owned(), name: name.to_owned() };
        let tensor = scope.initializers.get(name).ok_or_else(missing)?;
        let constant = numbers::constant(tensor, self.beside);
        let constant = constant.map_err(|problem| {
            let tensor = name.to_owned();
            ReadError::Tensor { tensor, problem }
        })?;
        if tensor.external.is_some() {
            let numbers = constant.elements();
            self.network.credit(numbers, self.beside.bytes());
            self.network.spend(numbers).map_err(|fault| fault.of(name, "Tensor"))?;
        }
        let tensor = Tensor::constant(constant);
        scope.tensors.insert(name, tensor.clone());
        Ok(tensor)
    }

    /// The outputs of a node: unknown ones if it cannot be read, which is noted.
    fn node<'s>(
        &mut self,
        scope: &mut Scope<'s>,
        node: &'s Node<'s>,
    ) -> Result<Vec<Tensor>, ReadError> {
        let mut inputs = vec![];
        for &name in &node.inputs {
            inputs.push(if name.is_empty() { None } else { Some(self.tensor(scope, name)?) });
        }
        let unknown = vec![Tensor::Unknown; node.outputs.len()];
        let own = matches!(node.domain, "" | "ai.onnx");
        let function = self.function(node);
        let reader = ops::reader(node.op_type).filter(|_| own || node.domain == "com.microsoft");
        let foldable = own && function.is_none();
        // Whatever else it reads, its operator will not be known.
        let folds = foldable && fold::is_only_folded(node.op_type);
        if function.is_none() && reader.is_none() && !folds {
            self.note(node, ops::unknown(node.op_type, node.domain));
            return Ok(unknown);
        }
        if inputs.iter().flatten().any(|tensor| matches!(tensor, Tensor::Unknown)) {
            return Ok(unknown);
        }
        if let Some(function) = function {
            return self.call(scope, node, function, inputs);
        }
        let label = node.outputs.iter().find(|name| !name.is_empty()).copied().unwrap_or_default();
        self.network.current = format!("{}{label}", scope.prefix);
        let call = Call { node, opset: self.opset, inputs, beside: self.beside };
        let folded = if foldable { fold::fold(&call, &mut self.network) } else { None };
        let folded = folded.map(|outputs| self.paid(outputs));
        let outputs = match (folded, reader) {
            (Some(outputs), _) => outputs,
            (None, Some(read)) => read(&call, &mut self.network),
            (None, None) => Err(ops::unknown(node.op_type, node.domain)),
        };
        match outputs {
            Ok(mut outputs) => {
                let more = node.outputs.iter().skip(outputs.len()).find(|name| !name.is_empty());
                if more.is_some() {
                    let place = outputs.len();
                    outputs.resize(node.outputs.len(), Tensor::Unknown);
                    self.unread(scope, node, place);
                }
                Ok(outputs)
            }
            Err(fault) => {
                self.note(node, fault);
                Ok(unknown)
            }
        }
    }

    /// Accounts for known numbers that were computed.
    fn paid(&mut self, outputs: Outputs) -> Outputs {
        let outputs = outputs?;
        for output in &outputs {
            if let Tensor::Constant(constant) = output {
                self.network.spend(constant.elements())?;
            }
        }
        Ok(outputs)
    }

    /// An output that is not computed is a problem only if something reads it.
    fn unread(&mut self, scope: &Scope<'_>, node: &Node<'_>, from: usize) {
        let read = |name: &&str| !name.is_empty() && (scope.depth > 0 || self.read.contains(name));
        if node.outputs.iter().skip(from).any(read) {
            self.note(
                node,
                Fault::unsupported(
                    format!("something reads its output {from}"),
                    "export the network in evaluation mode",
                ),
            );
        }
    }

    fn function(&self, node: &Node<'_>) -> Option<&'m Function<'m>> {
        self.functions.get(&(node.domain, node.op_type)).copied()
    }

    /// Runs the body of a function.
    fn call<'s>(
        &mut self,
        scope: &Scope<'s>,
        node: &Node<'s>,
        function: &'m Function<'m>,
        inputs: Vec<Option<Tensor>>,
    ) -> Result<Vec<Tensor>, ReadError> {
        let unknown = vec![Tensor::Unknown; node.outputs.len()];
        if scope.depth >= DEPTH {
            self.note(node, Fault::invalid(format!("functions call each other {DEPTH} deep")));
            return Ok(unknown);
        }
        let given = |name: &str| {
            let call = node.attributes.iter().find(|a| a.name == name);
            let call: Option<&Attribute<'_>> = call;
            call.or_else(|| function.defaults.iter().find(|a| a.name == name)).map(|a| &a.value)
        };
        // The body is copied: that is paid for before.
        self.step(function.nodes.len())?;
        let length = |value: &AttributeValue<'_>| match value {
            AttributeValue::Reference(name) => given(name).map_or(0, AttributeValue::length),
            own => own.length(),
        };
        let lengths = |inner: &Node<'_>| {
            let lists = inner.attributes.iter().map(|attribute| length(&attribute.value));
            lists.sum::<usize>() + inner.inputs.len() + inner.outputs.len()
        };
        let numbers = function.nodes.iter().map(lengths).fold(0, usize::saturating_add);
        if let Err(fault) = self.network.spend(numbers) {
            self.note(node, fault);
            return Ok(unknown);
        }
        let nodes: Vec<Node<'_>> = function
            .nodes
            .iter()
            .map(|inner| {
                let mut inner: Node<'_> = inner.clone();
                let attributes = std::mem::take(&mut inner.attributes);
                inner.attributes = attributes
                    .into_iter()
                    .filter_map(|attribute| match attribute.value {
                        AttributeValue::Reference(name) => {
                            let value = given(name)?.clone();
                            Some(Attribute { name: attribute.name, value })
                        }
                        value => Some(Attribute { name: attribute.name, value }),
                    })
                    .collect();
                inner
            })
            .collect();
        let mut tensors: HashMap<&str, Tensor> = HashMap::new();
        // An input that is left out is an empty name inside, too.
        let mut absent = vec![];
        for (place, &name) in function.inputs.iter().enumerate() {
            match inputs.get(place).cloned().flatten() {
                Some(tensor) => drop(tensors.insert(name, tensor)),
                None => absent.push(name),
            }
        }
        let nodes: Vec<Node<'_>> = nodes
            .into_iter()
            .map(|mut inner| {
                inner.inputs.iter_mut().filter(|n| absent.contains(n)).for_each(|n| *n = "");
                inner
            })
            .collect();
        let prefix = format!("{}{}/", scope.prefix, node.label());
        let depth = scope.depth + 1;
        let mut inner = Scope { tensors, initializers: HashMap::new(), prefix, depth };
        let outputs: Vec<&str> = function.outputs.to_vec();
        self.scope(&mut inner, &nodes, &outputs)
    }

    fn note(&mut self, node: &Node<'_>, fault: Fault) {
        let error = fault.of(node.label(), node.op_type);
        let same = |other: &&mut ReadError| match (&**other, &error) {
            (
                ReadError::Unsupported { op_type: a, problem: x, .. },
                ReadError::Unsupported { op_type: b, problem: y, .. },
            ) => a == b && x == y,
            (ReadError::Batch { .. }, ReadError::Batch { .. }) => true,
            _ => false,
        };
        let room = self.problems.len() < PROBLEMS;
        match self.problems.iter_mut().find(same) {
            Some(ReadError::Unsupported { others, .. }) => *others += 1,
            Some(_) => {}
            None if room => self.problems.push(error),
            None => {}
        }
    }
}
