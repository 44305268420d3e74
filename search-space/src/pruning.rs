//! How many channels pruning ratios keep. Which ones is decided by their weights, not here.

use edgesmith_graph::{Graph, GroupSize};

/// How many channels of a group are kept: `round(channels * (1 - ratio))`, at least one, with the
/// ratio of the group's stage. Groups that belong to no stage, and stages without a ratio, keep
/// all.
pub fn kept(graph: &Graph, group: impl Into<GroupSize>, ratios: &[f64]) -> usize {
    let group = group.into();
    let ratio = stage(graph, group).and_then(|stage| ratios.get(stage as usize));
    let kept = (group.channels as f64 * (1.0 - ratio.copied().unwrap_or(0.0))).round() as usize;
    kept.clamp(1, group.channels)
}

/// The stage that a group of channels belongs to: that of the node that makes them first. `None`
/// for channels that may not be removed.
pub fn stage(graph: &Graph, group: impl Into<GroupSize>) -> Option<u32> {
    let group = group.into();
    let producer = graph.producer(group.first).filter(|_| !group.fixed)?;
    graph.node(producer).place.stage
}

/// The network with as many channels as pruning by `ratios` leaves, one ratio per stage. It says
/// how large the network will be; which channels stay does not matter for that.
pub fn pruned(graph: Graph, ratios: &[f64]) -> Graph {
    if ratios.iter().all(|ratio| *ratio == 0.0) {
        return graph;
    }
    let pruned = graph.shrunk(|graph, group| kept(graph, group, ratios));
    pruned.expect("every group of a stage keeps a channel, and no other loses one")
}
