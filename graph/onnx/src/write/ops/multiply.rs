//! `Mul`, after an `Unsqueeze` that gives a number per channel the axes of the positions

use edgesmith_graph::Multiply;

use super::{Name, Site, Write};

impl Write for Multiply {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let (value, factor) = (site.input(0), site.input(1));
        let (value_axes, factor_axes) = (site.shape(0).space().len(), site.shape(1).space().len());
        if value_axes == factor_axes {
            return site.finish("Mul", &[&value, &factor], vec![]);
        }
        let axes: Vec<u32> = (2..).take(value_axes).collect();
        let axes = site.file.indices(&format!("{}.axes", site.output), &axes);
        let factor = site.step("factor", "Unsqueeze", &[&factor, &axes], vec![]);
        site.finish("Mul", &[&value, &factor], vec![])
    }
}
