//! Step rules on burn's optimizer machinery. Weight decay is decoupled from the gradient in both
//! (Loshchilov & Hutter 2019) and spares biases and batch normalisation.

use burn::module::ParamGroup;
use burn::optim::momentum::{Momentum, MomentumConfig, MomentumState};
use burn::optim::{AdamWConfig, LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};
use edgesmith_common::spec::OptimizerSpec;

use crate::network::Network;

/// The optimizer of one training.
pub(super) fn optimizer(
    spec: OptimizerSpec,
    weight_decay: f64,
    network: &Network,
) -> ModuleOptimizer {
    let decayed = ParamGroup::from_ids(network.decayed());
    match spec {
        OptimizerSpec::AdamW => {
            let config = AdamWConfig::new().with_epsilon(1e-8);
            let rule = |decay: f64| config.clone().with_weight_decay(decay as f32).build();
            ModuleOptimizer::from(rule(0.0)).with_group(decayed, rule(weight_decay), None)
        }
        OptimizerSpec::Sgd { momentum } => {
            let config = MomentumConfig::new().with_momentum(momentum).with_dampening(0.0);
            let rule = |weight_decay| Sgd { momentum: Momentum::new(&config), weight_decay };
            ModuleOptimizer::from(rule(0.0)).with_group(decayed, rule(weight_decay), None)
        }
    }
}

/// `v ← momentum · v + g; w ← w - rate · (v + decay · w)`
#[derive(Clone)]
struct Sgd {
    momentum: Momentum,
    weight_decay: f64,
}

impl Optimizer for Sgd {
    type State<const D: usize> = MomentumState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<MomentumState<D>>,
    ) -> (Tensor<D>, Option<MomentumState<D>>) {
        let (velocity, state) = self.momentum.transform(gradient, state);
        let decayed = tensor.mul_scalar(1.0 - rate * self.weight_decay);
        (decayed - velocity.mul_scalar(rate), Some(state))
    }

    fn to_device<const D: usize>(state: MomentumState<D>, device: &Device) -> MomentumState<D> {
        state.to_device(device)
    }
}
