//! `MaxPool`, after a `Pad` where the padding is too large for it

use edgesmith_graph::{MaxPool, WindowAxis};

use super::{Name, Site, Write};
use crate::write::file::window;

impl Write for MaxPool {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let input = site.input(0);
        let padded = |axis: &WindowAxis| axis.before.max(axis.after);
        // ONNX Runtime refuses padding that is not below the kernel. The graph allows it where each
        // window reads some of the input.
        if self.axes.iter().zip(&self.kernel).all(|(axis, &kernel)| padded(axis) < kernel) {
            return site.finish("MaxPool", &[&input], window(&self.kernel, &self.axes));
        }
        let ends = |of: fn(&WindowAxis) -> u32| -> Vec<u32> {
            std::iter::once(0).chain(self.axes.iter().map(of)).collect()
        };
        let pads = site.pads(&ends(|axis| axis.before), &ends(|axis| axis.after));
        let lowest = format!("{}.padding", site.output);
        let lowest = site.file.floats(&lowest, &[], &[f32::NEG_INFINITY]);
        let padded = site.step("padded", "Pad", &[&input, &pads, &lowest], vec![]);
        let mut axes = self.axes.clone();
        for axis in &mut axes {
            (axis.before, axis.after) = (0, 0);
        }
        site.finish("MaxPool", &[&padded], window(&self.kernel, &axes))
    }
}
