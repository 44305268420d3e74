//! `LayerNormalization` along the last axes, and its parts along others

use edgesmith_graph::LayerNormalization;

use super::{Name, Site, Write};
use crate::write::file::{float, int, ints};

impl Write for LayerNormalization {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let sizes = site.shape(0).sizes();
        let last = (sizes.len() - self.axes.len()) as u32;
        if self.axes.iter().copied().eq(last..sizes.len() as u32) {
            at_the_end(self, site, &sizes[last as usize..])
        } else {
            in_parts(self, site, &sizes)
        }
    }
}

/// One operator, which always has a scale.
fn at_the_end(norm: &LayerNormalization, site: &mut Site<'_>, sizes: &[u32]) -> Name {
    let given = site.node.parameters.len();
    let scale = if given > 0 {
        site.parameter(0)
    } else {
        let ones = vec![1.0; sizes.iter().map(|&size| size as usize).product()];
        site.file.floats(&format!("{}.scale", site.output), sizes, &ones)
    };
    let shift = (given > 1).then(|| site.parameter(1));
    let input = site.input(0);
    let inputs: Vec<&str> = [&input, &scale].into_iter().chain(&shift).map(|n| &**n).collect();
    // The batch is axis 0.
    let axis = i64::from(norm.axes[0]) + 1;
    site.finish(
        "LayerNormalization",
        &inputs,
        vec![int("axis", axis), float("epsilon", norm.epsilon)],
    )
}

fn in_parts(norm: &LayerNormalization, site: &mut Site<'_>, sizes: &[u32]) -> Name {
    let axes: Vec<u32> = norm.axes.iter().map(|axis| axis + 1).collect();
    let axes = || vec![ints("axes", &axes)];
    let input = &*site.input(0);
    let mean = site.step("mean", "ReduceMean", &[input], axes());
    let centred = &site.step("centred", "Sub", &[input, &mean], vec![]);
    let squares = site.step("squares", "Mul", &[centred, centred], vec![]);
    let variance = site.step("variance", "ReduceMean", &[&squares], axes());
    let epsilon = site.scalar("epsilon", norm.epsilon);
    let variance = site.step("divisor", "Add", &[&variance, &epsilon], vec![]);
    let deviation = site.step("deviation", "Sqrt", &[&variance], vec![]);
    // Without the batch, and with a size of 1 along the other axes.
    let along = |axis: usize| if norm.axes.contains(&(axis as u32)) { sizes[axis] } else { 1 };
    let dims: Vec<u32> = (0..sizes.len()).map(along).collect();
    let operands: [&str; 2] = [centred, &deviation];
    match site.node.parameters.len() {
        0 => site.finish("Div", &operands, vec![]),
        1 => {
            let normalized = site.step("normalized", "Div", &operands, vec![]);
            let scale = site.parameter_as(0, &dims);
            site.finish("Mul", &[&normalized, &scale], vec![])
        }
        _ => {
            let normalized = site.step("normalized", "Div", &operands, vec![]);
            let scale = site.parameter_as(0, &dims);
            let scaled = site.step("scaled", "Mul", &[&normalized, &scale], vec![]);
            let shift = site.parameter_as(1, &dims);
            site.finish("Add", &[&scaled, &shift], vec![])
        }
    }
}
