//! `GlobalAveragePool`, then `Flatten`, because ONNX keeps the axes of positions

use edgesmith_graph::GlobalAveragePool;

use super::{Name, Site, Write};
use crate::write::file::int;

impl Write for GlobalAveragePool {
    fn write(&self, site: &mut Site<'_>) -> Name {
        if site.shape(0).space().is_empty() {
            // The mean of a vector over its only position.
            return site.finish("Identity", &[&site.input(0)], vec![]);
        }
        let mean = site.step("mean", "GlobalAveragePool", &[&site.input(0)], vec![]);
        if site.network.graph.outputs().contains(&site.node.output) {
            // Readers outside may want it as it is.
            return site.finish("Flatten", &[&mean], vec![int("axis", 1)]);
        }
        // Quantized before it is flattened: runtimes recognise an operator between a
        // DequantizeLinear and a QuantizeLinear, and run it in integers.
        let mean = site.quantized(&mean);
        let output = site.output.clone();
        site.file.node("Flatten", &[&mean], &output, vec![int("axis", 1)]);
        output
    }
}
