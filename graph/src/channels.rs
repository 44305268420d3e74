//! The channels of a graph: which indices of values and parameters are kept or removed together.
//!
//! Every operation states ties between indices ([`crate::ties`]). The connected components of
//! these are the channels of the whole graph (Fang et al. 2023, "DepGraph: Towards any structural
//! pruning").

use std::collections::HashMap;

use smallvec::{SmallVec, smallvec};

use crate::ties::{Port, Relation};
use crate::{Graph, Node, Operation, ParameterId, ValueId};

/// Indices of values and parameters that are kept or removed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(usize);

/// Index of a group in [`Channels::groups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelGroupId(usize);

/// Channels that are alike: they have indices in the same values and parameters. A choice of how
/// many channels to keep is made per group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelGroup {
    /// In the order of their first index.
    pub channels: Vec<ChannelId>,
    /// Whether none of them may be removed: they belong to an input or an output of the graph, or
    /// to an operation that does not state what they belong together with.
    pub fixed: bool,
    /// The first value that has them.
    pub first: ValueId,
}

/// The set of each axis of a parameter; `None` if no tie names the axis.
pub(crate) type AxisSets = SmallVec<[Option<usize>; 4]>;

/// All channels of a graph.
#[derive(Debug, Clone)]
pub struct Channels {
    /// Axes whose indices are tied one to one share a set. By set: the channel of each index.
    sets: Vec<Vec<ChannelId>>,
    /// The set of each value's channel axis.
    values: Vec<usize>,
    /// By parameter.
    parameters: Vec<AxisSets>,
    /// By set: whether each of its indices is a channel that is nowhere else and may be removed.
    free: Vec<bool>,
    groups: Vec<ChannelGroup>,
    /// The group of each channel.
    group_of: Vec<ChannelGroupId>,
}

impl ChannelId {
    /// Its place, for tables that have an entry per channel.
    pub fn index(self) -> usize {
        self.0
    }
}

impl ChannelGroupId {
    /// Its place in [`Channels::groups`].
    pub fn index(self) -> usize {
        self.0
    }
}

impl Channels {
    /// Number of channels.
    pub fn count(&self) -> usize {
        self.group_of.len()
    }

    /// Groups in the order of the first value that has them.
    pub fn groups(&self) -> &[ChannelGroup] {
        &self.groups
    }

    /// The group that a channel belongs to.
    pub fn group_of(&self, channel: ChannelId) -> ChannelGroupId {
        self.group_of[channel.0]
    }

    /// The channel of each index of a value.
    pub fn of_value(&self, value: ValueId) -> &[ChannelId] {
        &self.sets[self.values[value.index()]]
    }

    /// The sets, and the set of each value and of each axis of each parameter.
    pub(crate) fn axis_sets(&self) -> (&[Vec<ChannelId>], &[usize], &[AxisSets]) {
        (&self.sets, &self.values, &self.parameters)
    }

    /// Whether the indices of a set of axes are channels that are in no other set and may be
    /// removed.
    pub(crate) fn is_free(&self, set: usize) -> bool {
        self.free[set]
    }

    /// The channel of each index of an axis of a parameter; `None` if the axis has no channels,
    /// like those of a kernel.
    pub fn of_parameter(&self, parameter: ParameterId, axis: usize) -> Option<&[ChannelId]> {
        let set = *self.parameters[parameter.index()].get(axis)?;
        set.map(|set| self.sets[set].as_slice())
    }
}

impl Graph {
    /// Derives the channels from the ties of all nodes.
    pub fn channels(&self) -> Channels {
        let axes = Axes::of(self);
        let mut tied = DisjointSets::new(axes.count);
        // Ties other than one to one, and axes whose channels may not be removed.
        let mut others: Vec<(usize, usize, Relation)> = Vec::new();
        let mut fixed: Vec<usize> = self
            .inputs()
            .chain(self.outputs().iter().copied())
            .map(|value| axes.value(value))
            .collect();
        let mut named = vec![false; axes.count];
        for (_, node) in self.nodes() {
            let ties = self.with_operands(node, |o| node.op.ties(o, self.shape(node.output)));
            let mut stated: SmallVec<[bool; 4]> = smallvec![false; node.inputs.len() + 1];
            for tie in ties {
                for port in [tie.from, tie.to] {
                    named[axes.of_port(node, port)] = true;
                    match port {
                        Port::Input(place) => stated[place] = true,
                        Port::Output => stated[node.inputs.len()] = true,
                        Port::Parameter(..) => {}
                    }
                }
                let (from, to) = (axes.of_port(node, tie.from), axes.of_port(node, tie.to));
                match tie.relation {
                    Relation::Same => {
                        let lengths = [from, to].map(|axis| axes.lengths[axis]);
                        assert_eq!(lengths[0], lengths[1], "{} ties unlike axes", node.op.kind());
                        tied.join(from, to);
                    }
                    relation => others.push((from, to, relation)),
                }
            }
            let ports = node.inputs.iter().chain([&node.output]).zip(stated);
            fixed.extend(ports.filter(|(_, stated)| !stated).map(|(v, _)| axes.value(*v)));
        }
        Solver { graph: self, axes: &axes, tied, named }.solve(&others, &fixed)
    }
}

/// Numbers all axes of a graph: first the channels of the values, then the axes of the parameters.
struct Axes {
    lengths: Vec<u32>,
    /// The first axis of each parameter.
    parameters: Vec<usize>,
    count: usize,
}

impl Axes {
    fn of(graph: &Graph) -> Self {
        let mut lengths: Vec<u32> = graph.values().map(|(_, v)| v.shape.channels()).collect();
        let mut parameters = Vec::with_capacity(graph.parameters().len());
        lengths.reserve(4 * graph.parameters().len());
        for (_, parameter) in graph.parameters() {
            parameters.push(lengths.len());
            lengths.extend_from_slice(&parameter.shape);
        }
        Self { count: lengths.len(), lengths, parameters }
    }

    fn value(&self, value: ValueId) -> usize {
        value.index()
    }

    fn of_port(&self, node: &Node, port: Port) -> usize {
        match port {
            Port::Input(place) => self.value(node.inputs[place]),
            Port::Output => self.value(node.output),
            Port::Parameter(place, axis) => self.parameters[node.parameters[place].index()] + axis,
        }
    }
}

/// Turns sets of axes and ties between them into channels and groups.
struct Solver<'a> {
    graph: &'a Graph,
    axes: &'a Axes,
    /// Sets of axes that are tied one to one.
    tied: DisjointSets,
    named: Vec<bool>,
}

/// A set of axes that are tied one to one.
struct AxisSet {
    length: u32,
    /// The first value that has it.
    first: Option<ValueId>,
    fixed: bool,
    /// Where its indices begin among those of all mixed sets. Most sets are not mixed: no
    /// other tie concerns them, so that each of their indices is a channel.
    mixed: Option<usize>,
}

impl Solver<'_> {
    fn solve(mut self, others: &[(usize, usize, Relation)], fixed: &[usize]) -> Channels {
        let (mut sets, set_of) = self.sets();
        let of = |axis: usize| set_of[axis].expect("ties name their axes");
        fixed.iter().for_each(|&axis| sets[of(axis)].fixed = true);
        let mut indices = 0;
        for axis in others.iter().flat_map(|(from, to, _)| [*from, *to]) {
            let set = &mut sets[of(axis)];
            if set.mixed.is_none() {
                set.mixed = Some(indices);
                indices += set.length as usize;
            }
        }
        let mut together = DisjointSets::new(indices);
        for (from, to, relation) in others {
            let (from, to) = (&sets[of(*from)], &sets[of(*to)]);
            let (start, other) = (from.mixed.unwrap_or(0), to.mixed.unwrap_or(0));
            relation.for_each(from.length, to.length, |i, j| {
                together.join(start + i as usize, other + j as usize);
            });
        }
        let values = self.graph.values().map(|(id, _)| of(self.axes.value(id))).collect();
        let parameters = self.graph.parameters().zip(&self.axes.parameters);
        let parameters = parameters
            .map(|((_, p), &start)| set_of[start..start + p.shape.len()].into())
            .collect();
        let free = sets.iter().map(|set| set.mixed.is_none() && !set.fixed).collect::<Vec<_>>();
        let (groups, group_of, sets) = number(&sets, together);
        Channels { sets, values, parameters, free, groups, group_of }
    }

    /// The sets in the order of their first axis, and the set of each axis that has channels.
    fn sets(&mut self) -> (Vec<AxisSet>, Vec<Option<usize>>) {
        let mut sets: Vec<AxisSet> = Vec::new();
        let mut of_root = vec![None; self.axes.count];
        let mut set_of = vec![None; self.axes.count];
        let values = self.graph.values().count();
        for axis in (0..self.axes.count).filter(|&axis| axis < values || self.named[axis]) {
            let next = sets.len();
            let set = *of_root[self.tied.root(axis)].get_or_insert(next);
            if set == next {
                let (length, first) = (self.axes.lengths[axis], (axis < values).then_some(axis));
                let first = first.map(ValueId);
                sets.push(AxisSet { length, first, fixed: false, mixed: None });
            }
            set_of[axis] = Some(set);
        }
        (sets, set_of)
    }
}

/// Numbers the channels, and groups those that have indices in the same sets. Returns the
/// groups, the group of each channel, and the channels of each set.
fn number(
    sets: &[AxisSet],
    mut together: DisjointSets,
) -> (Vec<ChannelGroup>, Vec<ChannelGroupId>, Vec<Vec<ChannelId>>) {
    // By mixed channel, in the order of their first index: its own number, the sets that it has
    // indices in, and whether one of them is fixed.
    let mut mixed: Vec<(ChannelId, SmallVec<[usize; 4]>, bool)> = Vec::new();
    let mut of_root = vec![None; together.parent.len()];
    let mut numbered = Vec::with_capacity(sets.len());
    let mut count = 0;
    for (set, AxisSet { length, fixed, mixed: start, .. }) in sets.iter().enumerate() {
        let Some(start) = start else {
            numbered.push((count..count + *length as usize).map(ChannelId).collect());
            count += *length as usize;
            continue;
        };
        let mut channels = Vec::with_capacity(*length as usize);
        for index in *start..*start + *length as usize {
            let next = mixed.len();
            let at = *of_root[together.root(index)].get_or_insert(next);
            if at == next {
                mixed.push((ChannelId(count), smallvec![set], *fixed));
                count += 1;
            }
            let (channel, touched, any_fixed) = &mut mixed[at];
            if touched.last() != Some(&set) {
                touched.push(set);
            }
            *any_fixed |= fixed;
            channels.push(*channel);
        }
        numbered.push(channels);
    }

    let mut groups: Vec<ChannelGroup> = Vec::new();
    let mut group_of = Vec::with_capacity(count);
    let mut of_touched: HashMap<(&[usize], bool), usize> = HashMap::new();
    let mut mixed = mixed.iter().peekable();
    for (number, (set, channels)) in sets.iter().zip(&numbered).enumerate() {
        if set.mixed.is_none() {
            let group = ChannelGroupId(groups.len());
            group_of.resize(group_of.len() + channels.len(), group);
            let first = set.first.expect("every set has a value");
            groups.push(ChannelGroup { channels: channels.clone(), fixed: set.fixed, first });
            continue;
        }
        // The channels whose first index is in this set.
        while let Some((channel, touched, fixed)) = mixed.next_if(|(_, of, _)| of[0] == number) {
            let next = groups.len();
            let group = *of_touched.entry((touched, *fixed)).or_insert(next);
            if group == next {
                let first = touched.iter().filter_map(|&set| sets[set].first).min();
                let first = first.expect("every set has a value");
                groups.push(ChannelGroup { channels: Vec::new(), fixed: *fixed, first });
            }
            groups[group].channels.push(*channel);
            group_of.push(ChannelGroupId(group));
        }
    }
    (groups, group_of, numbered)
}

/// Disjoint sets with union by the smaller root and path halving.
struct DisjointSets {
    parent: Vec<usize>,
}

impl DisjointSets {
    fn new(count: usize) -> Self {
        Self { parent: (0..count).collect() }
    }

    fn root(&mut self, mut of: usize) -> usize {
        while self.parent[of] != of {
            self.parent[of] = self.parent[self.parent[of]];
            of = self.parent[of];
        }
        of
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The smaller one stays the root, so that roots come in the order of first members.
        self.parent[a.max(b)] = a.min(b);
    }
}
