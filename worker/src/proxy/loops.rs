//! Convolutions of one image as plain loops, before normalisation and activation.

use edgesmith_search_space::{LayerId, LayerOp, Plan};

/// The output of a convolution of `plan` for `input`, both `[channels][height][width]`.
///
/// # Panics
/// If layer `id` is not a convolution, or the sizes do not fit it.
pub fn convolve(plan: &Plan, id: LayerId, filters: &[f32], input: &[f64]) -> Vec<f64> {
    let (kernel, stride, depthwise) = match plan.layer(id).op {
        LayerOp::Conv { kernel, stride, .. } => (kernel as usize, stride as usize, false),
        LayerOp::Depthwise { kernel, stride, .. } => (kernel as usize, stride as usize, true),
        op => panic!("{op:?} is not a convolution"),
    };
    let (from, to) = (plan.input_shape(id), plan.output_shape(id));
    let (height, width) = (from.height as usize, from.width as usize);
    let (rows, columns) = (to.height as usize, to.width as usize);
    let inputs = if depthwise { 1 } else { from.channels as usize };
    let padding = (kernel - 1) / 2;
    // Output positions whose input at `offset` is inside the image.
    let inside = |offset: usize, size: usize, positions: usize| {
        let first = padding.saturating_sub(offset).div_ceil(stride);
        let beyond = (size + padding).saturating_sub(offset).div_ceil(stride);
        first..beyond.min(positions).max(first)
    };
    let mut output = vec![0.0; to.elements() as usize];
    for (channel, plane) in output.chunks_exact_mut(rows * columns).enumerate() {
        for i in 0..inputs {
            let from = if depthwise { channel } else { i } * height * width;
            let image = &input[from..from + height * width];
            for (ky, kx) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                let filter =
                    f64::from(filters[((channel * inputs + i) * kernel + ky) * kernel + kx]);
                let across = inside(kx, width, columns);
                if across.is_empty() {
                    continue;
                }
                for row in inside(ky, height, rows) {
                    let line = &image[(row * stride + ky - padding) * width..][..width];
                    let out = &mut plane[row * columns..][across.clone()];
                    let first = across.start * stride + kx - padding;
                    let pixels = line[first..].iter().step_by(stride);
                    out.iter_mut().zip(pixels).for_each(|(sum, pixel)| *sum += filter * pixel);
                }
            }
        }
    }
    output
}

/// The mean of each of `channels` planes.
pub fn plane_means(input: &[f64], channels: usize) -> Vec<f64> {
    let planes = input.chunks_exact(input.len() / channels);
    planes.map(|plane| plane.iter().sum::<f64>() / plane.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::LayerOp;
    use proptest::prelude::*;

    use super::*;
    use crate::compress::testing::{arbitrary_plan, assert_close, random_image};
    use crate::network::Weights;
    use crate::network::reference::outputs;

    proptest! {
        /// If batch normalisation is the identity, the reference's layers are these convolutions
        /// with activations.
        #[test]
        fn layers_equal_those_of_the_reference(plan in arbitrary_plan(), seed: u8) {
            let mut weights = Weights::init(&plan, [seed; 32]);
            for (name, array) in &mut weights.arrays {
                if name.ends_with(".variance") {
                    array.data.fill(1.0 - Weights::EPSILON);
                }
            }
            let image = random_image(&plan, u64::from(seed));
            let expected = outputs(&plan, &weights, &image);
            for id in plan.ids() {
                let layer = plan.layer(id);
                let (LayerOp::Conv { activation, .. } | LayerOp::Depthwise { activation, .. }) = layer.op
                else { continue };
                let input: Vec<f64> = match layer.inputs[0] {
                    edgesmith_search_space::Source::Input => image.iter().map(|v| f64::from(*v)).collect(),
                    edgesmith_search_space::Source::Layer(LayerId(of)) => {
                        expected[of].iter().map(|v| f64::from(*v)).collect()
                    }
                };
                let filters = &weights.get(&layer.name, "weight").data;
                let sums = convolve(&plan, id, filters, &input);
                let most = match activation {
                    None => None,
                    Some(edgesmith_search_space::Activation::Relu) => Some(f64::INFINITY),
                    Some(edgesmith_search_space::Activation::Relu6) => Some(6.0),
                };
                let active = |sum: f64| most.map_or(sum, |most| sum.clamp(0.0, most)) as f32;
                let got: Vec<f32> = sums.into_iter().map(active).collect();
                assert_close(&got, &expected[id.0], 1e-4);
            }
        }
    }
}
