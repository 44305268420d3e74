//! How many channels each group keeps for a budget of the whole network. Which channels stay is
//! decided by their importance in [`crate::cut_to`]; shares of single layers are in the search
//! space.
//!
//! All functions return a number per group, by its place in [`Channels::groups`]. Groups whose
//! channels may not be removed keep all. Each number is rounded up to a multiple that the engine
//! likes, or to the whole group.

use std::convert::Infallible;

use edgesmith_graph::{ChannelGroup, Channels, Graph};

use crate::prune::cut_to;

/// Share of a group's channels that stays as long as other groups can still lose some.
const LEAST_SHARE: f64 = 0.1;

/// How many channels each group keeps as long as others can lose some: a tenth, at least one.
pub fn least_kept(channels: &Channels) -> Vec<usize> {
    let least = |group: &ChannelGroup| (group.channels.len() as f64 * LEAST_SHARE).ceil() as usize;
    channels.groups().iter().map(|group| least(group).max(1)).collect()
}

/// What a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Multiply-accumulates of the whole network; see [`edgesmith_graph::Cost::macs`].
    Macs,
    /// Numbers of the whole network; see [`edgesmith_graph::Cost::parameters`].
    Parameters,
    /// Channels that may be removed. A channel that many layers share counts once.
    Channels,
}

/// The numbers with which at most so much of a resource is left, if the least important channels of
/// the whole network are removed one after the other until it is.
///
/// Channels of different groups are compared by their importance as a multiple of the group's mean,
/// as Torch-Pruning does, because groups differ in scale. On ties the channel that comes later goes
/// first. A group keeps as many as `least` says ([`least_kept`]); only where that leaves too much,
/// groups go down to one channel. A budget that cannot be met leaves these.
///
/// A smaller budget never leaves more channels in any group.
///
/// # Panics
/// If `channels`, `importance` or `least` are of another graph, or `multiple_of` is 0.
pub fn kept_within(
    graph: &Graph,
    channels: &Channels,
    importance: &[f64],
    (of, most): (Resource, f64),
    least: &[usize],
    multiple_of: usize,
) -> Vec<usize> {
    let amount = |kept: &[usize]| match of {
        Resource::Macs => cut_to(graph, channels, importance, kept).graph.cost().macs,
        Resource::Parameters => cut_to(graph, channels, importance, kept).graph.cost().parameters,
        Resource::Channels => {
            let groups = channels.groups().iter().zip(kept).filter(|(group, _)| !group.fixed);
            groups.map(|(_, &kept)| kept as u64).sum()
        }
    };
    // A share of a whole number may be a little less than the number that is meant.
    let meets = |kept: &[usize]| Ok(amount(kept) as f64 <= most * (1.0 + 1e-9));
    let kept: Result<Vec<usize>, Infallible> =
        kept_where(channels, importance, least, multiple_of, meets);
    let Ok(kept) = kept;
    kept
}

/// The same for a budget of any kind: `meets` says of numbers of kept channels whether they are
/// within it. It is asked of about as many numbers as the logarithm of the channels, and what it
/// says of fewer channels should be no worse. What it says of the same numbers decides, so the
/// result follows from its answers alone.
///
/// # Errors
/// Those of `meets`.
///
/// # Panics
/// If `channels`, `importance` or `least` are of different graphs, or `multiple_of` is 0.
pub fn kept_where<E>(
    channels: &Channels,
    importance: &[f64],
    least: &[usize],
    multiple_of: usize,
    mut meets: impl FnMut(&[usize]) -> Result<bool, E>,
) -> Result<Vec<usize>, E> {
    let all: Vec<usize> = channels.groups().iter().map(|group| group.channels.len()).collect();
    let losses = losses(channels, importance, least);
    // What is left after so many losses.
    let kept = |lost: usize| {
        let mut kept = all.clone();
        losses[..lost].iter().for_each(|&group| kept[group] -= 1);
        let rounded = kept.iter().zip(&all).map(|(&kept, &all)| round_up(kept, multiple_of, all));
        rounded.collect::<Vec<usize>>()
    };
    // Fewer channels never cost more. So a bisection finds the fewest losses that are enough.
    let (mut low, mut high) = (0, losses.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if meets(&kept(middle))? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(kept(low))
}

/// The groups of the channels that may be removed, in the order in which they are.
fn losses(channels: &Channels, importance: &[f64], least: &[usize]) -> Vec<usize> {
    // The first losses leave each group its share, the last ones one channel.
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (index, group) in channels.groups().iter().enumerate().filter(|(_, group)| !group.fixed) {
        let count = group.channels.len();
        let of_group = group.channels.iter().map(|channel| importance[channel.index()]);
        let mean = of_group.clone().sum::<f64>() / count as f64;
        let relative = |importance: f64| if mean > 0.0 { importance / mean } else { importance };
        let mut ranked: Vec<f64> = of_group.map(relative).collect();
        ranked.sort_by(f64::total_cmp);
        let least = least[index].clamp(1, count);
        let mut ranked = ranked.into_iter().map(|importance| (importance, index));
        first.extend(ranked.by_ref().take(count - least));
        last.extend(ranked.take(least - 1));
    }
    let in_order = |mut losses: Vec<(f64, usize)>| {
        // On ties the later group loses first.
        losses.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        losses.into_iter().map(|(_, group)| group)
    };
    in_order(first).chain(in_order(last)).collect()
}

/// The next multiple, but no more than `most`.
fn round_up(count: usize, multiple_of: usize, most: usize) -> usize {
    count.next_multiple_of(multiple_of).min(most)
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{
        Concat, Conv, Flatten, GraphBuilder, Groups, Linear, Op, Place, Role, Shape,
    };
    use edgesmith_testing::{arbitrary_graph, conv_graph, random_weights};
    use proptest::prelude::*;

    use super::*;
    use crate::importance::l1_norm;

    fn resource() -> impl Strategy<Value = Resource> {
        prop::sample::select(vec![Resource::Macs, Resource::Parameters, Resource::Channels])
    }

    /// A share of what a network has of a resource.
    #[derive(Clone, Copy)]
    struct Budget {
        of: Resource,
        share_kept: f64,
    }

    /// The numbers that [`kept_within`] gives for a share of a network.
    fn kept_globally(
        graph: &Graph,
        channels: &Channels,
        importance: &[f64],
        Budget { of, share_kept }: Budget,
        multiple: usize,
    ) -> Vec<usize> {
        let all: Vec<usize> = channels.groups().iter().map(|g| g.channels.len()).collect();
        let [whole, _] = amounts(graph, &all, of);
        let (most, least) = (share_kept * whole as f64, least_kept(channels));
        kept_within(graph, channels, importance, (of, most), &least, multiple)
    }

    /// What is counted of a network, and of the one that keeps so many channels.
    fn amounts(graph: &Graph, kept: &[usize], of: Resource) -> [u64; 2] {
        let sizes = graph.group_sizes();
        let next = std::cell::Cell::new(0);
        // Groups are asked for in order.
        let shrunk = graph.clone().shrunk(|_, size| {
            let index = next.replace(next.get() + 1);
            assert_eq!(size, sizes[index]);
            kept[index]
        });
        let shrunk = shrunk.unwrap();
        let free = |graph: &Graph| -> u64 {
            graph.group_sizes().iter().filter(|g| !g.fixed).map(|g| g.channels as u64).sum()
        };
        [graph, &shrunk].map(|graph| match of {
            Resource::Macs => graph.total_macs(),
            Resource::Parameters => graph.cost().parameters,
            Resource::Channels => free(graph),
        })
    }

    /// Removes the least important channel of all groups again and again, and looks each time
    /// whether the budget is met.
    fn one_by_one(
        graph: &Graph,
        importance: &[f64],
        budget: Budget,
        multiple: usize,
    ) -> Vec<usize> {
        let channels = graph.channels();
        let mut left: Vec<Vec<f64>> = Vec::new();
        for group in channels.groups() {
            let values: Vec<f64> =
                group.channels.iter().map(|channel| importance[channel.index()]).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            left.push(values.iter().map(|value| value / mean).collect());
        }
        let all: Vec<usize> = left.iter().map(Vec::len).collect();
        let least: Vec<usize> = all.iter().map(|&all| all.div_ceil(10)).collect();
        loop {
            let kept: Vec<usize> = left
                .iter()
                .zip(&all)
                .map(|(left, &all)| (left.len().div_ceil(multiple) * multiple).min(all))
                .collect();
            let [whole, part] = amounts(graph, &kept, budget.of);
            let mut best: Option<(bool, f64, usize, usize)> = None;
            for (index, group) in channels.groups().iter().enumerate() {
                if group.fixed || left[index].len() == 1 {
                    continue;
                }
                for (place, &value) in left[index].iter().enumerate() {
                    let spares = left[index].len() <= least[index];
                    let better = best.is_none_or(|(s, v, ..)| (spares, value) < (s, v));
                    if better {
                        best = Some((spares, value, index, place));
                    }
                }
            }
            match best {
                Some((.., index, place)) if part as f64 > whole as f64 * budget.share_kept => {
                    left[index].remove(place);
                }
                _ => return kept,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_budget_is_met_as_by_removing_one_channel_after_the_other(
            graph in arbitrary_graph(),
            seed: u64,
            of in resource(),
            share_kept in 0.0..1.2f64,
            multiple in 1usize..5,
        ) {
            let channels = graph.channels();
            let importance = l1_norm(&graph, &channels, &random_weights(&graph, seed));
            let budget = Budget { of, share_kept };
            let kept = kept_globally(&graph, &channels, &importance, budget, multiple);
            prop_assert_eq!(&kept, &one_by_one(&graph, &importance, budget, multiple));
            let [whole, part] = amounts(&graph, &kept, of);
            let mut at_minimum = true;
            for (group, &kept) in channels.groups().iter().zip(&kept) {
                let all = group.channels.len();
                prop_assert!((1..=all).contains(&kept));
                prop_assert!(kept == all || (!group.fixed && kept % multiple == 0));
                at_minimum &= group.fixed || kept == multiple.min(all);
            }
            prop_assert!(at_minimum || part as f64 <= share_kept * whole as f64);
            // The network with these numbers is one.
            cut_to(&graph, &channels, &importance, &kept);
        }

        #[test]
        fn a_smaller_share_never_keeps_more_in_any_group(
            graph in arbitrary_graph(),
            seed: u64,
            of in resource(),
            shares in prop::collection::vec(0.0..1.0f64, 2),
            multiple in 1usize..5,
        ) {
            let channels = graph.channels();
            let importance = l1_norm(&graph, &channels, &random_weights(&graph, seed));
            let kept = |share_kept: f64| {
                let budget = Budget { of, share_kept };
                kept_globally(&graph, &channels, &importance, budget, multiple)
            };
            let (small, large) = (shares[0].min(shares[1]), shares[0].max(shares[1]));
            for (small, large) in kept(small).iter().zip(kept(large)) {
                prop_assert!(*small <= large);
            }
            let all: Vec<usize> = channels.groups().iter().map(|g| g.channels.len()).collect();
            prop_assert_eq!(kept(1.0), all);
        }
    }

    /// Two convolutions side by side, a grouped one over both, and a linear layer that reads each
    /// channel at four places. Channels at the same place of both parts go together.
    fn parts() -> Graph {
        let mut b = GraphBuilder::new();
        let x = b.input("x", Shape::new(2, &[2, 2]).unwrap()).unwrap();
        let layer = |b: &mut GraphBuilder, name: &str, op: Op, input, shape: &[u32]| {
            let weight = b.parameter(format!("{name}.weight"), shape, Role::Weight).unwrap();
            b.node(name.to_owned(), op, &[input], &[weight], Place::default()).unwrap()
        };
        let one = layer(&mut b, "one", Conv::dense(3, 1).into(), x, &[12, 2, 3, 3]);
        let two = layer(&mut b, "two", Conv::dense(1, 1).into(), x, &[12, 2, 1, 1]);
        let both = b.node("both", Concat { axis: 0 }, &[one, two], &[], Place::default()).unwrap();
        let grouped = Conv { groups: Groups::Equal(2), ..Conv::dense(1, 1) };
        let mixed = layer(&mut b, "mixed", grouped.into(), both, &[16, 12, 1, 1]);
        let flat = b.node("flat", Flatten, &[mixed], &[], Place::default()).unwrap();
        let output = layer(&mut b, "output", Linear.into(), flat, &[3, 64]);
        b.finish(&[output]).unwrap()
    }

    #[test]
    fn channels_of_several_parts_of_a_value_are_one_loss() {
        let graph = parts();
        let channels = graph.channels();
        let sizes: Vec<usize> = channels.groups().iter().map(|g| g.channels.len()).collect();
        assert!(sizes.contains(&12) && sizes.contains(&8), "{sizes:?}");
        let weights = random_weights(&graph, 5);
        let importance = l1_norm(&graph, &channels, &weights);
        for of in [Resource::Macs, Resource::Parameters, Resource::Channels] {
            for share_kept in [0.1, 0.5, 0.75] {
                let budget = Budget { of, share_kept };
                let kept = kept_globally(&graph, &channels, &importance, budget, 2);
                assert_eq!(kept, one_by_one(&graph, &importance, budget, 2));
                let cut = cut_to(&graph, &channels, &importance, &kept);
                assert_eq!(cut.weights(&weights).check(&cut.graph), Ok(()));
            }
        }
    }

    #[test]
    fn groups_are_compared_by_multiples_of_their_mean() {
        let graph = conv_graph();
        let channels = graph.channels();
        let groups = channels.groups();
        // In each free group the same but for a factor; the first channel is a little less
        // important than the others.
        let mut importance = vec![0.0; channels.count()];
        for (factor, group) in groups.iter().enumerate() {
            for (place, channel) in group.channels.iter().enumerate() {
                importance[channel.index()] =
                    10f64.powi(factor as i32) * (0.9 + 0.1 * place.min(1) as f64);
            }
        }
        let free = groups.iter().filter(|group| !group.fixed);
        let count: usize = free.clone().map(|group| group.channels.len()).sum();
        let share_kept = 1.0 - free.count() as f64 / count as f64;
        let budget = Budget { of: Resource::Channels, share_kept };
        let kept = kept_globally(&graph, &channels, &importance, budget, 1);
        for (group, kept) in groups.iter().zip(kept) {
            assert_eq!(kept, group.channels.len() - usize::from(!group.fixed));
        }
    }

    #[test]
    fn a_tenth_of_a_group_stays_while_others_can_lose_channels() {
        let graph = conv_graph();
        let channels = graph.channels();
        // The last free group has no important channel but one.
        let last = channels.groups().iter().rposition(|group| !group.fixed).unwrap();
        let mut importance = vec![1.0; channels.count()];
        let unimportant = &channels.groups()[last].channels;
        assert_eq!(unimportant.len(), 32);
        unimportant[1..].iter().for_each(|channel| importance[channel.index()] = 1e-6);
        let kept = |share_kept: f64| {
            let budget = Budget { of: Resource::Channels, share_kept };
            kept_globally(&graph, &channels, &importance, budget, 1)
        };
        assert_eq!(kept(0.5)[last], 4);
        // Nothing else is left to lose.
        assert_eq!(kept(0.0)[last], 1);
        let free: usize = channels
            .groups()
            .iter()
            .filter(|group| !group.fixed)
            .map(|group| group.channels.len())
            .sum();
        assert_eq!(free, 64);
    }

    #[test]
    fn channels_without_any_importance_can_be_ranked() {
        let graph = conv_graph();
        let channels = graph.channels();
        let budget = Budget { of: Resource::Macs, share_kept: 0.5 };
        let kept = kept_globally(&graph, &channels, &vec![0.0; channels.count()], budget, 1);
        let [whole, part] = amounts(&graph, &kept, Resource::Macs);
        assert!(2 * part <= whole);
    }

    #[test]
    fn a_budget_of_any_kind_is_met_with_the_fewest_losses() {
        let graph = conv_graph();
        let channels = graph.channels();
        let importance = l1_norm(&graph, &channels, &random_weights(&graph, 3));
        let least = least_kept(&channels);
        let free = channels.groups().iter().filter(|group| !group.fixed);
        let count: usize = free.map(|group| group.channels.len() - 1).sum();
        let cost = |kept: &[usize]| cut_to(&graph, &channels, &importance, kept).graph.cost().macs;
        let whole = graph.cost().macs;
        for most in [whole, whole / 2, whole / 5] {
            let mut asked = 0;
            let kept = kept_where(&channels, &importance, &least, 1, |kept| {
                asked += 1;
                Ok::<bool, ()>(cost(kept) <= most)
            });
            let budget = (Resource::Macs, most as f64);
            let expected = kept_within(&graph, &channels, &importance, budget, &least, 1);
            assert_eq!(kept, Ok(expected));
            assert!(asked <= count.ilog2() + 1, "{asked} of {count}");
        }
        let failed = kept_where(&channels, &importance, &least, 1, |_| Err("no clock"));
        assert_eq!(failed, Err("no clock"));
    }

    #[test]
    fn a_share_that_is_a_whole_number_is_met_exactly() {
        let graph = parts();
        let channels = graph.channels();
        let free = channels.groups().iter().filter(|group| !group.fixed);
        let count: usize = free.map(|group| group.channels.len()).sum();
        let importance: Vec<f64> = (0..channels.count()).map(|i| 1.0 + i as f64).collect();
        // In floating point, 1 - 0.8 of a number is a little less than a fifth of it.
        let most = (1.0 - 0.8) * count as f64;
        assert!(count.is_multiple_of(5) && most < count as f64 / 5.0, "{count}");
        let least = vec![1; channels.groups().len()];
        let kept =
            kept_within(&graph, &channels, &importance, (Resource::Channels, most), &least, 1);
        let groups = channels.groups().iter().zip(kept).filter(|(group, _)| !group.fixed);
        assert_eq!(groups.map(|(_, kept)| kept).sum::<usize>(), count / 5);
    }
}
