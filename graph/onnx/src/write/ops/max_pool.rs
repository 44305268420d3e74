//! `MaxPool`, after a `Pad` where the padding is too large for it

use edgesmith_graph::{MaxPool, WindowAxis};

use super::{Name, Site, Write};
use crate::write::file::window;

impl Write for MaxPool {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let input = site.input(0);
        let padded = |axis: &WindowAxis| axis.before.max(axis.after);
        // ONNX Runtime refuses padding that is not below the kernel. A dilated window covers more,
        // so that the graph allows it.
        if self.axes.iter().zip(&self.kernel).all(|(axis, &kernel)| padded(axis) < kernel) {
            return site.finish("MaxPool", &[&input], window(&self.kernel, &self.axes));
        }
        // No padding of the batch and the channels.
        let mut pads = vec![0, 0];
        pads.extend(self.axes.iter().map(|axis| axis.before));
        pads.extend([0, 0]);
        pads.extend(self.axes.iter().map(|axis| axis.after));
        let pads = site.file.indices(&format!("{}.pads", site.output), &pads);
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
