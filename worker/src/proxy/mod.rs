//! Zero-cost proxies: scores of untrained networks, for studies that screen candidates.
//!
//! A score has no meaning by itself. Among networks of one space, a higher score should mean higher
//! accuracy; `edgesmith-bench proxies` measures how often it does. The coordinator decides what
//! happens to a scored candidate.

mod loops;
mod naswot;
mod synflow;

use edgesmith_common::spec::Proxy;
use edgesmith_search_space::{LayerOp, Plan, Precision};

use crate::data::Dataset;
use crate::network::Weights;

/// The score of a network of `plan` with initial `weights`. Finite; higher is better.
///
/// # Panics
/// If the weights do not fit the plan, or the images have the wrong number of channels.
pub fn score(proxy: Proxy, plan: &Plan, weights: &Weights, dataset: &Dataset) -> f64 {
    let cost = plan.cost(Precision::Fp32);
    match proxy {
        Proxy::Synflow => synflow::score(plan, &at_usual_scale(plan, weights)),
        // It normalises, so the scale makes almost no difference.
        Proxy::Naswot => naswot::score(plan, weights, &naswot::batch(plan, dataset)),
        Proxy::Macs => (cost.macs as f64).ln(),
        Proxy::Parameters => (cost.parameters as f64).ln(),
    }
}

/// Rescales the filters to the standard deviation of He et al. 2015, `sqrt(2 / fan_out)`. Training
/// starts with smaller filters ([`Weights::init`]), which is fine with normalisation. Synflow
/// leaves normalisation out, so with the small filters of every layer it would score deep networks
/// too low.
fn at_usual_scale(plan: &Plan, weights: &Weights) -> Weights {
    let mut scaled = weights.clone();
    for id in plan.ids() {
        let layer = plan.layer(id);
        // Each input channel of a depthwise convolution feeds only one filter.
        let outputs = match layer.op {
            LayerOp::Conv { .. } => plan.output_shape(id).channels as usize,
            LayerOp::Depthwise { .. } => 1,
            LayerOp::Linear | LayerOp::Add | LayerOp::GlobalAveragePool => continue,
        };
        let array = scaled.arrays.get_mut(&format!("{}.weight", layer.name));
        let array = array.expect("every convolution has a weight");
        let positions = array.shape[2] * array.shape[3];
        let squares: f64 = array.data.iter().map(|w| f64::from(*w).powi(2)).sum();
        let deviation = (squares / array.data.len() as f64).sqrt();
        if deviation > 0.0 {
            let factor = (2.0 / (outputs * positions) as f64).sqrt() / deviation;
            array.data.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
        }
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing::{conv_plan, residual_plan, scale_filters};

    #[test]
    fn scores_are_computed_with_filters_of_the_usual_scale() {
        let layers =
            [(conv_plan(), "stage2.block1.conv"), (residual_plan(), "stage1.block1.depthwise")];
        for (plan, layer) in layers {
            let small = Weights::init(&plan, [5; 32]);
            let scaled = at_usual_scale(&plan, &small);
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
                .map(|weights| synflow::score(&plan, &at_usual_scale(&plan, &weights)));
            assert!((of_small - of_large).abs() < 1e-4, "{of_small} {of_large}");
        }
    }
}
