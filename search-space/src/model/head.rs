//! The last layer of a classifier: finding it, and putting a new one in its place.

use edgesmith_graph::{Graph, GraphError, Groups, NodeId, Op, Rebuild, Role, ValueId};

/// The layer that makes the classes: the last one with a weight, if only pooling and reordering of
/// single positions come after it. `None` if the output comes from something else.
pub fn last_layer(graph: &Graph) -> Option<NodeId> {
    let mut value: ValueId = *graph.outputs().first()?;
    loop {
        let id = graph.producer(value)?;
        let node = graph.node(id);
        let one_each = || graph.shape(node.inputs[0]).positions() == 1;
        match &node.op {
            Op::Linear(_) => return Some(id),
            Op::Conv(conv) => return (conv.groups == Groups::Equal(1)).then_some(id),
            Op::GlobalAveragePool(_) => value = node.inputs[0],
            Op::Flatten(_) | Op::Reshape(_) | Op::Transpose(_) if one_each() => {
                value = node.inputs[0];
            }
            _ => return None,
        }
    }
}

/// The network with a new last layer for so many classes, and the names of its parameters, which
/// have no numbers yet. `None` if it has no such layer.
///
/// # Errors
/// If a layer for so many classes is too large.
pub fn with_new_head(
    graph: &Graph,
    classes: u32,
) -> Option<Result<(Graph, Vec<String>), GraphError>> {
    let last = last_layer(graph)?;
    Some(replaced(graph, last, classes))
}

fn replaced(graph: &Graph, last: NodeId, classes: u32) -> Result<(Graph, Vec<String>), GraphError> {
    let mut rebuild = Rebuild::new(graph);
    let mut fresh = Vec::new();
    for (id, node) in graph.nodes() {
        if id != last {
            rebuild.copy(id)?;
            continue;
        }
        let mut shape = graph.parameter(node.parameters[0]).shape.to_vec();
        shape[0] = classes;
        let mut own = Vec::new();
        for (role, part, shape) in
            [(Role::Weight, "weight", &shape[..]), (Role::Bias, "bias", &[classes])]
        {
            let name = free_name(graph, part);
            own.push(rebuild.builder.parameter(name.clone(), shape, role)?);
            fresh.push(name);
        }
        let name = graph.value(node.output).name.clone();
        let input = rebuild.value(node.inputs[0]);
        let new =
            rebuild.builder.node(name, node.op.clone(), &[input], &own, node.place.clone())?;
        rebuild.replace(node.output, new);
    }
    Ok((rebuild.finish()?, fresh))
}

/// A name for a parameter of the new layer that nothing else has.
fn free_name(graph: &Graph, part: &str) -> String {
    let taken =
        |name: &str| graph.parameter_named(name).is_some() || graph.value_named(name).is_some();
    let mut name = format!("new_head.{part}");
    while taken(&name) {
        name.insert(0, '_');
    }
    name
}
