//! Transposed convolution over one or two axes of positions.

use burn::tensor::Tensor;
use burn::tensor::module::conv_transpose2d;
use burn::tensor::ops::{ConvTransposeOptions, PadMode};
use edgesmith_graph::{ConvTranspose, TransposedAxis};

use super::{Call, Trainable, as_picture, inputs};

impl Trainable for ConvTranspose {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let axes = as_picture(TransposedAxis::valid(1), &self.axes);
        let channels = value.dims()[call.layout.channels()];
        let groups = self.groups.parts(channels as u32) as usize;
        let options = ConvTransposeOptions::new(
            axes.map(|axis| axis.stride as usize),
            [0; 2],
            [0; 2],
            axes.map(|axis| axis.dilation as usize),
            groups,
        );
        // burn has the input channels first.
        let weight = call.weight();
        let [outputs, reads, tall, wide] = weight.dims();
        let writes = outputs / groups;
        let weight = weight.reshape([groups, writes, reads, tall, wide]).swap_dims(1, 2);
        let weight = weight.reshape([channels, writes, tall, wide]);
        call.batch_first(value, |value| {
            // Nothing is cropped there, because burn crops both sides alike.
            let whole = conv_transpose2d(value, weight, None, options);
            let extra = axes.map(|axis| (0, axis.extra as usize));
            let whole =
                if extra == [(0, 0); 2] { whole } else { whole.pad(extra, PadMode::Constant(0.0)) };
            let [batch, _, rows, columns] = whole.dims();
            let kept = |axis: TransposedAxis, size: usize| {
                axis.before as usize..size - axis.after as usize
            };
            let [down, across] = axes;
            let (down, across) = (kept(down, rows), kept(across, columns));
            let output = whole.slice([0..batch, 0..outputs, down, across]);
            match call.bias() {
                Some(bias) => output + bias.reshape([1, -1, 1, 1]),
                None => output,
            }
        })
    }

    /// Each output channel has its own filter, and its bias.
    fn keeps_silence(&self, _: &[bool]) -> bool {
        true
    }
}
