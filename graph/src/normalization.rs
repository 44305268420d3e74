//! Which batch normalisations disappear into the convolution or linear layer before them when a
//! network ships, and which nodes are computed along with the node before them.

use crate::{Clip, Effect, Graph, Node, NodeId, Op, Operation};

impl Graph {
    /// For each node, the batch normalisation that folding merges into it: one that is the only
    /// reader of the output of a convolution or linear layer. Both have their parameters for
    /// themselves.
    pub fn absorbed_normalizations(&self) -> Vec<Option<NodeId>> {
        self.normalizations(&self.sole_readers())
    }

    /// For each node, the clip that is computed along with it: one that is the only reader of the
    /// output of a convolution or linear layer, possibly after a batch normalisation that folds.
    /// The value in between is nowhere, so in integers it has no scale of its own.
    pub fn absorbed_clips(&self) -> Vec<Option<(NodeId, Clip)>> {
        let sole = self.sole_readers();
        self.clips(&sole, &self.normalizations(&sole)).collect()
    }

    /// By node: whether it is computed along with the node before it, because that absorbs it.
    pub fn fused(&self) -> Vec<bool> {
        let sole = self.sole_readers();
        let normalizations = self.normalizations(&sole);
        let mut fused = vec![false; self.nodes().len()];
        let clips = self.clips(&sole, &normalizations).flatten().map(|(id, _)| id);
        clips.for_each(|id| fused[id.index()] = true);
        normalizations.iter().flatten().for_each(|id| fused[id.index()] = true);
        fused
    }

    /// The layers of the network as it runs: its nodes, without those that are computed along with
    /// the one before.
    pub fn layers(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes().zip(self.fused()).filter(|(_, fused)| !fused).map(|(node, _)| node)
    }

    fn normalizations(&self, sole: &[Option<NodeId>]) -> Vec<Option<NodeId>> {
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

    fn clips(
        &self,
        sole: &[Option<NodeId>],
        normalizations: &[Option<NodeId>],
    ) -> impl Iterator<Item = Option<(NodeId, Clip)>> {
        self.nodes().map(|(id, node)| {
            let last = normalizations[id.index()].map_or(node, |id| self.node(id));
            let reader = sole[last.output.index()].filter(|_| node.op.absorbs_factors())?;
            let Op::Clip(clip) = self.node(reader).op else { return None };
            Some((reader, clip))
        })
    }

    /// By value: the only node that reads it. `None` if several nodes read it, one node reads it
    /// twice, no node reads it, or it is an output.
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
