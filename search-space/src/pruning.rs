//! How many channels a pruning keeps, and whether it removes any weight. Which ones is decided by
//! their importance, not here.

use edgesmith_graph::{Graph, GroupSize, Role};

use crate::model::residual_blocks;
use crate::{Among, Amount, Counted, PruneUnit, Pruning};

/// How many channels of a group a pruning in one go keeps: `round(channels * (1 - share))`, at
/// least one, rounded up to the pruning's multiple. Groups of channels that may not be removed
/// keep all, and so do all if single weights go. `None` if the channels of the whole network
/// compete, or its blocks: then their importance decides.
pub fn kept(graph: &Graph, group: impl Into<GroupSize>, pruning: &Pruning) -> Option<usize> {
    let multiple = pruning.multiple_of.at_least();
    match &pruning.amount {
        Amount::Stage { shares } => Some(kept_of_stage(graph, group, shares, multiple)),
        Amount::Layer { share } => Some(kept_of_layer(group.into(), *share, multiple)),
        Amount::Network { .. } => None,
        Amount::Weights { .. } | Amount::TwoOfFour { .. } => Some(group.into().channels),
        Amount::Blocks { .. } | Amount::AtMost { .. } => None,
    }
}

/// The stage that a group of channels belongs to: that of the node that makes them first. `None`
/// for channels that may not be removed.
pub fn stage(graph: &Graph, group: impl Into<GroupSize>) -> Option<u32> {
    let group = group.into();
    let producer = graph.producer(group.first).filter(|_| !group.fixed)?;
    graph.node(producer).place.stage
}

/// The network with as many channels as a pruning leaves. It says how large the network will be;
/// which channels stay does not matter for that. If the channels of the whole network compete, it
/// is an estimate: every group loses the same share, and the network as a whole has the right size.
/// Which blocks go, and what takes less time, is not known; then it is the network as it is.
pub fn pruned(graph: Graph, pruning: &Pruning) -> Graph {
    if pruning.amount.is_nothing() {
        return graph;
    }
    let multiple = pruning.multiple_of.at_least();
    let shrunk = match &pruning.amount {
        Amount::Stage { shares } => {
            graph.shrunk(|graph, group| kept_of_stage(graph, group, shares, multiple))
        }
        Amount::Layer { share } => graph.shrunk(|_, group| kept_of_layer(group, *share, multiple)),
        Amount::Network { counted, share } => {
            let share = equal_share(&graph, *counted, *share);
            graph.shrunk(|_, group| kept_of_layer(group, share, multiple))
        }
        Amount::AtMost { unit: PruneUnit::Channels, counted, most } => {
            let share = match estimate(&graph, *counted) {
                Some(all) if all > *most => equal_share(&graph, *counted, 1.0 - most / all),
                Some(_) | None => return graph,
            };
            graph.shrunk(|_, group| kept_of_layer(group, share, multiple))
        }
        Amount::Weights { .. }
        | Amount::TwoOfFour { .. }
        | Amount::Blocks { .. }
        | Amount::AtMost { .. } => return graph,
    };
    shrunk.expect("every group keeps a channel, and no channel that may not be removed goes")
}

/// Whether a pruning removes any channel or weight of a network.
pub fn removes(graph: &Graph, pruning: &Pruning) -> bool {
    if pruning.amount.is_nothing() {
        return false;
    }
    let weights = || graph.parameters().map(|(_, p)| p).filter(|p| p.role == Role::Weight);
    let gone = |count: u64, share: f64| (count as f64 * share).round() as u64;
    let loses =
        |group: GroupSize| !group.fixed && kept(graph, group, pruning) != Some(group.channels);
    match &pruning.amount {
        Amount::Stage { .. } | Amount::Layer { .. } | Amount::Network { .. } => {
            graph.group_sizes().into_iter().any(loses)
        }
        Amount::AtMost { counted, most, .. } if keeps(graph, *counted, *most) => false,
        Amount::AtMost { unit: PruneUnit::Blocks, .. } => !residual_blocks(graph).is_empty(),
        Amount::AtMost { .. } => graph.group_sizes().into_iter().any(loses),
        Amount::Weights { among: Among::Layer, share } => {
            weights().any(|weight| gone(weight.elements(), *share) > 0)
        }
        Amount::Weights { among: Among::Network, share } => {
            gone(weights().map(|weight| weight.elements()).sum(), *share) > 0
        }
        // Of fewer than three inputs, both stay.
        Amount::TwoOfFour { .. } => weights().any(|weight| weight.shape[1] > 2),
        Amount::Blocks { .. } => !residual_blocks(graph).is_empty(),
    }
}

/// Whether a pruning may remove anything of a network with the groups of this one, of which it is
/// not known how many channels each still has.
pub fn may_remove(graph: &Graph, pruning: &Pruning) -> bool {
    match &pruning.amount {
        Amount::Stage { shares } => {
            let share = |stage: u32| shares.get(stage as usize).copied().unwrap_or_default();
            let stages = graph.group_sizes().into_iter().filter_map(|group| stage(graph, group));
            stages.map(share).any(|share| share > 0.0)
        }
        Amount::Layer { .. }
        | Amount::Network { .. }
        | Amount::Weights { .. }
        | Amount::TwoOfFour { .. }
        | Amount::Blocks { .. }
        | Amount::AtMost { .. } => !pruning.amount.is_nothing(),
    }
}

/// Whether a network has no more of something than a budget says. `false` if only a measurement
/// tells.
fn keeps(graph: &Graph, counted: Counted, most: f64) -> bool {
    count(graph, counted).is_some_and(|all| all as f64 <= most)
}

/// How much of something a network has; `None` of what is measured.
pub fn count(graph: &Graph, counted: Counted) -> Option<u64> {
    match counted {
        Counted::Macs => Some(graph.cost().macs),
        Counted::Parameters => Some(graph.cost().parameters),
        Counted::Channels => {
            let free = graph.group_sizes().into_iter().filter(|group| !group.fixed);
            Some(free.map(|group| group.channels as u64).sum())
        }
        Counted::Bytes | Counted::Latency => None,
    }
}

/// About how much of something a network has in fp32; `None` of time.
fn estimate(graph: &Graph, counted: Counted) -> Option<f64> {
    match counted {
        Counted::Bytes => Some(4.0 * graph.cost().parameters as f64),
        Counted::Channels | Counted::Macs | Counted::Parameters | Counted::Latency => {
            count(graph, counted).map(|all| all as f64)
        }
    }
}

fn kept_of_stage(
    graph: &Graph,
    group: impl Into<GroupSize>,
    shares: &[f64],
    multiple: usize,
) -> usize {
    let group = group.into();
    let share = stage(graph, group).and_then(|stage| shares.get(stage as usize));
    share.map_or(group.channels, |share| kept_of_layer(group, *share, multiple))
}

fn kept_of_layer(group: GroupSize, share: f64, multiple: usize) -> usize {
    if group.fixed || share == 0.0 {
        return group.channels;
    }
    let kept = (group.channels as f64 * (1.0 - share)).round() as usize;
    kept.max(1).next_multiple_of(multiple.max(1)).min(group.channels)
}

/// The share that each group of channels loses, if all lose the same, so that this share of what is
/// counted is gone. To a thousandth.
fn equal_share(graph: &Graph, counted: Counted, share: f64) -> f64 {
    let count = |graph: &Graph| match counted {
        Counted::Macs => graph.cost().macs,
        // About the same share of bytes and of time goes with them.
        Counted::Parameters | Counted::Bytes => graph.cost().parameters,
        Counted::Latency => graph.cost().macs,
        Counted::Channels => unreachable!("their share is that of each group"),
    };
    if counted == Counted::Channels {
        return share;
    }
    let most = count(graph) as f64 * (1.0 - share);
    // By thousandths: the largest share that is known to leave too much, and the smallest that is
    // not.
    let (mut low, mut high) = (0, 1000);
    while high - low > 1 {
        let middle = (low + high) / 2;
        let tried = f64::from(middle) / 1000.0;
        let shrunk = graph.clone().shrunk(|_, group| kept_of_layer(group, tried, 1));
        if shrunk.is_ok_and(|shrunk| count(&shrunk) as f64 <= most) {
            high = middle;
        } else {
            low = middle;
        }
    }
    f64::from(high) / 1000.0
}
