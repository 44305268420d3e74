//! Which batch normalisations disappear into the convolution or linear layer before them when a
//! network ships, and which nodes are computed along with the node before them.

use crate::{Clip, Effect, Graph, Memory, Node, NodeId, Op, Operation};

impl Graph {
    /// For each node, the batch normalisation that folding merges into it: one that is the only
    /// reader of the output of a convolution or linear layer. Both have their parameters for
    /// themselves.
    pub fn absorbed_normalizations(&self) -> Vec<Option<NodeId>> {
        let sole = self.sole_readers();
        let mut reads = vec![0u32; self.parameters().len()];
        for (_, node) in self.nodes() {
            node.parameters.iter().for_each(|id| reads[id.index()] += 1);
        }
        let alone = |node: &Node| node.parameters.iter().all(|id| reads[id.index()] == 1);
        let absorbed = |node: &Node| {
            let reader = sole[node.output.index()].filter(|_| node.op.absorbs_factors())?;
            let next = self.node(reader);
            let normalizes = next.op.effect() == Effect::Normalizes;
            (normalizes && alone(node) && alone(next)).then_some(reader)
        };
        self.nodes().map(|(_, node)| absorbed(node)).collect()
    }

    /// For each node, the clip that is computed along with it in integers as well: one that is the
    /// only reader of the output of a convolution or linear layer, possibly after a batch
    /// normalisation that folds. The value in between then needs no integers of its own.
    pub fn absorbed_clips(&self) -> Vec<Option<(NodeId, Clip)>> {
        let sole = self.sole_readers();
        let normalizations = self.absorbed_normalizations();
        let absorbed = |(id, node): (NodeId, &Node)| {
            let last = normalizations[id.index()].map_or(node, |id| self.node(id));
            let reader = sole[last.output.index()].filter(|_| node.op.absorbs_factors())?;
            let Op::Clip(clip) = self.node(reader).op else { return None };
            Some((reader, clip))
        };
        self.nodes().map(absorbed).collect()
    }

    /// By node: whether it is computed along with the node before it, as an activation is with its
    /// convolution. It works in place on what a convolution or linear layer made, and nobody else
    /// needs that.
    pub fn fused(&self) -> Vec<bool> {
        let sole = self.sole_readers();
        let mut fused: Vec<bool> = Vec::with_capacity(self.nodes().len());
        for (_, node) in self.nodes() {
            let before = match node.inputs[..] {
                [input] if sole[input.index()].is_some() => self.producer(input),
                _ => None,
            };
            let follows =
                before.is_some_and(|id| fused[id.index()] || self.node(id).op.absorbs_factors());
            fused.push(follows && node.op.memory() == Memory::InPlace);
        }
        fused
    }

    /// By value: the node that reads it, if nobody else needs it: no other node reads it, this one
    /// reads it once, and it is no output.
    fn sole_readers(&self) -> Vec<Option<NodeId>> {
        let mut needed = vec![false; self.values().len()];
        self.outputs().iter().for_each(|output| needed[output.index()] = true);
        let mut sole = vec![None; needed.len()];
        for (id, node) in self.nodes() {
            for input in &node.inputs {
                let before = std::mem::replace(&mut needed[input.index()], true);
                sole[input.index()] = if before { None } else { Some(id) };
            }
        }
        sole
    }
}
