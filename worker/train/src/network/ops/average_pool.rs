//! The mean of each window.

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorData};
use edgesmith_graph::{AveragePool, WindowAxis};

use super::{Call, Trainable, as_picture, inputs};

impl Trainable for AveragePool {
    /// The sum of each window, from a convolution with ones, divided by how many numbers count.
    /// burn's own pooling has neither dilation nor padding of which a part counts.
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let axes = as_picture(WindowAxis::valid(1), &self.axes);
        let [tall, wide] = as_picture(1, &self.kernel).map(|size| size as usize);
        let options = ConvOptions::new_with_padding(
            axes.map(|axis| axis.stride as usize),
            axes.map(|axis| (axis.before as usize, axis.after as usize)),
            axes.map(|axis| axis.dilation as usize),
            1,
        );
        call.batch_first(value, |value| {
            let device = value.device();
            let [batch, channels, rows, columns] = value.dims();
            let space = [rows, columns];
            let own = &space[2 - self.axes.len()..];
            let counts: Vec<Vec<u32>> = own
                .iter()
                .enumerate()
                .map(|(axis, &size)| self.counts(axis, size as u32))
                .collect();
            let counts: Vec<&[u32]> = counts.iter().map(Vec::as_slice).collect();
            let [down, across] = as_picture(&[1][..], &counts);
            let shares = down.iter().flat_map(|&n| across.iter().map(move |&m| (n, m)));
            let shares: Vec<f32> =
                shares.map(|(n, m)| (1.0 / (f64::from(n) * f64::from(m))) as f32).collect();
            let (down, across) = (down.len(), across.len());
            let shares = TensorData::new(shares, [1, 1, down, across]);
            // Each channel by itself.
            let planes = value.reshape([batch * channels, 1, rows, columns]);
            let sums = conv2d(planes, Tensor::ones([1, 1, tall, wide], &device), None, options);
            let means = sums * Tensor::from_data(shares, &device);
            means.reshape([batch, channels, down, across])
        })
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
