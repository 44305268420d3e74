//! The largest value in each window.

use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use edgesmith_graph::{MaxPool, WindowAxis};

use super::{Call, Trainable, as_picture, inputs};

impl Trainable for MaxPool {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let axes = as_picture(WindowAxis::valid(1), &self.axes);
        let kernel = as_picture(1, &self.kernel).map(|size| size as usize);
        let options = MaxPoolOptions::new(kernel)
            .with_stride(axes.map(|axis| axis.stride as usize))
            .with_dilation(axes.map(|axis| axis.dilation as usize))
            .with_padding_pairs(axes.map(|axis| (axis.before as usize, axis.after as usize)));
        call.batch_first(value, |value| max_pool2d(value, options))
    }

    /// Padding is never the largest, so it does not count.
    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
