//! Whether channels that are added to a network, with zeros for all their parameters, stay zero in
//! training.

use edgesmith_graph::{Graph, ValueId};

use super::ops::Trainable;

/// Whether the channels that `padded` has more than `own` are zero wherever a parameter multiplies
/// them. Then the parameters of these channels stay zero.
pub fn stays_silent(own: &Graph, padded: &Graph) -> bool {
    let grown = |id| padded.shape(id).channels() > own.shape(id).channels();
    // By value, whether its added channels are zero.
    let mut silent: Vec<bool> = own.inputs().map(|_| true).collect();
    for (_, node) in padded.nodes() {
        // One channel that is repeated under many is no silence under those that are added.
        let is_silent = |&id: &ValueId| silent[id.index()] && (grown(id) || !grown(node.output));
        let inputs: Vec<bool> = node.inputs.iter().map(is_silent).collect();
        let learns = !node.parameters.is_empty();
        if learns && node.inputs.iter().any(|&id| grown(id) && !silent[id.index()]) {
            return false;
        }
        silent.push(node.op.keeps_silence(&inputs));
    }
    true
}
