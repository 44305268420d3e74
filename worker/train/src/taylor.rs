//! The effect of each filter, or of each weight, on the loss to first order (Molchanov et al. 2019,
//! "Importance estimation for neural network pruning"), from forward and backward passes over
//! training images. It changes no weights and chooses nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use edgesmith_data::{ImageSet, Normalization};
use edgesmith_graph::{
    Add, Array, BatchNormalization, Constant, Graph, Multiply, Node, Op, ParameterId, Place,
    Rebuild, Role, ValueId, Weights,
};

use super::batches::{Images, Normalizer};
use super::classifier::Classifier;
use super::{Cores, TrainDevice, TrainError};
use crate::network::Network;

/// A trained network and the images on which the effects of its filters are computed.
#[derive(Debug, Clone, Copy)]
pub struct TaylorRequest<'a> {
    /// The network. Batch normalisation is folded where it can be, so that the weight and the bias
    /// of a layer are all that its filters have.
    pub graph: &'a Graph,
    /// Its weights.
    pub weights: &'a Weights,
    /// Training images with their labels; at least one. A few hundred are enough. They are used
    /// once each, and not augmented.
    pub images: &'a ImageSet,
    /// The normalisation of images that the network was trained with.
    pub normalization: &'a Normalization,
    /// The device that computes.
    pub device: TrainDevice,
    /// The cores, which are shared with trainings.
    pub cores: &'a Cores,
}

/// The effect of each filter of each convolution and linear layer, by the name of the layer's
/// output. It is the mean over the images of `(Σ gradient · parameter)²`, where the sum is over all
/// numbers of the filter, which are its weights and its bias. This sum is also `Σ gradient ·
/// output` over all positions of the channel that the filter computes. So it says how much the loss
/// would change without the channel, to first order.
///
/// It differs from the paper in two ways, because channels are ranked better so. The square is
/// taken for each image, where the paper sums a batch first, so that effects of opposite sign
/// cancel out between images. And the gradient is that of the image's cross entropy divided by the
/// norm that it has at the logits. Otherwise the few images that a trained network gets wrong would
/// decide alone, as the gradients of all others are almost 0.
///
/// Batch normalisation that cannot be folded runs with its stored statistics. If two layers share a
/// weight, each has the effect of both. `pause` is called before each image and may block. If it
/// breaks, the computation stops.
///
/// # Errors
/// If the weights do not fit the network, the network is not a classifier of such images, or
/// `pause` breaks. If a logit or an effect is not finite; its step is then the place of the image.
///
/// # Panics
/// If there is no image, or a batch normalisation could still be folded.
pub fn taylor(
    request: TaylorRequest,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<BTreeMap<String, Vec<f64>>, TrainError> {
    effects(request, Parts::Filters, pause)
}

/// The effect of each weight of each convolution and linear layer, by the name of the parameter:
/// the mean over the images of `(gradient · weight)²`. It differs from the paper in the same two
/// ways as [`taylor`].
///
/// # Errors
/// See [`taylor`].
///
/// # Panics
/// See [`taylor`].
pub fn taylor_of_weights(
    request: TaylorRequest,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<BTreeMap<String, Vec<f64>>, TrainError> {
    effects(request, Parts::Weights, pause)
}

/// What has an effect.
#[derive(Debug, Clone, Copy)]
enum Parts {
    Filters,
    Weights,
}

fn effects(
    request: TaylorRequest,
    parts: Parts,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<BTreeMap<String, Vec<f64>>, TrainError> {
    let TaylorRequest { graph, weights, images: set, normalization, device, cores } = request;
    assert!(!set.labels.is_empty(), "effects need at least one image");
    let foldable = graph.absorbed_normalizations().iter().any(Option::is_some);
    assert!(!foldable, "effects are those of a folded network");
    weights.check(graph)?;
    let Classifier { channels, side, classes } = Classifier::of(graph)?;
    let data_classes = set.labels.iter().map(|label| usize::from(*label) + 1).max().unwrap_or(0);
    if channels != set.channels || classes < data_classes {
        let data_channels = set.channels;
        return Err(TrainError::Data { channels, classes, data_channels, data_classes });
    }
    let (graph, weights) = frozen(graph, weights);
    let device = device.device().autodiff();
    let mut network = Network::new(&graph, &weights, &device);
    let layers = layers(&graph, &weights, &network);
    let count = |layer: &Layer| match parts {
        Parts::Filters => layer.filters,
        Parts::Weights => layer.weight.1.len(),
    };
    let mut effects: Vec<Vec<f64>> = layers.iter().map(|layer| vec![0.0; count(layer)]).collect();
    let normalizer = Normalizer::new(normalization);
    let mut images = Images::new(set, side);
    let seat = cores.seat();
    for (step, (place, label)) in (0..).zip(set.labels.iter().enumerate()) {
        if pause().is_break() {
            return Err(TrainError::Stopped);
        }
        network.set_threads(seat.threads());
        let logits = network.forward(normalizer.batch(&mut images, &[place], &device));
        let values = logits.clone().inner().into_data();
        let values: &[f32] = values.as_slice().expect("logits are f32");
        let mut is_finite = values.iter().all(|logit| logit.is_finite());
        let slopes = TensorData::new(direction(values, usize::from(*label)), [1, classes]);
        let loss = (logits * Tensor::<2>::from_data(slopes, &device)).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        for (layer, effects) in layers.iter().zip(&mut effects) {
            let sums = match parts {
                Parts::Filters => layer.sums(&gradients),
                Parts::Weights => layer.products(&gradients),
            };
            for (effect, sum) in effects.iter_mut().zip(sums) {
                is_finite &= sum.is_finite();
                *effect += sum * sum / set.len() as f64;
            }
        }
        if !is_finite {
            return Err(TrainError::NonFinite { epoch: 0, step });
        }
    }
    let name = |layer: &Layer| match parts {
        Parts::Filters => layer.name.to_owned(),
        Parts::Weights => layer.parameter.to_owned(),
    };
    Ok(layers.iter().map(name).zip(effects).collect())
}

/// The gradient of the cross entropy at an image's logits, divided by its norm. All are 0 if there
/// is only one class.
///
/// That gradient is the probability of each class, less 1 for the image's own. So at the own class
/// it is minus the sum of the others, and the logit there changes nothing but its norm. Computed
/// like this, it is exact however sure the network is.
fn direction(logits: &[f32], label: usize) -> Vec<f32> {
    let others = || logits.iter().enumerate().filter(|(class, _)| *class != label);
    let highest = others().map(|(_, logit)| *logit).fold(f32::NEG_INFINITY, f32::max);
    let mut slopes = vec![0.0; logits.len()];
    for (class, logit) in others() {
        slopes[class] = (f64::from(*logit) - f64::from(highest)).exp();
    }
    slopes[label] = -slopes.iter().sum::<f64>();
    let norm = slopes.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
    slopes.iter().map(|slope| if norm > 0.0 { slope / norm } else { 0.0 } as f32).collect()
}

/// The network with a factor and an offset of each channel, which are constants, instead of each
/// batch normalisation. With autodiff, a normalisation would use the statistics of the batch.
fn frozen(graph: &Graph, weights: &Weights) -> (Graph, Weights) {
    let mut rebuild = Rebuild::new(graph);
    let mut frozen = weights.clone();
    for (id, node) in graph.nodes() {
        if let Op::BatchNormalization(settings) = &node.op {
            let [factor, offset] = affine(graph, weights, node, *settings);
            let name = graph.value(node.output).name.clone();
            let mut constant = |part: &str, numbers: Vec<f32>| -> ValueId {
                // One number per channel, whatever axes of positions there are.
                let mut shape = vec![numbers.len() as u32];
                shape.resize(1 + graph.shape(node.output).space().len(), 1);
                let name = format!("{name}#{part}");
                let (of, builder) = (format!("{name}.numbers"), &mut rebuild.builder);
                let parameter = builder.parameter(of.clone(), &shape, Role::Constant);
                let parameter = [parameter.expect(VALID)];
                let shape = shape.iter().map(|&size| size as usize).collect();
                frozen.arrays.insert(of, Array { shape, data: numbers });
                builder.node(name, Constant, &[], &parameter, Place::default()).expect(VALID)
            };
            let (factor, offset) = (constant("factor", factor), constant("offset", offset));
            let (input, builder) = (rebuild.value(node.inputs[0]), &mut rebuild.builder);
            let (product, place) = (format!("{name}#product"), Place::default());
            let product = builder.node(product, Multiply, &[input, factor], &[], place.clone());
            let sum = builder.node(name, Add, &[product.expect(VALID), offset], &[], place);
            rebuild.replace(node.output, sum.expect(VALID));
        } else {
            rebuild.copy(id).expect(VALID);
        }
    }
    let graph = rebuild.finish().expect(VALID);
    frozen.arrays.retain(|name, _| graph.parameter_named(name).is_some());
    (graph, frozen)
}

const VALID: &str = "a graph stays valid when its normalisations are factors and offsets";

/// The factor and the offset of each channel that a batch normalisation has with its stored
/// statistics.
fn affine(
    graph: &Graph,
    weights: &Weights,
    node: &Node,
    BatchNormalization { epsilon }: BatchNormalization,
) -> [Vec<f32>; 2] {
    let numbers = |slot: usize| {
        weights.of(graph, node.parameters[slot]).data.iter().map(|number| f64::from(*number))
    };
    let factor: Vec<f64> = numbers(0)
        .zip(numbers(3))
        .map(|(scale, variance)| scale / (variance + f64::from(epsilon)).sqrt())
        .collect();
    let offset = numbers(1).zip(numbers(2)).zip(&factor);
    let offset = offset.map(|((shift, mean), factor)| (shift - mean * factor) as f32).collect();
    [factor.iter().map(|factor| *factor as f32).collect(), offset]
}

/// A convolution or linear layer, and the parameters that its filters are made of.
struct Layer<'a> {
    /// Of its output.
    name: &'a str,
    /// Of its weight.
    parameter: &'a str,
    filters: usize,
    weight: (ParamId, &'a [f32]),
    bias: Option<(ParamId, &'a [f32])>,
}

fn layers<'a>(graph: &'a Graph, weights: &'a Weights, network: &Network) -> Vec<Layer<'a>> {
    let trained = network.parameters();
    let of = |id: ParameterId| {
        let name = &graph.parameter(id).name;
        let (_, param, _) = trained.iter().find(|(of, ..)| of == name).expect("it is trained");
        (*param, weights.of(graph, id).data.as_slice())
    };
    let layer = |node: &'a Node| {
        let weight = *node.parameters.first()?;
        (graph.parameter(weight).role == Role::Weight).then(|| Layer {
            name: &graph.value(node.output).name,
            parameter: &graph.parameter(weight).name,
            filters: graph.parameter(weight).shape[0] as usize,
            weight: of(weight),
            bias: node.parameters.get(1).map(|&bias| of(bias)),
        })
    };
    graph.nodes().filter_map(|(_, node)| layer(node)).collect()
}

impl Layer<'_> {
    /// For each filter, the sum over its numbers of the number times its gradient. A parameter that
    /// the loss does not depend on has no gradient.
    fn sums(&self, gradients: &GradientsParams) -> Vec<f64> {
        let mut sums = vec![0.0; self.filters];
        let mut add = |gradient: Option<TensorData>, numbers: &[f32]| {
            let Some(gradient) = gradient else { return };
            let slopes: &[f32] = gradient.as_slice().expect("gradients are f32");
            let row = numbers.len() / self.filters;
            let rows = slopes.chunks_exact(row).zip(numbers.chunks_exact(row));
            for (sum, (slopes, numbers)) in sums.iter_mut().zip(rows) {
                let products =
                    slopes.iter().zip(numbers).map(|(g, w)| f64::from(*g) * f64::from(*w));
                *sum += products.sum::<f64>();
            }
        };
        let (weight, numbers) = self.weight;
        add(gradients.get::<4>(weight).map(Tensor::into_data), numbers);
        if let Some((bias, numbers)) = self.bias {
            add(gradients.get::<1>(bias).map(Tensor::into_data), numbers);
        }
        sums
    }

    /// Each number of the weight times its gradient.
    fn products(&self, gradients: &GradientsParams) -> Vec<f64> {
        let (weight, numbers) = self.weight;
        let Some(slopes) = gradients.get::<4>(weight).map(Tensor::into_data) else {
            return vec![0.0; numbers.len()];
        };
        let slopes: &[f32] = slopes.as_slice().expect("gradients are f32");
        slopes.iter().zip(numbers).map(|(g, w)| f64::from(*g) * f64::from(*w)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use edgesmith_graph::{Clip, Conv, Evaluator, GlobalAveragePool};
    use edgesmith_testing::{noise, random_weights};

    use super::*;
    use crate::network::Net;

    fn one_core() -> &'static Cores {
        static ONE: LazyLock<Cores> = LazyLock::new(Cores::one);
        &ONE
    }

    /// A convolution with a bias, one without, a normalisation before a convolution that cannot be
    /// folded, one on a vector, a sum, and a linear layer.
    fn network() -> (Graph, Weights) {
        let (mut net, input) = Net::new(2, &[5, 5]);
        let stem = net.conv(Conv::dense(3, 1), input, 4, &[3, 3], true).unwrap();
        let normalized = net.normalize(stem);
        let active = net.op(Clip { low: 0.0, high: f32::INFINITY }, &[normalized]);
        let depthwise = net.conv(Conv::depthwise(3, 1), active, 4, &[3, 3], false).unwrap();
        let sum = net.op(Add, &[depthwise, stem]);
        let pooled = net.op(GlobalAveragePool, &[sum]);
        let vector = net.normalize(pooled);
        let output = net.linear(vector, 3, true);
        let graph = net.finish(output);
        let weights = random_weights(&graph, 4);
        (graph, weights)
    }

    fn images(count: usize) -> ImageSet {
        let pixels = noise(count * 50, 7).iter().map(|v| (v * 127.0 + 128.0) as u8).collect();
        let labels = (0..count).map(|i| (i % 3) as u16).collect();
        ImageSet { channels: 2, height: 5, width: 5, pixels, labels }
    }

    fn normalization() -> Normalization {
        Normalization { mean: vec![0.5, 0.4], std: vec![0.3, 0.2] }
    }

    fn effects(graph: &Graph, weights: &Weights, images: &ImageSet) -> BTreeMap<String, Vec<f64>> {
        let request = TaylorRequest {
            graph,
            weights,
            images,
            normalization: &normalization(),
            device: TrainDevice::Flex,
            cores: one_core(),
        };
        taylor(request, &mut || ControlFlow::Continue(())).unwrap()
    }

    /// The logits of an image, in f64 by the plain evaluator, if channel `filter` of the layer
    /// `name` is multiplied by `gate`.
    fn logits(
        (graph, weights): (&Graph, &Weights),
        image: &[u8],
        (name, filter, gate): (&str, usize, f64),
    ) -> Vec<f64> {
        let Normalization { mean, std } = normalization();
        let pixels = image.iter().enumerate().map(|(i, byte)| {
            let channel = i / 25;
            (f64::from(*byte) / 255.0 - f64::from(mean[channel])) / f64::from(std[channel])
        });
        let evaluator = Evaluator::<f64>::new(graph, weights);
        let mut values = vec![pixels.collect::<Vec<f64>>()];
        for (id, node) in graph.nodes() {
            let mut output = evaluator.node(id, &values);
            if &*graph.value(node.output).name == name {
                let positions = graph.shape(node.output).positions() as usize;
                let channel = &mut output[filter * positions..][..positions];
                channel.iter_mut().for_each(|number| *number *= gate);
            }
            values.push(output);
        }
        values.pop().unwrap()
    }

    fn cross_entropy(logits: &[f64], label: usize) -> f64 {
        logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[label]
    }

    /// The slope of the cross entropy at each logit, by differences.
    fn slopes(logits: &[f64], label: usize) -> Vec<f64> {
        let slope = |class: usize| {
            let at = |step: f64| {
                let mut moved = logits.to_vec();
                moved[class] += step;
                cross_entropy(&moved, label)
            };
            (at(1e-5) - at(-1e-5)) / 2e-5
        };
        (0..logits.len()).map(slope).collect()
    }

    #[test]
    fn effects_are_the_squared_slopes_of_the_loss_at_a_gate_on_each_channel() {
        let (graph, weights) = network();
        let set = images(5);
        let effects = effects(&graph, &weights, &set);
        let names: Vec<&str> = effects.keys().map(|name| &**name).collect();
        assert_eq!(names, ["n1", "n4", "n8"]);
        for (name, effects) in &effects {
            for (filter, effect) in effects.iter().enumerate() {
                let slope = |place: usize| {
                    let (image, label) = (set.image(place), usize::from(set.labels[place]));
                    let gated = |gate| logits((&graph, &weights), image, (name, filter, gate));
                    let at = |gate| cross_entropy(&gated(gate), label);
                    let norm = slopes(&gated(1.0), label).iter().map(|s| s * s).sum::<f64>().sqrt();
                    (at(1.0 + 1e-5) - at(1.0 - 1e-5)) / 2e-5 / norm
                };
                let expected = (0..5).map(|place| slope(place).powi(2)).sum::<f64>() / 5.0;
                let error = (effect - expected).abs();
                assert!(error < 1e-3 * expected.max(1e-3), "{name} {filter}: {effect} {expected}");
            }
        }
    }

    #[test]
    fn effects_of_weights_are_the_squared_slopes_of_the_loss_at_a_factor_of_each() {
        let (graph, weights) = network();
        let set = images(3);
        let request = TaylorRequest {
            graph: &graph,
            weights: &weights,
            images: &set,
            normalization: &normalization(),
            device: TrainDevice::Flex,
            cores: one_core(),
        };
        let effects = taylor_of_weights(request, &mut || ControlFlow::Continue(())).unwrap();
        let names: Vec<&str> = effects.keys().map(|name| &**name).collect();
        assert_eq!(names, ["n1.weight", "n4.weight", "n8.weight"]);
        // No layer has this name, so nothing is gated.
        let none = ("", 0, 1.0);
        for (name, effects) in &effects {
            for (number, effect) in effects.iter().enumerate() {
                let slope = |place: usize| {
                    let (image, label) = (set.image(place), usize::from(set.labels[place]));
                    let at = |factor: f32| {
                        let mut moved = weights.clone();
                        moved.arrays.get_mut(name).unwrap().data[number] *= factor;
                        logits((&graph, &moved), image, none)
                    };
                    let norm = slopes(&at(1.0), label).iter().map(|s| s * s).sum::<f64>().sqrt();
                    let step = 1.0 / 16384.0;
                    let [up, down] = [1.0 + step, 1.0 - step].map(at);
                    (cross_entropy(&up, label) - cross_entropy(&down, label)) * 8192.0 / norm
                };
                let expected = (0..3).map(|place| slope(place).powi(2)).sum::<f64>() / 3.0;
                let error = (effect - expected).abs();
                assert!(error < 0.02 * expected.max(1e-4), "{name} {number}: {effect} {expected}");
            }
        }
    }

    #[test]
    fn the_direction_is_that_of_the_slopes_and_exact_for_a_sure_network() {
        let (values, label) = ([0.5f32, -1.0, 2.0], 1);
        let slopes = slopes(&values.map(f64::from), label);
        let norm = slopes.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
        for (got, slope) in direction(&values, label).iter().zip(&slopes) {
            assert!((f64::from(*got) - slope / norm).abs() < 1e-6);
        }
        // The own class has the probability 1 in f64.
        let half = 0.5f32.sqrt();
        assert_eq!(direction(&[90.0, -1000.0, 0.0], 0), [-half, 0.0, half]);
        assert_eq!(direction(&[90.0], 0), [0.0]);
    }

    #[test]
    fn what_opposite_images_do_does_not_cancel_out() {
        let (graph, weights) = network();
        let (both, mut sum) = (effects(&graph, &weights, &images(2)), BTreeMap::new());
        for place in 0..2 {
            let all = images(2);
            let pixels = all.image(place).to_vec();
            let one = ImageSet { pixels, labels: vec![all.labels[place]], ..all };
            for (name, effects) in effects(&graph, &weights, &one) {
                let sums = sum.entry(name).or_insert_with(|| vec![0.0; effects.len()]);
                sums.iter_mut().zip(effects).for_each(|(sum, effect)| *sum += effect / 2.0);
            }
        }
        assert_eq!(both, sum);
    }

    #[test]
    fn images_that_do_not_fit_and_values_that_are_not_finite_are_refused() {
        let (graph, mut weights) = network();
        let run = |weights: &Weights, images: &ImageSet, go_on: ControlFlow<()>| {
            let (normalization, cores) = (&normalization(), one_core());
            let device = TrainDevice::Flex;
            let graph = &graph;
            let request = TaylorRequest { graph, weights, images, normalization, device, cores };
            taylor(request, &mut || go_on).unwrap_err()
        };
        let go_on = ControlFlow::Continue(());
        let mut other = images(3);
        other.labels[1] = 3;
        let data = TrainError::Data { channels: 2, classes: 3, data_channels: 2, data_classes: 4 };
        assert_eq!(run(&weights, &other, go_on), data);
        assert_eq!(run(&weights, &images(3), ControlFlow::Break(())), TrainError::Stopped);
        weights.arrays.get_mut("n1.weight").unwrap().data.fill(3e38);
        let error = run(&weights, &images(3), go_on);
        assert_eq!(error, TrainError::NonFinite { epoch: 0, step: 0 });
    }

    #[test]
    #[should_panic(expected = "folded network")]
    fn a_network_that_could_be_folded_is_refused() {
        let (mut net, input) = Net::new(2, &[5, 5]);
        let conv = net.conv(Conv::dense(3, 1), input, 3, &[3, 3], false).unwrap();
        let normalized = net.normalize(conv);
        let pooled = net.op(GlobalAveragePool, &[normalized]);
        let graph = net.finish(pooled);
        effects(&graph, &random_weights(&graph, 1), &images(1));
    }
}
