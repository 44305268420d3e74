//! Folds batch normalisation into the convolution before it, and runs the folded network in fp32 to
//! collect the values that quantization needs. Speed matters little here: it runs only a few
//! hundred images.

use edgesmith_search_space::{Activation, EPSILON, LayerId, LayerOp, Plan, Shape, Source};

use edgesmith_graph::Weights;

/// A network whose convolutions have a bias instead of batch normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    /// Its layers.
    pub plan: Plan,
    /// By [`LayerId`]; `None` for layers without weights.
    pub layers: Vec<Option<FoldedLayer>>,
}

/// Weights of one convolution, depthwise convolution or linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedLayer {
    /// Row-major in the shape of [`Plan::weight_shape`].
    pub weight: Vec<f32>,
    /// One per output channel.
    pub bias: Vec<f32>,
}

/// Folds the running statistics: `w' = w * g` and `b' = beta - mean * g` with
/// `g = gamma / sqrt(variance + epsilon)` per output channel.
///
/// # Panics
/// If `weights` do not fit `plan`.
pub fn fold(plan: &Plan, weights: &Weights) -> Folded {
    let layers = plan
        .layers()
        .iter()
        .map(|layer| {
            let part = |name| weights.get(&layer.name, name).data.as_slice();
            match layer.op {
                LayerOp::Conv { .. } | LayerOp::Depthwise { .. } => Some(fold_layer(
                    part("weight"),
                    [part("gamma"), part("beta"), part("mean"), part("variance")],
                )),
                LayerOp::Linear => Some(FoldedLayer {
                    weight: part("weight").to_vec(),
                    bias: part("bias").to_vec(),
                }),
                LayerOp::Add | LayerOp::GlobalAveragePool => None,
            }
        })
        .collect();
    Folded { plan: plan.clone(), layers }
}

fn fold_layer(weight: &[f32], normalisation: [&[f32]; 4]) -> FoldedLayer {
    let [gamma, beta, mean, variance] = normalisation;
    let filter_len = weight.len() / gamma.len();
    // In f64, so that folding rounds once and not four times.
    let gains: Vec<f64> = gamma
        .iter()
        .zip(variance)
        .map(|(&g, &v)| f64::from(g) / (f64::from(v) + f64::from(EPSILON)).sqrt())
        .collect();
    let weight = weight
        .chunks_exact(filter_len)
        .zip(&gains)
        .flat_map(|(filter, &gain)| filter.iter().map(move |&w| (f64::from(w) * gain) as f32))
        .collect();
    let bias = beta
        .iter()
        .zip(mean)
        .zip(&gains)
        .map(|((&b, &m), &gain)| (f64::from(b) - f64::from(m) * gain) as f32)
        .collect();
    FoldedLayer { weight, bias }
}

impl Folded {
    /// Weights of a layer.
    ///
    /// # Panics
    /// If the layer has no weights.
    pub(crate) fn layer(&self, id: LayerId) -> &FoldedLayer {
        self.layers[id.0].as_ref().expect("convolutions and linear layers have weights")
    }

    /// Runs the network in fp32 on one normalised image `[channels][height][width]` and returns the
    /// output of every layer, by [`LayerId`]; the last one is the logits.
    ///
    /// # Panics
    /// If the image does not have the size of the plan's input.
    pub fn forward(&self, image: &[f32]) -> Vec<Vec<f32>> {
        let plan = &self.plan;
        assert_eq!(image.len() as u64, plan.input().elements(), "an image of the plan's size");
        let mut values: Vec<Vec<f32>> = Vec::with_capacity(plan.layers().len());
        for id in plan.ids() {
            let layer = plan.layer(id);
            let read = |source: Source| match source {
                Source::Input => image,
                Source::Layer(id) => values[id.0].as_slice(),
            };
            let input = read(layer.inputs[0]);
            let (from, to) = (plan.input_shape(id), plan.output_shape(id));
            let value = match layer.op {
                LayerOp::Conv { kernel, stride, activation } => {
                    let mut output =
                        convolve(input, from, to, kernel, stride, self.layer(id), false);
                    activate(&mut output, activation);
                    output
                }
                LayerOp::Depthwise { kernel, stride, activation } => {
                    let mut output =
                        convolve(input, from, to, kernel, stride, self.layer(id), true);
                    activate(&mut output, activation);
                    output
                }
                LayerOp::Add => {
                    input.iter().zip(read(layer.inputs[1])).map(|(a, b)| a + b).collect()
                }
                LayerOp::GlobalAveragePool => {
                    let positions = (from.height * from.width) as usize;
                    input
                        .chunks_exact(positions)
                        .map(|plane| plane.iter().sum::<f32>() / positions as f32)
                        .collect()
                }
                LayerOp::Linear => {
                    let FoldedLayer { weight, bias } = self.layer(id);
                    weight
                        .chunks_exact(input.len())
                        .zip(bias)
                        .map(|(row, b)| row.iter().zip(input).map(|(w, x)| w * x).sum::<f32>() + b)
                        .collect()
                }
            };
            values.push(value);
        }
        values
    }
}

/// A zero-padded convolution, tap by tap over whole rows, which the compiler vectorizes at stride
/// 1.
fn convolve(
    input: &[f32],
    from: Shape,
    to: Shape,
    kernel: u32,
    stride: u32,
    layer: &FoldedLayer,
    depthwise: bool,
) -> Vec<f32> {
    let (in_h, in_w) = (from.height as usize, from.width as usize);
    let (out_h, out_w) = (to.height as usize, to.width as usize);
    let (kernel, stride) = (kernel as usize, stride as usize);
    let padding = (kernel - 1) / 2;
    let inputs = if depthwise { 1 } else { from.channels as usize };
    let mut output = vec![0.0; to.elements() as usize];
    for (channel, plane) in output.chunks_exact_mut(out_h * out_w).enumerate() {
        plane.fill(layer.bias[channel]);
        for i in 0..inputs {
            let source = if depthwise { channel } else { i };
            let source = &input[source * in_h * in_w..][..in_h * in_w];
            let taps = &layer.weight[(channel * inputs + i) * kernel * kernel..][..kernel * kernel];
            for (tap, &w) in taps.iter().enumerate() {
                let (ky, kx) = (tap / kernel, tap % kernel);
                let columns = inside(kx, padding, stride, in_w, out_w);
                if columns.is_empty() {
                    continue;
                }
                for y in inside(ky, padding, stride, in_h, out_h) {
                    let row = &source[(y * stride + ky - padding) * in_w..][..in_w];
                    let first = columns.start * stride + kx - padding;
                    let target = &mut plane[y * out_w..][columns.clone()];
                    if stride == 1 {
                        let row = &row[first..first + target.len()];
                        target.iter_mut().zip(row).for_each(|(sum, x)| *sum += w * x);
                    } else {
                        let row = row[first..].iter().step_by(stride);
                        target.iter_mut().zip(row).for_each(|(sum, x)| *sum += w * x);
                    }
                }
            }
        }
    }
    output
}

/// Output positions whose tap at offset `tap` reads inside the input.
fn inside(
    tap: usize,
    padding: usize,
    stride: usize,
    input: usize,
    output: usize,
) -> std::ops::Range<usize> {
    let start = padding.saturating_sub(tap).div_ceil(stride);
    // The largest position with position * stride + tap - padding <= input - 1.
    let end = (input + padding).checked_sub(tap + 1).map_or(0, |last| last / stride + 1);
    start..end.min(output).max(start)
}

fn activate(values: &mut [f32], activation: Option<Activation>) {
    let ceiling = match activation {
        None => return,
        Some(Activation::Relu) => f32::INFINITY,
        Some(Activation::Relu6) => 6.0,
    };
    values.iter_mut().for_each(|v| *v = v.clamp(0.0, ceiling));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use edgesmith_testing::reference;
    use edgesmith_testing::{arbitrary_graph, assert_close, random_image, random_weights};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_folded_network_equals_the_normalised_one(
            plan in arbitrary_graph().prop_map(Plan::of),
            seed: u64,
        ) {
            let weights = random_weights(plan.graph(), seed);
            let image = random_image(plan.graph(), seed);
            let values = fold(&plan, &weights).forward(&image);
            for id in plan.ids() {
                prop_assert_eq!(values[id.0].len() as u64, plan.output_shape(id).elements());
            }
            assert_close(values.last().unwrap(), &reference(plan.graph(), &weights, &image), 1e-4);
        }
    }

    #[test]
    fn statistics_become_gain_and_bias() {
        let one = [1.0f32].as_slice();
        let (gamma, beta, mean) = ([2.0f32], [0.5f32], [3.0f32]);
        let variance = [4.0 - EPSILON];
        let folded = fold_layer(one, [&gamma, &beta, &mean, &variance]);
        assert_close(&folded.weight, &[1.0], 1e-6);
        assert_close(&folded.bias, &[-2.5], 1e-6);
    }
}
