//! `BatchNormalization` with the running statistics

use edgesmith_graph::BatchNormalization;

use super::{Name, Site, Write};
use crate::write::file::float;

impl Write for BatchNormalization {
    fn write(&self, site: &mut Site<'_>) -> Name {
        // Both list scale, shift, mean and variance in this order.
        let [scale, shift, mean, variance] = [0, 1, 2, 3].map(|slot| site.parameter(slot));
        let inputs = [&*site.input(0), &scale, &shift, &mean, &variance];
        site.finish("BatchNormalization", &inputs, vec![float("epsilon", self.epsilon)])
    }
}
