//! `ConvTranspose`, whose weight has the input channels first

use edgesmith_graph::{ConvTranspose, TransposedAxis};

use super::{Name, Site, Write};
use crate::write::file::{int, ints};

impl Write for ConvTranspose {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let mut input = site.input(0);
        // Positions without a tap, where there are as many as a step or more, are those of zeros
        // after the input: ONNX allows less.
        let zeros = |axis: &TransposedAxis| axis.extra / axis.stride;
        if self.axes.iter().any(|axis| zeros(axis) > 0) {
            let after: Vec<u32> = std::iter::once(0).chain(self.axes.iter().map(zeros)).collect();
            let pads = site.pads(&vec![0; after.len()], &after);
            input = site.step("padded", "Pad", &[&input, &pads], vec![]);
        }
        let channels = site.shape(0).channels();
        let groups = self.groups.parts(channels);
        let kernel = site.dims(0)[2..].to_vec();
        let all = |of: fn(&TransposedAxis) -> u32| self.axes.iter().map(of).collect::<Vec<u32>>();
        let pads = [all(|axis| axis.before), all(|axis| axis.after)].concat();
        let attributes = vec![
            ints("kernel_shape", &kernel),
            ints("strides", &all(|axis| axis.stride)),
            ints("dilations", &all(|axis| axis.dilation)),
            ints("pads", &pads),
            ints("output_padding", &all(|axis| axis.extra % axis.stride)),
            int("group", i64::from(groups)),
        ];
        let (weight, bias) = (site.input_first(0, groups), site.bias());
        let inputs: Vec<&str> = [&input, &weight].into_iter().chain(&bias).map(|n| &**n).collect();
        site.finish("ConvTranspose", &inputs, attributes)
    }
}
