//! The nodes and constants of an ONNX file, one after the other, each under a name of its own.

use std::collections::HashSet;

use edgesmith_graph::WindowAxis;

use crate::proto::{
    ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_INTS, ATTRIBUTE_STRING, AttributeProto, FLOAT,
    GraphProto, INT8, INT32, INT64, NodeProto, TensorProto, UINT8,
};

/// The name of a tensor.
pub(super) type Name = String;

/// The nodes and constants added so far.
#[derive(Default)]
pub(super) struct File {
    graph: GraphProto,
    names: HashSet<Name>,
    newest: i64,
}

impl File {
    /// All nodes and constants, without inputs and outputs.
    pub(super) fn finish(self) -> GraphProto {
        self.graph
    }

    /// The version of ONNX's operators that its newest operator needs, or 0 if 13 is enough.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// A name for a tensor: the wish, with a number after it if something else has that name.
    pub(super) fn claim(&mut self, wish: &str) -> Name {
        let numbered = (2..).map(|number| format!("{wish}_{number}"));
        let free = std::iter::once(wish.to_owned())
            .chain(numbered)
            .find(|name| !self.names.contains(name))
            .expect("there is always another number");
        self.names.insert(free.clone());
        free
    }

    /// Adds a node that computes `output`, which is a claimed name. Inputs that are left out have
    /// an empty name.
    pub(super) fn node(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        self.newest = self.newest.max(since(op_type, &attribute));
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("{output}:{op_type}"),
            op_type: op_type.to_owned(),
            attribute,
        });
    }

    /// Adds a float constant.
    pub(super) fn floats(&mut self, wish: &str, dims: &[u32], values: &[f32]) -> Name {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(wish, dims, FLOAT, raw)
    }

    /// Adds an int8 constant.
    pub(super) fn int8s(&mut self, wish: &str, dims: &[u32], values: &[i8]) -> Name {
        let raw = values.iter().map(|v| v.to_le_bytes()[0]).collect();
        self.constant(wish, dims, INT8, raw)
    }

    /// Adds an int32 constant.
    pub(super) fn int32s(&mut self, wish: &str, dims: &[u32], values: &[i32]) -> Name {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(wish, dims, INT32, raw)
    }

    /// Adds a list of int64, as operators take axes and indices.
    pub(super) fn indices(&mut self, wish: &str, values: &[u32]) -> Name {
        let raw = values.iter().flat_map(|&v| i64::from(v).to_le_bytes()).collect();
        self.constant(wish, &[values.len() as u32], INT64, raw)
    }

    /// Adds a uint8 scalar.
    pub(super) fn uint8(&mut self, wish: &str, value: u8) -> Name {
        self.constant(wish, &[], UINT8, vec![value])
    }

    fn constant(&mut self, wish: &str, dims: &[u32], data_type: i32, raw_data: Vec<u8>) -> Name {
        let name = self.claim(wish);
        let dims = dims.iter().map(|&d| i64::from(d)).collect();
        self.graph.initializer.push(TensorProto { dims, data_type, name: name.clone(), raw_data });
        name
    }
}

/// The version of ONNX's operators from which on one is as it is written here; 0 if 13 has it, as
/// it has most. What is missing here, ONNX Runtime refuses to read.
fn since(op_type: &str, attributes: &[AttributeProto]) -> i64 {
    match op_type {
        "HardSwish" => 14,
        // With a first and a last axis.
        "Shape" if !attributes.is_empty() => 15,
        "LayerNormalization" => 17,
        _ => 0,
    }
}

/// A float attribute.
pub(super) fn float(name: &str, f: f32) -> AttributeProto {
    attribute(name, ATTRIBUTE_FLOAT, |attribute| attribute.f = f)
}

/// An integer attribute.
pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    attribute(name, ATTRIBUTE_INT, |attribute| attribute.i = i)
}

/// A string.
pub(super) fn string(name: &str, s: &str) -> AttributeProto {
    attribute(name, ATTRIBUTE_STRING, |attribute| attribute.s = s.as_bytes().to_vec())
}

/// A list of integers.
pub(super) fn ints(name: &str, ints: &[u32]) -> AttributeProto {
    let ints = ints.iter().map(|&i| i64::from(i)).collect();
    attribute(name, ATTRIBUTE_INTS, |attribute| attribute.ints = ints)
}

fn attribute(name: &str, r#type: i32, set: impl FnOnce(&mut AttributeProto)) -> AttributeProto {
    let mut attribute = AttributeProto { name: name.to_owned(), r#type, ..Default::default() };
    set(&mut attribute);
    attribute
}

/// The attributes of a window of this kernel: kernel_shape, strides, dilations and pads, which list
/// the beginnings of all axes before their ends.
pub(super) fn window(kernel: &[u32], axes: &[WindowAxis]) -> Vec<AttributeProto> {
    let all = |of: fn(&WindowAxis) -> u32| axes.iter().map(of).collect::<Vec<u32>>();
    let pads = [all(|axis| axis.before), all(|axis| axis.after)].concat();
    vec![
        ints("kernel_shape", kernel),
        ints("strides", &all(|axis| axis.stride)),
        ints("dilations", &all(|axis| axis.dilation)),
        ints("pads", &pads),
    ]
}
