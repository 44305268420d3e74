//! Where the nodes of an imported network stand: stages and residual blocks, found from its
//! structure. Nothing here changes what a network computes.

use edgesmith_graph::{Add, Graph, GraphError, NodeId, Op, Place, Rebuild, ValueId};

/// Most stages. Further changes of resolution begin no new stage.
const MAX_STAGES: u32 = 16;

/// The same network with the place of each node. A stage is a run of nodes between two changes of
/// resolution, counted from 0. What follows the last value with more than one position, such as
/// the classifier, stands in no stage. Values of one position within a stage, as in squeeze and
/// excitation, belong to it. Blocks are the [`residual_blocks`], counted from 0 over the whole
/// network. The part is the node's name.
pub fn with_stages(graph: Graph) -> Graph {
    let spatial = |id: NodeId| graph.shape(graph.node(id).output).positions() > 1;
    let last = graph.nodes().map(|(id, _)| id).rfind(|id| spatial(*id));
    let mut stages = Vec::with_capacity(graph.nodes().len());
    let (mut stage, mut at) = (0, None);
    for (id, node) in graph.nodes() {
        if spatial(id) {
            let space = graph.shape(node.output).space().to_vec();
            if at.as_ref().is_some_and(|at| *at != space) && stage + 1 < MAX_STAGES {
                stage += 1;
            }
            at = Some(space);
        }
        stages.push(last.filter(|last| id <= *last).map(|_| stage));
    }
    let mut blocks = vec![None; stages.len()];
    for (block, number) in residual_blocks(&graph).iter().zip(0..) {
        block.nodes.iter().for_each(|node| blocks[node.index()] = Some(number));
    }
    let names: Vec<String> =
        graph.nodes().map(|(_, node)| graph.value(node.output).name.to_string()).collect();
    graph.with_places(|id, _| Place {
        stage: stages[id.index()],
        block: blocks[id.index()],
        part: names[id.index()].clone().into(),
    })
}

/// How many stages [`with_stages`] found.
pub fn stage_count(graph: &Graph) -> usize {
    graph.nodes().filter_map(|(_, node)| node.place.stage).max().map_or(0, |last| last as usize + 1)
}

/// A part of a network that adds to its own input, and that can be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResidualBlock {
    /// Its nodes in order; the last one is the sum.
    pub nodes: Vec<NodeId>,
    /// The value that it reads, and that stands for the sum if the block is left out.
    pub input: ValueId,
}

/// The residual blocks of a network in order: regions that read one value of the network, give one,
/// and end in a sum whose one side is the value that they read. Of regions within each other, the
/// largest.
pub fn residual_blocks(graph: &Graph) -> Vec<ResidualBlock> {
    let readers = graph.readers();
    let mut found: Vec<ResidualBlock> = Vec::new();
    // By node: whether it is in a block that was found.
    let mut taken = vec![false; graph.nodes().len()];
    // From the last sum to the first, so that the larger of two regions comes first.
    for (sum, node) in graph.nodes().rev().filter(|(_, node)| matches!(node.op, Op::Add(Add))) {
        if taken[sum.index()] {
            continue;
        }
        let [a, b] = node.inputs[..] else { continue };
        let region = [(a, b), (b, a)].into_iter().find_map(|(input, branch)| {
            let same = graph.shape(input) == graph.shape(node.output);
            let inside = same.then(|| inside(graph, input, branch)).flatten()?;
            let mut is_inside = vec![false; graph.nodes().len()];
            inside.iter().for_each(|id| is_inside[id.index()] = true);
            // Nobody else reads what is computed inside.
            let closed = inside.iter().all(|id| {
                let output = graph.node(*id).output;
                let mut readers = readers[output.index()].iter();
                !graph.outputs().contains(&output)
                    && readers.all(|reader| *reader == sum || is_inside[reader.index()])
            });
            let learns = inside.iter().any(|id| !graph.node(*id).parameters.is_empty());
            (closed && learns).then_some((input, inside))
        });
        if let Some((input, mut nodes)) = region {
            nodes.push(sum);
            nodes.iter().for_each(|id| taken[id.index()] = true);
            found.push(ResidualBlock { nodes, input });
        }
    }
    found.reverse();
    found
}

/// A network without some of its [`residual_blocks`]: the input of each stands for its output.
///
/// # Errors
/// If what is left is no network.
pub fn leave_out(graph: &Graph, blocks: &[&ResidualBlock]) -> Result<Graph, GraphError> {
    let mut rebuild = Rebuild::new(graph);
    copy_without(&mut rebuild, graph, blocks)?;
    rebuild.finish()
}

/// Copies all nodes but those of these blocks.
pub(super) fn copy_without(
    rebuild: &mut Rebuild<'_>,
    graph: &Graph,
    blocks: &[&ResidualBlock],
) -> Result<(), GraphError> {
    for (id, node) in graph.nodes() {
        match blocks.iter().find(|block| block.nodes.contains(&id)) {
            Some(block) if block.nodes.last() == Some(&id) => {
                let stands_for = rebuild.value(block.input);
                rebuild.replace(node.output, stands_for);
            }
            Some(_) => {}
            None => rebuild.copy(id)?,
        }
    }
    Ok(())
}

/// The nodes between a value and another that is computed from it alone, in order. `None` if it
/// also needs something else, or nothing lies between.
fn inside(graph: &Graph, from: ValueId, to: ValueId) -> Option<Vec<NodeId>> {
    let (mut nodes, mut open) = (Vec::new(), vec![to]);
    let mut seen = vec![false; graph.nodes().len()];
    while let Some(value) = open.pop() {
        if value == from {
            continue;
        }
        // A value before `from` cannot be computed from it, unless it is computed from nothing.
        let node = graph.producer(value)?;
        let constant = graph.node(node).inputs.is_empty();
        if value < from && !constant {
            return None;
        }
        if !std::mem::replace(&mut seen[node.index()], true) {
            nodes.push(node);
            open.extend(graph.node(node).inputs.iter().copied());
        }
    }
    nodes.sort_unstable();
    (!nodes.is_empty()).then_some(nodes)
}
