//! Builds an ONNX graph node by node. Names are derived from the order of nodes.

use super::proto::{
    ATTRIBUTE_INT, ATTRIBUTE_INTS, AttributeProto, FLOAT, GraphProto, INT8, INT32, NodeProto,
    TensorProto, UINT8,
};

/// The name of a tensor in the graph.
pub(super) type Name = String;

/// The nodes and constants added so far.
#[derive(Default)]
pub(super) struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    /// The graph, without inputs and outputs.
    pub(super) fn finish(self) -> GraphProto {
        self.graph
    }

    /// Adds a node with one output tensor called `output`, and returns that name.
    pub(super) fn node(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) -> Name {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("{output}:{op_type}"),
            op_type: op_type.to_owned(),
            attribute,
        });
        output.to_owned()
    }

    /// Adds a float constant.
    pub(super) fn floats(&mut self, name: &str, dims: &[u32], values: &[f32]) -> Name {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, dims, FLOAT, raw)
    }

    /// Adds an int8 constant.
    pub(super) fn int8s(&mut self, name: &str, dims: &[u32], values: &[i8]) -> Name {
        let raw = values.iter().map(|v| v.to_le_bytes()[0]).collect();
        self.constant(name, dims, INT8, raw)
    }

    /// Adds an int32 constant.
    pub(super) fn int32s(&mut self, name: &str, dims: &[u32], values: &[i32]) -> Name {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, dims, INT32, raw)
    }

    /// Adds a uint8 scalar.
    pub(super) fn uint8(&mut self, name: &str, value: u8) -> Name {
        self.constant(name, &[], UINT8, vec![value])
    }

    fn constant(&mut self, name: &str, dims: &[u32], data_type: i32, raw_data: Vec<u8>) -> Name {
        let dims = dims.iter().map(|&d| i64::from(d)).collect();
        self.graph.initializer.push(TensorProto {
            dims,
            data_type,
            name: name.to_owned(),
            raw_data,
        });
        name.to_owned()
    }
}

/// An integer attribute.
pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i, ints: vec![], r#type: ATTRIBUTE_INT }
}

/// A list of integers.
pub(super) fn ints(name: &str, ints: &[u32]) -> AttributeProto {
    let ints = ints.iter().map(|&i| i64::from(i)).collect();
    AttributeProto { name: name.to_owned(), i: 0, ints, r#type: ATTRIBUTE_INTS }
}
