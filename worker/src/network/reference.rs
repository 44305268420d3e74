//! The network as plain loops over plain arrays, one image at a time, in evaluation mode with f64
//! accumulators. Slow and simple: the reference for tests of training, pruning, folding and export.

use edgesmith_search_space::{Activation, LayerId, LayerOp, Plan, Source};

use super::Weights;

/// Logits of one normalised image `[channels][height][width]` of the plan's input size.
///
/// # Panics
/// If the weights do not fit the plan or the image has the wrong size.
pub fn forward(plan: &Plan, weights: &Weights, image: &[f32]) -> Vec<f32> {
    outputs(plan, weights, image).pop().expect("a plan has layers")
}

/// Outputs of all layers in execution order, each `[channels][height][width]`, after batch
/// normalisation and activation. The last one is the logits.
///
/// # Panics
/// See [`forward`].
pub fn outputs(plan: &Plan, weights: &Weights, image: &[f32]) -> Vec<Vec<f32>> {
    assert_eq!(image.len() as u64, plan.input().elements(), "an image of the plan's input size");
    let mut outputs: Vec<Vec<f32>> = Vec::with_capacity(plan.layers().len());
    for id in plan.ids() {
        let layer = plan.layer(id);
        let read = |source: Source| match source {
            Source::Input => image,
            Source::Layer(LayerId(index)) => outputs[index].as_slice(),
        };
        let input = read(layer.inputs[0]);
        let output = match layer.op {
            LayerOp::Conv { kernel, stride, activation } => {
                convolution(plan, id, weights, input, kernel, stride, false, activation)
            }
            LayerOp::Depthwise { kernel, stride, activation } => {
                convolution(plan, id, weights, input, kernel, stride, true, activation)
            }
            LayerOp::Add => input.iter().zip(read(layer.inputs[1])).map(|(a, b)| a + b).collect(),
            LayerOp::GlobalAveragePool => {
                let shape = plan.input_shape(id);
                input
                    .chunks_exact((shape.height * shape.width) as usize)
                    .map(|plane| {
                        let sum: f64 = plane.iter().map(|v| f64::from(*v)).sum();
                        (sum / plane.len() as f64) as f32
                    })
                    .collect()
            }
            LayerOp::Linear => {
                let weight = weights.get(&layer.name, "weight");
                let bias = weights.get(&layer.name, "bias");
                weight
                    .data
                    .chunks_exact(input.len())
                    .zip(&bias.data)
                    .map(|(row, bias)| (dot(row, input) + f64::from(*bias)) as f32)
                    .collect()
            }
        };
        outputs.push(output);
    }
    outputs
}

#[expect(clippy::too_many_arguments, reason = "the settings of one convolution")]
fn convolution(
    plan: &Plan,
    id: LayerId,
    weights: &Weights,
    input: &[f32],
    kernel: u32,
    stride: u32,
    depthwise: bool,
    activation: Option<Activation>,
) -> Vec<f32> {
    let name = &plan.layer(id).name;
    let (from, to) = (plan.input_shape(id), plan.output_shape(id));
    let (kernel, padding) = (kernel as usize, (kernel as usize - 1) / 2);
    let (height, width) = (from.height as usize, from.width as usize);
    let filters = &weights.get(name, "weight").data;
    let part = |part: &str, channel: usize| f64::from(weights.get(name, part).data[channel]);
    let inputs = if depthwise { 1 } else { from.channels as usize };
    let mut output = Vec::with_capacity(to.elements() as usize);
    for channel in 0..to.channels as usize {
        let scale = part("gamma", channel)
            / (part("variance", channel) + f64::from(Weights::EPSILON)).sqrt();
        let shift = part("beta", channel) - part("mean", channel) * scale;
        for row in 0..to.height as usize {
            for column in 0..to.width as usize {
                let mut sum = 0.0;
                for i in 0..inputs {
                    let plane = if depthwise { channel } else { i };
                    for (ky, kx) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                        let (y, x) = (row * stride as usize + ky, column * stride as usize + kx);
                        let inside = (padding..padding + height).contains(&y)
                            && (padding..padding + width).contains(&x);
                        if inside {
                            let pixel = (plane * height + y - padding) * width + x - padding;
                            let filter = ((channel * inputs + i) * kernel + ky) * kernel + kx;
                            sum += f64::from(input[pixel]) * f64::from(filters[filter]);
                        }
                    }
                }
                output.push(activate(sum * scale + shift, activation) as f32);
            }
        }
    }
    output
}

fn activate(x: f64, activation: Option<Activation>) -> f64 {
    match activation {
        None => x,
        Some(Activation::Relu) => x.max(0.0),
        Some(Activation::Relu6) => x.clamp(0.0, 6.0),
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::{Architecture, DataShape, Operation, Stage};

    use super::*;

    #[test]
    fn a_small_network_matches_a_calculation_by_hand() {
        let architecture = Architecture {
            resolution: 2,
            stem_width: 1,
            stages: vec![Stage {
                depth: 1,
                width: 1,
                kernel: 1,
                operation: Operation::InvertedResidual { expansion: 1 },
                stride: 1,
                activation: Activation::Relu6,
            }],
        };
        let plan = Plan::lower(&architecture, DataShape { channels: 1, classes: 2 }).unwrap();
        let mut weights = Weights::init(&plan, [0; 32]);
        // Keeps batch normalisation exact: variance + epsilon is 1.
        let whole = 1.0 - Weights::EPSILON;
        for layer in ["stem", "stage1.block1.depthwise", "stage1.block1.project"] {
            weights.set(layer, "variance", vec![1], vec![whole]);
        }
        weights.set("stem", "weight", vec![1, 1, 3, 3], vec![1.0; 9]);
        weights.set("stem", "mean", vec![1], vec![1.0]);
        weights.set("stage1.block1.depthwise", "weight", vec![1, 1, 1, 1], vec![-2.0]);
        weights.set("stage1.block1.depthwise", "beta", vec![1], vec![3.0]);
        weights.set("stage1.block1.project", "weight", vec![1, 1, 1, 1], vec![5.0]);
        weights.set("classifier", "weight", vec![2, 1], vec![1.0, -1.0]);
        weights.set("classifier", "bias", vec![2], vec![0.5, 0.0]);
        // The stem sums all four pixels at every position: 2; minus the mean: 1. Depthwise: -2 + 3
        // = 1. Projection: 5. Residual addition: 1 + 5 = 6.
        let logits = forward(&plan, &weights, &[0.5, 0.5, 0.5, 0.5]);
        for (got, expected) in logits.iter().zip([6.5, -6.0]) {
            assert!((got - expected).abs() < 1e-5, "{logits:?}");
        }
    }
}
