//! Layer normalisation.

use edgesmith_graph::{
    BinaryFunction, Function, Graph, LayerNormalization, Node, Op, ParameterId, ReduceFunction,
    Role, Shape, ValueId,
};
use smallvec::SmallVec;

use super::{Instead, Pattern};

type Axes = SmallVec<[u32; 3]>;

/// What is normalised, over which axes.
struct Normal {
    input: ValueId,
    axes: Axes,
    epsilon: f32,
}

pub(super) fn find(pattern: &Pattern<'_>, node: &Node) -> Option<Instead> {
    let (normal, scale, shift) = match (&node.op, &node.inputs[..]) {
        (Op::Add(_), &[a, b]) => either(a, b, |value, shift| {
            let (normal, scale) = scaled(pattern, value)?;
            let shift = along(pattern, shift, &normal)?;
            Some((normal, Some(scale), Some(shift)))
        })?,
        (Op::Multiply(_), _) if scaled(pattern, node.output).is_some() => {
            let (normal, scale) = scaled(pattern, node.output)?;
            (normal, Some(scale), None)
        }
        // There is nothing to put together.
        (Op::LayerNormalization(_), _) => return None,
        _ => (normal(pattern, node.output)?, None, None),
    };
    let mut parameters = vec![];
    for (parameter, role) in [(scale, Role::Scale), (shift, Role::Shift)] {
        if let Some(parameter) = parameter {
            let sizes = sizes(pattern.graph.shape(normal.input));
            let shape = normal.axes.iter().map(|&axis| sizes[axis as usize]).collect();
            parameters.push((parameter, role, shape));
        }
    }
    let Normal { input, axes, epsilon } = normal;
    let op = LayerNormalization { axes, epsilon }.into();
    Some(Instead { op, inputs: vec![input], parameters })
}

fn either<T>(a: ValueId, b: ValueId, find: impl Fn(ValueId, ValueId) -> Option<T>) -> Option<T> {
    find(a, b).or_else(|| find(b, a))
}

/// A normalised value times a constant.
fn scaled(pattern: &Pattern<'_>, value: ValueId) -> Option<(Normal, ParameterId)> {
    let node = pattern.node(value)?;
    let (Op::Multiply(_), &[a, b]) = (&node.op, &node.inputs[..]) else { return None };
    either(a, b, |value, scale| {
        let normal = normal(pattern, value)?;
        let scale = along(pattern, scale, &normal)?;
        Some((normal, scale))
    })
}

/// A constant with a number for each place along the axes, and nowhere else.
fn along(pattern: &Pattern<'_>, value: ValueId, normal: &Normal) -> Option<ParameterId> {
    let (parameter, shape) = pattern.constant(value)?;
    let sizes = sizes(pattern.graph.shape(normal.input));
    let fits = shape.len() <= sizes.len()
        && sizes.iter().enumerate().all(|(axis, &size)| {
            let own = shape.get(axis).copied().unwrap_or(1);
            own == if normal.axes.contains(&(axis as u32)) { size } else { 1 }
        });
    fits.then_some(parameter)
}

/// `(x - mean) / sqrt(mean of squares + epsilon)`, or what LayerNormalization computes by itself.
fn normal(pattern: &Pattern<'_>, value: ValueId) -> Option<Normal> {
    let node = pattern.node(value)?;
    let (difference, root) = match (&node.op, &node.inputs[..]) {
        (Op::Binary(binary), &[a, b]) if binary.function == BinaryFunction::Divide => {
            (a, pattern.map(b).filter(|(f, _)| *f == Function::SquareRoot)?.1)
        }
        (Op::Multiply(_), &[a, b]) => either(a, b, |a, inverse| {
            let (function, of) = pattern.map(inverse)?;
            match (function, pattern.map(of)) {
                (Function::Power { exponent: -0.5 }, _) => Some((a, of)),
                (Function::Power { exponent: -1.0 }, Some((Function::SquareRoot, of))) => {
                    Some((a, of))
                }
                _ => None,
            }
        })?,
        (Op::LayerNormalization(op), _) if node.parameters.is_empty() => {
            let LayerNormalization { axes, epsilon } = op.clone();
            return Some(Normal { input: node.inputs[0], axes, epsilon });
        }
        _ => return None,
    };
    let (one, epsilon, variance) = pattern.affine(root);
    let (squares, axes) = mean(pattern, variance)?;
    let square = pattern.node(squares)?;
    let squared = match (&square.op, &square.inputs[..]) {
        (Op::Multiply(_), &[a, b]) => a == b && a == difference,
        _ => pattern.map(squares) == Some((Function::Power { exponent: 2.0 }, difference)),
    };
    let subtract = pattern.node(difference)?;
    let input = *subtract.inputs.first()?;
    let centred = matches!(&subtract.op, Op::Binary(b) if b.function == BinaryFunction::Subtract)
        && mean(pattern, *subtract.inputs.get(1)?) == Some((input, axes.clone()));
    (one == 1.0 && epsilon > 0.0 && squared && centred).then_some(Normal { input, axes, epsilon })
}

/// What a value is the mean of, over which axes.
fn mean(pattern: &Pattern<'_>, value: ValueId) -> Option<(ValueId, Axes)> {
    let node = pattern.node(value)?;
    let input = *node.inputs.first()?;
    match &node.op {
        Op::Reduce(reduce) if reduce.function == ReduceFunction::Mean => {
            Some((input, reduce.axes.clone()))
        }
        Op::GlobalAveragePool(_) => Some((input, positions(pattern.graph, input))),
        _ => None,
    }
}

/// All axes but the channels.
fn positions(graph: &Graph, value: ValueId) -> Axes {
    (1..=graph.shape(value).space().len() as u32).collect()
}

fn sizes(shape: &Shape) -> Vec<u32> {
    std::iter::once(shape.channels()).chain(shape.space().iter().copied()).collect()
}
