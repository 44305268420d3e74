//! Zero-cost proxies: scores of networks that nobody has trained, for studies that screen candidates.
//!
//! A score says nothing by itself; higher is hoped to be more accurate among networks of one space. How
//! often that is so `edgesmith bench proxies` measures. What becomes of a scored candidate the coordinator
//! decides.

mod loops;
mod naswot;
mod synflow;

use edgesmith_common::spec::Proxy;
use edgesmith_search_space::{Plan, Precision};

use crate::data::Dataset;
use crate::network::Weights;

/// The score of a network of `plan` that begins with `weights`. Finite, higher is better.
///
/// # Panics
/// When the weights are not the plan's, or the images have other channels.
pub fn score(proxy: Proxy, plan: &Plan, weights: &Weights, dataset: &Dataset) -> f64 {
    let cost = plan.cost(Precision::Fp32);
    match proxy {
        Proxy::Synflow => synflow::score(plan, weights),
        Proxy::Naswot => naswot::score(plan, weights, &naswot::batch(plan, dataset)),
        Proxy::Macs => (cost.macs as f64).ln(),
        Proxy::Parameters => (cost.parameters as f64).ln(),
    }
}
