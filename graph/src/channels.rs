//! The channels of a graph: which indices of values and parameters are kept or removed together.
//!
//! Every operation states ties between indices ([`crate::ties`]). The connected components of
//! these are the channels of the whole graph (Fang et al. 2023, "DepGraph: Towards any structural
//! pruning").

use std::collections::HashMap;

use smallvec::{SmallVec, smallvec};

use crate::ties::{Port, Relation};
use crate::{CutError, Graph, Node, Operation, ParameterId, ValueId};

/// Indices of values and parameters that are kept or removed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(u32);

/// Index of a group in [`Channels::groups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelGroupId(u32);

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

/// A [`ChannelGroup`] without the list of its channels, which is faster to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSize {
    /// How many channels it has.
    pub channels: usize,
    /// See [`ChannelGroup::fixed`].
    pub fixed: bool,
    /// See [`ChannelGroup::first`].
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
    fn new(index: usize) -> Self {
        // A graph has at most `MAX_CHANNELS`.
        Self(index as u32)
    }

    /// Its place, for tables that have an entry per channel.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ChannelGroupId {
    fn new(index: usize) -> Self {
        // No group is empty.
        Self(index as u32)
    }

    /// Its place in [`Channels::groups`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<&ChannelGroup> for GroupSize {
    fn from(group: &ChannelGroup) -> Self {
        Self { channels: group.channels.len(), fixed: group.fixed, first: group.first }
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
        self.group_of[channel.index()]
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
        Solver::of(self).channels()
    }

    /// The sizes of [`Channels::groups`], in the same order.
    pub fn group_sizes(&self) -> Vec<GroupSize> {
        let solver = Solver::of(self);
        if solver.others.is_empty() {
            solver.sets.iter().map(AxisSet::size).collect()
        } else {
            solver.channels().groups().iter().map(GroupSize::from).collect()
        }
    }

    /// The graph with fewer channels: of each group as many as `kept` says, the first ones. It says
    /// how large such a network is; [`Graph::without`] also makes its weights.
    ///
    /// # Errors
    /// If a fixed group loses a channel, or another one keeps none.
    ///
    /// # Panics
    /// If a group is to keep more channels than it has.
    pub fn shrunk(self, kept: impl Fn(&Graph, GroupSize) -> usize) -> Result<Self, CutError> {
        let solver = Solver::of(&self);
        if !solver.others.is_empty() {
            let channels = solver.channels();
            let removed =
                |group: &ChannelGroup| group.channels[kept(&self, group.into())..].to_vec();
            let removed: Vec<ChannelId> = channels.groups().iter().flat_map(removed).collect();
            return Ok(self.without(&channels, removed)?.graph);
        }
        // Each set of axes is a group.
        let mut sizes = Vec::with_capacity(solver.sets.len());
        for size in solver.sets.iter().map(AxisSet::size) {
            let kept = kept(&self, size);
            assert!(kept <= size.channels, "no more channels than there are");
            let value = || self.value(size.first).name.to_string();
            if size.fixed && kept < size.channels {
                return Err(CutError::Fixed { value: value() });
            }
            if kept == 0 {
                return Err(CutError::Empty { value: value() });
            }
            sizes.push(kept as u32);
        }
        let Solver { axes, set_of, .. } = solver;
        let size = |axis: usize| set_of[axis].map(|set| sizes[set]);
        let first: Vec<u32> = (0..sizes.iter().copied().max().unwrap_or(0)).collect();
        let mut graph = self;
        graph.cut_operations(|value| {
            &first[..size(axes.value(value)).expect("every value has channels") as usize]
        });
        Ok(graph.with_sizes(|parameter, axis| size(axes.parameters[parameter.index()] + axis)))
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
    axes: Axes,
    /// Sets of axes that are tied one to one, in the order of their first axis.
    sets: Vec<AxisSet>,
    /// The set of each axis that has channels.
    set_of: Vec<Option<usize>>,
    /// Ties other than one to one.
    others: Vec<(usize, usize, Relation)>,
    /// How many indices the mixed sets have.
    mixed: usize,
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

impl AxisSet {
    /// As a group, if no set is mixed.
    fn size(&self) -> GroupSize {
        let first = self.first.expect("every set has a value");
        GroupSize { channels: self.length as usize, fixed: self.fixed, first }
    }
}

impl<'a> Solver<'a> {
    fn of(graph: &'a Graph) -> Self {
        let axes = Axes::of(graph);
        let mut tied = DisjointSets::new(axes.count);
        let mut others: Vec<(usize, usize, Relation)> = Vec::new();
        // Axes whose channels may not be removed.
        let mut fixed: Vec<usize> = graph
            .inputs()
            .chain(graph.outputs().iter().copied())
            .map(|value| axes.value(value))
            .collect();
        let mut named = vec![false; axes.count];
        for (_, node) in graph.nodes() {
            let ties = graph.with_operands(node, |o| node.op.ties(o, graph.shape(node.output)));
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
        let (mut sets, set_of) = axis_sets(&axes, tied, &named, graph.values().len());
        let of = |axis: usize| set_of[axis].expect("ties name their axes");
        fixed.iter().for_each(|&axis| sets[of(axis)].fixed = true);
        let mut mixed = 0;
        for axis in others.iter().flat_map(|(from, to, _)| [*from, *to]) {
            let set = &mut sets[of(axis)];
            if set.mixed.is_none() {
                set.mixed = Some(mixed);
                mixed += set.length as usize;
            }
        }
        Self { graph, axes, sets, set_of, others, mixed }
    }

    fn channels(&self) -> Channels {
        let Self { graph, axes, sets, set_of, .. } = self;
        let of = |axis: usize| set_of[axis].expect("ties name their axes");
        let mut together = DisjointSets::new(self.mixed);
        for (from, to, relation) in &self.others {
            let (from, to) = (&sets[of(*from)], &sets[of(*to)]);
            let (start, other) = (from.mixed.unwrap_or(0), to.mixed.unwrap_or(0));
            relation.for_each(from.length, to.length, |i, j| {
                together.join(start + i as usize, other + j as usize);
            });
        }
        let values = graph.values().map(|(id, _)| of(axes.value(id))).collect();
        let parameters = graph.parameters().zip(&axes.parameters);
        let parameters = parameters
            .map(|((_, p), &start)| set_of[start..start + p.shape.len()].into())
            .collect();
        let free = sets.iter().map(|set| set.mixed.is_none() && !set.fixed).collect::<Vec<_>>();
        let (groups, group_of, sets) = number(sets, together);
        Channels { sets, values, parameters, free, groups, group_of }
    }
}

/// The sets of axes that are tied one to one, in the order of their first axis, and the set of
/// each axis that has channels. The first axes are those of the values.
fn axis_sets(
    axes: &Axes,
    mut tied: DisjointSets,
    named: &[bool],
    values: usize,
) -> (Vec<AxisSet>, Vec<Option<usize>>) {
    let mut sets: Vec<AxisSet> = Vec::new();
    let mut of_root = vec![None; axes.count];
    let mut set_of = vec![None; axes.count];
    for axis in (0..axes.count).filter(|&axis| axis < values || named[axis]) {
        let next = sets.len();
        let set = *of_root[tied.root(axis)].get_or_insert(next);
        if set == next {
            let first = (axis < values).then(|| ValueId::new(axis));
            sets.push(AxisSet { length: axes.lengths[axis], first, fixed: false, mixed: None });
        }
        set_of[axis] = Some(set);
    }
    (sets, set_of)
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
            numbered.push((count..count + *length as usize).map(ChannelId::new).collect());
            count += *length as usize;
            continue;
        };
        let mut channels = Vec::with_capacity(*length as usize);
        for index in *start..*start + *length as usize {
            let next = mixed.len();
            let at = *of_root[together.root(index)].get_or_insert(next);
            if at == next {
                mixed.push((ChannelId::new(count), smallvec![set], *fixed));
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
            let group = ChannelGroupId::new(groups.len());
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
            group_of.push(ChannelGroupId::new(group));
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
