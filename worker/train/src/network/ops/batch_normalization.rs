//! Batch normalisation (Ioffe & Szegedy 2015). On a device with autodiff it uses the batch's
//! statistics and updates the running ones. On a device without autodiff it uses the running ones.

use burn::module::RunningState;
use burn::tensor::Tensor;
use burn::tensor::module::{batch_norm, batch_norm_train};
use edgesmith_graph::BatchNormalization;

use super::super::flex;
use super::super::layout::Layout;
use super::{Call, Trainable, inputs};

impl Trainable for BatchNormalization {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let epsilon = f64::from(self.epsilon);
        let [scale, shift] = [0, 1].map(|place| call.vector(place).expect("it is not optional"));
        let running = [2, 3].map(|place| call.observed(place));
        if call.layout == Layout::BatchLast && value.device().is_autodiff() {
            let [_, rows, columns, batch] = value.dims();
            let step = flex::normalize(call.threads, self.epsilon, value, [scale, shift]);
            let statistics = [step.mean, step.variance].map(flex::vector);
            observe(statistics, batch * rows * columns, running, call.momentum);
            return step.output;
        }
        call.batch_first(value, |value| {
            if value.device().is_autodiff() {
                let [batch, _, rows, columns] = value.dims();
                let result = batch_norm_train(value, scale, shift, epsilon);
                let statistics = [result.mean.inner(), result.variance.inner()];
                observe(statistics, batch * rows * columns, running, call.momentum);
                result.output
            } else {
                let [mean, variance] = running.map(|state| state.value_sync());
                batch_norm(value, scale, shift, mean, variance, epsilon)
            }
        })
    }

    /// Scale and shift of a silent channel are 0.
    fn keeps_silence(&self, _: &[bool]) -> bool {
        true
    }
}

/// Moves the running mean and variance towards those of a batch with `count` values per channel.
/// The batch's variance is the biased one that it was normalised with. Evaluation needs the
/// variance of the population, so the running variance uses the unbiased estimate (Ioffe & Szegedy
/// 2015).
pub(in super::super) fn observe(
    [mean, variance]: [Tensor<1>; 2],
    count: usize,
    [running_mean, running_variance]: [&RunningState<Tensor<1>>; 2],
    momentum: f64,
) {
    let unbiased = count as f64 / (count as f64 - 1.0).max(1.0);
    let mix = |running: &RunningState<Tensor<1>>, batch: Tensor<1>, scale: f64| {
        let old = running.value_sync().mul_scalar(1.0 - momentum);
        running.update(old + batch.mul_scalar(momentum * scale));
    };
    mix(running_mean, mean, 1.0);
    mix(running_variance, variance, unbiased);
}
