//! Which layers of two networks correspond, and so how many weights one network can inherit from
//! the other. It reads where nodes stand from their annotations, never from their names.

use edgesmith_graph::{Graph, Node, NodeId, Operation, Parameter, Place, Role};

/// Pairs of a node of `own` and its counterpart in `donor`, for nodes with weights. Counterparts
/// are the same part of the same block, have alike operations, and stand in blocks made of the same
/// parts. Their channel counts and kernel sizes may differ.
pub fn counterparts(own: &Graph, donor: &Graph) -> Vec<(NodeId, NodeId)> {
    let pairs = own.nodes().filter_map(|(id, node)| {
        weight(own, node).filter(|_| !node.place.part.is_empty())?;
        let (twin, other) = donor
            .nodes()
            .find(|(_, other)| weight(donor, other).is_some() && other.place == node.place)?;
        let alike =
            node.op.is_alike(&other.op) && parts(own, &node.place).eq(parts(donor, &other.place));
        alike.then_some((id, twin))
    });
    pairs.collect()
}

/// The largest share of the weights of `own`, `0..=1`, that can be copied from `donor`:
/// corresponding layers share the smaller of their channel counts and kernel sizes.
pub fn heritable_share(own: &Graph, donor: &Graph) -> f64 {
    let all: u64 =
        own.nodes().filter_map(|(_, node)| weight(own, node)).map(Parameter::elements).sum();
    let shared = |(id, twin)| {
        let mine = weight(own, own.node(id))?.shape.iter();
        let pairs = mine.zip(&weight(donor, donor.node(twin))?.shape);
        Some(pairs.map(|(mine, theirs)| u64::from(*mine.min(theirs))).product::<u64>())
    };
    let heritable: u64 = counterparts(own, donor).into_iter().filter_map(shared).sum();
    heritable as f64 / all.max(1) as f64
}

/// The weight of a node that has one.
fn weight<'a>(graph: &'a Graph, node: &Node) -> Option<&'a Parameter> {
    let parameters = node.parameters.iter().map(|&id| graph.parameter(id));
    parameters.into_iter().find(|parameter| parameter.role == Role::Weight)
}

/// Parts with weights in the same block as `place`.
fn parts<'a>(graph: &'a Graph, place: &'a Place) -> impl Iterator<Item = &'a str> {
    let block = |place: &Place| place.block.map(|block| (place.stage, block));
    let here = graph.nodes().map(|(_, node)| node);
    let here = here.filter(move |node| block(&node.place) == block(place));
    here.filter(|node| weight(graph, node).is_some()).map(|node| &*node.place.part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Architecture, DataShape, Operation, Skip, Stage};

    fn network(stem_width: u32, stages: &[(Operation, u32, u32, u32)]) -> Graph {
        let stages = stages
            .iter()
            .map(|&(operation, depth, width, kernel)| Stage {
                depth,
                width,
                kernel,
                operation,
                stride: 1,
                activation: Activation::Relu,
                squeeze: 0,
                skip: Skip::Add,
            })
            .collect();
        let architecture = Architecture { resolution: 8, stem_width, stages };
        architecture.graph(DataShape { channels: 1, classes: 10 }).unwrap()
    }

    fn names(own: &Graph, donor: &Graph) -> Vec<String> {
        let name = |graph: &Graph, id| graph.value(graph.node(id).output).name.to_string();
        let pairs = counterparts(own, donor);
        assert!(pairs.iter().all(|(a, b)| name(own, *a) == name(donor, *b)));
        pairs.iter().map(|(id, _)| name(own, *id)).collect()
    }

    #[test]
    fn blocks_of_the_same_parts_correspond() {
        let conv = (Operation::Conv, 2, 8, 3);
        let own = network(8, &[conv, (Operation::Separable, 1, 8, 3)]);
        assert_eq!(heritable_share(&own, &own), 1.0);
        let donor = network(8, &[(Operation::Conv, 1, 16, 5), (Operation::Separable, 1, 8, 3)]);
        assert_eq!(
            names(&own, &donor),
            [
                "stem",
                "stage1.block1.conv",
                "stage2.block1.depthwise",
                "stage2.block1.pointwise",
                "classifier"
            ]
        );
        // The depthwise layers of a separable block and of an inverted residual do not correspond.
        let other = network(8, &[conv, (Operation::InvertedResidual { expansion: 2 }, 1, 8, 3)]);
        assert_eq!(
            names(&own, &other),
            ["stem", "stage1.block1.conv", "stage1.block2.conv", "classifier"]
        );
        // Whether a block has a residual connection does not matter.
        let residual = network(8, &[(Operation::InvertedResidual { expansion: 2 }, 1, 8, 3)]);
        let plain = network(8, &[(Operation::InvertedResidual { expansion: 2 }, 1, 12, 3)]);
        assert_eq!(names(&plain, &residual).len(), 5);
    }

    #[test]
    fn the_share_counts_weights() {
        // stem 1·8·9, conv 8·8·9, classifier 8·10.
        let own = network(8, &[(Operation::Conv, 1, 8, 3)]);
        let (stem, conv, classifier) = (72.0, 576.0, 80.0);
        let narrow = network(8, &[(Operation::Conv, 1, 4, 3)]);
        let share = heritable_share(&own, &narrow);
        assert_eq!(share, (stem + conv / 2.0 + classifier / 2.0) / (stem + conv + classifier));
        assert_eq!(heritable_share(&narrow, &own), 1.0);
        let other = network(8, &[(Operation::Separable, 1, 8, 3)]);
        assert_eq!(heritable_share(&own, &other), (stem + classifier) / (stem + conv + classifier));
    }
}
