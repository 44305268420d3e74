//! Which layers of two plans correspond, and so how many weights one network can inherit from the
//! other.

use crate::{Layer, LayerId, LayerOp, Plan};

impl Plan {
    /// Pairs of a layer of this plan and its counterpart in `donor`, for layers with weights.
    /// Counterparts have the same name and kind and stand in blocks made of the same parts. Their
    /// channel counts and kernel sizes may differ.
    pub fn counterparts(&self, donor: &Plan) -> Vec<(LayerId, LayerId)> {
        let pairs = self.ids().filter_map(|id| {
            let layer = self.layer(id);
            self.weight_shape(id)?;
            let twin = donor.ids().find(|&twin| donor.layer(twin).name == layer.name)?;
            let alike = same_kind(layer.op, donor.layer(twin).op)
                && self.parts(layer).eq(donor.parts(donor.layer(twin)));
            alike.then_some((id, twin))
        });
        pairs.collect()
    }

    /// The largest share of this network's weights, `0..=1`, that can be copied from `donor`:
    /// corresponding layers share the smaller of their channel counts and kernel sizes.
    pub fn heritable_share(&self, donor: &Plan) -> f64 {
        let count = |id| self.weight_shape(id).map_or(0, |shape| shape.iter().product::<usize>());
        let all: usize = self.ids().map(count).sum();
        let heritable: usize = self
            .counterparts(donor)
            .into_iter()
            .filter_map(|(id, twin)| {
                let pairs = self.weight_shape(id)?.into_iter().zip(donor.weight_shape(twin)?);
                Some(pairs.map(|(own, theirs)| own.min(theirs)).product::<usize>())
            })
            .sum();
        heritable as f64 / all.max(1) as f64
    }

    /// Names of the layers with weights in the same block as `layer`.
    fn parts<'a>(&'a self, layer: &'a Layer) -> impl Iterator<Item = &'a str> {
        let block = block(layer);
        let own = self.layers().iter().filter(move |other| self::block(other) == block);
        own.filter(|other| !matches!(other.op, LayerOp::Add)).map(|other| other.name.as_str())
    }
}

/// `stage2.block1` of `stage2.block1.expand`; empty for layers outside blocks.
fn block(layer: &Layer) -> &str {
    layer.name.rsplit_once('.').map_or("", |(block, _)| block)
}

fn same_kind(one: LayerOp, other: LayerOp) -> bool {
    matches!(
        (one, other),
        (LayerOp::Conv { .. }, LayerOp::Conv { .. })
            | (LayerOp::Depthwise { .. }, LayerOp::Depthwise { .. })
            | (LayerOp::Linear, LayerOp::Linear)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Architecture, DataShape, Operation, Stage};

    fn plan(stem_width: u32, stages: &[(Operation, u32, u32, u32)]) -> Plan {
        let stages = stages
            .iter()
            .map(|&(operation, depth, width, kernel)| Stage {
                depth,
                width,
                kernel,
                operation,
                stride: 1,
                activation: Activation::Relu,
            })
            .collect();
        let architecture = Architecture { resolution: 8, stem_width, stages };
        Plan::lower(&architecture, DataShape { channels: 1, classes: 10 }).unwrap()
    }

    fn names(plan: &Plan, donor: &Plan) -> Vec<String> {
        let pairs = plan.counterparts(donor);
        assert!(pairs.iter().all(|(a, b)| plan.layer(*a).name == donor.layer(*b).name));
        pairs.iter().map(|(id, _)| plan.layer(*id).name.clone()).collect()
    }

    #[test]
    fn blocks_of_the_same_parts_correspond() {
        let conv = (Operation::Conv, 2, 8, 3);
        let own = plan(8, &[conv, (Operation::Separable, 1, 8, 3)]);
        assert_eq!(own.heritable_share(&own), 1.0);
        let donor = plan(8, &[(Operation::Conv, 1, 16, 5), (Operation::Separable, 1, 8, 3)]);
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
        let other = plan(8, &[conv, (Operation::InvertedResidual { expansion: 2 }, 1, 8, 3)]);
        assert_eq!(
            names(&own, &other),
            ["stem", "stage1.block1.conv", "stage1.block2.conv", "classifier"]
        );
        // Whether a block has a residual connection does not matter.
        let residual = plan(8, &[(Operation::InvertedResidual { expansion: 2 }, 1, 8, 3)]);
        let plain = plan(8, &[(Operation::InvertedResidual { expansion: 2 }, 1, 12, 3)]);
        assert_eq!(names(&plain, &residual).len(), 5);
    }

    #[test]
    fn the_share_counts_weights() {
        // stem 1·8·9, conv 8·8·9, classifier 8·10.
        let own = plan(8, &[(Operation::Conv, 1, 8, 3)]);
        let (stem, conv, classifier) = (72.0, 576.0, 80.0);
        let narrow = plan(8, &[(Operation::Conv, 1, 4, 3)]);
        let share = own.heritable_share(&narrow);
        assert_eq!(share, (stem + conv / 2.0 + classifier / 2.0) / (stem + conv + classifier));
        assert_eq!(narrow.heritable_share(&own), 1.0);
        let other = plan(8, &[(Operation::Separable, 1, 8, 3)]);
        assert_eq!(own.heritable_share(&other), (stem + classifier) / (stem + conv + classifier));
    }
}
