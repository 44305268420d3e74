//! Which batch normalisations disappear into the convolution or linear layer before them when a
//! network ships, and which nodes are computed along with the node before them.

use crate::{Graph, Memory, Node, NodeId, Op, Operation, ValueId};

impl Graph {
    /// For each node, the batch normalisation that folding merges into it: one that is the only
    /// reader of the output of a convolution or linear layer. Both have their parameters for
    /// themselves.
    pub fn absorbed_normalizations(&self) -> Vec<Option<NodeId>> {
        let readers = self.readers();
        let mut reads = vec![0u32; self.parameters().len()];
        for (_, node) in self.nodes() {
            node.parameters.iter().for_each(|id| reads[id.index()] += 1);
        }
        let alone = |node: &Node| node.parameters.iter().all(|id| reads[id.index()] == 1);
        let absorbed = |node: &Node| {
            let [reader] = readers[node.output.index()][..] else { return None };
            let next = self.node(reader);
            let normalizes = matches!(next.op, Op::BatchNormalization(_));
            let is_output = self.outputs().contains(&node.output);
            let folds = multiplies(&node.op) && normalizes && !is_output;
            (folds && alone(node) && alone(next)).then_some(reader)
        };
        self.nodes().map(|(_, node)| absorbed(node)).collect()
    }

    /// For each node, the clip that is computed along with it in integers as well: one that is the
    /// only reader of the output of a convolution or linear layer, possibly after a batch
    /// normalisation that folds. The value in between then needs no integers of its own.
    pub fn absorbed_clips(&self) -> Vec<Option<NodeId>> {
        let readers = self.readers();
        let only_clip = |value: ValueId| {
            let [reader] = readers[value.index()][..] else { return None };
            let clips = matches!(self.node(reader).op, Op::Clip(_));
            (clips && !self.outputs().contains(&value)).then_some(reader)
        };
        let normalizations = self.absorbed_normalizations();
        let absorbed = |(id, node): (NodeId, &Node)| {
            if !multiplies(&node.op) {
                return None;
            }
            let last = normalizations[id.index()].map_or(node.output, |id| self.node(id).output);
            only_clip(last)
        };
        self.nodes().map(absorbed).collect()
    }

    /// By node: whether it is computed along with the node before it, as an activation is with its
    /// convolution. It works in place on what a convolution or linear layer made, and nobody else
    /// needs that.
    pub fn fused(&self) -> Vec<bool> {
        let readers = self.readers();
        let mut fused: Vec<bool> = Vec::with_capacity(self.nodes().len());
        for (_, node) in self.nodes() {
            let before = match node.inputs[..] {
                [input] if !self.outputs().contains(&input) => Some(input),
                _ => None,
            };
            let before = before.filter(|input| readers[input.index()].len() == 1);
            let producer = before.and_then(|input| self.producer(input));
            let follows =
                producer.is_some_and(|id| fused[id.index()] || multiplies(&self.node(id).op));
            fused.push(follows && node.op.memory() == Memory::InPlace);
        }
        fused
    }
}

/// Whether an operation has a weight that a factor per output channel can be merged into.
fn multiplies(op: &Op) -> bool {
    match op {
        Op::Conv(_) | Op::Linear(_) => true,
        Op::Add(_)
        | Op::BatchNormalization(_)
        | Op::Clip(_)
        | Op::Concat(_)
        | Op::Flatten(_)
        | Op::GatherChannels(_)
        | Op::GlobalAveragePool(_)
        | Op::HardSwish(_)
        | Op::MaxPool(_)
        | Op::Multiply(_)
        | Op::Sigmoid(_) => false,
    }
}
