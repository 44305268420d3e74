//! The loss of one batch and the gradients of all parameters.
//!
//! On the processor the loss is computed on plain numbers ([`loss`]). A GPU would be idle while the
//! logits are read, until the next step starts. So on a GPU burn computes the loss on the device,
//! and the losses of several steps are read together later.

use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};

use edgesmith_search_space::Features;

use super::features::{Copied, attention, relations};
use super::hints::Regressor;
use super::loss::{Targets, loss, wanted};
use crate::network::Network;

/// The loss of a step that may still be running.
#[derive(Debug)]
pub(super) enum StepLoss {
    /// The step is complete.
    Known(f64),
    /// One value on the device, available when the step is complete.
    OnDevice(Box<Tensor<1>>),
}

impl StepLoss {
    /// The loss of two parts of a batch together: this one and those `before` it, if there are any.
    pub(super) fn after(self, before: Option<Self>) -> Self {
        match (self, before) {
            (loss, None) => loss,
            (StepLoss::OnDevice(loss), Some(StepLoss::OnDevice(before))) => {
                StepLoss::OnDevice(Box::new(*before + *loss))
            }
            (StepLoss::Known(loss), Some(StepLoss::Known(before))) => {
                StepLoss::Known(before + loss)
            }
            (StepLoss::Known(_), Some(StepLoss::OnDevice(_)))
            | (StepLoss::OnDevice(_), Some(StepLoss::Known(_))) => {
                unreachable!("all steps of a training are of the same variant")
            }
        }
    }

    /// Waits for the steps and returns their losses. All must be of the same variant, as are all
    /// steps of a training.
    pub(super) fn read(losses: Vec<Self>) -> Vec<f64> {
        let (mut values, mut waiting) = (Vec::new(), Vec::new());
        for loss in losses {
            match loss {
                StepLoss::Known(value) => values.push(value),
                StepLoss::OnDevice(tensor) => waiting.push(*tensor),
            }
        }
        if !waiting.is_empty() {
            let data = Tensor::cat(waiting, 0).into_data();
            let read = data.try_into_vec::<f32>().expect("losses are f32");
            values.extend(read.into_iter().map(f64::from));
        }
        values
    }
}

/// A loss that is known, besides that of the logits, and a tensor whose gradient is its gradient.
pub(super) struct Besides {
    pub(super) loss: f64,
    pub(super) gradient: Tensor<1>,
}

/// The loss of features of images, and its gradient, both times `factor`. `values` are those of
/// `copied`, and `rows` the teacher's features of the same images. Hints need a regressor, which
/// remembers its own gradient. The values are read on the processor, so a GPU waits for them in
/// each step.
pub(super) fn of_features(
    copied: &Copied,
    values: Vec<Tensor<4>>,
    rows: &[f32],
    factor: f64,
    mut regressor: Option<&mut Regressor>,
) -> Option<Besides> {
    let mut all: Option<Besides> = None;
    for (value, (_, part)) in values.into_iter().zip(&copied.values) {
        let [batch, _, height, breadth] = value.dims();
        let width = rows.len() / batch;
        let wanted: Vec<f32> =
            rows.chunks_exact(width).flat_map(|row| &row[part.clone()]).copied().collect();
        let value: Tensor<2> = match copied.features {
            Features::None => continue,
            Features::Attention => maps(value),
            Features::Relations | Features::Hints => value.flatten(1, 3),
        };
        let numbers = value.clone().inner().into_data().try_into_vec::<f32>().expect("f32 values");
        let (loss, gradient) = match copied.features {
            Features::None => continue,
            Features::Attention => attention(&numbers, &wanted, part.len()),
            Features::Relations => relations(&numbers, &wanted, batch),
            Features::Hints => {
                let regressor = regressor.as_deref_mut().expect("hints have a regressor");
                regressor.loss(&numbers, &wanted, (batch, height * breadth), factor)
            }
        };
        let factors: Vec<f32> = gradient.iter().map(|slope| (factor * slope) as f32).collect();
        let factors =
            Tensor::<2>::from_data(TensorData::new(factors, value.dims()), &value.device());
        let (loss, gradient) = (factor * loss, (value * factors).sum());
        all = Some(match all {
            Some(before) => {
                Besides { loss: before.loss + loss, gradient: before.gradient + gradient }
            }
            None => Besides { loss, gradient },
        });
    }
    all
}

/// The squares of a value, summed over channels: `[batch][positions]`.
pub(super) fn maps(value: Tensor<4>) -> Tensor<2> {
    (value.clone() * value).sum_dim(1).flatten(1, 3)
}

/// The loss of images with these logits, and the gradients of all parameters, both times the
/// `share` of their batch that these images are. What comes `besides` is added. The losses of
/// `ahead` steps are read together.
pub(super) fn backward(
    network: &Network,
    logits: Tensor<2>,
    targets: &Targets,
    (share, besides): (f64, Option<Besides>),
    ahead: usize,
) -> (StepLoss, GradientsParams) {
    if ahead == 1 {
        at_hand(network, logits, targets, (share, besides))
    } else {
        on_device(network, logits, targets, (share, besides))
    }
}

/// Computes the loss in f64. Its gradient enters burn's graph as the factors of a sum over the
/// logits.
fn at_hand(
    network: &Network,
    logits: Tensor<2>,
    targets: &Targets,
    (share, besides): (f64, Option<Besides>),
) -> (StepLoss, GradientsParams) {
    let shape = logits.dims();
    let device = logits.device();
    let values = logits.clone().inner().into_data().try_into_vec::<f32>().expect("f32 logits");
    let (loss, mut gradient) = loss(&values, targets);
    gradient.iter_mut().for_each(|slope| *slope *= share as f32);
    let factors = Tensor::<2>::from_data(TensorData::new(gradient, shape), &device);
    let (mut total, mut loss) = ((logits * factors).sum(), share * loss);
    if let Some(besides) = besides {
        (total, loss) = (total + besides.gradient, loss + besides.loss);
    }
    let gradients = total.backward();
    (StepLoss::Known(loss), GradientsParams::from_grads(gradients, network))
}

/// Computes the loss on the device: cross entropies with the targets at each temperature, plus a
/// constant that does not depend on the logits.
fn on_device(
    network: &Network,
    logits: Tensor<2>,
    targets: &Targets,
    (share, besides): (f64, Option<Besides>),
) -> (StepLoss, GradientsParams) {
    let shape = logits.dims();
    let device = logits.device();
    let wanted = wanted(targets, shape[1]);
    let mut loss = Tensor::<1>::from_data([wanted.constant as f32], &device);
    for term in &wanted.terms {
        let probabilities =
            Tensor::<2>::from_data(TensorData::new(term.probabilities.clone(), shape), &device);
        let scaled = logits.clone().div_scalar(term.temperature as f32);
        loss = loss - (log_softmax(scaled, 1) * probabilities).sum();
    }
    if let Some((factor, values)) = wanted.squares {
        let values = Tensor::<2>::from_data(TensorData::new(values, shape), &device);
        let off = logits - values;
        loss = loss + (off.clone() * off).sum().mul_scalar(factor as f32);
    }
    if share < 1.0 {
        loss = loss.mul_scalar(share as f32);
    }
    let mut known = loss.clone().inner();
    if let Some(besides) = besides {
        (loss, known) = (loss + besides.gradient, known.add_scalar(besides.loss as f32));
    }
    let gradients = loss.backward();
    (StepLoss::OnDevice(Box::new(known)), GradientsParams::from_grads(gradients, network))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::loss::Soft;
    use edgesmith_testing::{conv_graph, random_weights};

    proptest! {
        #[test]
        fn both_ways_compute_the_same_loss_and_gradients(
            pixels in prop::collection::vec(-2.0f32..2.0, 3 * 64),
            teacher in prop::collection::vec(-4.0f32..4.0, 30),
            labels in prop::collection::vec(0u16..10, 3),
            alpha in 0.0..=1.0f64,
            temperature in 0.5..8.0f64,
            label_smoothing in 0.0..0.5f64,
            taught: bool,
            answers in prop::sample::select(edgesmith_search_space::Answers::ALL),
        ) {
            let graph = conv_graph();
            let device = Device::flex().autodiff();
            let network = Network::new(&graph, &random_weights(&graph, 4), &device);
            let teacher = taught.then_some((Soft { alpha, temperature, answers }, &teacher[..]));
            let targets = Targets { labels: &labels, label_smoothing, teacher };
            let images = Tensor::<4>::from_data(TensorData::new(pixels, [3, 1, 8, 8]), &device);
            let [(one, plain), (other, burns)] = [at_hand, on_device].map(|way| {
                let (loss, gradients) = way(&network, network.forward(images.clone()), &targets, (1.0, None));
                (StepLoss::read(vec![loss])[0], network.gradients(&gradients))
            });
            prop_assert!((one - other).abs() < 1e-4 * one.abs().max(1.0), "{one} {other}");
            for (name, array) in &plain.arrays {
                for (a, b) in array.data.iter().zip(&burns.arrays[name].data) {
                    prop_assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{name}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn losses_are_read_in_order_and_stay_infinite_or_nan() {
        let on_device =
            |value: f32| StepLoss::OnDevice(Box::new(Tensor::from_data([value], &Device::flex())));
        let losses = StepLoss::read(vec![on_device(0.5), on_device(f32::NAN), on_device(2.0)]);
        assert_eq!((losses[0], losses[1].is_nan(), losses[2]), (0.5, true, 2.0));
        assert_eq!(StepLoss::read(vec![StepLoss::Known(0.25)]), [0.25]);
        assert!(StepLoss::read(Vec::new()).is_empty());
    }
}
