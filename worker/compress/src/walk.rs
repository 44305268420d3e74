//! Two networks of the same nodes, run side by side over several examples, node by node. What no
//! later node reads is forgotten. It changes no weights and compares nothing.

use edgesmith_graph::{Graph, Node, NodeId};

/// The values of both networks so far: by example, by value. A value that is forgotten is empty.
pub(crate) struct Walk {
    /// Of the original network.
    pub old: Vec<Vec<Vec<f32>>>,
    /// Of the changed one.
    pub new: Vec<Vec<Vec<f32>>>,
    /// The node that reads each value last; `None` if none does.
    last_reader: Vec<Option<NodeId>>,
}

impl Walk {
    /// The inputs. An example is the numbers of the only one.
    pub fn new(graph: &Graph, examples: &[Vec<f32>]) -> Self {
        let values = || examples.iter().map(|example| vec![example.clone()]).collect();
        let readers = graph.readers();
        let last_reader = readers.iter().map(|readers| readers.last().copied()).collect();
        Self { old: values(), new: values(), last_reader }
    }

    /// Forgets what no node after this one reads.
    pub fn forget(&mut self, id: NodeId, node: &Node) {
        for input in node.inputs.iter().filter(|v| self.last_reader[v.index()] == Some(id)) {
            for values in self.old.iter_mut().chain(&mut self.new) {
                values[input.index()] = Vec::new();
            }
        }
    }
}

/// How many numbers of a network are held at once for an example, at most, by a pass that runs it
/// node by node, such as [`crate::correct_quantized`]. It holds two networks for all of its
/// examples.
pub fn held_numbers(graph: &Graph) -> u64 {
    let readers = graph.readers();
    let elements = |value| graph.shape(value).elements();
    let mut held: u64 = graph.inputs().map(elements).sum();
    let mut most = held;
    for (id, node) in graph.nodes() {
        held += elements(node.output);
        most = most.max(held);
        let mut inputs = node.inputs.clone();
        inputs.sort();
        inputs.dedup();
        let last = |value: &&edgesmith_graph::ValueId| readers[value.index()].last() == Some(&id);
        held -= inputs.iter().filter(last).map(|&value| elements(value)).sum::<u64>();
    }
    most
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::Evaluator;
    use edgesmith_testing::{arbitrary_graph, random_image, random_weights};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_numbers_that_are_held_are_counted(graph in arbitrary_graph(), seed: u64) {
            let weights = random_weights(&graph, seed);
            let evaluator = Evaluator::<f32>::new(&graph, &weights);
            let mut walk = Walk::new(&graph, &[random_image(&graph, seed)]);
            let mut most = 0;
            for (id, node) in graph.nodes() {
                let output = evaluator.node(id, &walk.new[0]);
                walk.new[0].push(output.clone());
                walk.old[0].push(output);
                most = most.max(walk.new[0].iter().map(Vec::len).sum());
                walk.forget(id, node);
            }
            prop_assert_eq!(held_numbers(&graph), most as u64);
        }
    }
}
