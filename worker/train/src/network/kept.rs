//! How many numbers each operation keeps from the forward pass for the backward pass, and how many
//! it works on. Upper bounds for `crate::memory`, from what trainings were seen to take; a test
//! there compares. burn copies operands whose axes are in another order, and keeps some of them.

use edgesmith_graph::{Function, Graph, Groups, Node, NodeId, Op, Quantization, ValueId};

use super::chain::{Part, parts};
use super::fitting::fitting_node;
use super::held::Held;

/// What one node keeps and works on, for each example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Numbers that are kept, its output among them.
    pub(crate) kept: u64,
    /// Numbers that are there only while it is computed, beside its operands and their gradients.
    pub(crate) work: u64,
    /// Numbers that the kernels of the fast path copy where the examples do not fill whole vectors.
    pub(crate) widened: u64,
}

/// By node.
pub(crate) fn kept(graph: &Graph) -> Vec<Kept> {
    let fast = graph.nodes().any(|(_, node)| fitting_node(graph, node).is_some());
    let parts = parts(graph);
    graph.nodes().map(|(id, node)| of_node(graph, (id, node), fast.then_some(&*parts))).collect()
}

/// What a simulated quantization keeps and works on more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rounding {
    /// Numbers before rounding that are kept, for each example.
    pub(crate) kept: u64,
    /// Numbers of the largest value that is rounded.
    pub(crate) work: u64,
    /// Numbers of the weights that are rounded.
    pub(crate) weights: u64,
}

/// What a simulated quantization keeps and works on beside [`kept`].
pub(crate) fn rounding(graph: &Graph, quantization: &Quantization) -> Rounding {
    let held = Held::new(graph, quantization);
    let elements = |id: ValueId| graph.shape(id).elements();
    let mut all = Rounding { kept: 0, work: 0, weights: 0 };
    let mut round = |count: u64| {
        all.kept += count;
        all.work = all.work.max(count);
    };
    graph.inputs().for_each(|input| round(elements(input)));
    let mut weights = 0;
    for (id, node) in graph.nodes() {
        let form = held.forms[id.index()];
        if form.writes.is_some() {
            round(elements(node.output));
        }
        let real = node.inputs.iter().filter(|id| held.scales[id.index()].is_none());
        real.filter(|_| form.reads).for_each(|&id| round(elements(id)));
        if form.multiplies {
            weights += graph.parameter(node.parameters[0]).elements();
        }
    }
    Rounding { weights, ..all }
}

/// `parts` are those of the fast path, if it computes the graph.
fn of_node(graph: &Graph, (id, node): (NodeId, &Node), parts: Option<&[Part]>) -> Kept {
    let output = graph.shape(node.output).elements();
    let inputs: u64 = node.inputs.iter().map(|input| graph.shape(*input).elements()).sum();
    let of_kernel = |kept: u64| Kept { kept, work: output, widened: 2 * (inputs + output) };
    match parts.map(|parts| &parts[id.index()]) {
        // Its output, and the same before scale and shift.
        Some(Part::First(_)) => return of_kernel(2 * output),
        Some(Part::Later) => return Kept { kept: 0, work: 0, widened: 0 },
        // There are none where quantization is not simulated.
        Some(Part::Alone | Part::Rounded(_)) | None => {}
    }
    let plain = |outputs: u64, copies: u64, work: u64| Kept {
        kept: outputs * output + copies * inputs,
        work,
        widened: 0,
    };
    let both = inputs + output;
    match &node.op {
        Op::Conv(_) if parts.is_some() && fitting_node(graph, node).is_some() => of_kernel(output),
        Op::Conv(conv) => {
            // burn writes down what each position reads.
            let shape = graph.shape(node.output);
            let channels = u64::from(shape.channels());
            let taps = graph.parameter(node.parameters[0]).elements().div_ceil(channels);
            let reads = match conv.groups {
                Groups::Equal(groups) => taps * u64::from(groups),
                Groups::PerChannel => taps * channels,
            };
            plain(3, 2, 3 * both + 2 * reads * shape.positions())
        }
        Op::ConvTranspose(_) => {
            // The same the other way round.
            let weight = graph.parameter(node.parameters[0]).elements();
            plain(2, 1, both + weight * graph.shape(node.inputs[0]).positions())
        }
        Op::AveragePool(pool) => {
            let window: u64 = pool.kernel.iter().map(|size| u64::from(*size)).product();
            plain(2, 1, both + window * output)
        }
        // It is padded first, and notes the places of the largest numbers.
        Op::MaxPool(_) => plain(4, 2, 3 * both),
        Op::BatchNormalization(_) => plain(2, 0, both),
        Op::LayerNormalization(_) => plain(3, 0, both),
        Op::Softmax(_) => plain(2, 1, both),
        Op::Linear(_) | Op::MatrixProduct(_) | Op::Reduce(_) | Op::GlobalAveragePool(_) => {
            plain(1, 1, both)
        }
        Op::Resize(_) => plain(3, 1, both),
        Op::Map(map) => match map.function {
            Function::Absolute
            | Function::Exponential
            | Function::Logarithm
            | Function::Power { .. }
            | Function::Scale { .. }
            | Function::Sigmoid
            | Function::SquareRoot
            | Function::Tanh => plain(1, 0, output),
            Function::Erf | Function::Gelu | Function::HardSigmoid { .. } => plain(2, 0, output),
            Function::Elu { .. } | Function::HardSwish | Function::Silu => plain(3, 0, output),
            Function::GeluTanh | Function::Softplus => plain(4, 0, output),
        },
        Op::Clip(_) | Op::LeakyRelu(_) | Op::Prelu(_) | Op::Binary(_) => plain(2, 0, output),
        Op::Add(_) | Op::Multiply(_) | Op::Select(_) => plain(1, 0, output),
        Op::Concat(_) | Op::Gather(_) | Op::Pad(_) => plain(1, 0, both),
        Op::Constant(_) | Op::Flatten(_) | Op::Reshape(_) | Op::Transpose(_) => plain(1, 0, output),
    }
}
