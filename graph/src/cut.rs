//! Removes channels: a smaller graph of the same wiring, not a mask.

use crate::channels::AxisSets;
use crate::{Array, ChannelId, Channels, Graph, ParameterId, ValueId, Weights};

/// A graph without some of its channels, and which indices of the parameters are left.
#[derive(Debug, Clone)]
pub struct Cut {
    /// What is left. Its values, nodes and parameters have the same ids as before.
    pub graph: Graph,
    /// By set of axes: the indices that are kept, ascending.
    kept: Vec<Vec<u32>>,
    /// The set of each value's channel axis.
    values: Vec<usize>,
    /// The set of each axis of each parameter.
    parameters: Vec<AxisSets>,
}

/// Why channels cannot be removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// One of them belongs to an input, an output, or an operation that does not say what it
    /// belongs together with.
    #[error("a channel of {value:?} may not be removed")]
    Fixed {
        /// The first value that has it.
        value: String,
    },
    /// They are all channels of a value.
    #[error("{value:?} would have no channels left")]
    Empty {
        /// The value's name.
        value: String,
    },
}

impl Graph {
    /// The graph without these channels. It computes what this graph computes if all numbers of
    /// parameters at the indices of these channels are 0.
    ///
    /// # Errors
    /// If one of the channels is fixed, or a value would have none left.
    pub fn without(
        self,
        channels: &Channels,
        removed: impl IntoIterator<Item = ChannelId>,
    ) -> Result<Cut, CutError> {
        let mut gone = vec![false; channels.count()];
        for channel in removed {
            let group = &channels.groups()[channels.group_of(channel).index()];
            if group.fixed {
                return Err(CutError::Fixed { value: self.value(group.first).name.to_string() });
            }
            gone[channel.index()] = true;
        }
        let (sets, of_value, of_parameter) = channels.axis_sets();
        let kept = |set: &Vec<ChannelId>| -> Vec<u32> {
            let mut kept = Vec::with_capacity(set.len());
            let left = set.iter().zip(0..).filter(|(channel, _)| !gone[channel.index()]);
            kept.extend(left.map(|(_, index)| index));
            kept
        };
        let kept: Vec<Vec<u32>> = sets.iter().map(kept).collect();
        if let Some((id, _)) = self.values().find(|(id, _)| kept[of_value[id.index()]].is_empty()) {
            return Err(CutError::Empty { value: self.value(id).name.to_string() });
        }
        let mut graph = self;
        graph.cut_operations(|value| &kept[of_value[value.index()]]);
        let graph = graph.with_sizes(|parameter, axis| {
            of_parameter[parameter.index()][axis].map(|set| kept[set].len() as u32)
        });
        Ok(Cut { graph, kept, values: of_value.to_vec(), parameters: of_parameter.to_vec() })
    }
}

impl Cut {
    /// The indices of a value's channels that are left, ascending.
    pub fn kept(&self, value: ValueId) -> &[u32] {
        &self.kept[self.values[value.index()]]
    }

    /// What is left of an array that has the shape of a parameter, such as an optimizer's moments.
    ///
    /// # Panics
    /// If the array does not have the parameter's shape before the cut.
    pub fn array(&self, parameter: ParameterId, whole: &Array) -> Array {
        let axes = self.parameters[parameter.index()].iter().enumerate();
        axes.fold(whole.clone(), |array, (axis, set)| match set.map(|set| &self.kept[set]) {
            Some(kept) if kept.len() < array.shape[axis] => select(&array, axis, kept),
            _ => array,
        })
    }

    /// The numbers that are left.
    ///
    /// # Panics
    /// If `weights` do not fit the graph before the cut.
    pub fn weights(&self, weights: &Weights) -> Weights {
        let array = |id, name: &str| {
            let whole = weights.arrays.get(name);
            self.array(id, whole.unwrap_or_else(|| panic!("no weights named {name}")))
        };
        let arrays = self.graph.parameters();
        let arrays = arrays.map(|(id, p)| (p.name.to_string(), array(id, &p.name)));
        Weights { arrays: arrays.collect() }
    }
}

/// The given indices of an axis, in the given order.
fn select(array: &Array, axis: usize, indices: &[u32]) -> Array {
    let outer: usize = array.shape[..axis].iter().product();
    let size = array.shape[axis];
    let inner: usize = array.shape[axis + 1..].iter().product();
    let mut data = Vec::with_capacity(outer * indices.len() * inner);
    for block in 0..outer {
        for &index in indices {
            let start = (block * size + index as usize) * inner;
            data.extend_from_slice(&array.data[start..start + inner]);
        }
    }
    let mut shape = array.shape.clone();
    shape[axis] = indices.len();
    Array { shape, data }
}
