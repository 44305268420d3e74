//! The burn module of a plan: built from plain arrays, trained on any burn device, and turned back
//! into plain arrays. It walks the plan's layers; only the plan says what a layer is.
//!
//! On burn's `flex` device, layers are our own operations ([`super::flex`]); on other devices they
//! are burn's. On a device with autodiff, batch normalisation uses the batch's statistics and
//! updates the running ones. On a device without autodiff, it uses the running ones.

use burn::module::{Module, Param, ParamId, RunningState};
use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm, batch_norm_train, conv2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_kernels::{Bounds, Convolution, Kind, Threads};
use edgesmith_search_space::{Activation, EPSILON, LayerId, LayerOp, Plan, Source};

use super::{Array, Weights, flex};

/// Smallest share of the newest batch in batch normalisation's running statistics.
const MOMENTUM: f64 = 0.1;

/// The share of the newest batch in the running statistics after `batches_before` batches. The
/// statistics are at first the plain mean of all batches, so that their initial values do not
/// count; later the share is a tenth.
pub fn momentum(batches_before: u64) -> f64 {
    MOMENTUM.max(mean_share(batches_before))
}

/// The share of the newest batch in the plain mean of all batches.
pub fn mean_share(batches_before: u64) -> f64 {
    1.0 / (batches_before as f64 + 1.0)
}

/// A trainable network.
#[derive(Module, Debug)]
pub struct Network {
    convolutions: Vec<NormalizedConvolution>,
    classifier: Classifier,
    #[module(skip)]
    plan: Plan,
    #[module(skip)]
    momentum: f64,
    #[module(skip)]
    threads: Threads,
}

/// Convolution without bias, then batch normalisation. The plan has kernel, stride and activation.
#[derive(Module, Debug)]
struct NormalizedConvolution {
    weight: Param<Tensor<4>>,
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    mean: RunningState<Tensor<1>>,
    variance: RunningState<Tensor<1>>,
}

/// Fully connected layer, weight `[out, in]`.
#[derive(Module, Debug)]
struct Classifier {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// Settings of one convolution, from its layer of the plan.
#[derive(Debug, Clone, Copy)]
struct Settings {
    kernel: usize,
    stride: usize,
    depthwise: bool,
    activation: Option<Activation>,
}

impl Network {
    /// Puts the weights on a device; with autodiff they are trainable.
    ///
    /// # Panics
    /// If the weights do not fit the plan; see [`Weights::check`].
    pub fn new(plan: &Plan, weights: &Weights, device: &Device) -> Self {
        let vector = |array: &Array| tensor::<1>(array, device);
        // Running statistics have no gradients.
        let inner = device.clone().inner();
        let running = |array: &Array| RunningState::new(tensor::<1>(array, &inner));
        let mut convolutions = Vec::new();
        let mut classifier = None;
        for layer in plan.layers() {
            let part = |part: &str| weights.get(&layer.name, part);
            match layer.op {
                LayerOp::Conv { .. } | LayerOp::Depthwise { .. } => {
                    convolutions.push(NormalizedConvolution {
                        weight: Param::from_tensor(tensor::<4>(part("weight"), device)),
                        gamma: Param::from_tensor(vector(part("gamma"))),
                        beta: Param::from_tensor(vector(part("beta"))),
                        mean: running(part("mean")),
                        variance: running(part("variance")),
                    });
                }
                LayerOp::Linear => {
                    classifier = Some(Classifier {
                        weight: Param::from_tensor(tensor::<2>(part("weight"), device)),
                        bias: Param::from_tensor(vector(part("bias"))),
                    });
                }
                LayerOp::Add | LayerOp::GlobalAveragePool => {}
            }
        }
        let classifier = classifier.expect("a plan ends in a linear layer");
        Self {
            convolutions,
            classifier,
            plan: plan.clone(),
            momentum: MOMENTUM,
            threads: Threads::one(),
        }
    }

    /// Sets the share of the next batch in the running statistics, above 0 and at most 1.
    pub fn set_momentum(&mut self, momentum: f64) {
        self.momentum = momentum;
    }

    /// Sets the threads that compute it on `flex`. Initially only the calling thread does.
    pub(crate) fn set_threads(&mut self, threads: Threads) {
        self.threads = threads;
    }

    /// Logits `[batch, classes]` of normalised images `[batch, channels, height, width]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let fast = flex::runs_on(&images.device());
        self.forward_on(images, fast)
    }

    /// [`Network::forward`], on the fast path for `flex` or through burn's operations.
    pub(crate) fn forward_on(&self, images: Tensor<4>, fast: bool) -> Tensor<2> {
        // Feature maps of the fast path have the batch dimension last.
        let images = if fast { images.permute([1, 2, 3, 0]) } else { images };
        let mut convolutions = self.convolutions.iter();
        let mut maps: Vec<Tensor<4>> = Vec::with_capacity(self.plan.layers().len());
        for id in self.plan.ids() {
            let layer = self.plan.layer(id);
            let read = |source: Source| match source {
                Source::Input => images.clone(),
                Source::Layer(LayerId(index)) => maps[index].clone(),
            };
            let input = read(layer.inputs[0]);
            let output = match settings(&self.plan, id) {
                Some(settings) => {
                    let convolution = convolutions.next().expect("one per convolution layer");
                    if fast {
                        convolution.forward_fast(input, settings, self.momentum, &self.threads)
                    } else {
                        convolution.forward(input, settings, self.momentum)
                    }
                }
                None => match layer.op {
                    LayerOp::Add => input + read(layer.inputs[1]),
                    LayerOp::GlobalAveragePool if fast => {
                        let [channels, height, width, batch] = input.dims();
                        input.reshape([channels, height * width, 1, batch]).mean_dim(1)
                    }
                    LayerOp::GlobalAveragePool => {
                        let [batch, channels, height, width] = input.dims();
                        input.reshape([batch, channels, 1, height * width]).mean_dim(3)
                    }
                    _ => {
                        let pooled = if fast { input.permute([3, 0, 1, 2]) } else { input };
                        return self.classifier.forward(pooled);
                    }
                },
            };
            maps.push(output);
        }
        unreachable!("a plan ends in a linear layer")
    }

    /// The weights as plain arrays, running statistics included.
    pub fn weights(&self) -> Weights {
        let mut weights = Weights::default();
        let mut convolutions = self.convolutions.iter();
        for layer in self.plan.layers() {
            let mut set = |part: &str, array: Array| {
                weights.set(&layer.name, part, array.shape, array.data);
            };
            match layer.op {
                LayerOp::Conv { .. } | LayerOp::Depthwise { .. } => {
                    let convolution = convolutions.next().expect("one per convolution layer");
                    set("weight", array(convolution.weight.val()));
                    set("gamma", array(convolution.gamma.val()));
                    set("beta", array(convolution.beta.val()));
                    set("mean", array(convolution.mean.value_sync()));
                    set("variance", array(convolution.variance.value_sync()));
                }
                LayerOp::Linear => {
                    set("weight", array(self.classifier.weight.val()));
                    set("bias", array(self.classifier.bias.val()));
                }
                LayerOp::Add | LayerOp::GlobalAveragePool => {}
            }
        }
        weights
    }

    /// Gradients of this network's parameters as plain arrays named like the weights.
    #[cfg(test)]
    pub(crate) fn gradients(&self, gradients: &burn::optim::GradientsParams) -> Weights {
        let mut named = self.weights();
        named.arrays.retain(|name, _| !name.ends_with(".mean") && !name.ends_with(".variance"));
        let convolutions = self.plan.ids().filter(|&id| settings(&self.plan, id).is_some());
        for (id, convolution) in convolutions.zip(&self.convolutions) {
            let mut set = |part: &str, array: Array| {
                named.set(&self.plan.layer(id).name, part, array.shape, array.data);
            };
            set("weight", array(gradients.get::<4>(convolution.weight.id).unwrap()));
            set("gamma", array(gradients.get::<1>(convolution.gamma.id).unwrap()));
            set("beta", array(gradients.get::<1>(convolution.beta.id).unwrap()));
        }
        let weight = array(gradients.get::<2>(self.classifier.weight.id).unwrap());
        let bias = array(gradients.get::<1>(self.classifier.bias.id).unwrap());
        named.set("classifier", "weight", weight.shape, weight.data);
        named.set("classifier", "bias", bias.shape, bias.data);
        named
    }

    /// The trainable parameters: name of the weights, id, number of values.
    pub fn parameters(&self) -> Vec<(String, ParamId, usize)> {
        let mut parameters = Vec::new();
        let mut convolutions = self.convolutions.iter();
        for layer in self.plan.layers() {
            let mut add = |part: &str, id, values| {
                parameters.push((format!("{}.{part}", layer.name), id, values));
            };
            match layer.op {
                LayerOp::Conv { .. } | LayerOp::Depthwise { .. } => {
                    let NormalizedConvolution { weight, gamma, beta, .. } =
                        convolutions.next().expect("one per convolution layer");
                    add("weight", weight.id, weight.shape().num_elements());
                    add("gamma", gamma.id, gamma.shape().num_elements());
                    add("beta", beta.id, beta.shape().num_elements());
                }
                LayerOp::Linear => {
                    let Classifier { weight, bias } = &self.classifier;
                    add("weight", weight.id, weight.shape().num_elements());
                    add("bias", bias.id, bias.shape().num_elements());
                }
                LayerOp::Add | LayerOp::GlobalAveragePool => {}
            }
        }
        parameters
    }

    /// The parameters that weight decay applies to: weights, but not biases or batch
    /// normalisation, because their size does not make a network more complex.
    pub fn decayed(&self) -> Vec<ParamId> {
        let convolutions = self.convolutions.iter().map(|c| c.weight.id);
        convolutions.chain([self.classifier.weight.id]).collect()
    }
}

impl NormalizedConvolution {
    /// For feature maps `[batch, channels, height, width]`, on any device.
    fn forward(&self, input: Tensor<4>, settings: Settings, momentum: f64) -> Tensor<4> {
        let Settings { kernel, stride, depthwise, activation } = settings;
        let padding = (kernel - 1) / 2;
        let training = input.device().is_autodiff();
        let groups = if depthwise { input.dims()[1] } else { 1 };
        let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], groups);
        let convolved = conv2d(input, self.weight.val(), None, options);
        let epsilon = f64::from(EPSILON);
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        let normalized = if training {
            let [batch, _, height, width] = convolved.dims();
            let norm = batch_norm_train(convolved, gamma, beta, epsilon);
            let count = batch * height * width;
            self.update(norm.mean.inner(), norm.variance.inner(), count, momentum);
            norm.output
        } else {
            let (mean, variance) = (self.mean.value_sync(), self.variance.value_sync());
            batch_norm(convolved, gamma, beta, mean, variance, epsilon)
        };
        match activation {
            None => normalized,
            Some(Activation::Relu) => relu(normalized),
            Some(Activation::Relu6) => normalized.clamp(0.0, 6.0),
        }
    }

    /// For feature maps `[channels, height, width, batch]`, on `flex`.
    fn forward_fast(
        &self,
        input: Tensor<4>,
        settings: Settings,
        momentum: f64,
        threads: &Threads,
    ) -> Tensor<4> {
        let [inputs, height, width, batch] = input.dims();
        let outputs = self.weight.dims()[0];
        let kind = if settings.depthwise {
            Kind::Depthwise { channels: outputs }
        } else {
            Kind::Dense { inputs, outputs }
        };
        let Settings { kernel, stride, activation, .. } = settings;
        let convolution = Convolution::new(kind, kernel, stride, [height, width, batch]);
        let bounds = match activation {
            None => Bounds { low: f32::NEG_INFINITY, high: f32::INFINITY },
            Some(Activation::Relu) => Bounds { low: 0.0, high: f32::INFINITY },
            Some(Activation::Relu6) => Bounds { low: 0.0, high: 6.0 },
        };
        let layer = flex::Layer { convolution, bounds, threads: threads.clone() };
        let (weight, gamma, beta) = (self.weight.val(), self.gamma.val(), self.beta.val());
        if input.device().is_autodiff() {
            let epsilon = EPSILON;
            let step = flex::train_step(layer, epsilon, input, weight, [gamma, beta]);
            let [_, height, width, batch] = step.output.dims();
            let (mean, variance) = (flex::vector(step.mean), flex::vector(step.variance));
            self.update(mean, variance, batch * height * width, momentum);
            step.output
        } else {
            let deviation = self.variance.value_sync().add_scalar(EPSILON).sqrt();
            let scale = gamma / deviation;
            let shift = beta - self.mean.value_sync() * scale.clone();
            flex::evaluate(layer, input, weight, [scale, shift])
        }
    }

    /// Moves the running statistics towards those of a batch with `count` values per channel.
    /// `variance` is the biased one that the batch was normalised with. Evaluation needs the
    /// variance of the population, so the running variance uses the unbiased estimate (Ioffe &
    /// Szegedy 2015).
    fn update(&self, mean: Tensor<1>, variance: Tensor<1>, count: usize, momentum: f64) {
        let unbiased = count as f64 / (count as f64 - 1.0).max(1.0);
        let mix = |running: &RunningState<Tensor<1>>, batch: Tensor<1>, scale: f64| {
            let old = running.value_sync().mul_scalar(1.0 - momentum);
            running.update(old + batch.mul_scalar(momentum * scale));
        };
        mix(&self.mean, mean, 1.0);
        mix(&self.variance, variance, unbiased);
    }
}

impl Classifier {
    /// `[batch, classes]` from `[batch, channels, 1, 1]`.
    fn forward(&self, pooled: Tensor<4>) -> Tensor<2> {
        let features = pooled.flatten::<2>(1, 3);
        features.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze()
    }
}

/// Settings of a layer that is a convolution.
fn settings(plan: &Plan, id: LayerId) -> Option<Settings> {
    let (kernel, stride, depthwise, activation) = match plan.layer(id).op {
        LayerOp::Conv { kernel, stride, activation } => (kernel, stride, false, activation),
        LayerOp::Depthwise { kernel, stride, activation } => (kernel, stride, true, activation),
        LayerOp::Add | LayerOp::GlobalAveragePool | LayerOp::Linear => return None,
    };
    Some(Settings { kernel: kernel as usize, stride: stride as usize, depthwise, activation })
}

fn tensor<const D: usize>(array: &Array, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(array.data.clone(), array.shape.clone()), device)
}

fn array<const D: usize>(tensor: Tensor<D>) -> Array {
    let shape = tensor.dims().to_vec();
    let data = tensor.into_data().try_into_vec().expect("parameters are f32");
    Array { shape, data }
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::Evaluator;

    use super::super::fresh_weights;
    use super::*;
    use edgesmith_testing::{
        conv_graph, noise, random_weights, reference, residual_graph, tiny_graph,
    };

    fn images(plan: &Plan, count: usize, device: &Device) -> (Vec<f32>, Tensor<4>) {
        let input = plan.input();
        let values = noise(count * input.elements() as usize, 3);
        let shape = [count, input.channels as usize, input.height as usize, input.width as usize];
        (values.clone(), Tensor::from_data(TensorData::new(values, shape), device))
    }

    #[test]
    fn weights_survive_the_round_trip() {
        for plan in [Plan::of(conv_graph()), Plan::of(residual_graph()), Plan::of(tiny_graph())] {
            let weights = random_weights(plan.graph(), 5);
            for device in [Device::flex(), Device::flex().autodiff()] {
                assert_eq!(Network::new(&plan, &weights, &device).weights(), weights);
            }
        }
    }

    #[test]
    fn evaluation_equals_the_plain_loops() {
        for plan in [Plan::of(conv_graph()), Plan::of(residual_graph()), Plan::of(tiny_graph())] {
            let weights = random_weights(plan.graph(), 6);
            let (values, batch) = images(&plan, 3, &Device::flex());
            let network = Network::new(&plan, &weights, &Device::flex());
            let logits = network.forward(batch).into_data().try_into_vec::<f32>().unwrap();
            let size = plan.input().elements() as usize;
            let expected: Vec<f32> = values
                .chunks_exact(size)
                .flat_map(|image| reference(plan.graph(), &weights, image))
                .collect();
            for (got, expected) in logits.iter().zip(&expected) {
                assert!((got - expected).abs() < 1e-4, "{logits:?} against {expected:?}");
            }
        }
    }

    #[test]
    fn both_paths_train_alike() {
        for plan in [Plan::of(conv_graph()), Plan::of(residual_graph()), Plan::of(tiny_graph())] {
            let weights = random_weights(plan.graph(), 6);
            let device = Device::flex().autodiff();
            let (_, batch) = images(&plan, 5, &device);
            let factors = noise(5 * plan.classes() as usize, 1);
            let road = |fast: bool| {
                let network = Network::new(&plan, &weights, &device);
                let logits = network.forward_on(batch.clone(), fast);
                let factors = TensorData::new(factors.clone(), logits.dims());
                let gradients = (logits * Tensor::from_data(factors, &device)).sum().backward();
                let gradients = burn::optim::GradientsParams::from_grads(gradients, &network);
                (network.gradients(&gradients), network.weights())
            };
            let ((fast, fast_weights), (slow, slow_weights)) = (road(true), road(false));
            for (fast, slow) in [(fast, slow), (fast_weights, slow_weights)] {
                for (name, array) in &slow.arrays {
                    let size = array.data.iter().fold(1.0f32, |size, v| size.max(v.abs()));
                    for (got, expected) in fast.arrays[name].data.iter().zip(&array.data) {
                        let error = (got - expected).abs();
                        assert!(error < 1e-3 * size, "{name}: {got} against {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn running_statistics_move_towards_the_unbiased_statistics_of_the_batch() {
        let plan = Plan::of(conv_graph());
        let start = fresh_weights(plan.graph(), [9; 32]);
        let device = Device::flex().autodiff();
        let network = Network::new(&plan, &start, &device);
        let (values, batch) = images(&plan, 4, &device);
        network.forward(batch.clone());
        network.forward(batch);
        let trained = network.weights();

        // The stem's output before normalisation, from the reference evaluation.
        let evaluator = Evaluator::<f64>::new(plan.graph(), &start);
        let stem = plan.graph().value_named("stem").unwrap();
        let maps: Vec<Vec<f64>> = values
            .chunks_exact(64)
            .map(|image| {
                let image = image.iter().map(|&value| f64::from(value)).collect();
                evaluator.run(vec![image]).swap_remove(stem.index())
            })
            .collect();
        for channel in 0..16 {
            let outputs: Vec<f64> = maps
                .iter()
                .flat_map(|map| &map[channel * 64..(channel + 1) * 64])
                .copied()
                .collect();
            let count = outputs.len() as f64;
            let mean = outputs.iter().sum::<f64>() / count;
            let variance = outputs.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
            // Two updates with the same batch keep 0.9 * 0.9 of the start.
            let expected_mean = 0.19 * mean;
            let expected_variance = 0.81 + 0.19 * variance;
            let got = |part| f64::from(trained.get("stem", part).data[channel]);
            assert!((got("mean") - expected_mean).abs() < 1e-5);
            assert!((got("variance") - expected_variance).abs() < 1e-4 * expected_variance);
        }
    }

    #[test]
    fn the_first_batches_count_equally_and_later_ones_a_tenth() {
        let shares: Vec<f64> = (0..12).map(momentum).collect();
        assert_eq!(shares[..3], [1.0, 0.5, 1.0 / 3.0]);
        assert_eq!(shares[9..], [MOMENTUM; 3]);
    }

    #[test]
    fn training_mode_normalises_with_the_batch() {
        let plan = Plan::of(conv_graph());
        let mut weights = fresh_weights(plan.graph(), [9; 32]);
        let device = Device::flex().autodiff();
        let (_, batch) = images(&plan, 4, &device);
        let forward = |weights: &Weights| {
            let network = Network::new(&plan, weights, &device);
            network.forward(batch.clone()).into_data().try_into_vec::<f32>().unwrap()
        };
        let before = forward(&weights);
        weights.set("stem", "mean", vec![16], vec![3.0; 16]);
        assert_eq!(before, forward(&weights), "running statistics do not matter in training");
    }
}
