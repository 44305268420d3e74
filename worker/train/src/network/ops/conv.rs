//! Convolution over one or two axes of positions.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use edgesmith_graph::{Conv, WindowAxis};

use super::super::fitting::fitting;
use super::super::flex;
use super::super::layout::Layout;
use super::{Call, Trainable, as_picture, inputs};

impl Trainable for Conv {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let axes = as_picture(WindowAxis::valid(1), &self.axes);
        let channels = value.dims()[call.layout.channels()] as u32;
        let options = ConvOptions::new_with_padding(
            axes.map(|axis| axis.stride as usize),
            axes.map(|axis| (axis.before as usize, axis.after as usize)),
            axes.map(|axis| axis.dilation as usize),
            self.parts(channels) as usize,
        );
        let (weight, bias) = (call.weight(), call.bias());
        match (call.layout, fitting(self, channels, weight.dims())) {
            (Layout::BatchLast, Some(fitting)) => {
                let [_, rows, columns, batch] = value.dims();
                let convolution = fitting.on([rows, columns, batch]);
                let output = flex::convolve(convolution, call.threads, value, weight);
                match bias {
                    Some(bias) => output + bias.reshape([-1, 1, 1, 1]),
                    None => output,
                }
            }
            (Layout::BatchFirst, _) | (Layout::BatchLast, None) => {
                call.batch_first(value, |value| conv2d(value, weight, bias, options))
            }
        }
    }

    /// Each output channel has its own filter, and its bias.
    fn keeps_silence(&self, _: &[bool]) -> bool {
        true
    }
}
