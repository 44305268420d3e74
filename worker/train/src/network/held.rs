//! How the engine will hold each value of a quantized network: as integers of which scale, or as
//! real numbers. Training simulates it. The lowering in `worker/src/export/edge` decides it, one
//! operation after another; a test of the worker compares both.

use edgesmith_graph::{Affine, Graph, Node, NodeId, Op, Quantization, ReduceFunction, ValueId};
use edgesmith_kernels::Nearest;

/// How the engine computes a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Whether it reads integers: what is real is rounded for it.
    pub(super) reads: bool,
    /// Whether its weight and its bias are integers.
    pub(super) multiplies: bool,
    /// How its output is rounded, and the value whose scale it gets; `None` if it is not rounded.
    pub(super) writes: Option<(ValueId, Nearest)>,
}

impl Form {
    /// In real numbers.
    const REAL: Self = Self { reads: false, multiplies: false, writes: None };
}

/// The form of each node, and what holds each value.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// By node.
    pub(super) forms: Vec<Form>,
    /// By value, the value whose scale its integers have; `None` if it is real.
    pub(super) scales: Vec<Option<ValueId>>,
}

/// What an operation does in integers.
enum Kind {
    /// It adds, multiplies or takes means, and rounds once.
    Computes,
    /// It looks each number up.
    LooksUp,
    /// Its output has the scale of its input, and nothing is rounded.
    Moves,
    /// Its output has the scale of its input, and is rounded.
    Interpolates,
    /// It is the last layer, which answers in real numbers.
    Answers,
    /// It has no form in integers.
    None,
}

impl Held {
    /// For a network with an annotation, which may leave values out.
    pub(super) fn new(graph: &Graph, quantization: &Quantization) -> Self {
        let clips = graph.absorbed_clips();
        let normalizations = graph.absorbed_normalizations();
        let mut forms = vec![Form::REAL; graph.nodes().len()];
        let mut scales = vec![None; graph.values().len()];
        let known = |id: ValueId| quantization.value(id).is_some();
        for input in graph.inputs().filter(|&input| known(input)) {
            scales[input.index()] = Some(input);
        }
        let absorbed = |id| {
            clips.iter().flatten().any(|(clip, _)| *clip == id)
                || normalizations.iter().flatten().any(|normalization| *normalization == id)
        };
        for (id, node) in graph.nodes().filter(|(id, _)| !absorbed(*id)) {
            let holds = |scales: &[Option<ValueId>], &input: &ValueId| scales[input.index()];
            if !node.inputs.iter().all(|input| holds(&scales, input).is_some() || known(*input)) {
                continue;
            }
            // What the layer computes, with the normalisation and the clip in it.
            let normalized = normalizations[id.index()].unwrap_or(id);
            let last = clips[id.index()].map_or(normalized, |(clip, _)| clip);
            let output = graph.node(last).output;
            let own = known(output).then_some(output);
            let first = node.inputs.first();
            let from = first.map(|input| holds(&scales, input).unwrap_or(*input));
            // What only moves numbers is not done in integers unless they are integers already.
            let moves = own.is_some() || first.is_some_and(|input| holds(&scales, input).is_some());
            let (writes, scale) = match kind(graph, node, last != id, quantization, from) {
                Kind::Computes if own.is_some() => (own.map(|own| (own, Nearest::Up)), own),
                Kind::LooksUp if own.is_some() => (own.map(|own| (own, Nearest::Away)), own),
                Kind::Interpolates if moves => (from.map(|from| (from, Nearest::Up)), from),
                Kind::Moves if moves => (None, from),
                Kind::Answers => (None, None),
                Kind::Computes | Kind::LooksUp | Kind::Interpolates | Kind::Moves | Kind::None => {
                    continue;
                }
            };
            let form = &mut forms[id.index()];
            form.reads = true;
            form.multiplies = matches!(node.op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_));
            forms[last.index()].writes = writes;
            scales[output.index()] = scale;
        }
        Self { forms, scales }
    }

    /// The values whose scales count, in order.
    pub(super) fn used(&self, graph: &Graph) -> Vec<ValueId> {
        let written = self.forms.iter().filter_map(|form| form.writes.map(|(scale, _)| scale));
        let read = graph.nodes().filter(|(id, _)| self.forms[id.index()].reads);
        let read = read.flat_map(|(_, node)| node.inputs.iter().copied());
        let given = graph.inputs().filter(|input| self.scales[input.index()].is_some());
        let read = read.map(|id| self.scale_of(id));
        let mut used: Vec<ValueId> = given.chain(written).chain(read).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// The value whose scale a value has where integers are read.
    pub(super) fn scale_of(&self, id: ValueId) -> ValueId {
        self.scales[id.index()].unwrap_or(id)
    }
}

/// What a node does in integers. `clipped` says whether it has a clip in it, and `from` is the
/// value whose scale its first input has.
fn kind(
    graph: &Graph,
    node: &Node,
    clipped: bool,
    quantization: &Quantization,
    from: Option<ValueId>,
) -> Kind {
    let vector = |id: ValueId| graph.shape(id).space().is_empty();
    let multiplies = || quantization.parameter(node.parameters[0]).is_some();
    match &node.op {
        Op::Conv(_) | Op::ConvTranspose(_) if multiplies() => Kind::Computes,
        Op::Linear(_) if multiplies() => {
            let last = vector(node.inputs[0]) && !clipped && is_last(graph, node);
            if last { Kind::Answers } else { Kind::Computes }
        }
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_) => Kind::None,
        Op::Add(_) | Op::AveragePool(_) | Op::Multiply(_) => Kind::Computes,
        Op::GlobalAveragePool(_) if vector(node.inputs[0]) => Kind::Moves,
        Op::GlobalAveragePool(_) => Kind::Computes,
        Op::Reduce(reduce) => match reduce.function {
            ReduceFunction::Mean | ReduceFunction::Sum => Kind::Computes,
            ReduceFunction::L2 | ReduceFunction::Maximum | ReduceFunction::Minimum => Kind::None,
        },
        Op::BatchNormalization(_)
        | Op::Clip(_)
        | Op::Constant(_)
        | Op::LeakyRelu(_)
        | Op::Map(_)
        | Op::Prelu(_) => Kind::LooksUp,
        // All parts get one scale.
        Op::Concat(_) => Kind::LooksUp,
        Op::Flatten(_) | Op::Gather(_) | Op::MaxPool(_) | Op::Reshape(_) | Op::Transpose(_) => {
            Kind::Moves
        }
        Op::Pad(pad) => match from.and_then(|from| quantization.value(from)) {
            _ if pad.value == 0.0 => Kind::Moves,
            Some(affine) if reaches(affine, pad.value) => Kind::Interpolates,
            Some(_) | None => Kind::LooksUp,
        },
        Op::Resize(_) => Kind::Interpolates,
        Op::Binary(_)
        | Op::LayerNormalization(_)
        | Op::MatrixProduct(_)
        | Op::Select(_)
        | Op::Softmax(_) => Kind::None,
    }
}

/// Whether a node's output is one of the network's, or only a softmax reads it, which computes in
/// real numbers.
fn is_last(graph: &Graph, node: &Node) -> bool {
    let readers = &graph.readers()[node.output.index()];
    let softmax = |id: &NodeId| matches!(graph.node(*id).op, Op::Softmax(_));
    graph.outputs().contains(&node.output) || (!readers.is_empty() && readers.iter().all(softmax))
}

/// Whether a level is near to a number.
fn reaches(affine: Affine, real: f32) -> bool {
    let Affine { scale, zero_point } = affine;
    let zero_point = f32::from(zero_point);
    let level = ((real / scale).round() + zero_point).clamp(0.0, 255.0);
    (scale * (level - zero_point) - real).abs() <= scale
}
