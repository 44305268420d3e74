//! Batch normalisation (Ioffe & Szegedy 2015). On a device with autodiff it uses the batch's
//! statistics and updates the running ones. On a device without autodiff it uses the running ones.
//! After a layer of integers it adds whole steps of that layer's sums, as its folded form does.

use burn::module::RunningState;
use burn::tensor::Tensor;
use burn::tensor::module::{batch_norm, batch_norm_train};
use edgesmith_graph::BatchNormalization;

use super::super::flex;
use super::super::layout::Layout;
use super::super::levels::{in_whole_steps, untracked};
use super::{Call, Trainable, inputs};

impl Trainable for BatchNormalization {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let epsilon = f64::from(self.epsilon);
        let [scale, shift] = [0, 1].map(|place| call.vector(place).expect("it is not optional"));
        let running = [2, 3].map(|place| call.observed(place));
        if call.layout == Layout::BatchLast && value.device().is_autodiff() {
            let [_, rows, columns, batch] = value.dims();
            let (affine, steps) = ([scale, shift], call.steps.clone());
            let step = flex::normalize(call.threads, self.epsilon, value, affine, steps);
            let statistics = [step.mean, step.variance].map(flex::vector);
            observe(statistics, batch * rows * columns, running, call.momentum);
            return step.output;
        }
        call.batch_first(value, |value| {
            let affine = [&scale, &shift].map(|tensor| untracked(tensor.clone()));
            let moved = |mean: &Tensor<1>, variance: &Tensor<1>| -> Option<Tensor<4>> {
                let [scale, shift] = affine;
                let gain = scale / variance.clone().add_scalar(epsilon).sqrt();
                let added = shift - mean.clone() * gain.clone();
                let whole = in_whole_steps(added.clone(), gain, call.steps.clone()?);
                let moved = whole - added;
                Some(moved.reshape([1, -1, 1, 1]))
            };
            if value.device().is_autodiff() {
                let [batch, _, rows, columns] = value.dims();
                let result = batch_norm_train(value, scale, shift, epsilon);
                let [mean, variance] = [result.mean.inner(), result.variance.inner()];
                let moved = moved(&mean, &variance);
                observe([mean, variance], batch * rows * columns, running, call.momentum);
                match moved {
                    Some(moved) => result.output + Tensor::from_inner(moved),
                    None => result.output,
                }
            } else {
                let [mean, variance] = running.map(|state| state.value_sync());
                let moved = moved(&mean, &variance);
                let output = batch_norm(value, scale, shift, mean, variance, epsilon);
                match moved {
                    Some(moved) => output + moved,
                    None => output,
                }
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
