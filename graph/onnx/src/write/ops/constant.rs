//! An initializer of one example, and an `Expand` to the batch where that is needed

use edgesmith_graph::{Constant, Graph, Node, Op, ValueId};

use super::{Name, Site, Write};
use crate::write::file::int;

impl Write for Constant {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let mut dims = vec![1];
        dims.extend_from_slice(site.dims(0));
        let one = site.parameter_as(0, &dims);
        let Some(batch) = site.batch.clone().filter(|_| needs_batch(site.network.graph, site.node))
        else {
            return site.quantized(&one);
        };
        let first = vec![int("start", 0), int("end", 1)];
        let count = site.step("batch", "Shape", &[&batch], first);
        dims.fill(1);
        let ones = site.file.indices(&format!("{}.ones", site.output), &dims[1..]);
        let sizes = site.step("sizes", "Concat", &[&count, &ones], vec![int("axis", 0)]);
        site.finish("Expand", &[&one, &sizes], vec![])
    }
}

/// Whether a constant has to be as many examples as the batch. Operations that repeat one of their
/// operands repeat one example too, if the other one has them all.
fn needs_batch(graph: &Graph, node: &Node) -> bool {
    let is_constant = |&value: &ValueId| {
        graph.producer(value).is_some_and(|id| matches!(graph.node(id).op, Op::Constant(_)))
    };
    let repeats = |reader: &Node| {
        let broadcasts =
            matches!(reader.op, Op::Add(_) | Op::Binary(_) | Op::Multiply(_) | Op::Select(_));
        broadcasts && !reader.inputs.iter().all(is_constant)
    };
    let mut readers = graph.nodes().filter(|(_, reader)| reader.inputs.contains(&node.output));
    graph.outputs().contains(&node.output) || !readers.all(|(_, reader)| repeats(reader))
}
