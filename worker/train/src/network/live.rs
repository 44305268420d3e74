//! The values of a forward pass that are still read later. Others are dropped, so that their memory
//! is free for the next ones.

use burn::tensor::Tensor;
use edgesmith_graph::{Graph, ValueId};

/// The values so far.
#[derive(Debug)]
pub(super) struct Live {
    values: Vec<Option<Tensor<4>>>,
    /// By value, how often it will be read.
    reads: Vec<usize>,
}

/// By value, how often a pass reads it; outputs are read once more, at the end.
pub(super) fn reads(graph: &Graph) -> Vec<usize> {
    let mut reads: Vec<usize> = graph.readers().iter().map(|readers| readers.len()).collect();
    graph.outputs().iter().for_each(|output| reads[output.index()] += 1);
    reads
}

impl Live {
    /// No values yet.
    pub(super) fn new(reads: &[usize]) -> Self {
        Self { values: vec![None; reads.len()], reads: reads.to_vec() }
    }

    /// Keeps a value until it has been read for the last time.
    pub(super) fn keep(&mut self, id: ValueId, value: Tensor<4>) {
        if self.reads[id.index()] > 0 {
            self.values[id.index()] = Some(value);
        }
    }

    /// Reads a value.
    ///
    /// # Panics
    /// If it is not computed yet, or has been read as often as was announced.
    pub(super) fn read(&mut self, id: ValueId) -> Tensor<4> {
        let (left, value) = (&mut self.reads[id.index()], &mut self.values[id.index()]);
        *left = left.checked_sub(1).expect("a value is read as often as the graph says");
        let value = if *left == 0 { value.take() } else { value.clone() };
        value.expect("values are computed before they are read")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use edgesmith_testing::residual_graph;

    use super::*;

    #[test]
    fn values_are_dropped_after_their_last_read() {
        let graph = residual_graph();
        let mut live = Live::new(&reads(&graph));
        let value = || Tensor::<4>::zeros([1; 4], &Device::flex());
        live.keep(graph.inputs().next().unwrap(), value());
        let mut most = 0;
        for (_, node) in graph.nodes() {
            node.inputs.iter().for_each(|&input| drop(live.read(input)));
            live.keep(node.output, value());
            most = most.max(live.values.iter().flatten().count());
        }
        // One that waits for its addition, and the newest one.
        assert_eq!(most, 2);
        live.read(graph.outputs()[0]);
        assert_eq!(live.values.iter().flatten().count(), 0);
    }
}
