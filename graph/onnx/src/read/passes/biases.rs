//! A constant that is added to each channel after a layer that has no bias.

use edgesmith_graph::{Node, Op, Role, ValueId};

use super::{Instead, Pattern};

pub(super) fn find(pattern: &Pattern<'_>, node: &Node) -> Option<Instead> {
    let (Op::Add(_), &[a, b]) = (&node.op, &node.inputs[..]) else { return None };
    biased(pattern, a, b).or_else(|| biased(pattern, b, a))
}

fn biased(pattern: &Pattern<'_>, layer: ValueId, constant: ValueId) -> Option<Instead> {
    let node = pattern.node(layer)?;
    let layered = matches!(node.op, Op::Linear(_) | Op::Conv(_) | Op::ConvTranspose(_));
    let (bias, shape) = pattern.constant(constant)?;
    let channels = pattern.graph.shape(layer).channels();
    if !layered || node.parameters.len() != 1 || shape != [channels] || !pattern.is_inner(layer) {
        return None;
    }
    let weight = node.parameters[0];
    let parameter = pattern.graph.parameter(weight);
    let parameters = vec![
        (weight, parameter.role, parameter.shape.to_vec()),
        (bias, Role::Bias, shape.to_vec()),
    ];
    Some(Instead { op: node.op.clone(), inputs: node.inputs.to_vec(), parameters })
}
