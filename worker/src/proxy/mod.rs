//! Zero-cost proxies: scores of networks that nobody has trained, for studies that screen candidates.
//!
//! A score says nothing by itself; higher is hoped to be more accurate among networks of one space. How
//! often that is so `edgesmith-bench proxies` measures. What becomes of a scored candidate the coordinator
//! decides.

mod loops;
mod naswot;
mod synflow;

use edgesmith_common::spec::Proxy;
use edgesmith_search_space::{LayerOp, Plan, Precision};

use crate::data::Dataset;
use crate::network::Weights;

/// The score of a network of `plan` that begins with `weights`. Finite, higher is better.
///
/// # Panics
/// When the weights are not the plan's, or the images have other channels.
pub fn score(proxy: Proxy, plan: &Plan, weights: &Weights, dataset: &Dataset) -> f64 {
    let cost = plan.cost(Precision::Fp32);
    match proxy {
        Proxy::Synflow => synflow::score(plan, &at_usual_scale(plan, weights)),
        // It normalises, so the scale makes next to no difference to it.
        Proxy::Naswot => naswot::score(plan, weights, &naswot::batch(plan, dataset)),
        Proxy::Macs => (cost.macs as f64).ln(),
        Proxy::Parameters => (cost.parameters as f64).ln(),
    }
}

/// The weights with filters of the deviation that He et al. 2015 give them, `sqrt(2 / fan_out)`. Training
/// begins with smaller ones ([`Weights::init`]), which normalisation makes up for; synflow, which leaves
/// it out, would hold the smallness of every layer against deep networks.
fn at_usual_scale(plan: &Plan, weights: &Weights) -> Weights {
    let mut scaled = weights.clone();
    for id in plan.ids() {
        let layer = plan.layer(id);
        // Each depthwise input feeds the kernel's positions of one filter only.
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
    fn scores_are_those_of_filters_of_the_usual_scale() {
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
