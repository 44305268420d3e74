//! Which batch normalisations disappear into the convolution or linear layer before them when a
//! network ships.

use crate::{Graph, Node, NodeId, Op};

impl Graph {
    /// For each node, the batch normalisation that folding merges into it: one that is the only
    /// reader of the output of a convolution or linear layer.
    pub fn absorbed_normalizations(&self) -> Vec<Option<NodeId>> {
        let readers = self.readers();
        let absorbed = |node: &Node| {
            let [reader] = readers[node.output.index()][..] else { return None };
            let multiplies = matches!(node.op, Op::Conv(_) | Op::Linear(_));
            let normalizes = matches!(self.node(reader).op, Op::BatchNormalization(_));
            let is_output = self.outputs().contains(&node.output);
            (multiplies && normalizes && !is_output).then_some(reader)
        };
        self.nodes().map(|(_, node)| absorbed(node)).collect()
    }
}
