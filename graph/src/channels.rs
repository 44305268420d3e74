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

/// The class of each axis of a parameter; `None` if no tie names the axis.
pub(crate) type Classes = SmallVec<[Option<usize>; 4]>;

/// All channels of a graph.
#[derive(Debug, Clone)]
pub struct Channels {
    /// Axes whose indices are tied one to one share a class. By class: the channel of each index.
    classes: Vec<Vec<ChannelId>>,
    /// The class of each value's channel axis.
    values: Vec<usize>,
    /// By parameter.
    parameters: Vec<Classes>,
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
        &self.classes[self.values[value.index()]]
    }

    /// The classes, and the class of each value and of each axis of each parameter.
    pub(crate) fn classes(&self) -> (&[Vec<ChannelId>], &[usize], &[Classes]) {
        (&self.classes, &self.values, &self.parameters)
    }

    /// The channel of each index of an axis of a parameter; `None` if the axis has no channels,
    /// like those of a kernel.
    pub fn of_parameter(&self, parameter: ParameterId, axis: usize) -> Option<&[ChannelId]> {
        let class = *self.parameters[parameter.index()].get(axis)?;
        class.map(|class| self.classes[class].as_slice())
    }
}

impl Graph {
    /// Derives the channels from the ties of all nodes.
    pub fn channels(&self) -> Channels {
        let axes = Axes::of(self);
        let mut tied = Sets::new(axes.count);
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
                    Relation::Same => tied.join(from, to),
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

/// Turns classes of axes and ties between them into channels and groups.
struct Solver<'a> {
    graph: &'a Graph,
    axes: &'a Axes,
    /// Sets of axes that are tied one to one.
    tied: Sets,
    named: Vec<bool>,
}

/// A set of axes that are tied one to one.
struct Class {
    length: u32,
    /// The first value that has it.
    first: Option<ValueId>,
    fixed: bool,
    /// Where its indices begin among those of all mixed classes. Most classes are not mixed: no
    /// other tie concerns them, so that each of their indices is a channel.
    mixed: Option<usize>,
}

impl Solver<'_> {
    fn solve(mut self, others: &[(usize, usize, Relation)], fixed: &[usize]) -> Channels {
        let (mut classes, class_of) = self.classes();
        let of = |axis: usize| class_of[axis].expect("ties name their axes");
        fixed.iter().for_each(|&axis| classes[of(axis)].fixed = true);
        let mut indices = 0;
        for axis in others.iter().flat_map(|(from, to, _)| [*from, *to]) {
            let class = &mut classes[of(axis)];
            if class.mixed.is_none() {
                class.mixed = Some(indices);
                indices += class.length as usize;
            }
        }
        let mut together = Sets::new(indices);
        for (from, to, relation) in others {
            let (from, to) = (&classes[of(*from)], &classes[of(*to)]);
            let (start, other) = (from.mixed.unwrap_or(0), to.mixed.unwrap_or(0));
            relation.for_each(from.length, to.length, |i, j| {
                together.join(start + i as usize, other + j as usize);
            });
        }
        let values = self.graph.values().map(|(id, _)| of(self.axes.value(id))).collect();
        let parameters = self.graph.parameters().zip(&self.axes.parameters);
        let parameters = parameters
            .map(|((_, p), &start)| class_of[start..start + p.shape.len()].into())
            .collect();
        let (groups, group_of, classes) = number(&classes, together);
        Channels { classes, values, parameters, groups, group_of }
    }

    /// The classes in the order of their first axis, and the class of each axis that has channels.
    fn classes(&mut self) -> (Vec<Class>, Vec<Option<usize>>) {
        let mut classes: Vec<Class> = Vec::new();
        let mut of_root = vec![None; self.axes.count];
        let mut class_of = vec![None; self.axes.count];
        let values = self.graph.values().count();
        for axis in (0..self.axes.count).filter(|&axis| axis < values || self.named[axis]) {
            let next = classes.len();
            let class = *of_root[self.tied.root(axis)].get_or_insert(next);
            if class == next {
                let (length, first) = (self.axes.lengths[axis], (axis < values).then_some(axis));
                let first = first.map(ValueId);
                classes.push(Class { length, first, fixed: false, mixed: None });
            }
            class_of[axis] = Some(class);
        }
        (classes, class_of)
    }
}

/// Numbers the channels, and groups those that have indices in the same classes. Returns the
/// groups, the group of each channel, and the channels of each class.
fn number(
    classes: &[Class],
    mut together: Sets,
) -> (Vec<ChannelGroup>, Vec<ChannelGroupId>, Vec<Vec<ChannelId>>) {
    // By mixed channel, in the order of their first index: its own number, the classes that it has
    // indices in, and whether one of them is fixed.
    let mut mixed: Vec<(ChannelId, SmallVec<[usize; 4]>, bool)> = Vec::new();
    let mut of_root = vec![None; together.parent.len()];
    let mut numbered = Vec::with_capacity(classes.len());
    let mut count = 0;
    for (class, Class { length, fixed, mixed: start, .. }) in classes.iter().enumerate() {
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
                mixed.push((ChannelId(count), smallvec![class], *fixed));
                count += 1;
            }
            let (channel, touched, any_fixed) = &mut mixed[at];
            if touched.last() != Some(&class) {
                touched.push(class);
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
    for (number, (class, channels)) in classes.iter().zip(&numbered).enumerate() {
        if class.mixed.is_none() {
            let group = ChannelGroupId(groups.len());
            group_of.resize(group_of.len() + channels.len(), group);
            let first = class.first.expect("every class has a value");
            groups.push(ChannelGroup { channels: channels.clone(), fixed: class.fixed, first });
            continue;
        }
        // The channels whose first index is in this class.
        while let Some((channel, touched, fixed)) = mixed.next_if(|(_, of, _)| of[0] == number) {
            let next = groups.len();
            let group = *of_touched.entry((touched, *fixed)).or_insert(next);
            if group == next {
                let first = touched.iter().filter_map(|&class| classes[class].first).min();
                let first = first.expect("every class has a value");
                groups.push(ChannelGroup { channels: Vec::new(), fixed: *fixed, first });
            }
            groups[group].channels.push(*channel);
            group_of.push(ChannelGroupId(group));
        }
    }
    (groups, group_of, numbered)
}

/// Disjoint sets with union by the smaller root and path halving.
struct Sets {
    parent: Vec<usize>,
}

impl Sets {
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
