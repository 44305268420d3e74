//! The inputs of the network: their shapes, and in which order their axes lie in the graph's
//! values.

use edgesmith_graph::{Graph, NodeId, Op, Shape, ValueId};

use super::call;
use super::error::{Fault, ReadError, ReadErrors};
use super::model::{Dimension, Model};
use super::network::Network;
use super::view::{Element, View};
use super::{Port, PortAxis, ReadOptions};

/// An input with the sizes that it has in the file, or that are given for it.
pub(super) struct InputShape<'m> {
    pub(super) name: &'m str,
    element: Element,
    /// `None` for a batch of any size, which comes first.
    dims: Vec<Option<u32>>,
    /// The size of the first axis if somebody gave one, although the file leaves it open.
    given: Option<u32>,
}

impl InputShape<'_> {
    /// Whether the size of the first axis is known.
    pub(super) fn batch_is_known(&self) -> bool {
        self.dims.first().is_none_or(|first| first.or(self.given).is_some())
    }

    /// Declares the input. Its axes come in the order of the file, or in this one.
    pub(super) fn declare(
        &self,
        network: &mut Network,
        with_batch: bool,
        order: Option<&[usize]>,
    ) -> Result<View, Fault> {
        let rank = self.dims.len();
        let size = |axis: usize| self.dims[axis].or(self.given).unwrap_or(1);
        // An example has no axis for what it is the only one of.
        let skipped = usize::from(rank > 0 && (with_batch || (rank > 1 && size(0) == 1)));
        let of: Vec<usize> = match order {
            Some(order) => order.to_vec(),
            None => (skipped..rank).collect(),
        };
        let mut sizes: Vec<u32> = of.iter().map(|&axis| size(axis)).collect();
        if sizes.is_empty() {
            sizes.push(1);
        }
        let shape = Shape::new(sizes[0], &sizes[1..]);
        let shape = shape.map_err(|error| Fault::invalid(error.to_string()))?;
        let id = network.input(self.name, shape)?;
        let mut batch = vec![None; rank];
        if with_batch && rank > 0 {
            batch[0] = Some(1);
        }
        let of: Vec<Option<usize>> = of.into_iter().map(Some).collect();
        Ok(View::new(id, &sizes, &of, &batch).with(self.element))
    }
}

/// The inputs that are no constants, with their shapes.
pub(super) fn shapes<'m>(
    model: &'m Model<'m>,
    options: &ReadOptions<'_>,
) -> Result<Vec<InputShape<'m>>, ReadErrors> {
    let graph = &model.graph;
    let constants: std::collections::HashSet<&str> =
        graph.initializers.iter().map(|tensor| tensor.name).collect();
    let inputs: Vec<_> =
        graph.inputs.iter().filter(|input| !constants.contains(input.name)).collect();
    for name in options.input_shapes.keys() {
        if !inputs.iter().any(|input| input.name == name) {
            let names: Vec<&str> = inputs.iter().map(|input| input.name).collect();
            let problem = format!("the network's inputs are {}", names.join(", "));
            return Err(ReadError::InputShape { input: name.clone(), problem }.into());
        }
    }
    let (mut shapes, mut problems) = (vec![], vec![]);
    for input in inputs {
        let given = options.input_shapes.get(input.name);
        match shape(input, given) {
            Ok(shape) => shapes.push(shape),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(shapes) } else { Err(ReadErrors { problems }) }
}

fn shape<'m>(
    input: &super::model::ValueInfo<'m>,
    given: Option<&Vec<u32>>,
) -> Result<InputShape<'m>, ReadError> {
    let name = input.name;
    let wrong = |problem: String| ReadError::InputShape { input: name.to_owned(), problem };
    let element = call::element(input.element).ok_or_else(|| {
        let problem = "its input is no tensor of numbers".to_owned();
        let help = "export the part of the network that reads numbers".to_owned();
        let (node, op_type) = (name.to_owned(), "Input".to_owned());
        ReadError::Unsupported { node, op_type, others: 0, problem, help }
    })?;
    let free = |said: &[Dimension<'_>]| {
        let text = |dim: &Dimension<'_>| match dim {
            Dimension::Known(size) if *size > 0 => size.to_string(),
            Dimension::Known(_) | Dimension::Named(_) | Dimension::Free => {
                named(dim).unwrap_or("?").to_owned()
            }
        };
        let sizes: Vec<String> = said.iter().map(text).collect();
        let known = |dim: &Dimension<'_>| matches!(dim, Dimension::Known(size) if *size > 0);
        // A number belongs where the name of a size stands.
        let example = said.iter().enumerate().map(|(axis, dim)| match (axis, known(dim)) {
            (0, false) => "1".to_owned(),
            _ => text(dim),
        });
        let mut example = example.collect::<Vec<String>>().join(",");
        if said.iter().skip(1).any(|dim| named(dim).is_some()) {
            example.push_str(", with numbers for the names");
        }
        let sizes = sizes.join(", ");
        let fixed = |dim: &Dimension<'_>| match dim {
            Dimension::Known(size) => u32::try_from(*size).ok().filter(|size| *size > 0),
            Dimension::Named(_) | Dimension::Free => None,
        };
        let known = Some(said.iter().map(fixed).collect());
        ReadError::FreeSizes { input: name.to_owned(), sizes, known, example }
    };
    let said = match (&input.dims, given) {
        (Some(said), _) => said.clone(),
        (None, Some(given)) => vec![Dimension::Free; given.len()],
        (None, None) => {
            let (sizes, example) = ("the file does not say any".to_owned(), "1,…".to_owned());
            let input = name.to_owned();
            return Err(ReadError::FreeSizes { input, sizes, known: None, example });
        }
    };
    if said.len() > super::MAX_RANK {
        return Err(wrong(format!("it has {} axes", said.len())));
    }
    if let Some(given) = given
        && given.len() != said.len()
    {
        return Err(wrong(format!(
            "it has {} sizes, but the input has {}",
            given.len(),
            said.len()
        )));
    }
    let mut dims = vec![];
    for (axis, dim) in said.iter().enumerate() {
        let given = given.map(|given| given[axis]);
        dims.push(match (dim, given) {
            // Some writers mean a free size by -1.
            (Dimension::Known(size), given) if *size > 0 => {
                let size =
                    u32::try_from(*size).map_err(|_| wrong(format!("{size} is too large")))?;
                if let Some(given) = given
                    && given != size
                    && axis > 0
                {
                    return Err(wrong(format!("axis {axis} is {size} in the file, not {given}")));
                }
                Some(size)
            }
            (Dimension::Known(0), None) if axis > 0 => {
                return Err(wrong(format!("axis {axis} has a size of 0")));
            }
            (_, Some(0)) => return Err(wrong(format!("axis {axis} has a size of 0"))),
            _ if axis == 0 => None,
            (_, Some(given)) => Some(given),
            (_, None) => return Err(free(&said)),
        });
    }
    let first = given.and_then(|given| given.first().copied());
    Ok(InputShape { name, element, dims, given: first })
}

/// What a file calls a free size. Some call all of them "?".
fn named<'m>(dim: &Dimension<'m>) -> Option<&'m str> {
    match dim {
        Dimension::Named(name) => Some(*name).filter(|name| name.contains(char::is_alphanumeric)),
        Dimension::Known(_) | Dimension::Free => None,
    }
}

/// The number of examples that the inputs fix.
pub(super) fn batch(shapes: &[InputShape<'_>]) -> Result<Option<u32>, ReadError> {
    let mut firsts = shapes.iter().filter_map(|shape| shape.dims.first().map(|d| (shape.name, *d)));
    let Some((_, first)) = firsts.next() else { return Ok(None) };
    match firsts.find(|(_, other)| *other != first) {
        None => Ok(first),
        Some((name, _)) => {
            Err(Fault::batch("the inputs have different first sizes").of(name, "Input"))
        }
    }
}

/// For each input the order of its axes in which the network needs them, if some input's axes are
/// moved before anything else is done with it.
pub(super) fn better_orders(graph: &Graph, ports: &[Port]) -> Option<Vec<Option<Vec<usize>>>> {
    let readers = graph.readers();
    let orders: Vec<Option<Vec<usize>>> = graph
        .inputs()
        .zip(ports)
        .map(|(id, port)| {
            let node = first_move(graph, &readers, id)?;
            order_after(graph, graph.node(node), port)
        })
        .collect();
    orders.iter().any(Option::is_some).then_some(orders)
}

/// The first node that moves the axes of a value, if functions of each number are all that is
/// before it.
fn first_move(
    graph: &Graph,
    readers: &[smallvec::SmallVec<[NodeId; 2]>],
    mut id: ValueId,
) -> Option<NodeId> {
    loop {
        let mut next = None;
        for &reader in &readers[id.index()] {
            let node = graph.node(reader);
            match &node.op {
                Op::Transpose(_) | Op::Reshape(_) => return Some(reader),
                _ if graph.shape(node.output) == graph.shape(id) => next = Some(node.output),
                _ => {}
            }
        }
        id = next?;
    }
}

/// The order of the tensor's axes after a node has moved those of its value.
fn order_after(graph: &Graph, node: &edgesmith_graph::Node, port: &Port) -> Option<Vec<usize>> {
    let sizes = |id: ValueId| -> Vec<u32> {
        let shape = graph.shape(id);
        std::iter::once(shape.channels()).chain(shape.space().iter().copied()).collect()
    };
    let (before, after) = (sizes(node.inputs[0]), sizes(node.output));
    // By axis of the value.
    let tensor = |of: usize| port.axes.iter().position(|axis| *axis == PortAxis::Of(of as u32));
    if let Op::Transpose(transpose) = &node.op {
        return transpose.order.iter().map(|&of| tensor(of as usize)).collect();
    }
    // A reshape that only moves sizes of 1 is an order, too.
    let wide = |sizes: &[u32]| -> Vec<u32> { sizes.iter().copied().filter(|&s| s > 1).collect() };
    if wide(&before) != wide(&after) || before.len() != after.len() {
        return None;
    }
    let places = |one: bool| {
        let before = before.clone();
        (0..before.len()).filter(move |&of| (before[of] == 1) == one)
    };
    let (mut ones, mut others) = (places(true), places(false));
    let of = |&size: &u32| if size == 1 { ones.next() } else { others.next() };
    let order: Option<Vec<usize>> = after.iter().map(of).collect();
    order?.into_iter().map(tensor).collect()
}
