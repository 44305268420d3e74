//! How arrays come into a model and how they are handed out: their names, the order of their axes,
//! and whether they are bytes. It lowers nothing.

use edgesmith_data::Normalization;
use edgesmith_graph::{Graph, ValueId};
use edgesmith_onnx::read::{Imported, Port, PortAxis};

/// How arrays come from outside, and go there.
#[derive(Debug, Clone, PartialEq)]
pub struct Interface {
    /// One per input of the network.
    pub inputs: Vec<InputForm>,
    /// One per output of the network.
    pub outputs: Vec<OutputForm>,
}

/// How arrays for an input come from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct InputForm {
    /// What the model calls it.
    pub name: String,
    /// Constants for bytes; `None` if the arrays are in fp32.
    pub normalization: Option<Normalization>,
    /// Which axis of the input axis `i` of the array is; 0 is the channels.
    pub order: Vec<u32>,
}

/// How arrays of an output are handed out.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputForm {
    /// What the model calls it.
    pub name: String,
    /// Whether its numbers are those that bytes mean, in a model that was lifted. Lowering does not
    /// read it: that decides the annotation.
    pub bytes: bool,
    /// Which axis of the output axis `i` of the array is; 0 is the channels.
    pub order: Vec<u32>,
}

impl Interface {
    /// Inputs and outputs as the graph has them, channels first. All inputs are bytes with these
    /// constants, or all are in fp32.
    #[must_use]
    pub fn of(graph: &Graph, normalization: Option<&Normalization>) -> Self {
        let name = |id: ValueId| graph.value(id).name.to_string();
        let order = |id: ValueId| (0..graph.shape(id).sizes().len() as u32).collect();
        let input = |id: ValueId| InputForm {
            name: name(id),
            normalization: normalization.cloned(),
            order: order(id),
        };
        let output = |&id: &ValueId| OutputForm { name: name(id), bytes: false, order: order(id) };
        Self {
            inputs: graph.inputs().map(input).collect(),
            outputs: graph.outputs().iter().map(output).collect(),
        }
    }

    /// Inputs and outputs as an ONNX file has them, in fp32. Axes of size 1 that the graph does not
    /// have, and that of the examples, are left out.
    #[must_use]
    pub fn imported(imported: &Imported) -> Self {
        let graph = &imported.graph;
        let order = |port: &Port, id: ValueId| {
            let axes = port.axes.iter().filter_map(|axis| match axis {
                PortAxis::Of(axis) => Some(*axis),
                PortAxis::Batch(_) | PortAxis::One => None,
            });
            let mut order: Vec<u32> = axes.collect();
            // The graph may have axes of size 1 that the file does not have.
            let all = 0..graph.shape(id).sizes().len() as u32;
            order.extend(all.filter(|axis| !port.axes.contains(&PortAxis::Of(*axis))));
            order
        };
        let inputs = imported.inputs.iter().zip(graph.inputs());
        let outputs = imported.outputs.iter().zip(graph.outputs());
        let input = |(port, id): (&Port, ValueId)| InputForm {
            name: port.name.clone(),
            normalization: None,
            order: order(port, id),
        };
        let output = |(port, &id): (&Port, &ValueId)| OutputForm {
            name: port.name.clone(),
            bytes: false,
            order: order(port, id),
        };
        Self { inputs: inputs.map(input).collect(), outputs: outputs.map(output).collect() }
    }
}
