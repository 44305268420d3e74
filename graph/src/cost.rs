//! The cost of a network, computed from its graph. Latency is not included, because it is measured
//! and never computed.

use crate::{Graph, Memory, Multiplications, Node, Operation, Role, ValueId};

/// Analytic cost of one inference on one example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cost {
    /// Multiply-accumulates of convolutions, linear layers and products of matrices.
    pub macs: u64,
    /// Numbers of the network that ships: batch normalisation is folded where it can be, and else
    /// has a factor and an offset per channel.
    pub parameters: u64,
    /// Largest number of numbers that are alive while one node runs, in the graph's order; its
    /// output is included, unless it is written over the input.
    pub peak_elements: u64,
}

impl Graph {
    /// The cost of the whole network.
    pub fn cost(&self) -> Cost {
        Cost {
            macs: self.total_macs(),
            parameters: self.shipped_parameters().into_iter().fold(0, u64::saturating_add),
            peak_elements: self.peak_elements(),
        }
    }

    /// Multiply-accumulates of the whole network.
    pub fn total_macs(&self) -> u64 {
        self.nodes().map(|(_, node)| self.macs(node)).fold(0, u64::saturating_add)
    }

    /// Multiply-accumulates of one node.
    pub fn macs(&self, node: &Node) -> u64 {
        self.with_operands(node, |operands| node.op.macs(operands, self.shape(node.output)))
    }

    /// The kind of a node's multiply-accumulates; `None` if it has none.
    pub fn multiplications(&self, node: &Node) -> Option<Multiplications> {
        self.with_operands(node, |operands| node.op.multiplications(operands))
    }

    /// By node: the numbers of its parameters in the network that ships. A batch normalisation that
    /// is folded has none, and gives the node before it a bias. A parameter of several nodes counts
    /// for the first.
    pub fn shipped_parameters(&self) -> Vec<u64> {
        let mut counted = vec![false; self.parameters().len()];
        let mut own = |node: &Node| {
            let new = node.parameters.iter().filter(|id| {
                let before = std::mem::replace(&mut counted[id.index()], true);
                !before && ships(self.parameter(**id).role)
            });
            new.map(|id| self.parameter(*id).elements()).fold(0, u64::saturating_add)
        };
        let mut shipped: Vec<u64> = self.nodes().map(|(_, node)| own(node)).collect();
        for ((id, node), absorbed) in self.nodes().zip(self.absorbed_normalizations()) {
            if let Some(normalization) = absorbed {
                shipped[normalization.index()] = 0;
                if node.parameters.len() == 1 {
                    shipped[id.index()] += u64::from(self.shape(node.output).channels());
                }
            }
        }
        shipped
    }

    /// By node: the numbers that it reads and writes. `None` for one that is computed along with
    /// the node before it; see [`Graph::fused`].
    pub fn traffic(&self) -> Vec<Option<u64>> {
        let elements = |value: &ValueId| self.shape(*value).elements();
        let moved = |node: &Node| node.inputs.iter().chain([&node.output]).map(elements).sum();
        let nodes = self.nodes().zip(self.fused());
        nodes.map(|((_, node), fused)| (!fused).then(|| moved(node))).collect()
    }

    fn peak_elements(&self) -> u64 {
        self.peak_memory(|value| self.shape(value).elements())
    }

    /// The largest total size of the values that are needed while one node runs, its output
    /// included, with `size` of each value. Nodes run in order.
    pub fn peak_memory(&self, size: impl Fn(ValueId) -> u64) -> u64 {
        // For each value, the node after which it is no longer needed.
        let mut last: Vec<Option<usize>> = vec![None; self.values().count()];
        for (id, node) in self.nodes() {
            node.inputs.iter().for_each(|input| last[input.index()] = Some(id.index()));
        }
        let end = self.nodes().count();
        self.outputs().iter().for_each(|output| last[output.index()] = Some(end));
        let mut alive: u64 = self.inputs().map(&size).sum();
        let mut peak = alive;
        for (id, node) in self.nodes() {
            let dies = |value: ValueId| last[value.index()] == Some(id.index());
            let output = size(node.output);
            let over = match node.op.memory() {
                Memory::InPlace => {
                    let input = node.inputs[0];
                    if dies(input) && size(input) == output { output } else { 0 }
                }
                Memory::Separate => 0,
            };
            peak = peak.max(alive + output - over);
            let mut read = node.inputs.clone();
            read.sort_unstable();
            read.dedup();
            let freed: u64 = read.into_iter().filter(|&value| dies(value)).map(&size).sum();
            alive = alive + output - freed;
            // Nobody reads it.
            if last[node.output.index()].is_none() {
                alive -= output;
            }
        }
        peak
    }
}

/// Whether a network that ships has the numbers of such a parameter.
fn ships(role: Role) -> bool {
    match role {
        Role::Weight | Role::Bias | Role::Scale | Role::Shift | Role::Slope | Role::Constant => {
            true
        }
        // They merge into the factor and the offset.
        Role::Mean | Role::Variance => false,
    }
}
