//! The fast path through a network on burn's `flex` device: operations of burn's graph with their
//! own backward passes, computed by [`edgesmith_kernels`]. Convolution, batch normalisation and
//! activation are one of them; convolution and batch normalisation alone are two more. So are
//! rounding to the levels of a quantization, and a convolution with bias, activation and rounding.
//!
//! Feature maps are tensors `[channels, height, width, batch]` here, which is the layout of the
//! kernels.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_kernels as kernels;
use edgesmith_kernels::{
    Bounds, Convolution, Finish, Levels, Seen, Threads, affine, denormalize, round_to_levels,
    round_to_levels_backward,
};

type Tracked = Autodiff<Flex, NoCheckpointing>;

/// The bounds of a layer without activation.
pub(super) const UNBOUNDED: Bounds = Bounds { low: f32::NEG_INFINITY, high: f32::INFINITY };

/// Whether tensors of a device can take the fast path.
pub(super) fn runs_on(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// Output of a layer in a training step, and the batch's statistics.
pub(super) struct Step {
    /// `[channels, height, width, batch]`
    pub output: Tensor<4>,
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Biased variance of each channel.
    pub variance: Vec<f32>,
}

/// A convolution with the activation after it, and the threads that compute it.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub convolution: Convolution,
    pub bounds: Bounds,
    pub threads: Threads,
}

/// Convolution, normalisation with the batch's statistics, activation. All tensors are on `flex`
/// with autodiff, but `steps`: if the sums of the convolution are in whole steps, one for each
/// channel, so is what normalisation adds to them.
pub(super) fn train_step(
    layer: Layer,
    epsilon: f32,
    input: Tensor<4>,
    weight: Tensor<4>,
    [gamma, beta]: [Tensor<1>; 2],
    steps: Option<Tensor<1>>,
) -> Step {
    let input = tracked(input);
    let (weight, gamma, beta) = (tracked(weight), tracked(gamma), tracked(beta));
    let prepared = NormalizedConvolutionBackward
        .prepare::<NoCheckpointing>([input.node(), weight.node(), gamma.node(), beta.node()])
        .compute_bound()
        .stateful();
    let (input, weight) = (contiguous(input.into_primitive()), contiguous(weight.into_primitive()));
    let (gamma, beta) = (contiguous(gamma.into_primitive()), contiguous(beta.into_primitive()));
    let Layer { convolution, bounds, threads } = &layer;
    let mut normalized = convolution.forward(values(&input), values(&weight), threads);
    let affine = [values(&gamma), values(&beta)];
    let steps = steps.map(plain);
    let steps = steps.as_ref().map(values);
    let result = kernels::normalize(&mut normalized, affine, steps, epsilon, *bounds, threads);
    let output = tensor(result.output, convolution.output_shape());
    let output = match prepared {
        OpsKind::Tracked(prepared) => {
            let normalized = tensor(normalized, convolution.output_shape());
            let inverse = tensor(result.inverse, [result.mean.len()]);
            let shift = tensor(result.shift, [result.mean.len()]);
            let saved = Saved { layer, input, weight, gamma, shift, normalized, inverse };
            prepared.finish(saved, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Step {
        output: Tensor::from_primitive::<Tracked>(output),
        mean: result.mean,
        variance: result.variance,
    }
}

/// Convolution, then scale, shift and activation. For evaluation, without autodiff.
pub(super) fn evaluate(
    layer: Layer,
    input: Tensor<4>,
    weight: Tensor<4>,
    [scale, shift]: [Tensor<1>; 2],
) -> Tensor<4> {
    let (input, weight) = (plain(input), plain(weight));
    let (scale, shift) = (plain(scale), plain(shift));
    let Layer { convolution, bounds, threads } = layer;
    let mut output = convolution.forward(values(&input), values(&weight), &threads);
    affine(&mut output, values(&scale), values(&shift), bounds, &threads);
    Tensor::from_primitive::<Flex>(tensor(output, convolution.output_shape()))
}

/// A tensor with these numbers on the `flex` device, without autodiff.
pub(super) fn vector(numbers: Vec<f32>) -> Tensor<1> {
    let count = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [count]), &Device::flex())
}

/// Convolution alone. All tensors are on `flex`, with autodiff or without it.
pub(super) fn convolve(
    convolution: Convolution,
    threads: &Threads,
    input: Tensor<4>,
    weight: Tensor<4>,
) -> Tensor<4> {
    let shape = convolution.output_shape();
    if !input.device().is_autodiff() {
        let (input, weight) = (plain(input), plain(weight));
        let output = convolution.forward(values(&input), values(&weight), threads);
        return Tensor::from_primitive::<Flex>(tensor(output, shape));
    }
    let (input, weight) = (tracked(input), tracked(weight));
    let prepared = ConvolutionBackward
        .prepare::<NoCheckpointing>([input.node(), weight.node()])
        .compute_bound()
        .stateful();
    let (input, weight) = (contiguous(input.into_primitive()), contiguous(weight.into_primitive()));
    let output = convolution.forward(values(&input), values(&weight), threads);
    let output = tensor(output, shape);
    let output = match prepared {
        OpsKind::Tracked(prepared) => {
            let threads = threads.clone();
            prepared.finish(SavedConvolution { convolution, threads, input, weight }, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Tracked>(output)
}

/// Normalisation with the batch's statistics alone. All tensors are on `flex` with autodiff. If the
/// input is in whole steps, one for each channel, so is what is added to it.
pub(super) fn normalize(
    threads: &Threads,
    epsilon: f32,
    input: Tensor<4>,
    [gamma, beta]: [Tensor<1>; 2],
    steps: Option<Tensor<1>>,
) -> Step {
    let shape = input.dims();
    let (input, gamma, beta) = (tracked(input), tracked(gamma), tracked(beta));
    let prepared = NormalizationBackward
        .prepare::<NoCheckpointing>([input.node(), gamma.node(), beta.node()])
        .compute_bound()
        .stateful();
    let (gamma, beta) = (contiguous(gamma.into_primitive()), contiguous(beta.into_primitive()));
    let mut normalized = values(&contiguous(input.into_primitive())).to_vec();
    let affine = [values(&gamma), values(&beta)];
    let steps = steps.map(plain);
    let steps = steps.as_ref().map(values);
    let result = kernels::normalize(&mut normalized, affine, steps, epsilon, UNBOUNDED, threads);
    let output = tensor(result.output, shape);
    let output = match prepared {
        OpsKind::Tracked(prepared) => {
            let normalized = tensor(normalized, shape);
            let inverse = tensor(result.inverse, [result.mean.len()]);
            let threads = threads.clone();
            let shift = tensor(result.shift, [result.mean.len()]);
            prepared
                .finish(SavedNormalization { threads, gamma, shift, normalized, inverse }, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Step {
        output: Tensor::from_primitive::<Tracked>(output),
        mean: result.mean,
        variance: result.variance,
    }
}

/// Each number rounded to the nearest level. The first axis has as many entries as there are
/// scales, each with its own; a single scale is for all. The gradient by the scales is multiplied
/// with `factor`. All tensors are on `flex`, with autodiff or without it.
pub(super) fn round(
    levels: Levels,
    factor: f32,
    threads: &Threads,
    value: Tensor<4>,
    scales: Tensor<1>,
) -> Tensor<4> {
    let shape = value.dims();
    if !value.device().is_autodiff() {
        let (value, scales) = (plain(value), plain(scales));
        let output = round_to_levels(values(&value), values(&scales), levels, threads);
        return Tensor::from_primitive::<Flex>(tensor(output, shape));
    }
    let (value, scales) = (tracked(value), tracked(scales));
    let prepared = RoundBackward
        .prepare::<NoCheckpointing>([value.node(), scales.node()])
        .compute_bound()
        .stateful();
    let (value, scales) = (contiguous(value.into_primitive()), contiguous(scales.into_primitive()));
    let output = round_to_levels(values(&value), values(&scales), levels, threads);
    let output = tensor(output, shape);
    let output = match prepared {
        OpsKind::Tracked(prepared) => {
            let threads = threads.clone();
            prepared.finish(SavedRound { levels, factor, threads, value, scales }, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Tracked>(output)
}

/// Convolution, bias, activation, and rounding to the levels of one scale, whose gradient is
/// multiplied with `factor`. All tensors are on `flex`, with autodiff or without it.
pub(super) fn convolve_and_round(
    layer: Layer,
    (levels, factor): (Levels, f32),
    input: Tensor<4>,
    weight: Tensor<4>,
    [bias, scale]: [Tensor<1>; 2],
) -> Tensor<4> {
    let shape = layer.convolution.output_shape();
    let compute = |[input, weight, bias, scale]: [&FlexTensor; 4]| {
        let Layer { convolution, bounds, threads } = &layer;
        let sums = convolution.forward(values(input), values(weight), threads);
        let finish =
            Finish { bias: values(bias), bounds: *bounds, scale: values(scale)[0], levels };
        let output = finish.forward(&sums, threads);
        (sums, tensor(output, shape))
    };
    if !input.device().is_autodiff() {
        let (input, weight, bias, scale) = (plain(input), plain(weight), plain(bias), plain(scale));
        let (_, output) = compute([&input, &weight, &bias, &scale]);
        return Tensor::from_primitive::<Flex>(output);
    }
    let (input, weight) = (tracked(input), tracked(weight));
    let (bias, scale) = (tracked(bias), tracked(scale));
    let prepared = RoundedConvolutionBackward
        .prepare::<NoCheckpointing>([input.node(), weight.node(), bias.node(), scale.node()])
        .compute_bound()
        .stateful();
    let (input, weight) = (contiguous(input.into_primitive()), contiguous(weight.into_primitive()));
    let (bias, scale) = (contiguous(bias.into_primitive()), contiguous(scale.into_primitive()));
    let (sums, output) = compute([&input, &weight, &bias, &scale]);
    let output = match prepared {
        OpsKind::Tracked(prepared) => {
            let sums = tensor(sums, shape);
            let saved =
                SavedRoundedConvolution { layer, levels, factor, input, weight, bias, scale, sums };
            prepared.finish(saved, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Tracked>(output)
}

/// The values that the backward pass needs.
#[derive(Debug, Clone)]
struct Saved {
    layer: Layer,
    input: FlexTensor,
    weight: FlexTensor,
    gamma: FlexTensor,
    shift: FlexTensor,
    normalized: FlexTensor,
    inverse: FlexTensor,
}

/// Computes the gradients with respect to input, weight, scale and shift.
#[derive(Debug)]
struct NormalizedConvolutionBackward;

impl Backward<Flex, 4> for NormalizedConvolutionBackward {
    type State = Saved;

    fn backward(
        self,
        ops: Ops<Saved, 4>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let Saved { layer, input, weight, gamma, shift, normalized, inverse } = ops.state;
        let Layer { convolution, bounds, threads } = &layer;
        let mut gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let (by_gamma, by_beta) = denormalize(
            values(&normalized),
            gradient.storage_mut::<f32>(),
            [values(&gamma), values(&shift), values(&inverse)],
            *bounds,
            threads,
        );
        let gradient = values(&gradient);
        let [of_input, of_weight, of_gamma, of_beta] =
            ops.parents.map(|parent| parent.map(|node| node.id));
        let seen = Seen { input: values(&input), weight: values(&weight) };
        let (by_weight, by_input) =
            convolution.backward(seen, gradient, of_input.is_some(), threads);
        if let Some((id, by_input)) = of_input.zip(by_input) {
            gradients.register::<Flex>(id, shaped_like(by_input, &input));
        }
        register(gradients, of_weight, by_weight, &weight);
        register(gradients, of_gamma, by_gamma, &gamma);
        register(gradients, of_beta, by_beta, &shift);
    }
}

/// What the backward pass of a convolution needs.
#[derive(Debug, Clone)]
struct SavedConvolution {
    convolution: Convolution,
    threads: Threads,
    input: FlexTensor,
    weight: FlexTensor,
}

/// Computes the gradients with respect to input and weight.
#[derive(Debug)]
struct ConvolutionBackward;

impl Backward<Flex, 2> for ConvolutionBackward {
    type State = SavedConvolution;

    fn backward(
        self,
        ops: Ops<SavedConvolution, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let SavedConvolution { convolution, threads, input, weight } = ops.state;
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let [of_input, of_weight] = ops.parents.map(|parent| parent.map(|node| node.id));
        let seen = Seen { input: values(&input), weight: values(&weight) };
        let (by_weight, by_input) =
            convolution.backward(seen, values(&gradient), of_input.is_some(), &threads);
        if let Some((id, by_input)) = of_input.zip(by_input) {
            gradients.register::<Flex>(id, shaped_like(by_input, &input));
        }
        register(gradients, of_weight, by_weight, &weight);
    }
}

/// What the backward pass of a normalisation needs.
#[derive(Debug, Clone)]
struct SavedNormalization {
    threads: Threads,
    gamma: FlexTensor,
    shift: FlexTensor,
    normalized: FlexTensor,
    inverse: FlexTensor,
}

/// Computes the gradients with respect to input, scale and shift.
#[derive(Debug)]
struct NormalizationBackward;

impl Backward<Flex, 3> for NormalizationBackward {
    type State = SavedNormalization;

    fn backward(
        self,
        ops: Ops<SavedNormalization, 3>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let SavedNormalization { threads, gamma, shift, normalized, inverse } = ops.state;
        let mut gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let (by_gamma, by_beta) = denormalize(
            values(&normalized),
            gradient.storage_mut::<f32>(),
            [values(&gamma), values(&shift), values(&inverse)],
            UNBOUNDED,
            &threads,
        );
        let [of_input, of_gamma, of_beta] = ops.parents.map(|parent| parent.map(|node| node.id));
        if let Some(id) = of_input {
            gradients.register::<Flex>(id, gradient);
        }
        register(gradients, of_gamma, by_gamma, &gamma);
        register(gradients, of_beta, by_beta, &shift);
    }
}

/// What the backward pass of rounding needs.
#[derive(Debug, Clone)]
struct SavedRound {
    levels: Levels,
    factor: f32,
    threads: Threads,
    value: FlexTensor,
    scales: FlexTensor,
}

/// Computes the gradients with respect to the numbers and to the scales.
#[derive(Debug)]
struct RoundBackward;

impl Backward<Flex, 2> for RoundBackward {
    type State = SavedRound;

    fn backward(
        self,
        ops: Ops<SavedRound, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let SavedRound { levels, factor, threads, value, scales } = ops.state;
        let mut gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let mut by_scales = round_to_levels_backward(
            values(&value),
            values(&scales),
            gradient.storage_mut::<f32>(),
            levels,
            &threads,
        );
        by_scales.iter_mut().for_each(|slope| *slope *= factor);
        let [of_value, of_scales] = ops.parents.map(|parent| parent.map(|node| node.id));
        if let Some(id) = of_value {
            gradients.register::<Flex>(id, gradient);
        }
        register(gradients, of_scales, by_scales, &scales);
    }
}

/// What the backward pass of a convolution with rounding needs.
#[derive(Debug, Clone)]
struct SavedRoundedConvolution {
    layer: Layer,
    levels: Levels,
    factor: f32,
    input: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    scale: FlexTensor,
    /// Before the bias.
    sums: FlexTensor,
}

/// Computes the gradients with respect to input, weight, bias and scale.
#[derive(Debug)]
struct RoundedConvolutionBackward;

impl Backward<Flex, 4> for RoundedConvolutionBackward {
    type State = SavedRoundedConvolution;

    fn backward(
        self,
        ops: Ops<SavedRoundedConvolution, 4>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let SavedRoundedConvolution { layer, levels, factor, input, weight, bias, scale, sums } =
            ops.state;
        let Layer { convolution, bounds, threads } = &layer;
        let mut gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let finish =
            Finish { bias: values(&bias), bounds: *bounds, scale: values(&scale)[0], levels };
        let (by_bias, by_scale) =
            finish.backward(values(&sums), gradient.storage_mut::<f32>(), threads);
        let [of_input, of_weight, of_bias, of_scale] =
            ops.parents.map(|parent| parent.map(|node| node.id));
        let seen = Seen { input: values(&input), weight: values(&weight) };
        let (by_weight, by_input) =
            convolution.backward(seen, values(&gradient), of_input.is_some(), threads);
        if let Some((id, by_input)) = of_input.zip(by_input) {
            gradients.register::<Flex>(id, shaped_like(by_input, &input));
        }
        register(gradients, of_weight, by_weight, &weight);
        register(gradients, of_bias, by_bias, &bias);
        register(gradients, of_scale, vec![factor * by_scale], &scale);
    }
}

fn tracked<const D: usize>(tensor: Tensor<D>) -> burn::backend::tensor::FloatTensor<Tracked> {
    tensor.try_into_primitive::<Tracked>().expect("a tensor on flex with autodiff")
}

fn plain<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    contiguous(tensor.try_into_primitive::<Flex>().expect("a tensor on flex without autodiff"))
}

/// Copies the tensor if needed, so that its storage has only its values, in order.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    tensor.to_contiguous()
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.storage::<f32>()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Hands a gradient on to what it belongs to, if that is tracked; `like` has its shape.
fn register(gradients: &mut Gradients, of: Option<NodeId>, values: Vec<f32>, like: &FlexTensor) {
    if let Some(id) = of {
        gradients.register::<Flex>(id, shaped_like(values, like));
    }
}

fn shaped_like(values: Vec<f32>, other: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, other.layout().shape().clone()))
}
