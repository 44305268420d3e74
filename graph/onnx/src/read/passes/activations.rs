//! GELU, SiLU, hard swish and hard sigmoid.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use edgesmith_graph::{Clip, Function, Map, Node, Op, ValueId};

use super::{Instead, Pattern, is};

pub(super) fn find(pattern: &Pattern<'_>, node: &Node) -> Option<Instead> {
    let (function, input) = hard_sigmoid(pattern, node).or_else(|| gated(pattern, node))?;
    Some(Instead { op: Map { function }.into(), inputs: vec![input], parameters: vec![] })
}

/// A number times `x` times a function of `x`.
fn gated(pattern: &Pattern<'_>, node: &Node) -> Option<(Function, ValueId)> {
    if !matches!(node.op, Op::Multiply(_) | Op::Map(Map { function: Function::Scale { .. } })) {
        return None;
    }
    let (factor, operands) = pattern.product(node.output);
    let [a, b] = operands[..] else { return None };
    gate(pattern, factor, a, b)
        .map(|f| (f, a))
        .or_else(|| gate(pattern, factor, b, a).map(|f| (f, b)))
}

/// What `factor * x * gate` is.
fn gate(pattern: &Pattern<'_>, factor: f32, x: ValueId, gate: ValueId) -> Option<Function> {
    let (slope, offset, inner) = pattern.affine(gate);
    if let Some(clip) = pattern.node(gate)
        && let Op::Clip(Clip { low: 0.0, high }) = clip.op
    {
        let (one, three, of) = pattern.affine(clip.inputs[0]);
        let swish = is(factor, 1.0 / 6.0) && is(high, 6.0) && is(one, 1.0) && is(three, 3.0);
        return (of == x && swish).then_some(Function::HardSwish);
    }
    let (function, argument) = pattern.map(inner)?;
    let plain = slope == 1.0 && offset == 0.0;
    // 0.5 * (1 + …)
    let half = is(factor * slope, 0.5) && is(factor * offset, 0.5);
    match function {
        Function::Sigmoid if plain && factor == 1.0 && argument == x => Some(Function::Silu),
        Function::HardSigmoid { slope, offset } if plain && factor == 1.0 && argument == x => {
            (is(slope, 1.0 / 6.0) && is(offset, 0.5)).then_some(Function::HardSwish)
        }
        Function::Erf if half => {
            let (scale, zero, of) = pattern.affine(argument);
            (of == x && zero == 0.0 && is(scale, FRAC_1_SQRT_2)).then_some(Function::Gelu)
        }
        Function::Tanh if half => cubic(pattern, argument, x).then_some(Function::GeluTanh),
        _ => None,
    }
}

/// Whether a value is `sqrt(2 / pi) * (x + 0.044715 * x^3)`.
fn cubic(pattern: &Pattern<'_>, value: ValueId, x: ValueId) -> bool {
    let (factor, operands) = pattern.product(value);
    if !is(factor, (2.0 / PI).sqrt()) {
        return false;
    }
    let power = |value: ValueId, wanted: usize| {
        let (factor, operands) = pattern.product(value);
        let powers: Option<usize> = operands
            .iter()
            .map(|&operand| match pattern.map(operand) {
                _ if operand == x => Some(1),
                Some((Function::Power { exponent: 2.0 }, of)) if of == x => Some(2),
                Some((Function::Power { exponent: 3.0 }, of)) if of == x => Some(3),
                _ => None,
            })
            .sum();
        (powers == Some(wanted)).then_some(factor)
    };
    match operands[..] {
        // The sum as a whole.
        [sum] => pattern.node(sum).is_some_and(|node| {
            let cube = |value| power(value, 3).is_some_and(|factor| is(factor, 0.044715));
            let [a, b] = node.inputs[..] else { return false };
            matches!(node.op, Op::Add(_)) && ((a == x && cube(b)) || (b == x && cube(a)))
        }),
        // x * (1 + 0.044715 * x^2)
        [a, b] => [(a, b), (b, a)].into_iter().any(|(first, second)| {
            let (slope, one, square) = pattern.affine(second);
            let squared = power(square, 2).is_some_and(|factor| is(factor * slope, 0.044715));
            first == x && is(one, 1.0) && squared
        }),
        _ => false,
    }
}

/// `min(max(slope * x + offset, 0), high) / high`
fn hard_sigmoid(pattern: &Pattern<'_>, node: &Node) -> Option<(Function, ValueId)> {
    let (factor, clipped) = match node.op {
        Op::Map(Map { function: Function::Scale { factor, offset: 0.0 } }) => {
            (factor, pattern.node(node.inputs[0])?)
        }
        Op::Clip(_) => (1.0, node),
        _ => return None,
    };
    let Op::Clip(Clip { low: 0.0, high }) = clipped.op else { return None };
    let (slope, offset, x) = pattern.affine(clipped.inputs[0]);
    let scaled = is(factor * high, 1.0) && (slope, offset) != (1.0, 0.0) && slope != 0.0;
    let (slope, offset) = (slope * factor, offset * factor);
    scaled.then_some((Function::HardSigmoid { slope, offset }, x))
}
