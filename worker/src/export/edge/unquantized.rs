//! The network of a model in fp32, as it was before it was quantized, and which layer of the one is
//! which of the other. Weights are those that the integers mean, which does not matter to how long
//! it takes.

use edgesmith_edge_runtime as edge;

use super::lift::{LiftError, lift_with_places};
use super::{LowerError, layers, lower_as};

/// The network of a model in fp32.
#[derive(Debug, Clone, PartialEq)]
pub struct Unquantized {
    /// The model in fp32.
    pub model: edge::Model,
    /// By layer of it: the place of the layer of the first model that computes the same. Layers of
    /// that model without one here convert numbers, or are computed along with the one before.
    pub places: Vec<usize>,
    /// By layer of the first model: its name in the graph that [`super::lift`] makes of it, as
    /// `inspect` shows it.
    pub names: Vec<String>,
}

/// Why a model has no form in fp32. Each message is written to follow "failed to …: ".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UnquantizedError {
    /// It does not become a graph.
    #[error(transparent)]
    Lift(#[from] LiftError),
    /// The graph does not become a model.
    #[error(transparent)]
    Lower(#[from] LowerError),
}

/// The network of a model in fp32.
///
/// # Errors
/// If the model does not become a graph, or the graph does not become a model.
pub fn unquantized(model: &edge::Model) -> Result<Unquantized, UnquantizedError> {
    let (lifted, of_nodes) = lift_with_places(model)?;
    let graph = &lifted.graph;
    let whole = lower_as(graph, &lifted.weights, None, &lifted.interface)?;
    let mut names: Vec<String> = (0..model.nodes.len()).map(|at| format!("node{at}")).collect();
    let mut places = Vec::with_capacity(whole.nodes.len());
    for (id, _) in layers(graph) {
        let place = of_nodes[id.index()];
        names[place] = graph.value(graph.node(id).output).name.to_string();
        places.push(place);
    }
    Ok(without_copies(whole, places, names))
}

/// Leaves out layers that only hand on numbers: they were bytes that got another scale.
fn without_copies(whole: edge::Model, places: Vec<usize>, names: Vec<String>) -> Unquantized {
    let inputs = whole.inputs.len();
    let mut values: Vec<edge::ValueId> = (0..inputs as u32).map(edge::ValueId).collect();
    let (mut nodes, mut left) = (Vec::new(), Vec::new());
    for (mut node, place) in whole.nodes.into_iter().zip(places) {
        for input in &mut node.inputs {
            *input = values[input.0 as usize];
        }
        if is_copy(&node.layer) {
            values.push(node.inputs[0]);
            continue;
        }
        values.push(edge::ValueId((inputs + nodes.len()) as u32));
        nodes.push(node);
        left.push(place);
    }
    let mut outputs = whole.outputs;
    outputs.iter_mut().for_each(|output| output.value = values[output.value.0 as usize]);
    let model = edge::Model { nodes, outputs, ..whole };
    Unquantized { model, places: left, names }
}

fn is_copy(layer: &edge::Layer) -> bool {
    let edge::Layer::Map(edge::Map { function }) = layer else { return false };
    matches!(function, edge::Function::Scale { factor: 1.0, offset: 0.0 })
}

#[cfg(test)]
mod tests;
