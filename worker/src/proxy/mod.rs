//! Zero-cost proxies: scores of untrained networks, for studies that screen candidates.
//!
//! A score has no meaning by itself. Among networks of one space, a higher score should mean higher
//! accuracy; `edgesmith-bench proxies` measures how often it does. The coordinator decides what
//! happens to a scored candidate.

mod naswot;
mod synflow;

use edgesmith_common::spec::Proxy;
use edgesmith_data::Dataset;
use edgesmith_graph::{Graph, Op, Weights};

/// The score of a network with initial `weights`. Finite; higher is better.
///
/// # Panics
/// If the weights do not fit the network, or the images have the wrong number of channels.
pub fn score(proxy: Proxy, graph: &Graph, weights: &Weights, dataset: &Dataset) -> f64 {
    match proxy {
        Proxy::Synflow => synflow::score(graph, &at_usual_scale(graph, weights)),
        // It normalises, so the scale makes almost no difference.
        Proxy::Naswot => naswot::score(graph, weights, &naswot::batch(graph, dataset)),
        Proxy::Macs => (graph.cost().macs as f64).ln(),
        Proxy::Parameters => (graph.cost().parameters as f64).ln(),
    }
}

/// Rescales the filters to the standard deviation of He et al. 2015, `sqrt(2 / fan_out)`. Training
/// starts with smaller filters ([`fresh_weights`](edgesmith_train::fresh_weights)), which is fine
/// with normalisation. Synflow leaves normalisation out, so with the small filters of every layer
/// it would score deep networks too low.
fn at_usual_scale(graph: &Graph, weights: &Weights) -> Weights {
    let mut scaled = weights.clone();
    for (_, node) in graph.nodes() {
        // Only filters of convolutions start smaller, and only if they are normalised.
        let Op::Conv(conv) = &node.op else { continue };
        let array = scaled.arrays.get_mut(&*graph.parameter(node.parameters[0]).name);
        let array = array.expect("every convolution has a weight");
        // An input channel feeds only the filters of its group.
        let groups = conv.parts(graph.shape(node.inputs[0]).channels()) as usize;
        let fan_out = array.shape[0] / groups * array.shape[2..].iter().product::<usize>();
        let squares: f64 = array.data.iter().map(|w| f64::from(*w).powi(2)).sum();
        let deviation = (squares / array.data.len() as f64).sqrt();
        if deviation > 0.0 {
            let factor = (2.0 / fan_out as f64).sqrt() / deviation;
            array.data.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
        }
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgesmith_testing::{conv_graph, residual_graph, scale_filters};
    use edgesmith_train::fresh_weights;

    #[test]
    fn scores_are_computed_with_filters_of_the_usual_scale() {
        let layers =
            [(conv_graph(), "stage2.block1.conv"), (residual_graph(), "stage1.block1.depthwise")];
        for (graph, layer) in layers {
            let small = fresh_weights(&graph, [5; 32]);
            let scaled = at_usual_scale(&graph, &small);
            let array = scaled.get(layer, "weight");
            let [out, inputs, kernel, _] = array.shape[..] else { panic!("four dimensions") };
            let fan_out = kernel * kernel * if inputs == 1 { 1 } else { out };
            let squares: f64 = array.data.iter().map(|w| f64::from(w * w)).sum();
            let variance = squares / array.data.len() as f64;
            assert!((variance * fan_out as f64 / 2.0 - 1.0).abs() < 1e-4, "{layer}: {variance}");
            assert_eq!(scaled.get("classifier", "weight"), small.get("classifier", "weight"));

            let mut large = small.clone();
            scale_filters(&mut large, 14.0);
            let [of_small, of_large] = [small, large]
                .map(|weights| synflow::score(&graph, &at_usual_scale(&graph, &weights)));
            assert!((of_small - of_large).abs() < 1e-4, "{of_small} {of_large}");
        }
    }
}
