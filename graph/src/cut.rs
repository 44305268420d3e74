//! Removes channels: a smaller graph of the same wiring, not a mask.

use crate::channels::Classes;
use crate::{Array, ChannelId, Channels, Graph, ParameterId, Weights};

/// A graph without some of its channels, and which indices of the parameters are left.
#[derive(Debug, Clone)]
pub struct Cut {
    /// What is left. Its values, nodes and parameters have the same ids as before.
    pub graph: Graph,
    /// By class of axes: the indices that are kept, ascending.
    kept: Vec<Vec<u32>>,
    /// The class of each axis of each parameter.
    parameters: Vec<Classes>,
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
        let (classes, of_value, of_parameter) = channels.classes();
        let kept = |class: &Vec<ChannelId>| -> Vec<u32> {
            let mut kept = Vec::with_capacity(class.len());
            let left = class.iter().zip(0..).filter(|(channel, _)| !gone[channel.index()]);
            kept.extend(left.map(|(_, index)| index));
            kept
        };
        let kept: Vec<Vec<u32>> = classes.iter().map(kept).collect();
        if let Some((id, _)) = self.values().find(|(id, _)| kept[of_value[id.index()]].is_empty()) {
            return Err(CutError::Empty { value: self.value(id).name.to_string() });
        }
        let mut graph = self.with_sizes(
            |value| kept[of_value[value.index()]].len() as u32,
            |parameter, axis| {
                of_parameter[parameter.index()][axis].map(|class| kept[class].len() as u32)
            },
        );
        graph.cut_operations(|value| &kept[of_value[value.index()]]);
        debug_assert!(graph.is_consistent(), "ties keep the operands of every node consistent");
        Ok(Cut { graph, kept, parameters: of_parameter.to_vec() })
    }
}

impl Cut {
    /// The numbers that are left.
    ///
    /// # Panics
    /// If `weights` do not fit the graph before the cut.
    pub fn weights(&self, weights: &Weights) -> Weights {
        let array = |id: ParameterId| {
            let whole = weights.of(&self.graph, id).clone();
            let axes = self.parameters[id.index()].iter().enumerate();
            axes.fold(whole, |array, (axis, class)| match class.map(|class| &self.kept[class]) {
                Some(kept) if kept.len() < array.shape[axis] => select(&array, axis, kept),
                _ => array,
            })
        };
        let arrays = self.graph.parameters().map(|(id, p)| (p.name.to_string(), array(id)));
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
